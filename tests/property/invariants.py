"""What must always hold of a store's rows themselves, beside what a book is compared with."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from astrapayd.db.tables import (
    addresses,
    chain_blocks,
    changes,
    credits,
    deliveries,
    events,
    fulfilments,
    reservations,
    sessions,
    transfers,
)
from astrapayd.testing import ChainScript

Row = dict[str, Any]
_TRANSFER = (
    *("asset", "amount_base", "state", "block_height", "block_hash", "block_time"),
    *("first_seen_at", "first_seen_height", "standing", "reason", "candidates"),
)


@dataclass(frozen=True)
class State:
    """Everything that payments consist of, as committed."""

    chain_blocks: list[Row]
    addresses: list[Row]
    transfers: list[Row]
    credits: list[Row]
    sessions: list[Row]
    reservations: list[Row]
    fulfilments: list[Row]
    changes: list[Row]
    events: list[Row]
    deliveries: list[Row]

    def transfers_by(self, identities: dict[str, tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Transfers by identity, without their random ids."""
        return {identities[r["id"]]: tuple(r[name] for name in _TRANSFER) for r in self.transfers}


_TABLES = (
    *(chain_blocks, addresses, transfers, credits, sessions, reservations, fulfilments, changes, events, deliveries),
)


def read_state(connection: Connection) -> State:
    """Read it in one transaction, each table in the order of its key."""
    return State(
        *(
            [dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in _TABLES
        )
    )


def sums_agree_with_the_chain(state: State, script: ChainScript, confirmations: int) -> None:
    """1. Every live transfer is counted exactly once, and sums are those of the chain."""
    on_chain = {(t.tx, t.ordinal): t for block in script.branch() for t in script.transfers_of(block)}
    mined = {(r["tx"], r["ordinal"]): r for r in state.transfers if r["state"] == "mined"}
    assert mined.keys() == on_chain.keys()
    for identity, row in mined.items():
        block = on_chain[identity].block
        assert block is not None
        assert row["amount_base"] == on_chain[identity].amount_base
        assert (row["block_height"], row["block_hash"], row["block_time"]) == (block.height, block.hash, block.time)
    credited = Counter(c["transfer_id"] for c in state.credits)
    for row in state.transfers:
        assert credited[row["id"]] == (1 if row["standing"] == "credited" else 0)
    by_id = {r["id"]: r for r in state.transfers}
    received: defaultdict[str, int] = defaultdict(int)
    confirmed: defaultdict[str, int] = defaultdict(int)
    for credit in state.credits:
        row = by_id[credit["transfer_id"]]
        if row["state"] in ("mined", "unconfirmed"):
            received[credit["session_id"]] += row["amount_base"]
        if row["state"] == "mined" and script.tip.height - row["block_height"] + 1 >= confirmations:
            confirmed[credit["session_id"]] += row["amount_base"]
    for session in state.sessions:
        assert session["received_base"] == received[session["id"]]
        assert session["confirmed_base"] == confirmed[session["id"]]


def reservations_are_apart(state: State) -> None:
    """2. No two live reservations can be taken for each other; no derived index is given twice."""
    live: defaultdict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in state.reservations:
        if row["released_at"] is None:
            live[row["asset"], row["address_id"]].append(row)
    for there in live.values():
        assert len({r["tail"] for r in there}) == len({r["due_base"] for r in there}) == len(there)
    given = [r["derivation_index"] for r in state.addresses if r["derivation"] is not None]
    assert len(given) == len(set(given))


def events_are_told_once(state: State) -> None:
    """3. No event is missing, doubled, or without its one delivery; each change has one line in the story."""
    sequences = sorted(e["sequence"] for e in state.events)
    assert sequences == list(range(1, len(sequences) + 1))
    assert sorted(d["sequence"] for d in state.deliveries) == sequences
    lines = Counter(c["session_id"] for c in state.changes)
    for session in state.sessions:
        assert lines[session["id"]] == session["revision"]
    # An event whose id was taken already would be told to nobody.
    decided = Counter((c["session_id"], kind) for c in state.changes for kind in c["result"]["events"])
    told = Counter((e["subject"], e["type"]) for e in state.events if e["subject"] in lines)
    assert told == decided


def paid_is_told_once_and_only_with_enough(state: State) -> None:
    """5. ``session.paid`` at most once, never with too little unless by hand; ``paid`` leaves only by a revert."""
    told = Counter((e["subject"], e["type"]) for e in state.events)
    for row in state.sessions:
        flags, is_paid = row["flags"].split(), row["status"] == "paid"
        paid, reverted = told[row["id"], "session.paid"], told[row["id"], "session.reverted"]
        assert paid == (1 if row["paid_at"] is not None else 0)
        assert told[row["id"], "session.final"] <= 1
        assert paid + told[row["id"], "session.restored"] - reverted == (1 if is_paid else 0)
        if is_paid and "manual" not in flags:
            assert row["confirmed_base"] >= row["due_base"] - row["tolerance_base"]
        if row["paid_at"] is not None:
            assert is_paid != ("reverted" in flags)
