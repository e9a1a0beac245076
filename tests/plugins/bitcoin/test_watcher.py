"""The watcher on a chain that does what a test says: mempool, replacements, reorganisations, lost frames, bad nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from astrapayd.transfers import ChainMismatch, ChainUpdate, HistoryGone, WatcherError, WatchSet
from astrapayd_bitcoin.mempool import MOST_FETCHED
from astrapayd_bitcoin.watcher import BitcoinWatcher
from tests.plugins.bitcoin.following import Book, core_watcher, watch_set
from tests.plugins.bitcoin.raw_bytes import Tx
from tests.plugins.bitcoin.regtest import Regtest

OURS = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk"
ALSO_OURS = "mkpZhYtJu2r87Js3pDiWJDmPte2NRZ8bJV"
THEIRS = "bcrt1qd7spv5q28348xl4myc8zmh983w5jx32cs707jh"


@pytest.fixture
async def regtest() -> AsyncIterator[Regtest]:
    regtest = Regtest()
    await regtest.node.start()
    yield regtest
    await regtest.node.stop()


class Running:
    """A watcher that follows, and what the core would know by it."""

    def __init__(
        self, watcher: BitcoinWatcher, updates: AsyncGenerator[ChainUpdate], book: Book, watch: WatchSet
    ) -> None:
        self.watcher = watcher
        self.updates = updates
        self.book = book
        self.watch = watch

    async def until_state(self, txid: str, state: str) -> None:
        await self.book.until(self.updates, lambda: self.book.state(txid) == state, f"{txid[:8]} is {state}")

    async def until_level(self, regtest: Regtest) -> None:
        await self.book.until(self.updates, lambda: self.book.branch[-1].hash == regtest.tip.hash, "it is level")


@asynccontextmanager
async def following(
    regtest: Regtest,
    *,
    book: Book | None = None,
    watcher: BitcoinWatcher | None = None,
    addresses: tuple[str, ...] = (OURS, ALSO_OURS),
) -> AsyncIterator[Running]:
    """From what the book knows on; everything heard from the beginning."""
    watcher, book, watch = watcher or core_watcher(regtest.node), book or Book(), watch_set(*addresses)
    async with aclosing(watcher.updates(tuple(reversed(book.branch)), watch)) as updates:
        running = Running(watcher, updates, book, watch)
        await book.until(updates, lambda: bool(book.branch), "it begins")
        yield running
    await watcher.close()


async def test_a_payment_is_seen_unconfirmed_within_a_second_and_then_mined(regtest: Regtest) -> None:
    async with following(regtest) as it:
        first = await regtest.send(regtest.make(OURS, 1))  # by then frames are surely heard
        await it.until_state(first, "unconfirmed")
        begun = time.monotonic()
        tx = await regtest.send(regtest.make(OURS, 25_003))
        await it.until_state(tx, "unconfirmed")
        assert time.monotonic() - begun < 1
        await regtest.mine()
        await it.until_state(tx, "mined")
        (transfer,) = [t for t in it.book.transfers.values() if t.tx == tx]
        assert (transfer.ordinal, transfer.amount_base, transfer.recipient, transfer.contract) == (
            0,
            25_003,
            OURS,
            None,
        )


async def test_mined_without_being_seen(regtest: Regtest) -> None:
    async with following(regtest) as it:
        tx = regtest.make(OURS, 5)
        await regtest.mine(extra=[tx])
        await it.until_state(tx.txid, "mined")


async def test_two_outputs_in_one_transaction_and_the_same_address_twice(regtest: Regtest) -> None:
    scripts = [output for address in (OURS, ALSO_OURS, OURS, THEIRS) for output in regtest.make(address, 7).outputs[:1]]
    tx = Tx((("ee" * 32, 1),), tuple(scripts))
    async with following(regtest) as it:
        await regtest.send(tx)
        await regtest.mine()
        await it.until_state(tx.txid, "mined")
        assert sorted((t.ordinal, t.recipient) for t in it.book.transfers.values()) == [
            (0, OURS),
            (1, ALSO_OURS),
            (2, OURS),
        ]


async def test_mempool_replaced_by_a_higher_fee_still_paying(regtest: Regtest) -> None:
    async with following(regtest) as it:
        first = regtest.make(OURS, 100)
        await regtest.send(first)
        await it.until_state(first.txid, "unconfirmed")
        second = regtest.make(OURS, 100, spends=first.inputs)
        await regtest.send(second)
        await it.until_state(second.txid, "unconfirmed")
        await it.until_state(first.txid, "replaced")
        await regtest.mine()
        await it.until_state(second.txid, "mined")
        assert it.book.state(first.txid) == "replaced"


async def test_replaced_away_with_its_child(regtest: Regtest) -> None:
    async with following(regtest) as it:
        first = regtest.make(OURS, 100)
        await regtest.send(first)
        child = regtest.make(ALSO_OURS, 50, spends=[(first.txid, 1)])
        await regtest.send(child)
        await it.until_state(child.txid, "unconfirmed")
        await regtest.send(regtest.make(THEIRS, 100, spends=first.inputs))
        await it.until_state(first.txid, "replaced")
        await it.until_state(child.txid, "replaced")
        assert it.book.live() == {}


async def test_killed_with_its_child_by_a_conflict_in_a_block_of_which_no_frame_tells(regtest: Regtest) -> None:
    async with following(regtest) as it:
        first = regtest.make(OURS, 100)
        await regtest.send(first)
        child = regtest.make(ALSO_OURS, 50, spends=[(first.txid, 1)])
        await regtest.send(child)
        await it.until_state(child.txid, "unconfirmed")
        rival = regtest.make(THEIRS, 100, spends=first.inputs)
        del regtest.state.mempool[first.txid], regtest.state.mempool[child.txid]
        await regtest.mine(extra=[rival])
        await it.until_state(first.txid, "replaced")
        await it.until_state(child.txid, "replaced")


async def test_evicted_and_restored(regtest: Regtest) -> None:
    async with following(regtest) as it:
        tx = regtest.make(OURS, 100)
        await regtest.send(tx)
        await it.until_state(tx.txid, "unconfirmed")
        await regtest.evict(tx.txid)
        await it.until_state(tx.txid, "replaced")
        await regtest.send(tx)
        await it.until_state(tx.txid, "unconfirmed")
        await regtest.evict(tx.txid)
        await it.until_state(tx.txid, "replaced")
        await regtest.mine(extra=[tx])
        await it.until_state(tx.txid, "mined")


async def test_reorganised_back_into_the_mempool_and_mined_again(regtest: Regtest) -> None:
    async with following(regtest) as it:
        tx = regtest.make(OURS, 100)
        await regtest.send(tx)
        await regtest.mine()
        await it.until_state(tx.txid, "mined")
        await regtest.reorganise(1, [], [])
        await it.until_state(tx.txid, "unconfirmed")
        await regtest.mine()
        await it.until_state(tx.txid, "mined")


async def test_double_spent_by_a_reorganisation_of_which_no_frame_tells(regtest: Regtest) -> None:
    async with following(regtest) as it:
        tx = regtest.make(OURS, 100)
        await regtest.send(tx)
        await regtest.mine(3)
        await it.until_state(tx.txid, "mined")
        await it.until_level(regtest)
        rival = regtest.make(THEIRS, 100, spends=tx.inputs)
        await regtest.reorganise(3, [rival], [], [], [])
        await it.until_state(tx.txid, "replaced")
        await it.until_level(regtest)


async def test_six_blocks_reorganised_over_two_payments(regtest: Regtest) -> None:
    async with following(regtest) as it:
        one, two = regtest.make(OURS, 1), regtest.make(ALSO_OURS, 2)
        await regtest.mine(3, extra=[one])
        await regtest.mine(3, extra=[two])
        await it.until_level(regtest)
        await regtest.reorganise(6, [], [two], [], [], [], [], [one])
        await it.until_level(regtest)
        assert {it.book.state(one.txid), it.book.state(two.txid)} == {"mined"}
        blocks = {t.tx: t.block.height for t in it.book.transfers.values() if t.block is not None}
        assert blocks[two.txid] < blocks[one.txid] == regtest.tip.height


@pytest.mark.parametrize("topic", ["rawtx", "sequence", "hashblock"])
async def test_lost_frames_are_noticed_by_the_next_one(regtest: Regtest, topic: str) -> None:
    async with following(regtest) as it:
        first = await regtest.send(regtest.make(OURS, 1))
        await it.until_state(first, "unconfirmed")
        tx = regtest.make(OURS, 9)
        regtest.state.mempool[tx.txid] = tx.raw
        regtest.txs[tx.txid] = tx
        regtest.node.lose_a_frame("rawtx")
        regtest.node.lose_a_frame("sequence")
        regtest.node.lose_a_frame("hashblock")
        await regtest.node.publish(topic, regtest.make(THEIRS, 1).raw if topic == "rawtx" else bytes(33))
        await it.until_state(tx.txid, "unconfirmed")


async def test_everything_is_found_without_any_frame(regtest: Regtest) -> None:
    async with following(regtest, watcher=core_watcher(regtest.node, list_secs=0.2, poll_secs=0.05)) as it:
        tx = regtest.make(OURS, 9)
        regtest.txs[tx.txid] = tx
        regtest.state.mempool[tx.txid] = tx.raw
        await it.until_state(tx.txid, "unconfirmed")
        del regtest.state.mempool[tx.txid]
        await it.until_state(tx.txid, "replaced")


async def test_node_restarted_with_payments_and_blocks_meanwhile(regtest: Regtest) -> None:
    async with following(regtest) as it:
        waiting = await regtest.send(regtest.make(OURS, 1))
        await it.until_state(waiting, "unconfirmed")
        await regtest.node.stop()
        mined, late = regtest.make(OURS, 2), regtest.make(OURS, 3)
        regtest._connect(regtest._make(regtest.tip, [mined]))
        regtest.txs[late.txid] = late
        regtest.state.mempool[late.txid] = late.raw
        await regtest.node.start()
        await it.until_state(mined.txid, "mined")
        await it.until_state(late.txid, "unconfirmed")
        assert it.book.state(waiting) == "unconfirmed"


async def test_daemon_down_for_a_hundred_blocks_with_payments_in_them(regtest: Regtest) -> None:
    async with following(regtest) as it:
        book = it.book
    txs = [regtest.make(OURS, amount) for amount in range(1, 11)]
    for tx in txs:
        await regtest.mine(10, extra=[tx])
    async with following(regtest, book=book) as it:
        await it.until_level(regtest)
        assert [book.state(tx.txid) for tx in txs] == ["mined"] * 10
        assert len(book.branch) == 101


async def test_an_uncommitted_payment_is_told_again(regtest: Regtest) -> None:
    watcher, watch, book = core_watcher(regtest.node), watch_set(OURS), Book()
    for _ in range(2):
        async with aclosing(watcher.updates(tuple(reversed(book.branch)), watch)) as updates:
            if not book.branch:
                book.apply(await anext(updates))
                tx = await regtest.send(regtest.make(OURS, 4))
            async with asyncio.timeout(5):
                step = await anext(updates)  # pulled, and never applied
            assert [t.tx for t in step.transfers] == [tx]
    await watcher.close()


async def test_an_address_that_is_added_a_moment_after_its_payment_was_heard(regtest: Regtest) -> None:
    async with following(regtest, addresses=(ALSO_OURS,)) as it:
        known = await regtest.send(regtest.make(ALSO_OURS, 1))
        await it.until_state(known, "unconfirmed")
        tx = await regtest.send(regtest.make(OURS, 4))
        again = await regtest.send(regtest.make(ALSO_OURS, 2))
        await it.until_state(again, "unconfirmed")
        it.watch.current = watch_set(OURS, ALSO_OURS, version=2).current
        await it.until_state(tx, "unconfirmed")


async def test_a_node_that_is_behind_is_waited_for(regtest: Regtest) -> None:
    async with following(regtest) as it:
        tx = regtest.make(OURS, 1)
        await regtest.mine(2, extra=[tx])
        await it.until_level(regtest)
        tip = regtest.tip
        regtest.state.tip = regtest.state.blocks[tip.parent].parent
        pulling = asyncio.ensure_future(anext(it.updates))
        await _until(lambda: "behind block" in it.watcher.health.problem)
        assert not it.watcher.health.level
        regtest.state.tip = tip.hash
        await _until(lambda: it.watcher.health.level)
        assert not pulling.done(), "nothing was reverted"
        pulling.cancel()
        await asyncio.gather(pulling, return_exceptions=True)
        assert it.book.state(tx.txid) == "mined"


async def test_a_node_that_lost_its_tip_in_a_crash_finds_it_again(regtest: Regtest) -> None:
    """SIGKILL: the last blocks are unknown to it, until a peer sends them anew."""
    async with following(regtest) as it:
        tx = regtest.make(OURS, 1)
        await regtest.mine(2, extra=[tx])
        await it.until_level(regtest)
        tip = regtest.tip
        parent = regtest.state.blocks.pop(tip.hash).parent
        regtest.state.tip = parent
        pulling = asyncio.ensure_future(anext(it.updates))
        await _until(lambda: "behind" in it.watcher.health.problem)
        regtest.state.blocks[tip.hash], regtest.state.tip = tip, tip.hash
        await _until(lambda: it.watcher.health.level)
        assert not pulling.done()
        pulling.cancel()
        await asyncio.gather(pulling, return_exceptions=True)


async def test_nothing_is_credited_while_the_node_downloads_the_chain(regtest: Regtest) -> None:
    async with following(regtest) as it:
        regtest.state.syncing = True
        tx = regtest.make(OURS, 1)
        await regtest.mine(extra=[tx])
        pulling = asyncio.ensure_future(anext(it.updates))
        await _until(lambda: "still downloading" in it.watcher.health.problem)
        (status,) = await it.watcher.check()
        assert status.syncing
        assert not pulling.done()
        regtest.state.syncing = False
        it.book.apply(await pulling)
        await it.until_state(tx.txid, "mined")


async def test_a_gap_that_is_deeper_than_the_pruning_is_said_loudly(regtest: Regtest) -> None:
    async with following(regtest) as it:
        book = it.book
    await regtest.mine(20)
    regtest.state.pruned_below = regtest.tip.height - 5
    with pytest.raises(HistoryGone, match=r"chains.bitcoin.nodes: .* has deleted the blocks below 25 .* but block 11"):
        async with following(regtest, book=book) as it:
            await it.until_level(regtest)


async def test_a_pruned_node_that_has_what_is_needed_will_do(regtest: Regtest) -> None:
    regtest.state.pruned_below = 5
    async with following(regtest) as it:
        tx = regtest.make(OURS, 1)
        await regtest.mine(extra=[tx])
        await it.until_state(tx.txid, "mined")
        (status,) = await it.watcher.check()
        assert (status.pruned_below, status.problems) == (5, ())


@pytest.mark.parametrize(("key", "value"), [("chain", "main"), ("genesis", "ab" * 32)])
async def test_a_node_of_another_chain_is_refused(regtest: Regtest, key: str, value: str) -> None:
    setattr(regtest.state, key, value)
    with pytest.raises(ChainMismatch, match=r"chains.bitcoin.nodes"):
        async with following(regtest):
            pass
    watcher = core_watcher(regtest.node)
    (status,) = await watcher.check()
    assert "mend chains.bitcoin.network" in status.problems[0]


async def test_the_second_node_takes_over_and_nothing_is_reverted(regtest: Regtest) -> None:
    other = Regtest()
    other.node.state = regtest.state
    await other.node.start()
    async with following(regtest, watcher=core_watcher(regtest.node, other.node)) as it:
        tx = regtest.make(OURS, 1)
        await regtest.mine(extra=[tx])
        await it.until_state(tx.txid, "mined")
        await regtest.node.stop()
        regtest.node.publish = other.node.publish  # type: ignore[method-assign] - the chain goes on at the other node
        later = await regtest.send(regtest.make(OURS, 2))
        await it.until_state(later, "unconfirmed")
        assert it.book.state(tx.txid) == "mined"
    await other.node.stop()


async def test_used_asks_a_node_and_names_none(regtest: Regtest) -> None:
    watcher = core_watcher(regtest.node)
    assert await watcher.used([OURS]) == frozenset()
    await regtest.node.stop()
    with pytest.raises(WatcherError, match=r"chains.bitcoin.nodes: 127.0.0.1:\d+ cannot be reached"):
        await watcher.used([OURS])


async def _until(done: object) -> None:
    assert callable(done)
    async with asyncio.timeout(8):
        while not done():
            await asyncio.sleep(0.02)


async def test_a_large_mempool_is_gone_through_and_blocks_are_not_kept_waiting(regtest: Regtest) -> None:
    """More than is fetched in one look; the payment among them is found, and the rest is not fetched again."""
    ours = regtest.make(OURS, 5)
    for tx in [*(regtest.make(THEIRS, 1) for _ in range(2 * MOST_FETCHED)), ours]:
        regtest.state.mempool[tx.txid] = tx.raw
    async with following(regtest) as it:
        await it.until_state(ours.txid, "unconfirmed")
        await regtest.mine()
        await it.until_state(ours.txid, "mined")
