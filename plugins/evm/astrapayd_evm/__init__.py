"""Payments on EVM chains (Ethereum, BNB Smart Chain, Polygon, Arbitrum, Base and every other), seen through the
merchant's own nodes over websockets. Only hooks here; what they need is imported when they are called."""

from __future__ import annotations

import click

from astrapayd.chains import ChainRegistry
from astrapayd.config import Config, ConfigRegistry
from astrapayd.hookspecs import hookimpl

PLUGIN = "evm"
"""What ``[chains.ID]`` names as its ``plugin``."""


@hookimpl
def astrapayd_add_commands(cli: click.Group) -> None:
    """Add ``astrapayd demo``, a whole shop on an embedded EVM chain."""
    from astrapayd_evm.demo.command import demo

    cli.add_command(demo)


@hookimpl
def astrapayd_register_config(registry: ConfigRegistry) -> None:
    """Declare ``[chains.ID]`` with ``plugin = "evm"``."""
    from astrapayd_evm.config import EvmChainSection

    registry.add_chain_section(PLUGIN, EvmChainSection)


@hookimpl
def astrapayd_register_chains(registry: ChainRegistry, config: Config) -> None:
    """Register one chain for each of those sections."""
    from astrapayd_evm.chain import register_chains

    register_chains(registry, config)
