"""Implements a hook that does not exist."""

from astrapayd.hookspecs import PluginContext, hookimpl


@hookimpl
def astrapayd_start_up(context: PluginContext) -> None:
    raise AssertionError
