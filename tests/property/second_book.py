"""Law 4: after a reorganisation, a book that saw only the winning branch has the same credits and sums.

It has the same openings and reservations, and knows when each transfer was heard of first, as nodes do that saw no lost
branch but the same transactions waiting. Three things may differ, and nothing else:

- a transfer that was credited when it was heard of above its session's opening, and that now lies at or below it:
  it was heard of after the opening all the same, so the credit stays;
- one that was credited when it was heard of within the late window, and was mined when that had passed;
- one that could have met a reservation that a lost block's time gave back. The winning branch's time has not come
  that far, but the tail may have been let again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from astrapayd.matching import tail_of
from astrapayd.sessions import Status
from astrapayd.testing import ChainScript
from tests.property.book import Book, Identity, Known
from tests.property.laws import counted


def saw_only_the_winning_branch(book: Book, script: ChainScript, clocks: Mapping[str, int]) -> Book:
    """The second book. ``clocks``: what the clock said when a block was ingested, by its hash."""
    branch = list(reversed(script.branch()))
    second = replace(
        book.copy(),
        head=branch[0],
        sessions={
            s.id: replace(
                s,
                status=Status.PENDING,
                flags=frozenset(),
                revision=1,
                received_base=0,
                confirmed_base=0,
                announced=False,
                open=True,
            )
            for s in book.sessions.values()
        },
        held=[replace(h, released_at=None, released_in="") for h in book.held],
        known={i: _only_heard_of(row) for i, row in book.known.items()},
        credits={},
        fulfilled={},
        told={},
        decided=0,
    )
    tip = script.tip
    try:
        for at, block in pairwise(branch):
            script.tip = block
            second.apply(script.since(at), second.epoch, clocks[block.hash])
    finally:
        script.tip = tip
    return second


def _only_heard_of(row: Known) -> Known:
    return replace(row, state="orphaned", block=None, standing="unmatched", reason="", candidates=())


def has_the_same(book: Book, script: ChainScript, clocks: Mapping[str, int]) -> None:
    """Law 4 itself."""
    second = saw_only_the_winning_branch(book, script, clocks)
    winning = {block.hash for block in script.branch()}
    mine, theirs = book.credits, second.credits
    excused: set[str] = set()
    for identity, row in book.known.items():
        if row.state != "mined":
            if identity in mine:
                excused |= {mine[identity].session} if row.live else set()  # waiting: no block holds it
            continue
        first = mine[identity].session if identity in mine else None
        other = theirs[identity].session if identity in theirs else None
        if first == other:
            continue
        assert _stayed(book, script, identity, first) or _was_given_back(book, row, winning), (identity, first, other)
        excused |= {s for s in (first, other) if s is not None}
    sums, expected = counted(book)[1], counted(second)[1]
    for session in sums.keys() - excused:
        assert sums[session] == expected[session], session


def _stayed(book: Book, script: ChainScript, identity: Identity, session: str | None) -> bool:
    """It was credited when it was heard of, and where it lies now it would not be."""
    row = book.known[identity]
    assert row.block is not None
    mined_at = max(block.time for block in script.branch() if block.height <= row.block.height)
    return session is not None and all(
        row.block.height <= h.opened_height or row.first_seen_at <= h.live_until < mined_at
        for h in book.held
        if h.session == session and _may_be_meant(row, h.due_base)
    )


def _may_be_meant(row: Known, due_base: int) -> bool:
    return (due_base - row.amount_base) % row.asset.price_step_base == 0


def _was_given_back(book: Book, row: Known, winning: set[str]) -> bool:
    return any(
        h.released_at is not None
        and h.released_in not in winning
        and (h.address, h.asset) == (row.address, row.asset)
        and h.tail in (None, tail_of(row.amount_base, row.asset))
        for h in book.held
    )
