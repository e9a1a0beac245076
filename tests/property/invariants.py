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
