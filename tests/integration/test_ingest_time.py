"""Late, on time, before the opening: what the chain's time decides, on a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.db.tables import reservations
from astrapayd.services.sessions import settle
from astrapayd.sessions import Flag, Session, Status
from tests.databases import both_engines
from tests.shopfront import Shopfront, shopfront

pytestmark = both_engines

WHOLE = 1_000_000
CENT = 10_000


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def test_late_exact_accept(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(secs=1801)
    assert (await front.session(session.id)).status is Status.EXPIRED
    await front.mine(front.pay(session.due_base))
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, {Flag.LATE})


async def test_late_exact_hold(tmp_path: Path) -> None:
    async with shopfront(tmp_path, late="hold") as front:
        session = await front.open_new()
        await front.mine(secs=1801)
        await front.mine(front.pay(session.due_base))
        await front.mine_more(8)
        after = await front.session(session.id)
        assert (after.status, after.flags) == (Status.EXPIRED, {Flag.LATE, Flag.HELD})
        assert (await front.told(session.id)).count("session.held") == 1
        settled = await settle(front.core, session.id, by="merchant", note="fine")
        assert (settled.status, settled.flags) == (Status.PAID, {Flag.LATE, Flag.MANUAL})


async def test_late_partial(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(secs=1801)
    await front.mine(front.pay(session.due_base - WHOLE))
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.EXPIRED, {Flag.LATE, Flag.UNDERPAID})


async def test_late_payment_in_the_block_that_also_expires_it(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base), secs=1801)
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PROCESSING, {Flag.LATE})
    assert "session.expired" not in await front.told(session.id)


async def test_payment_after_the_late_window_is_nobodys(front: Shopfront) -> None:
    """Also in the very update that ends the window, while the reservation is still there."""
    session = await front.open_new()
    after_window = front.pay(session.due_base)
    await front.mine(after_window, secs=1801 + 86_400)
    row = await front.transfer_row(after_window)
    assert (row["standing"], row["candidates"][0]["session"]) == ("unmatched", session.id)
    assert "late window" in row["reason"]
    assert (await front.session(session.id)).received_base == 0


async def test_end_of_the_late_window_releases_the_tail(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(secs=session.late_until - front.script.tip.time)
    assert [r["released_at"] for r in await front.rows(reservations)] == [None], "never earlier"
    await front.mine(secs=1)
    assert [r["released_at"] for r in await front.rows(reservations)] == [session.late_until + 1]
    assert not (await front.session(session.id)).open


async def test_expiry_by_the_chains_time_and_not_by_the_clock(front: Shopfront) -> None:
    session = await front.open_new()
    front.clock.ahead_secs = 10_000
    await front.mine()
    assert (await front.session(session.id)).status is Status.PENDING
    await front.mine(secs=1800)
    assert (await front.session(session.id)).status is Status.EXPIRED


async def test_downtime_longer_than_the_window_with_an_on_time_payment_in_it(front: Shopfront) -> None:
    session = await front.open_new()
    base = front.script.tip
    front.script.mine(front.pay(session.due_base))
    for _ in range(1000):
        front.script.mine()
    await front.apply(front.script.since(base))
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, {Flag.FINAL}), "not late"
    assert "session.expired" not in await front.told(session.id)


async def test_block_times_ahead_of_the_clock(front: Shopfront) -> None:
    """A header two hours ahead (Bitcoin allows it) neither expires a session nor makes its payment late."""
    session = await front.open_new()
    front.clock.ahead_secs = -7200
    await front.mine(secs=7200)
    assert (await front.session(session.id)).status is Status.PENDING
    await front.mine(front.pay(session.due_base))
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, frozenset())


async def test_block_times_behind_the_clock(front: Shopfront) -> None:
    front.clock.ahead_secs = 7200
    session = await front.open_new()
    await front.mine(front.pay(session.due_base), secs=3600)
    assert (await front.session(session.id)).flags == frozenset()


async def test_strangers_earlier_transfer_of_exactly_the_new_sessions_due(front: Shopfront) -> None:
    """Mined at the height at which the session opened, and found only afterwards."""
    await front.mine()
    session = await front.open_new()
    height = front.script.tip.height
    earlier = front.pay(session.due_base)
    await front.reorg(1, [earlier])
    assert front.script.tip.height == height
    row = await front.transfer_row(earlier)
    assert row["standing"] == "unmatched"
    assert "before the session was opened" in row["reason"]
    assert (await front.session(session.id)).received_base == 0


async def test_transfer_waiting_since_before_the_opening_pays_only_when_mined_after_it(front: Shopfront) -> None:
    """Heard of again while unconfirmed, it is not tried against a session that opened meanwhile at the same height."""
    guess = front.pay(25_001_111)
    await front.apply(front.script.see(guess))
    session = await front.open_new()
    async with front.core.database.write() as tx:  # as if chance had chosen that tail
        await tx.execute(reservations.update().values(tail=1111, due_base=25_001_111))
    await front.apply(front.script.see(guess))
    assert (await front.transfer_row(guess))["standing"] == "unmatched"
    await front.mine(guess)
    assert (await front.session(session.id)).received_base == 25_001_111


async def test_tail_re_let_then_the_old_customer_pays(front: Shopfront) -> None:
    """His amount is near the new session's, with the same tail; it is his all the same, so a person decides."""
    old = await front.open_new("24.00")
    await front.mine(secs=old.late_until - front.script.tip.time + 1)
    new = await front.open_new("25.00")
    tail = old.due_base % 10_000
    async with front.core.database.write() as tx:  # as if chance had chosen that tail again
        of_new = reservations.c.session_id == new.id
        await tx.execute(reservations.update().where(of_new).values(tail=tail, due_base=25_000_000 + tail))
    payment = front.pay(old.due_base)
    await front.mine(payment)
    row = await front.transfer_row(payment)
    assert row["standing"] == "unmatched"
    assert [c["session"] for c in row["candidates"]] == [old.id, new.id]


