"""Payments on Bitcoin, seen through the merchant's own Bitcoin Core. Only hooks here; what they need is imported when
they are called."""

from __future__ import annotations

from astrapayd.chains import ChainRegistry
from astrapayd.config import Config, ConfigRegistry
from astrapayd.hookspecs import hookimpl

PLUGIN = "bitcoin"
"""What ``[chains.ID]`` names as its ``plugin``."""


@hookimpl
def astrapayd_register_config(registry: ConfigRegistry) -> None:
    """Declare ``[chains.ID]`` with ``plugin = "bitcoin"``."""
    from astrapayd_bitcoin.config import BitcoinChainSection

    registry.add_chain_section(PLUGIN, BitcoinChainSection)


@hookimpl
def astrapayd_register_chains(registry: ChainRegistry, config: Config) -> None:
    """Register one chain for each of those sections."""
    from astrapayd_bitcoin.chain import register_chains

    register_chains(registry, config)
