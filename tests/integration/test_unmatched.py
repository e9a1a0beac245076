"""What no rule could credit, sorted by the merchant: assigned, dismissed, own money, and taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.db.tables import credits, sessions
from astrapayd.services.core import NotFound
from astrapayd.services.payments import list_payments
from astrapayd.services.sessions import story
from astrapayd.services.unmatched import NotSortable, assign, dismiss, list_unmatched, mark_own, take_back
from astrapayd.sessions import Flag, Status
from tests.databases import both_engines
from tests.shopfront import Shopfront, shopfront

pytestmark = both_engines

WHOLE = 1_000_000
BY = "the merchant"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def the_unmatched(front: Shopfront) -> str:
    """The id of the one payment that nobody has."""
    (one,) = await list_unmatched(front.core)
    return one.payment.transfer.id


async def test_assigned_payment_makes_its_session_paid(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base + 7 * WHOLE))  # the last digits are its own, but too far off
    payment = await the_unmatched(front)
    after = await assign(front.core, payment, session.id, by=BY, note="wrote from the sender's account")
    assert (after.status, after.flags) == (Status.PROCESSING, {Flag.OVERPAID})
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.received_base) == (Status.PAID, session.due_base + 7 * WHOLE)
    told = await front.told(session.id)
    assert told[2:] == [
        *("payment.seen", "session.overpaid", "session.processing"),
        *("payment.confirmed", "session.paid"),
    ]
    line = (await story(front.core, session.id))[1]
    assert line["cause"] == "assigned by the merchant"
    assert line["rule"] == f"{payment} was assigned by hand: wrote from the sender's account"
    (listed,) = await list_payments(front.core)
    assert (listed.session_id, listed.credited_by, listed.transfer.standing) == (session.id, "manual", "credited")
    assert await list_unmatched(front.core) == []
    await front.every_event_has_one_delivery()


async def test_partial_assigned_then_rest(front: Shopfront) -> None:
    """An assigned part is as any other: the session asks for the rest."""
    session = await front.open_new()
    await front.mine(front.pay(10 * WHOLE))
    after = await assign(front.core, await the_unmatched(front), session.id, by=BY)
    assert (after.status, after.flags) == (Status.PENDING, {Flag.UNDERPAID})
    await front.mine(front.pay(after.missing_base))
    await assign(front.core, await the_unmatched(front), session.id, by=BY)
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID


async def test_assigned_credit_goes_with_a_reorganisation_and_comes_back(front: Shopfront) -> None:
    session = await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    payment = await the_unmatched(front)
    await assign(front.core, payment, session.id, by=BY)
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID
    await front.reorg(2, [], [], [])
    after = await front.session(session.id)
    assert (after.status, after.received_base) == (Status.PENDING, 0)
    await front.mine(paid)
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.received_base) == (Status.PAID, 30 * WHOLE)
    told = await front.told(session.id)
    assert (told.count("session.paid"), told.count("session.reverted"), told.count("session.restored")) == (1, 1, 1)
    assert await front.count(credits) == 1


async def test_stranger_s_earlier_transfer_of_exactly_the_new_session_s_due(tmp_path: Path) -> None:
    """It never pays by itself, and it is the merchant who may say that it does all the same."""
    async with shopfront(tmp_path, pick=lambda _: 0) as front:
        first = await front.open_new()
        earlier = front.pay(first.due_base + 1)  # what the next tail will make of the same price
        await front.mine(earlier)
        second = await front.open_new()
        assert second.due_base == first.due_base + 1
        assert (await front.session(second.id)).received_base == 0
        await front.reorg(1, [earlier], [])  # mined again below the opening
        assert (await front.session(second.id)).received_base == 0
        payment = await the_unmatched(front)
        after = await assign(front.core, payment, second.id, by=BY)
        assert after.received_base == second.due_base


async def test_merchants_own_sweep_and_change(front: Shopfront) -> None:
    """Neither pays anybody; both are told apart from customers' money, and can be told back."""
    session = await front.open_new()
    sweep, change = front.pay(500 * WHOLE, sender="fake1till"), front.pay(3 * WHOLE, sender="fake1shop")
    await front.mine(sweep, change)
    found = {one.payment.transfer.tx: one.payment.transfer.id for one in await list_unmatched(front.core)}
    await mark_own(front.core, found[sweep.tx], note="swept from the till")
    await mark_own(front.core, found[change.tx])
    assert await list_unmatched(front.core) == []
    own = await list_unmatched(front.core, standing="own")
    assert {one.payment.transfer.note for one in own} == {"swept from the till", ""}
    assert (await front.session(session.id)).received_base == 0
    with pytest.raises(NotSortable, match=r"merchant's own \(swept from the till\): astrapayd unmatched undo"):
        await assign(front.core, found[sweep.tx], session.id, by=BY)
    await front.reorg(1, [sweep], [change], [])
    assert {one.payment.transfer.standing for one in await list_unmatched(front.core, standing="own")} == {"own"}
    await take_back(front.core, found[sweep.tx])
    assert (await list_unmatched(front.core))[0].payment.transfer.reason == "the amount is not that of any session"


async def test_dismissed_and_taken_back(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(10 * WHOLE))
    payment = await the_unmatched(front)
    (before,) = await list_unmatched(front.core)
    await dismiss(front.core, payment, note="a donation")
    assert [p.transfer.id for p in await list_payments(front.core, standing="dismissed")] == [payment]
    with pytest.raises(NotSortable, match=r"dismissed \(a donation\)"):
        await mark_own(front.core, payment)
    await take_back(front.core, payment)
    (after,) = await list_unmatched(front.core)
    assert after == before
    assert [c.session_id for c in after.payment.transfer.candidates] == [session.id]
    with pytest.raises(NotSortable, match="is unmatched: only what was dismissed"):
        await take_back(front.core, payment)
    told = await front.told(payment)
    assert told == ["transfer.unmatched"]


async def test_a_credited_payment_is_not_assigned_again(front: Shopfront) -> None:
    first, second = await front.open_new(), await front.open_new()
    await front.mine(front.pay(first.due_base))
    (payment,) = await list_payments(front.core)
    with pytest.raises(NotSortable, match=rf"counted for session {first.id} already \(by amount\)"):
        await assign(front.core, payment.transfer.id, second.id, by=BY)
    for change in (dismiss(front.core, payment.transfer.id, note="x"), mark_own(front.core, payment.transfer.id)):
        with pytest.raises(NotSortable, match="already"):
            await change
    assert (await front.session(second.id)).received_base == 0


async def test_what_cannot_be_assigned(front: Shopfront) -> None:
    session = await front.open_new()
    gone, other = front.pay(7 * WHOLE), front.pay(9 * 10**18, asset="eur")
    await front.mine(other)
    await front.mine(gone)
    found = {one.payment.transfer.tx: one.payment.transfer.id for one in await list_unmatched(front.core)}
    with pytest.raises(NotSortable, match=f"EUR on fake came, but {session.id} is in USD.*session settle"):
        await assign(front.core, found[other.tx], session.id, by=BY)
    await front.reorg(1, [], [])
    with pytest.raises(NotSortable, match="not on the chain at the moment"):
        await assign(front.core, found[gone.tx], session.id, by=BY)
    with pytest.raises(NotFound, match="no payment 'pay_none'"):
        await assign(front.core, "pay_none", session.id, by=BY)
    with pytest.raises(NotFound, match="no session 'ses_none'"):
        await assign(front.core, found[gone.tx], "ses_none", by=BY)
    await front.mine(gone)
    for values, sentence in (({"store": "other"}, "store 'other'"), ({"store": "shop", "status": "draft"}, "a draft")):
        async with front.core.database.write() as tx:
            await tx.execute(sessions.update().values(**values))
        with pytest.raises(NotSortable, match=sentence):
            await assign(front.core, found[gone.tx], session.id, by=BY)
    assert await front.count(credits) == 0


async def test_assigned_late_where_the_store_holds_what_is_late(tmp_path: Path) -> None:
    async with shopfront(tmp_path, late="hold") as front:
        session = await front.open_new()
        await front.mine(secs=2000)
        await front.mine(front.pay(40 * WHOLE))
        after = await assign(front.core, await the_unmatched(front), session.id, by=BY)
        assert (after.status, Flag.HELD in after.flags) == (Status.EXPIRED, True)
        assert "session.paid" not in await front.told(session.id)


async def test_assigned_after_the_late_window_is_watched_until_final(front: Shopfront) -> None:
    """The session was out of the chain's reach; with the payment it is back in it."""
    session = await front.open_new()
    await front.mine(secs=2 * 86_400)
    await front.mine(front.pay(session.due_base))
    assert not (await front.session(session.id)).open
    await assign(front.core, await the_unmatched(front), session.id, by=BY)
    await front.mine_more(8)
    after = await front.session(session.id)
    assert (after.status, after.flags, after.open) == (Status.PAID, {Flag.LATE, Flag.FINAL}, False)