async def re_let(front: Shopfront, rest_secs: int) -> tuple[Session, Session]:
    """Two sessions of one price, the second with the very amount of the first, ``rest_secs`` after its late window."""
    old = await front.open_new()
    await front.mine(secs=old.late_until - front.script.tip.time + 1)
    await front.mine(secs=rest_secs)
    new = await front.open_new()
    assert new.due_base != old.due_base
    async with front.core.database.write() as tx:  # as if chance had chosen that tail again
        of_new = reservations.c.session_id == new.id
        await tx.execute(reservations.update().where(of_new).values(tail=old.due_base % 10_000, due_base=old.due_base))
    return old, new


async def test_tail_re_let_for_the_same_price_could_mean_two_sessions(front: Shopfront) -> None:
    old, new = await re_let(front, 3 * 86_400)
    payment = front.pay(old.due_base)
    await front.mine(payment)
    row = await front.transfer_row(payment)
    assert row["standing"] == "unmatched"
    assert [c["session"] for c in row["candidates"]] == [new.id, old.id]


async def test_tail_re_let_long_after_means_the_new_session(front: Shopfront) -> None:
    old, new = await re_let(front, 8 * 86_400)
    await front.mine(front.pay(old.due_base))
    assert (await front.session(new.id)).received_base == old.due_base


async def test_tail_re_let_after_the_old_session_was_paid_means_the_new_session(front: Shopfront) -> None:
    old = await front.open_new()
    await front.mine(front.pay(old.due_base))
    await front.mine(secs=old.late_until - front.script.tip.time + 1)
    new = await front.open_new()
    async with front.core.database.write() as tx:  # as if chance had chosen that tail again
        of_new = reservations.c.session_id == new.id
        await tx.execute(reservations.update().where(of_new).values(tail=old.due_base % 10_000, due_base=old.due_base))
    await front.mine(front.pay(old.due_base))
    assert (await front.session(new.id)).received_base == old.due_base
