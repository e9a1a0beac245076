"""Cancelled, settled, ordered twice, sold out: what people decide and what is held for them, on a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.db.tables import sessions
from astrapayd.links import LinkStatus, Unavailable
from astrapayd.services.links import find_link, set_status
from astrapayd.services.sessions import LinkUnavailable, cancel, settle, story
from astrapayd.sessions import Flag, NotPossible, Status
from tests.databases import both_engines
from tests.shopfront import Shopfront, shopfront

pytestmark = both_engines

WHOLE = 1_000_000
CENT = 10_000


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def test_cancel(front: Shopfront) -> None:
    session = await front.open_new()
    assert (await cancel(front.core, session.id, by="customer")).status is Status.CANCELLED
    assert (await front.told(session.id))[-1] == "session.cancelled"
    with pytest.raises(NotPossible):
        await cancel(front.core, session.id, by="customer")


async def test_cancel_after_seen_is_refused(front: Shopfront) -> None:
    session = await front.open_new()
    await front.apply(front.script.see(front.pay(session.due_base - WHOLE)))
    with pytest.raises(NotPossible, match="seen"):
        await cancel(front.core, session.id, by="customer")


async def test_paid_after_cancel_is_held(front: Shopfront) -> None:
    session = await front.open_new()
    await cancel(front.core, session.id, by="customer")
    await front.mine(front.pay(session.due_base))
    await front.mine_more(8)
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.CANCELLED, {Flag.HELD})
    assert after.confirmed_base == session.due_base
    assert "session.paid" not in await front.told(session.id)


async def test_settle_by_hand(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base - WHOLE))
    await settle(front.core, session.id, by="merchant", note="the rest came in cash")
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, {Flag.MANUAL, Flag.UNDERPAID})
    assert (await story(front.core, session.id))[-1]["rule"] == "settled by hand: the rest came in cash"
    with pytest.raises(NotPossible, match="paid already"):
        await settle(front.core, session.id, by="merchant", note="")
    await front.mine_more(8)
    told = await front.told(session.id)
    assert (told.count("session.paid"), told.count("session.final")) == (1, 1)


async def test_one_order_two_sessions_both_paid(front: Shopfront) -> None:
    first, second = await front.open_new(), await front.open_new()
    async with front.core.database.write() as tx:
        await tx.execute(sessions.update().values(order_ref="1042"))
    await front.mine(front.pay(second.due_base))
    await front.mine(front.pay(first.due_base))
    await front.mine_more(8)
    assert (await front.session(second.id)).status is Status.PAID
    held = await front.session(first.id)
    assert (held.status, held.flags) == (Status.PROCESSING, {Flag.HELD, Flag.DUPLICATE})
    assert "session.paid" not in await front.told(first.id)
    settled = await settle(front.core, first.id, by="merchant", note="two were wanted")
    assert settled.flags == {Flag.MANUAL}
    await front.mine()
    assert (await front.told(first.id)).count("session.paid") == 1


async def test_a_duplicate_stays_held_when_the_other_one_reverts(front: Shopfront) -> None:
    """The goods may have been sent for the first; only a person can know."""
    first, second = await front.open_new(), await front.open_new()
    async with front.core.database.write() as tx:
        await tx.execute(sessions.update().values(order_ref="1042"))
    await front.mine(front.pay(second.due_base))
    await front.mine(front.pay(first.due_base))
    await front.mine()
    await front.reorg(3, [front.pay(first.due_base)], [], [], [])
    assert Flag.REVERTED in (await front.session(second.id)).flags
    held = await front.session(first.id)
    assert held.flags >= {Flag.HELD, Flag.DUPLICATE}


async def test_single_use_link_late_payment_beyond_the_limit_is_held(front: Shopfront) -> None:
    link = await front.link(max_uses=1)
    first = await front.open(link)
    with pytest.raises(LinkUnavailable) as refused:
        await front.open(link)
    assert refused.value.why is Unavailable.SOLD_OUT
    await front.mine(secs=1801)
    second = await front.open(link)
    await front.mine(front.pay(first.due_base), front.pay(second.due_base))
    await front.mine_more(8)
    assert (await front.session(second.id)).status is Status.PAID
    held = await front.session(first.id)
    assert (held.status, held.flags) == (Status.PROCESSING, {Flag.LATE, Flag.HELD})
    assert "session.paid" not in await front.told(first.id)
    assert (await find_link(front.core, link.id))[1] is Unavailable.SOLD_OUT


async def test_a_late_payment_takes_a_use_that_is_free_again(front: Shopfront) -> None:
    link = await front.link(max_uses=1)
    session = await front.open(link)
    await front.mine(secs=1801)
    await front.mine(front.pay(session.due_base))
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, {Flag.LATE})


async def test_link_paused_between_opening_and_paying(front: Shopfront) -> None:
    link = await front.link()
    session = await front.open(link)
    await set_status(front.core, link.id, LinkStatus.PAUSED)
    with pytest.raises(LinkUnavailable):
        await front.open(link)
    await front.mine(front.pay(session.due_base))
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID
