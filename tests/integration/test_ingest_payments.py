"""Payments that come in, case by case (the Sessions list of payment cases), on a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from astrapayd.db.tables import credits
from astrapayd.money import MAX_AMOUNT_BASE
from astrapayd.services.sessions import find_session, story
from astrapayd.sessions import Flag, Status
from tests.databases import both_engines
from tests.shopfront import Shopfront, shopfront

pytestmark = both_engines

WHOLE = 1_000_000
CENT = 10_000


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def test_exact(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base))
    assert (await front.session(session.id)).status is Status.PROCESSING
    await front.mine_more(6)
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, {Flag.FINAL})
    assert after.received_base == after.confirmed_base == session.due_base
    assert await front.told(session.id) == [
        *("session.created", "session.pending", "payment.seen", "session.processing"),
        *("payment.confirmed", "session.paid", "session.final"),
    ]
    await front.every_event_has_one_delivery()
    told_of = [change["result"]["status"] for change in await story(front.core, session.id)]
    assert told_of == ["pending", "processing", "paid", "paid"]


async def test_exact_native_coin(front: Shopfront) -> None:
    session = await front.open(await front.link("0.25", "COIN"), "coin")
    await front.mine(front.pay(session.due_base, asset="coin"))
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID


async def test_exact_twice(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base), front.pay(session.due_base))
    await front.mine_more(6)
    after = await front.session(session.id)
    assert (after.status, after.received_base) == (Status.PAID, 2 * session.due_base)
    assert after.flags == {Flag.OVERPAID, Flag.FINAL}
    assert (await front.told(session.id)).count("session.paid") == 1


async def test_extra_payment_after_final_is_told_without_a_second_final(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base))
    await front.mine_more(6)
    await front.mine(front.pay(session.due_base))
    assert Flag.FINAL in (await front.session(session.id)).flags
    await front.mine_more(8)
    told = await front.told(session.id)
    assert told.count("session.final") == told.count("session.paid") == 1
    assert told.count("payment.confirmed") == 2


async def test_exchange_deducts_a_whole_cent_fee_then_the_rest_by_its_own_tail(front: Shopfront) -> None:
    session = await front.open_new()
    fee = front.pay(session.due_base - WHOLE)
    await front.mine(fee)
    short = await front.session(session.id)
    assert (short.status, short.flags, short.missing_base) == (Status.PENDING, {Flag.UNDERPAID}, WHOLE)
    assert (await front.transfer_row(fee))["standing"] == "credited"
    asking = (await find_session(front.core, session.id)).asking
    assert asking.purpose == "rest"
    assert asking.tail is not None
    assert asking.due_base == WHOLE + asking.tail
    assert asking.tail != session.due_base % CENT, "the rest has a tail of its own"
    await front.mine(front.pay(asking.due_base))
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, frozenset()), "a tail is never excess"


async def test_two_partials_and_a_rest_below_a_step(front: Shopfront) -> None:
    """The first rest's tail counts towards the price; the second rest must not add up to an overpayment with it."""
    session = await front.open_new()
    await front.mine(front.pay(session.due_base - WHOLE))
    rest = (await find_session(front.core, session.id)).asking
    await front.mine(front.pay(rest.due_base - 5 * CENT))
    short = await front.session(session.id)
    assert 0 < short.missing_base < 5 * CENT
    last = (await find_session(front.core, session.id)).asking
    assert last.due_base != rest.due_base
    assert short.missing_base <= last.due_base < short.missing_base + CENT
    await front.mine(front.pay(last.due_base))
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PROCESSING, frozenset())


async def test_partial_then_expiry(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base - WHOLE))
    await front.mine(secs=1900)
    await front.mine_more(2)
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.EXPIRED, {Flag.UNDERPAID})
    assert after.confirmed_base == session.due_base - WHOLE
    assert "session.paid" not in await front.told(session.id)


async def test_over(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base + WHOLE))
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, {Flag.OVERPAID})


async def test_under_within_tolerance(tmp_path: Path) -> None:
    async with shopfront(tmp_path, tolerance="0.05") as front:
        session = await front.open_new()
        await front.mine(front.pay(session.due_base - 5 * CENT))
        await front.mine()
        after = await front.session(session.id)
        assert (after.status, after.flags) == (Status.PAID, frozenset())


@pytest.mark.parametrize("lost_digits", [1, 2, 3, 4])
@pytest.mark.parametrize("rounded_up", [False, True])
async def test_cut_or_rounded_amount(front: Shopfront, lost_digits: int, rounded_up: bool) -> None:
    session = await front.open_new()
    step = 10**lost_digits
    transfer = front.pay(session.due_base // step * step + (step if rounded_up else 0))
    await front.mine(transfer)
    row = await front.transfer_row(transfer)
    assert row["standing"] == "unmatched"
    assert [c["session"] for c in row["candidates"]] == [session.id]
    assert (await front.session(session.id)).received_base == 0
    assert await front.told(row["id"]) == ["transfer.unmatched"]


async def test_right_tail_too_far_off_is_ranked_first(front: Shopfront) -> None:
    near = await front.open_new("21.00")
    meant = await front.open_new("25.00")
    transfer = front.pay(meant.due_base - 4 * WHOLE)
    await front.mine(transfer)
    row = await front.transfer_row(transfer)
    assert row["standing"] == "unmatched"
    assert [c["session"] for c in row["candidates"]] == [meant.id, near.id]


async def test_unrelated_transfer_beside_an_open_session(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(7 * WHOLE))
    assert await front.session(session.id) == session
    assert await front.count(credits) == 0


async def test_wrong_token_of_the_right_amount(front: Shopfront) -> None:
    session = await front.open_new()
    wrong = front.pay(session.due_base * 10**12, asset="eur")
    await front.mine(wrong)
    assert (await front.transfer_row(wrong))["standing"] == "unmatched"
    assert (await front.session(session.id)).received_base == 0


async def test_payment_to_an_address_that_was_retired(tmp_path: Path) -> None:
    async with shopfront(tmp_path) as front:
        session = await front.open_new()
        script, chain = front.script, front.chain
    async with shopfront(tmp_path, script=script, chain=chain, addresses=("fake1new",)) as front:
        await front.mine(front.pay(session.due_base))
        assert (await front.session(session.id)).status is Status.PROCESSING
        assert (await find_session(front.core, (await front.open_new()).id)).row.address == "fake1new"


async def test_largest_amounts_survive_every_layer(front: Shopfront) -> None:
    """Two transfers of 2^256-1 to one session: the sum is wider than any amount."""
    session = await front.open_new()
    first, second = front.pay(session.due_base), front.pay(MAX_AMOUNT_BASE)
    await front.mine(first)
    await front.mine(second)
    assert (await front.transfer_row(second))["amount_base"] == MAX_AMOUNT_BASE
    async with front.core.database.write() as tx:
        await tx.execute(credits.update().values(session_id=session.id))
        row = await front.transfer_row(second)
        blank = {"credited_by": "manual", "credited_at": 0, "live": False, "confirmed": False, "turns": 0}
        await tx.execute(credits.insert().values(transfer_id=row["id"], session_id=session.id, **blank))
    await front.mine_more(2)
    after = await front.session(session.id)
    assert after.received_base == after.confirmed_base == session.due_base + MAX_AMOUNT_BASE


async def test_zero_value_and_look_alike_token_transfers(front: Shopfront) -> None:
    session = await front.open_new()
    zero = front.pay(0)
    other = replace(front.pay(session.due_base), contract="0xusd2")
    applied = await front.mine(zero, other)
    assert (applied.transfers, applied.sessions) == (0, frozenset())
