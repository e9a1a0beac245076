"""Blocks and receipts of the demo chain, as plain values. py-evm's own types stay in `evm` (and partly `shapes`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SignedTransaction = Any
"""py-evm's SignedTransactionAPI. py-evm carries no usable types for it under mypy --strict."""


@dataclass(frozen=True, slots=True)
class Log:
    """One event log. `index` counts over the whole block (geth's logIndex), not within the transaction."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Outcome of one transaction. `status` 1 success, 0 reverted (EIP-658); gas prices in wei."""

    status: int
    gas_used: int
    cumulative_gas_used: int
    effective_gas_price: int
    contract_address: bytes | None
    bloom: int
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """An executed block. `header` is py-evm's; `transactions` and `receipts` run in parallel."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp: int
    header: Any
    size: int
    transactions: tuple[SignedTransaction, ...]
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class GenesisRecipe:
    """What distinguishes one demo chain from another: time and extra data (at most 32 bytes) of block 0."""

    timestamp: int
    extra: bytes


@dataclass(frozen=True, slots=True)
class BranchChange:
    """What one step did to the canonical chain: `removed` (empty unless a reorg) and `added`, both oldest first."""

    removed: tuple[Block, ...]
    added: tuple[Block, ...]
