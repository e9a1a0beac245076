"""Asks for an argument that the hook does not have."""

from astrapayd.hookspecs import PluginContext, hookimpl


@hookimpl
def astrapayd_startup(context: PluginContext, wallet: str) -> None:
    raise AssertionError
