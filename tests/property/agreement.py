"""What a database and a book have in common, row by row: everything that payments consist of."""

from __future__ import annotations

from typing import Any

from tests.property.book import Book, Identity
from tests.property.invariants import Row, State


def agrees(book: Book, state: State) -> None:
    """Nothing is different but what is random (ids of transfers, verification codes) or the database's own."""
    addresses = {r["id"]: r["address"] for r in state.addresses}
    identities: dict[str, Identity] = {r["id"]: (r["tx"], r["kind"], r["ordinal"]) for r in state.transfers}
    assert set(addresses.values()) == book.addresses
    assert state.transfers_by(identities) == {i: _transfer(book, i) for i in book.known}
    assert {identities[r["transfer_id"]]: _row(r, _CREDIT) for r in state.credits} == {
        i: (c.session, c.reason, c.live, c.confirmed, c.turns) for i, c in book.credits.items()
    }
    assert {r["id"]: _row(r, _SESSION) for r in state.sessions} == {i: _session(book, i) for i in book.sessions}
    assert [(*_row(r, _RESERVATION), addresses[r["address_id"]]) for r in state.reservations] == [
        (
            *(h.session, h.purpose, h.asset.id, h.tail, h.due_base, h.opened_height, h.live_until, h.released_at),
            h.address,
        )
        for h in book.held
    ]
    assert {r["session_id"] for r in state.fulfilments} == set(book.fulfilled.values())
    assert len(state.fulfilments) == len(book.fulfilled)
    told = [(r["type"], identities.get(r["subject"], r["subject"])) for r in state.events if r["type"] != _LINK]
    assert told == [(e.type, e.subject) for e in book.told.values()]


_LINK = "link.created"
_CREDIT = ("session_id", "credited_by", "live", "confirmed", "turns")
_RESERVATION = ("session_id", "purpose", "asset", "tail", "due_base", "opened_height", "live_until", "released_at")
_SESSION = (
    *("status", "flags", "revision", "due_base", "tolerance_base", "received_base", "confirmed_base"),
    *("expires_at", "late_until", "open", "opened_at", "opened_height", "asset", "price_base"),
)


def _row(row: Row, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _transfer(book: Book, identity: Identity) -> tuple[Any, ...]:
    row = book.known[identity]
    block = (row.block.height, row.block.hash, row.block.time) if row.block else (None, None, None)
    candidates = [{"session": c.session_id, "reason": c.reason} for c in row.candidates]
    return (
        *(row.asset.id, row.amount_base, row.state, *block),
        *(row.first_seen_at, row.first_seen_height, row.standing, row.reason, candidates),
    )


def _session(book: Book, session_id: str) -> tuple[Any, ...]:
    state, opened = book.sessions[session_id], book.opened[session_id]
    return (
        *(state.status, " ".join(sorted(state.flags)), state.revision, state.due_base, state.tolerance_base),
        *(state.received_base, state.confirmed_base, state.expires_at, state.late_until, state.open),
        *(opened.opened_at, opened.opened_height, opened.asset.id, opened.price_base),
    )
