"""Registers from a coroutine, which nobody awaits."""

from astrapayd.config import ConfigRegistry
from astrapayd.hookspecs import hookimpl


@hookimpl
async def astrapayd_register_config(registry: ConfigRegistry) -> None:
    raise AssertionError
