"""Cannot start."""

from astrapayd.hookspecs import PluginContext, hookimpl


@hookimpl
async def astrapayd_startup(context: PluginContext) -> None:
    raise ConnectionError("the shop does not answer\nTraceback: 40 lines of it")
