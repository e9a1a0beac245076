"""Parameters of requests: hex quantities and bytes (execution-apis "base types"), log filters (EIP-234, as geth)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .blocks import Block, Log
from .rpc_errors import INVALID_PARAMS, RpcError

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]*)")
_MAX_PER_POSITION = 1000  # geth's limit for addresses and for topics at one position


def quantity(value: Any) -> int:
    """A number from `0x…` without leading zeros. Raises RpcError(-32602)."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise RpcError(INVALID_PARAMS, f"invalid argument: {value!r} is not a hex quantity")
    return int(value, 16)


def hex_bytes(value: Any, length: int | None = None) -> bytes:
    """Bytes from `0x…`, exactly `length` of them when given. Raises RpcError(-32602)."""
    try:
        if not isinstance(value, str) or not value.startswith("0x"):
            raise ValueError
        raw = bytes.fromhex(value[2:])
    except ValueError:
        raise RpcError(INVALID_PARAMS, f"invalid argument: {value!r} is not hex data") from None
    if length is not None and len(raw) != length:
        raise RpcError(INVALID_PARAMS, f"invalid argument: {value!r} has {len(raw)} bytes, want {length}")
    return raw


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs are wanted. `topics` has the accepted values for each position. An empty set accepts anything."""

    addresses: frozenset[bytes]
    topics: tuple[frozenset[bytes], ...]

    @classmethod
    def parse(cls, criteria: Any) -> LogFilter:
        """From the `address` and `topics` members of a filter object. Raises RpcError(-32602)."""
        if not isinstance(criteria, Mapping):
            raise RpcError(INVALID_PARAMS, "invalid argument: the filter is not an object")
        raw_topics = criteria.get("topics") or []
        if not isinstance(raw_topics, list):
            raise RpcError(INVALID_PARAMS, "invalid topics")
        if len(raw_topics) > 4:
            raise RpcError(INVALID_PARAMS, "exceed max topics")
        return cls(
            _one_or_many(criteria.get("address"), 20),
            # A null inside an OR-list accepts anything, like a null position.
            tuple(
                frozenset() if isinstance(position, list) and None in position else _one_or_many(position, 32)
                for position in raw_topics
            ),
        )

    def accepts(self, log: Log) -> bool:
        """Whether the log is wanted."""
        if self.addresses and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        return all(not wanted or topic in wanted for wanted, topic in zip(self.topics, log.topics, strict=False))

    def select(self, block: Block) -> Iterator[tuple[int, Log]]:
        """(transaction index, log) of every wanted log of a block, in order."""
        for index, receipt in enumerate(block.receipts):
            for log in receipt.logs:
                if self.accepts(log):
                    yield index, log


def _one_or_many(value: Any, length: int) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    values = value if isinstance(value, list) else [value]
    if len(values) > _MAX_PER_POSITION:
        raise RpcError(INVALID_PARAMS, "exceed max addresses or topics per search position")
    return frozenset(hex_bytes(one, length) for one in values)
