"""Bitcoin's networks: what their addresses and keys begin with, and the block that each begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Network:
    """``name`` as in the configuration; ``node_name`` as in Bitcoin Core's ``getblockchaininfo``; ``family`` names
    the networks that share address forms. ``hrp`` begins a bech32 address (BIP-173); the versions begin a base58check
    one; ``genesis`` is the hash of block 0 (None: a signet of one's own has another)."""

    name: str
    title: str
    node_name: str
    family: str
    hrp: str
    p2pkh_version: int
    p2sh_version: int
    genesis: str
    testnet: bool = True


MAINNET = Network(
    "mainnet",
    "Bitcoin",
    "main",
    "mainnet",
    "bc",
    0x00,
    0x05,
    "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    testnet=False,
)
TESTNET = Network(
    "testnet",
    "Bitcoin testnet",
    "test",
    "testnet",
    "tb",
    0x6F,
    0xC4,
    "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
)
TESTNET4 = Network(
    "testnet4",
    "Bitcoin testnet 4",
    "testnet4",
    "testnet",
    "tb",
    0x6F,
    0xC4,
    "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
)
SIGNET = Network(
    "signet",
    "Bitcoin signet",
    "signet",
    "testnet",
    "tb",
    0x6F,
    0xC4,
    "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
)
REGTEST = Network(
    "regtest",
    "Bitcoin regtest",
    "regtest",
    "regtest",
    "bcrt",
    0x6F,
    0xC4,
    "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
)

NETWORKS: Mapping[str, Network] = MappingProxyType(
    {network.name: network for network in (MAINNET, TESTNET, TESTNET4, SIGNET, REGTEST)}
)
"""Every network by its name in the configuration."""


def of_hrp(hrp: str) -> str | None:
    """The network that bech32 addresses with this beginning belong to, in words."""
    return {"bc": "mainnet", "tb": "testnet or signet", "bcrt": "regtest"}.get(hrp)
