"""What is known of Tron's public networks: the block that each begins with. A private network is configured by its own.

The genesis ids are those that each network's ``wallet/getblockbynum`` answers for block 0; the last four bytes are what
java-tron's ``eth_chainId`` answers (documented there: mainnet 0x2b6653dc, Nile 0xcd8690dc, Shasta 0x94a9059e).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

COIN_TYPE = 195
"""TRX in SLIP-44."""


@dataclass(frozen=True, slots=True)
class Network:
    """``name`` as in the configuration; ``genesis`` is the id of block 0 (None: it has to be configured);
    ``testnet``: its coins are worth nothing."""

    name: str
    title: str
    genesis: str | None
    testnet: bool = True


MAINNET = Network("mainnet", "Tron", "00000000000000001ebf88508a03865c71d452e25f4d51194196a1d22b6653dc", testnet=False)
NILE = Network("nile", "Tron Nile testnet", "0000000000000000d698d4192c56cb6be724a558448e2684802de4d6cd8690dc")
SHASTA = Network("shasta", "Tron Shasta testnet", "0000000000000000de1aa88295e1fcf982742f773e0419c5a9c134c994a9059e")
PRIVATE = Network("private", "Tron private network", None)

NETWORKS: Mapping[str, Network] = MappingProxyType(
    {network.name: network for network in (MAINNET, NILE, SHASTA, PRIVATE)}
)
"""Every network by its name in the configuration."""


def of_genesis(genesis: str) -> Network | None:
    """The public network that begins with this block."""
    return next((network for network in NETWORKS.values() if network.genesis == genesis), None)
