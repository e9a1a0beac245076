"""What a chain does to payments: reorgs, batches, replays, fences (the Chain and Store lists of payment cases)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from astrapayd.chains import Depth
from astrapayd.db import chains as chain_queries
from astrapayd.db.tables import chain_blocks, chains, credits, transfers
from astrapayd.ingest import BrokenUpdate, Fenced, StaleWatch
from astrapayd.sessions import Flag, Status
from astrapayd.testing import ChainScript, FakeChain
from astrapayd.transfers import BlockRef
from tests.databases import both_engines
from tests.shopfront import Shopfront, shopfront

pytestmark = both_engines


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def test_seen_then_mined(front: Shopfront) -> None:
    session = await front.open_new()
    payment = front.pay(session.due_base)
    await front.apply(front.script.see(payment))
    assert (await front.session(session.id)).status is Status.PROCESSING
    await front.mine(payment)
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID
    assert (await front.told(session.id)).count("payment.seen") == 1
    assert await front.count(credits) == 1


async def test_seen_and_mined_in_one_update(front: Shopfront) -> None:
    session = await front.open_new()
    payment = front.pay(session.due_base)
    step = front.script.mine(payment)
    await front.apply(replace(step, transfers=(payment, *step.transfers)))
    assert (await front.session(session.id)).received_base == session.due_base
    assert await front.count(transfers) == 1


async def test_replaced_away(front: Shopfront) -> None:
    session = await front.open_new()
    payment = front.pay(session.due_base)
    await front.apply(front.script.see(payment))
    await front.apply(front.script.give_up(payment.tx))
    after = await front.session(session.id)
    assert (after.status, after.received_base) == (Status.PENDING, 0)
    assert "payment.reverted" in await front.told(session.id)


async def test_reorg_back_into_the_nodes_memory(front: Shopfront) -> None:
    session = await front.open_new()
    payment = front.pay(session.due_base)
    await front.mine(payment)
    await front.reorg(1, [], [])
    assert (await front.session(session.id)).received_base == 0
    await front.apply(front.script.see(payment))
    assert (await front.session(session.id)).status is Status.PROCESSING
    assert (await front.transfer_row(payment))["state"] == "unconfirmed"


async def test_reorg_after_paid_removes_the_payment(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base))
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID
    await front.reorg(2, [], [], [])
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PENDING, {Flag.REVERTED})
    assert after.received_base == after.confirmed_base == 0
    told = await front.told(session.id)
    assert told[-3:] == ["payment.reverted", "session.reverted", "session.pending"]


async def test_reorg_and_mined_again_elsewhere(front: Shopfront) -> None:
    """Reverted, restored, final, each told once and in order; the transfer is the same one."""
    session = await front.open_new()
    payment = front.pay(session.due_base)
    await front.mine(payment)
    await front.mine()
    await front.reorg(2, [], [], [])
    row = await front.transfer_row(payment)
    assert (row["state"], row["block_hash"]) == ("orphaned", None)
    await front.mine(payment)
    await front.mine_more(6)
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, {Flag.FINAL})
    assert (await front.transfer_row(payment))["id"] == row["id"]
    of_session = [t for t in await front.told(session.id) if t.startswith("session.")][2:]
    assert of_session == [
        *("session.processing", "session.paid", "session.reverted", "session.pending"),
        *("session.processing", "session.restored", "session.final"),
    ]
    of_payment = [t for t in await front.told(session.id) if t.startswith("payment.")]
    assert of_payment == [f"payment.{what}" for what in ("seen", "confirmed", "reverted", "seen", "confirmed")]
    await front.every_event_has_one_delivery()


async def test_reorg_that_moves_the_payment_to_another_block_at_once(front: Shopfront) -> None:
    session = await front.open_new()
    payment = front.pay(session.due_base)
    await front.mine(payment)
    await front.mine()
    await front.reorg(2, [], [payment], [])
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, frozenset())
    row = await front.transfer_row(payment)
    assert row["block_height"] == front.script.tip.height - 1
    assert (await front.told(session.id)).count("payment.seen") == 1


async def test_confirmations_that_a_reorg_takes_back(front: Shopfront) -> None:
    """The payment's own block stays, but fewer blocks stand on it."""
    session = await front.open_new()
    await front.mine(front.pay(session.due_base))
    await front.mine()
    await front.reorg(1)
    after = await front.session(session.id)
    assert (after.status, after.flags, after.confirmed_base) == (Status.PROCESSING, {Flag.REVERTED}, 0)
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID
    told = await front.told(session.id)
    assert (told.count("payment.confirmed"), told.count("session.paid")) == (2, 1)


