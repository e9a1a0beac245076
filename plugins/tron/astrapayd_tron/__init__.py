"""Payments on Tron (TRX and TRC-20), seen through the merchant's own java-tron. Only hooks here; what they need is
imported when they are called."""

from __future__ import annotations

from astrapayd.chains import ChainRegistry
from astrapayd.config import Config, ConfigRegistry
from astrapayd.hookspecs import hookimpl

PLUGIN = "tron"
"""What ``[chains.ID]`` names as its ``plugin``."""


@hookimpl
def astrapayd_register_config(registry: ConfigRegistry) -> None:
    """Declare ``[chains.ID]`` with ``plugin = "tron"``."""
    from astrapayd_tron.config import TronChainSection

    registry.add_chain_section(PLUGIN, TronChainSection)


@hookimpl
def astrapayd_register_chains(registry: ChainRegistry, config: Config) -> None:
    """Register one chain for each of those sections."""
    from astrapayd_tron.chain import register_chains

    register_chains(registry, config)
