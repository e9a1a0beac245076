"""What is known of well-known EVM networks, by chain id (EIP-155). Only names and numbers: every address and node is
configured, and a network that is not listed works just as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ETHER_COIN_TYPE = 60


@dataclass(frozen=True, slots=True)
class Network:
    """``token_standard`` is what customers call tokens there; ``coin_type`` the native coin's number in SLIP-44, as
    CAIP-19 wants it; ``testnet``: its coins are worth nothing."""

    title: str
    token_standard: str = "ERC-20"  # noqa: S105 - a name, not a secret
    coin_type: int = ETHER_COIN_TYPE
    testnet: bool = False


_KNOWN: Mapping[int, Network] = {
    1: Network("Ethereum"),
    10: Network("Optimism"),
    56: Network("BNB Smart Chain", "BEP-20", coin_type=714),
    97: Network("BNB Smart Chain testnet", "BEP-20", coin_type=714, testnet=True),
    100: Network("Gnosis Chain", coin_type=700),
    137: Network("Polygon", coin_type=966),
    1337: Network("Local test chain", testnet=True),
    8453: Network("Base"),
    17000: Network("Holesky testnet", testnet=True),
    31337: Network("Local test chain", testnet=True),
    42161: Network("Arbitrum One"),
    43113: Network("Avalanche Fuji testnet", coin_type=9005, testnet=True),
    43114: Network("Avalanche", coin_type=9005),
    80002: Network("Polygon Amoy testnet", coin_type=966, testnet=True),
    84532: Network("Base Sepolia testnet", testnet=True),
    421614: Network("Arbitrum Sepolia testnet", testnet=True),
    560048: Network("Hoodi testnet", testnet=True),
    11155111: Network("Sepolia testnet", testnet=True),
    11155420: Network("Optimism Sepolia testnet", testnet=True),
}


def network(chain_id: int) -> Network:
    """What is known of a network; a plain name for one that is not listed."""
    return _KNOWN.get(chain_id) or Network(f"EVM chain {chain_id}")
