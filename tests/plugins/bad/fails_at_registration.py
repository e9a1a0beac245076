"""Raises where it should declare its section and its commands."""

import click

from astrapayd.config import ConfigRegistry
from astrapayd.hookspecs import hookimpl


@hookimpl
def astrapayd_register_config(registry: ConfigRegistry) -> None:
    raise KeyError("section")


@hookimpl
def astrapayd_add_commands(cli: click.Group) -> None:
    raise KeyError("command")