async def test_confirmations_of_an_expired_partial_that_a_reorg_takes_back(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(secs=1801)
    await front.mine(front.pay(session.due_base - 1_000_000))
    await front.mine()
    assert (await front.session(session.id)).confirmed_base
    await front.reorg(1)
    after = await front.session(session.id)
    assert (after.status, after.confirmed_base) == (Status.EXPIRED, 0)


async def test_reorg_with_a_double_spend(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(session.due_base))
    await front.mine()
    await front.reorg(2, [front.pay(session.due_base, to="fake1thief")], [], [])
    assert (await front.session(session.id)).flags == {Flag.REVERTED}


async def test_six_block_reorg_over_two_payments(tmp_path: Path) -> None:
    chain = FakeChain(ChainScript(), final=Depth(10, "10 blocks"))
    async with shopfront(tmp_path, chain=chain) as front:
        kept, lost = await front.open_new(), await front.open_new()
        keeps, loses = front.pay(kept.due_base), front.pay(lost.due_base)
        await front.mine(keeps, loses)
        await front.mine_more(5)
        await front.reorg(6, [], [], [keeps], [], [], [], [])
        assert (await front.session(kept.id)).status is Status.PAID
        assert (await front.session(lost.id)).flags == {Flag.REVERTED}


async def test_late_credit_confirmed_and_reverted_after_the_late_window(front: Shopfront) -> None:
    session = await front.open_new()
    payment = front.pay(session.due_base)
    await front.mine(secs=1801 + 86_370)
    await front.mine(payment)
    await front.mine(secs=100)
    assert (await front.session(session.id)).status is Status.PAID
    await front.reorg(2, [], [], [])
    assert (await front.session(session.id)).flags == {Flag.REVERTED}
    await front.mine(payment, secs=100)
    await front.mine_more(6)
    after = await front.session(session.id)
    assert (after.status, after.flags, after.open) == (Status.PAID, {Flag.LATE, Flag.FINAL}, False)


async def test_two_outputs_in_one_transaction_to_two_sessions(front: Shopfront) -> None:
    first, second = await front.open_new(), await front.open_new("30.00")
    one = front.pay(first.due_base)
    await front.mine(one, front.pay(second.due_base, tx=one.tx, ordinal=1))
    await front.mine()
    for session in (first, second):
        assert (await front.session(session.id)).status is Status.PAID


async def test_same_address_twice_in_one_transaction(front: Shopfront) -> None:
    session = await front.open_new()
    one = front.pay(session.due_base)
    await front.mine(one, replace(one, ordinal=1))
    assert (await front.session(session.id)).received_base == 2 * session.due_base


async def test_native_transfer_and_first_log_in_one_transaction(front: Shopfront) -> None:
    """Both have ordinal 0; the kind tells them apart."""
    token, coin = await front.open_new(), await front.open(await front.link("1", "COIN"), "coin")
    log = front.pay(token.due_base)
    await front.mine(log, front.pay(coin.due_base, asset="coin", tx=log.tx))
    await front.mine()
    assert (await front.session(token.id)).status is (await front.session(coin.id)).status is Status.PAID


async def test_batch_transfer_with_several_logs(front: Shopfront) -> None:
    """More transfers in one block than one statement may have values for."""
    opened = [await front.open(await front.link()) for _ in range(20)]
    first = front.pay(opened[0].due_base)
    paid = [front.pay(s.due_base, tx=first.tx, ordinal=i) for i, s in enumerate(opened)]
    noise = [front.pay(3, tx=first.tx, ordinal=100 + i) for i in range(700)]
    await front.mine(*paid, *noise)
    await front.reorg(1, [], [*noise, *paid])
    await front.mine()
    for session in opened:
        assert (await front.session(session.id)).status is Status.PAID
    assert await front.count(transfers) == 720


async def test_same_update_twice_is_refused(front: Shopfront) -> None:
    session = await front.open_new()
    step = front.script.mine(front.pay(session.due_base))
    await front.apply(step)
    before = [await front.rows(t) for t in (chains, chain_blocks, transfers, credits)]
    with pytest.raises(Fenced):
        await front.apply(step)
    assert before == [await front.rows(t) for t in (chains, chain_blocks, transfers, credits)]


async def test_watcher_that_lost_its_lock_keeps_writing(front: Shopfront) -> None:
    async with front.core.database.write() as tx:
        newer = await chain_queries.begin_epoch(tx, "fake")
    step = front.script.mine()
    with pytest.raises(Fenced):
        await front.apply(step)
    await front.core.ingest.apply(step, newer)


async def test_session_opened_between_fetching_and_committing_a_block(front: Shopfront) -> None:
    """An address that was added after the fetch is not in the update: it is refused, not half applied."""
    step = front.script.mine()
    async with front.core.database.write() as tx:
        both = {"fake1shop": "shop", "fake1more": "shop"}
        assert not await chain_queries.synchronise_addresses(tx, "fake", both, 0)
    with pytest.raises(StaleWatch):
        await front.apply(step)
    assert step.base is not None
    assert (await front.rows(chains))[0]["head_hash"] == step.base.hash
    await front.apply(replace(step, watch_version=step.watch_version + 1))


@pytest.mark.parametrize("fault", ["gap", "other parent", "not the head", "takes off what was never on"])
async def test_blocks_that_do_not_hang_together_are_refused(front: Shopfront, fault: str) -> None:
    await front.mine()
    step = front.script.mine()
    stray = BlockRef(step.head.height, "0xstray", "0xnowhere", step.head.time)
    broken = {
        "gap": replace(step, connected=(replace(step.head, height=step.head.height + 1),)),
        "other parent": replace(step, connected=(stray,), head=stray),
        "not the head": replace(step, head=stray),
        "takes off what was never on": replace(step, disconnected=(stray,)),
    }
    before = await front.rows(chains)
    with pytest.raises(BrokenUpdate):
        await front.apply(broken[fault])
    assert await front.rows(chains) == before
    await front.apply(step)


async def test_finality_never_goes_back(tmp_path: Path) -> None:
    """A node that lags behind the last one, or does not say what is final, takes nothing back."""
    depth = Depth(None, "finalized")
    chain = FakeChain(ChainScript(final_lag=3), confirmations=depth, final=depth)
    async with shopfront(tmp_path, chain=chain) as front:
        session = await front.open_new()
        await front.mine(front.pay(session.due_base))
        await front.mine_more(3)
        assert (await front.session(session.id)).status is Status.PAID
        await front.apply(replace(front.script.mine(), final_height=-1))
        await front.apply(replace(front.script.mine(), final_height=1))
        assert (await front.session(session.id)).flags == {Flag.FINAL}
        assert (await front.rows(chains))[0]["final_height"] == 1


async def test_what_is_final_stays_paid_while_the_watcher_falls_back(front: Shopfront) -> None:
    """Five blocks are off and their successors not on yet. The payment's own block was final, and still stands."""
    session = await front.open_new()
    await front.mine(front.pay(session.due_base))
    await front.mine_more(5)
    assert (await front.session(session.id)).flags == {Flag.FINAL}
    await front.reorg(5)
    assert (await front.session(session.id)).status is Status.PAID
    await front.mine_more(6)
    assert (await front.told(session.id)).count("session.final") == 1


async def test_blocks_are_kept_until_final_with_one_below_as_an_anchor(front: Shopfront) -> None:
    await front.mine_more(20)
    kept = sorted(r["height"] for r in await front.rows(chain_blocks))
    tip = front.script.tip.height
    assert kept == list(range(tip - 5, tip + 1)), "the six that are not deeper than final"
    async with front.core.database.read() as connection:
        recent = await chain_queries.recent_blocks(connection, "fake")
    assert recent == front.script.branch()[:6]


async def test_hundred_small_transfers_confirm_together(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(*(front.pay(session.due_base) for _ in range(100)))
    await front.mine()
    assert (await front.session(session.id)).confirmed_base == 100 * session.due_base
