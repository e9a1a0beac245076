"""The Bitcoin watcher on a real btcd: the core's contract, and what becomes of payments when the chain changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from astrapayd.chains import Chain, ChainRegistry
from astrapayd.config import AssetSection
from astrapayd.money import Asset
from astrapayd.secret import Secret
from astrapayd.testing import CHECKS, Check
from astrapayd_bitcoin.chain import BitcoinChain, read_assets
from astrapayd_bitcoin.config import BitcoinChainSection, NodeSection
from tests.nodes.btcd import PASSWORD, USER, BtcdNode
from tests.plugins.bitcoin.following import Book, watch_set

OURS = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk"
ALSO_OURS = "bcrt1p8wpt9v4frpf3tkn0srd97pksgsxc5hs52lafxwru9kgeephvs7rqjeprhg"
THEIRS = "bcrt1qd7spv5q28348xl4myc8zmh983w5jx32cs707jh"


def _chain(node: BtcdNode, **changed: Any) -> BitcoinChain:
    one = {"url": node.url, "user": USER, "password": Secret(PASSWORD), "certificate": str(node.certificate)} | changed
    section = BitcoinChainSection(
        plugin="bitcoin", network="regtest", nodes=(NodeSection.model_validate(one),), poll_secs=0.5
    )
    asset = AssetSection(chain="bitcoin", symbol="BTC", decimals=8, price_decimals=5, tail_digits=3)
    return BitcoinChain("bitcoin", section, read_assets("bitcoin", section, [("btc", asset)], ChainRegistry()))


class BtcdStage:
    """Implements :class:`astrapayd.testing.Stage`."""

    address = OURS
    other_address = ALSO_OURS

    def __init__(self, node: BtcdNode) -> None:
        self.node = node
        self.chain: Chain = _chain(node)

    async def pay(self, asset: Asset, address: str, amount_base: int) -> str:
        return await self.node.send(self.node.make(address, amount_base))

    async def mine(self, blocks: int = 1) -> None:
        await self.node.mine(blocks)

    async def reorganise_away(self, tx: str) -> None:
        depth = self.node.depth_of(tx)
        await self.node.reorganise(depth, [self.node.make(THEIRS, 1, replaces=self.node.txs[tx])], *([[]] * depth))

    async def reorganise_elsewhere(self, tx: str) -> None:
        depth = self.node.depth_of(tx)
        await self.node.reorganise(depth, [], [self.node.txs[tx]], *([[]] * (depth - 1)))

    async def restart_node(self) -> None:
        await self.node.stop()
        await self.node.start()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_watcher_contract(check: Check, btcd: BtcdNode) -> None:
    await check(BtcdStage(btcd))


class Following:
    """Applies everything that a watcher tells, until it is closed."""

    def __init__(self) -> None:
        self.book = Book()
        self.watch = watch_set(OURS, ALSO_OURS)

    async def until_state(self, txid: str, state: str) -> None:
        await _until(lambda: self.book.state(txid) == state, f"{txid[:8]} is {state}")


async def _until(done: Any, what: str) -> None:
    try:
        async with asyncio.timeout(15):
            while not done():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"in time, {what}") from None


@asynccontextmanager
async def _following(node: BtcdNode, it: Following | None = None) -> AsyncIterator[Following]:
    it, watcher = it or Following(), _chain(node).watcher()

    async def follow() -> None:
        async with aclosing(watcher.updates(tuple(reversed(it.book.branch)), it.watch)) as updates:
            async for step in updates:
                it.book.apply(step)

    following = asyncio.create_task(follow())
    await _until(lambda: following.done() or watcher.health.level, "it is level")
    yield it
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await watcher.close()


async def test_seen_within_a_second_replaced_both_ways_and_confirmed(btcd: BtcdNode) -> None:
    async with _following(btcd) as it:
        await it.until_state(await btcd.send(btcd.make(ALSO_OURS, 1000)), "unconfirmed")
        begun = time.monotonic()
        first = btcd.make(OURS, 25_003)
        await btcd.send(first)
        await it.until_state(first.txid, "unconfirmed")
        assert time.monotonic() - begun < 1
        paying = btcd.make(OURS, 25_003, replaces=first)
        await btcd.send(paying)
        await it.until_state(paying.txid, "unconfirmed")
        await it.until_state(first.txid, "replaced")
        second = btcd.make(OURS, 70_001)
        await btcd.send(second)
        await it.until_state(second.txid, "unconfirmed")
        begun = time.monotonic()
        await btcd.send(btcd.make(THEIRS, 70_001, replaces=second))
        await it.until_state(second.txid, "replaced")
        assert time.monotonic() - begun < 1, "what spends the same is in the filter"
        await btcd.mine(6)
        await it.until_state(paying.txid, "mined")
        await _until(lambda: it.book.branch[-1].hash == btcd.tip.hash, "six confirmations")
        assert it.book.state(second.txid) == "replaced"


async def test_reorganised_and_mined_again_then_double_spent(btcd: BtcdNode) -> None:
    async with _following(btcd) as it:
        tx = btcd.make(OURS, 25_003)
        await btcd.send(tx)
        await btcd.mine(2)
        await it.until_state(tx.txid, "mined")
        await _until(lambda: it.book.branch[-1].hash == btcd.tip.hash, "it is level")
        await btcd.reorganise(2, [], [], [])
        await it.until_state(tx.txid, "unconfirmed")
        await btcd.mine()
        await it.until_state(tx.txid, "mined")
        rival = btcd.make(THEIRS, 5000, replaces=tx)
        await btcd.reorganise(1, [rival], [])
        await it.until_state(tx.txid, "replaced")
        assert it.book.live() == {}


@pytest.fixture
async def peer(btcd: BtcdNode, tmp_path: Path) -> AsyncIterator[BtcdNode]:
    """A second node with the same blocks, not connected yet."""
    (tmp_path / "peer").mkdir()
    peer = BtcdNode(tmp_path / "peer")
    try:
        await peer.start(with_blocks=False)
        await peer.copy_chain(btcd)
        yield peer
    finally:
        await peer.stop()


async def test_double_spent_by_a_longer_branch_of_a_peer(btcd: BtcdNode, peer: BtcdNode) -> None:
    async with _following(btcd) as it:
        lost, kept = btcd.make(OURS, 25_003), btcd.make(ALSO_OURS, 30_001)
        await btcd.send(lost)
        await btcd.send(kept)
        await btcd.mine(3)
        await it.until_state(lost.txid, "mined")
        await _until(lambda: it.book.branch[-1].hash == btcd.tip.hash, "it is level")
        rival = btcd.make(THEIRS, 5_000, replaces=lost)
        await btcd.reorganise(3, [rival], [kept], [], [], by=peer)
        await _until(lambda: it.book.branch[-1].hash == btcd.tip.hash, "the peer's branch is followed")
        # btcd 0.26 keeps both in its mempool for good, as if they could still be mined.
        await it.until_state(lost.txid, "replaced")
        assert it.book.state(kept.txid) == "mined"


async def test_down_for_a_hundred_blocks_and_the_node_restarted(btcd: BtcdNode) -> None:
    async with _following(btcd) as it:
        pass
    txs = [btcd.make(OURS, 5_000 + number) for number in range(5)]
    for tx in txs:
        await btcd.mine(20, extra=[tx])
    await btcd.stop()
    await btcd.start()
    async with _following(btcd, it):
        for tx in txs:
            await it.until_state(tx.txid, "mined")
        assert it.book.branch[-1].hash == btcd.tip.hash


async def test_an_address_that_is_added_while_it_is_paid(btcd: BtcdNode) -> None:
    async with _following(btcd) as it:
        it.watch.current = watch_set(OURS, THEIRS, version=2).current
        tx = await btcd.send(btcd.make(THEIRS, 5_000))
        await it.until_state(tx, "unconfirmed")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"password": Secret("wrong")}, "does not take user and password"),
        ({"certificate": "/nowhere/rpc.cert"}, "certificate that cannot be read"),
        ({"certificate": None}, "another certificate"),
        ({"url": "wss://127.0.0.1:9"}, "cannot be reached"),
    ],
)
async def test_bad_input_is_told_by_the_check(btcd: BtcdNode, changed: dict[str, Any], words: str) -> None:
    watcher = _chain(btcd, **changed).watcher()
    (status,) = await watcher.check()
    assert words in status.problems[0]
    assert PASSWORD not in status.problems[0]
    await watcher.close()
