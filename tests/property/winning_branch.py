"""A second daemon that has the same openings but saw only the branch that won, and all of it in one update."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, delete, insert, select, update

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


async def second_daemon(chain: FakeChain, first: Path, template: Path, folder: Path, **store: Any) -> State:
    """Everything it has, once it has seen the winning branch."""
    folder.mkdir(exist_ok=True)
    shutil.copy(template, folder / "shop.db")
    script = chain.script
    genesis = script.branch()[-1]
    tip, script.tip = script.tip, genesis
    try:
        async with shopfront(folder, chain=chain, **store) as front:
            _copy_openings(first, folder / "shop.db")
            script.tip = tip
            step: ChainUpdate = script.since(genesis)
            if step.connected:
                await front.apply(step)
    finally:
        script.tip = tip
    engine = create_engine(f"sqlite:///{folder / 'shop.db'}")
    with engine.connect() as connection:
        state = read_state(connection)
    engine.dispose()
    shutil.rmtree(folder)
    return state


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


def _copy_openings(first: Path, second: Path) -> None:
    source, target = create_engine(f"sqlite:///{first}"), create_engine(f"sqlite:///{second}")
    with source.connect() as reading, target.begin() as writing:
        for table in metadata.sorted_tables:
            rows = [dict(row._mapping) for row in reading.execute(select(table))] if table in OPENED_WITH else []
            if rows:
                writing.execute(delete(table))
                writing.execute(insert(table), rows)
        blank = {"status": "pending", "flags": "", "revision": 1, "paid_at": None, "open": True}
        writing.execute(update(sessions).values(**blank, received_base=0, confirmed_base=0))
        writing.execute(update(reservations).values(released_at=None))
        writing.execute(delete(changes).where(changes.c.revision > 1))
    source.dispose()
    target.dispose()
