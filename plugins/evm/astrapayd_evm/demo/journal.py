"""The chain on disk: one JSON line for every step of the canonical chain, replayed at start.

Only what decides a block's hash is kept (parent, time, extra data, raw transactions): execution is deterministic, so
replaying gives the same hashes. A step is one line: a process killed while writing leaves at most one broken last line.
Transactions that wait in the pool are not kept; a geth node may lose those of others, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .blocks import Block, GenesisRecipe
from .evm import encode


@dataclass(frozen=True, slots=True)
class BlockRecipe:
    """All that is needed to execute a block again on its parent."""

    timestamp: int
    extra: bytes
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Blocks put on top of the canonical block at height `ancestor` (below the head: a reorg)."""

    ancestor: int
    blocks: tuple[BlockRecipe, ...]


class Journal:
    """Append-only file. The first line holds the chain id and what block 0 is made of."""

    def __init__(self, path: Path, chain_id: int, genesis: GenesisRecipe) -> None:
        """Open the journal, or begin it with `genesis`. Raises ValueError when the file is of another chain id."""
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        # What follows the last line feed is a line that was never finished: empty, or cut off by a kill.
        complete = lines[:-1]
        self._lines = complete[1:]
        self.genesis = genesis
        if complete:
            first = json.loads(complete[0])
            if first["chain_id"] != chain_id:
                raise ValueError(f"{path} belongs to chain id {first['chain_id']}, not {chain_id}")
            self.genesis = GenesisRecipe(first["timestamp"], bytes.fromhex(first["extra"]))
        self._file: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(sum(len(line) + 1 for line in complete))
        self._file.seek(0, 2)
        if not complete:
            self._write({"chain_id": chain_id, "timestamp": genesis.timestamp, "extra": genesis.extra.hex()})

    def replay(self) -> Iterator[Step]:
        """The steps found when the journal was opened, oldest first."""
        for line in self._lines:
            step = json.loads(line)
            yield Step(
                step["ancestor"],
                tuple(
                    BlockRecipe(
                        block["timestamp"],
                        bytes.fromhex(block["extra"]),
                        tuple(bytes.fromhex(raw) for raw in block["transactions"]),
                    )
                    for block in step["blocks"]
                ),
            )
        self._lines = []

    def append(self, ancestor: int, blocks: Sequence[Block]) -> None:
        """Record a step; it survives `kill -9` (not a power cut: nobody's money is here)."""
        self._write(
            {
                "ancestor": ancestor,
                "blocks": [
                    {
                        "timestamp": block.timestamp,
                        "extra": bytes(block.header.extra_data).hex(),
                        "transactions": [encode(transaction).hex() for transaction in block.transactions],
                    }
                    for block in blocks
                ],
            }
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: object) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
