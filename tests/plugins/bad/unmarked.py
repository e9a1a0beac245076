"""Forgets ``@hookimpl``."""

from astrapayd.hookspecs import PluginContext


def astrapayd_startup(context: PluginContext) -> None:
    raise AssertionError
