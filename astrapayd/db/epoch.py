"""The installation's epoch: a database restored from a backup begins the next one.

What the lost time gave out (event numbers, indexes of keys) is unknown, so every counter jumps far enough that nothing
of it is given out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.tables import chains, derivations, events, installation, sessions

_NUMBERS_PER_SEC: Final = 1_000
_NUMBERS_AT_LEAST: Final = 1_000_000
_WATCHERS: Final = 1_000_000

_PROBLEM: Final = "a backup was restored: the chain is read again from there"


@dataclass(frozen=True, slots=True)
class Epoch:
    """``restored_at`` is Unix seconds, or None where no backup was ever restored."""

    number: int
    restored_at: int | None
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Counters:
    """How far a database had come that is being replaced. ``next_indexes`` by (SHA-256 of the xpub, branch)."""

    epoch: int = 0
    last_sequence: int = 0
    next_indexes: Mapping[tuple[str, int], int] = field(default_factory=dict)


async def load_epoch(connection: AsyncConnection) -> Epoch:
    """The present one."""
    columns = (installation.c.epoch, installation.c.restored_at, installation.c.last_sequence)
    return Epoch(*(await connection.execute(select(*columns))).one())


async def next_indexes(connection: AsyncConnection) -> dict[tuple[str, int], int]:
    """The next index of every key's branch, by (SHA-256 of the xpub, branch)."""
    columns = (derivations.c.key_hash, derivations.c.branch, derivations.c.next_index)
    return {(row.key_hash, row.branch): row.next_index for row in await connection.execute(select(*columns))}


async def begin_next_epoch(tx: AsyncConnection, replaced: Counters, now: int) -> Epoch:
    """Begin the epoch of a restored backup, and answer it.

    - Events are numbered on from a thousand numbers for each second since the database was last written (a million at
      least): so no number is told twice, not even where the same backup is restored again later.
    - A watcher that still runs on what was there before is fenced, and no chain counts as level until one has looked.

    :param replaced: of the database that was in use until now, as far as it could be read.
    :param now: Unix seconds.
    """
    was = await load_epoch(tx)
    last_sequence = max(was.last_sequence, replaced.last_sequence)
    last_sequence += max((now - await _last_written(tx)) * _NUMBERS_PER_SEC, _NUMBERS_AT_LEAST)
    begun = Epoch(max(was.number, replaced.epoch) + 1, now, last_sequence)
    await tx.execute(
        update(installation).values(epoch=begun.number, restored_at=now, last_sequence=begun.last_sequence)
    )
    await tx.execute(
        update(chains).values(
            watcher_epoch=chains.c.watcher_epoch + _WATCHERS, level=False, looked_at=0, problem=_PROBLEM
        )
    )
    return begun


async def _last_written(connection: AsyncConnection) -> int:
    """The latest time that the database knows of, Unix seconds: not after the backup was taken."""
    columns = (installation.c.created_at, chains.c.looked_at, events.c.created_at, sessions.c.opened_at)
    return max([(await connection.execute(select(func.max(column)))).scalar_one() or 0 for column in columns])
