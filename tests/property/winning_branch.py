"""A second daemon that has the same openings but saw only the branch that won, and all of it in one update."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.engine import Database
from astrapayd.db.tables import (
    changes,
    checkouts,
    links,
    metadata,
    reservations,
    sessions,
    tail_spaces,
)
from astrapayd.testing import FakeChain
from astrapayd.transfers import ChainUpdate
from tests.property.invariants import State, read_state
from tests.shopfront import shopfront

OPENED_WITH = (links, checkouts, sessions, reservations, tail_spaces, changes)


async def second_daemon(chain: FakeChain, first: Database, folder: Path, **store: Any) -> State:
    """Everything it has, once it has seen the winning branch. ``folder`` stands for a migrated database of its own."""
    script = chain.script
    genesis = script.branch()[-1]
    tip, script.tip = script.tip, genesis
    try:
        async with shopfront(folder, chain=chain, **store) as front:
            await _copy_openings(first, front.core.database)
            script.tip = tip
            step: ChainUpdate = script.since(genesis)
            if step.connected:
                await front.apply(step)
            async with front.core.database.read() as connection:
                return await connection.run_sync(read_state)
    finally:
        script.tip = tip


def credits_and_confirmed(state: State, but: set[str]) -> tuple[dict[tuple[str, int], str], Counter[str]]:
    """Which mined transfer is credited to which session, and what is confirmed, but for some sessions."""
    by_id = {r["id"]: r for r in state.transfers}
    credited = {
        (by_id[c["transfer_id"]]["tx"], by_id[c["transfer_id"]]["ordinal"]): c["session_id"]
        for c in state.credits
        if by_id[c["transfer_id"]]["state"] == "mined" and c["session_id"] not in but
    }
    confirmed = Counter({s["id"]: s["confirmed_base"] for s in state.sessions if s["id"] not in but})
    return credited, confirmed


def kept_from_a_lost_branch(state: State) -> set[str]:
    """Sessions with a credit that the winning branch alone would not give.

    It was credited when it stood above the opening, and the reorganisation put it at or below: it was first seen after
    the opening all the same, so it stays. (So too for a reservation of a rest.)
    """
    by_id = {r["id"]: r for r in state.transfers}
    opened = {s["id"]: s["opened_height"] for s in state.sessions}
    rests = {(r["session_id"], r["due_base"]): r["opened_height"] for r in state.reservations if r["purpose"] == "rest"}
    kept = set()
    for credit in state.credits:
        row = by_id[credit["transfer_id"]]
        height = rests.get((credit["session_id"], row["amount_base"]), opened[credit["session_id"]])
        if row["state"] == "mined" and row["block_height"] <= height:
            kept.add(credit["session_id"])
    return kept


async def _copy_openings(source: Database, target: Database) -> None:
    async with source.read() as reading, target.write() as writing:
        for table in metadata.sorted_tables:
            rows = await reading.execute(select(table)) if table in OPENED_WITH else []
            copied = [dict(row._mapping) for row in rows]
            if copied:
                await writing.execute(delete(table))
                await writing.execute(insert(table), copied)
                await _count_on(writing, table)
        blank = {"status": "pending", "flags": "", "revision": 1, "paid_at": None, "open": True}
        await writing.execute(update(sessions).values(**blank, received_base=0, confirmed_base=0))
        await writing.execute(update(reservations).values(released_at=None))
        await writing.execute(delete(changes).where(changes.c.revision > 1))


async def _count_on(writing: AsyncConnection, table: Table) -> None:
    """PostgreSQL's next key is beyond the copied ones; SQLite looks for itself."""
    if writing.dialect.name == "postgresql" and table in (reservations, changes):
        last = select(func.max(table.c.id)).scalar_subquery()
        await writing.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), last)))
