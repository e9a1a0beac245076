"""What nodes really do: limits, full blocks, pruned history, heads that skip, answers cut without a word."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from astrapayd.node_faults import MalformedAnswer, NodeSilent
from astrapayd.services.chains import chain_states
from astrapayd.services.sessions import find_session
from astrapayd.sessions import Status
from astrapayd.testing import NodeProxy
from astrapayd.transfers import BlockRef, ChainUpdate, HistoryGone, Watched, WatchSet
from astrapayd_evm.fetching import Fetcher
from astrapayd_evm.rpc import NodeRpc
from tests.nodes.harness import TestNode
from tests.shop import USDT, Shop, a_shop

OURS = "0x" + "5a" * 20


@pytest.fixture
async def proxy(node: TestNode) -> AsyncIterator[NodeProxy]:
    async with NodeProxy(node.url).running() as proxy:
        yield proxy


@pytest.fixture
async def shop(node: TestNode, proxy: NodeProxy, tmp_path: Path) -> AsyncIterator[Shop]:
    async with a_shop(
        tmp_path, url=proxy.url, chain_id=node.chain_id, usdt=node.usdt, settings="poll_secs = 0.5"
    ) as shop:
        await shop.start()
        yield shop


def tokens_only(node: TestNode) -> Watched:
    return Watched(1, frozenset({OURS}), frozenset({node.usdt.lower()}), native=False)


async def a_gap(node: TestNode, proxy: NodeProxy) -> tuple[NodeRpc, BlockRef, int, list[int]]:
    """A connection through the proxy, a base, the head above it, and what was paid in between, block by block."""
    rpc = NodeRpc(proxy.url)
    await rpc.open()
    base = await Fetcher(rpc).head()
    for amount_base in range(1, 8):
        await node.pay_token(OURS, amount_base)
        await node.mine(2)
    return rpc, base, (await Fetcher(rpc).head()).height, list(range(1, 8))


async def amounts(fetcher: Fetcher, base: BlockRef, up_to: int, watched: Watched) -> list[int]:
    blocks = await fetcher.blocks(base, up_to, watched)
    assert [b.ref.height for b in blocks] == list(range(base.height + 1, up_to + 1))
    return [t.amount_base for b in blocks for t in b.transfers]


async def test_gap_by_logs_equals_the_gap_by_receipts(node: TestNode, proxy: NodeProxy) -> None:
    rpc, base, head, paid = await a_gap(node, proxy)
    few = tokens_only(node)
    many = Watched(1, few.addresses | {f"0x{i:040x}" for i in range(1, 200)}, few.contracts, native=False)
    by_logs = await Fetcher(rpc).blocks(base, head, few)
    by_receipts = await Fetcher(rpc).blocks(base, head, many)
    assert by_logs == by_receipts
    assert [t.amount_base for b in by_logs for t in b.transfers] == paid
    assert proxy.requests.count("eth_getLogs") == 1
    await rpc.close()


@pytest.mark.parametrize("most_blocks", [1, 3, 5])
async def test_range_limit_is_met_by_halving(node: TestNode, proxy: NodeProxy, most_blocks: int) -> None:
    rpc, base, head, paid = await a_gap(node, proxy)

    def limited(request: dict[str, Any]) -> dict[str, Any] | None:
        query = request["params"][0]
        span = int(query["toBlock"], 16) - int(query["fromBlock"], 16) + 1
        return {"code": -32602, "message": "block range is too wide"} if span > most_blocks else None

    proxy.refuse_requests("eth_getLogs", limited)
    assert await amounts(Fetcher(rpc), base, head, tokens_only(node)) == paid
    await rpc.close()


async def test_answer_cut_without_a_word_is_asked_for_by_halves(node: TestNode, proxy: NodeProxy) -> None:
    """Nethermind may cut an answer at 20,000 logs silently; one of 5,000 and more is not believed to be whole."""
    rpc, base, head, paid = await a_gap(node, proxy)

    def cut(logs: list[Any]) -> list[Any]:
        return logs * 5_000 if len(logs) > 2 else logs  # as if so many had come, and perhaps more were cut off

    proxy.rewrite("eth_getLogs", cut)
    assert await amounts(Fetcher(rpc), base, head, tokens_only(node)) == paid
    assert proxy.requests.count("eth_getLogs") > 3
    await rpc.close()


async def test_range_that_a_node_searches_for_ever_is_halved(node: TestNode, proxy: NodeProxy) -> None:
    rpc, base, head, paid = await a_gap(node, proxy)

    class Slow(NodeRpc):
        async def call(self, method: str, *params: Any, secs: float | None = None) -> Any:
            if method == "eth_getLogs" and int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) > 3:
                raise NodeSilent("did not answer eth_getLogs within 30 s")
            return await super().call(method, *params, secs=secs)

    slow = Slow(proxy.url)
    await slow.open()
    assert await amounts(Fetcher(slow), base, head, tokens_only(node)) == paid
    await slow.close()
    await rpc.close()


async def test_receipt_left_out_of_its_block_is_asked_for(node: TestNode, proxy: NodeProxy) -> None:
    """Bor lists a state-sync transaction and may leave its receipt out; here ours is the one that is left out."""
    rpc, base, head, paid = await a_gap(node, proxy)
    many = Watched(1, frozenset({OURS}), frozenset({node.usdt.lower()}), native=True)
    proxy.rewrite("eth_getBlockReceipts", lambda receipts: receipts[1:])
    assert await amounts(Fetcher(rpc, traces=False), base, head, many) == paid
    proxy.rewrite("eth_getTransactionReceipt", lambda _: None)
    with pytest.raises(MalformedAnswer, match="without that of one of its transactions"):
        await Fetcher(rpc, traces=False).blocks(base, head, many)
    await rpc.close()


async def test_reader_that_was_too_slow_and_was_cut(shop: Shop, node: TestNode, proxy: NodeProxy) -> None:
    """The daemon hangs (a swapping machine), and the node does what geth does with a client that does not read."""
    url = await shop.link("25.00", "USDT")
    asked = [await shop.open(url, USDT) for _ in range(3)]
    assert shop.process is not None
    shop.process.send_signal(signal.SIGSTOP)
    for one in asked:
        await node.pay_token(one.address, one.due_base)
        await node.mine(5)
    await proxy.cut()
    shop.process.send_signal(signal.SIGCONT)
    paid = {(await shop.until("session.paid"))[-1]["data"]["session"]["id"] for _ in asked}
    assert paid == {one.session_id for one in asked}


async def test_full_block_over_1_mib(shop: Shop, node: TestNode) -> None:
    """A block whose receipts are larger than the websocket library's own limit does not end the connection."""
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    strangers = [(f"0x{i:040x}", 1) for i in range(1, 401)]
    for i in range(0, len(strangers), 100):
        await node.pay_batch(strangers[i : i + 100])
    await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    told = (await shop.until("session.paid"))[-1]["data"]
    block = told["payments"][0]["block"]["hash"]
    receipts = await node.wallet.request("eth_getBlockReceipts", block)
    assert len(str(receipts)) > 2**18, "a block as large as the test node's gas limit lets one be"
    assert "node trouble" not in shop.log.read_text()


async def test_heads_that_skip(shop: Shop, node: TestNode, proxy: NodeProxy) -> None:
    """Only the newest of several blocks is announced; the ones in between are fetched all the same."""
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    proxy.muted = True
    await node.pay_token(asked.address, asked.due_base)
    await node.mine(4)
    proxy.muted = False
    await node.mine()
    assert (await shop.until("session.paid"))[-1]["data"]["session"]["id"] == asked.session_id


async def test_removed_logs_are_not_needed(shop: Shop, node: TestNode, proxy: NodeProxy) -> None:
    """No log subscription is made at all: a reorganisation is seen by parent hashes (anvil sends no removed logs)."""
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    tx = await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    await shop.until("session.paid")
    await node.reorg_away(tx)
    await shop.until("session.reverted")
    assert (await find_session(shop.core, asked.session_id)).row.state.status is Status.PENDING


async def test_history_pruned_below_the_gap_is_told_and_not_skipped(
    shop: Shop, node: TestNode, proxy: NodeProxy
) -> None:
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    await shop.stop()
    await node.pay_token(asked.address, asked.due_base)
    await node.mine(3)
    proxy.refuse_requests("eth_getBlockReceipts", lambda _: {"code": 4444, "message": "pruned history unavailable"})
    await shop.start()
    async with asyncio.timeout(15):
        while not (problem := (await chain_states(shop.core))[0].problem):
            await asyncio.sleep(0.1)
    assert "has deleted the receipts" in problem
    assert "add a node that still has it" in problem
    proxy.mend()
    assert (await shop.until("session.paid", 60))[-1]["data"]["session"]["id"] == asked.session_id


async def test_pruned_history_raises_history_gone(node: TestNode, proxy: NodeProxy, tmp_path: Path) -> None:
    from tests.nodes.test_evm_watcher_contract import EvmStage

    watch = WatchSet(Watched(1, frozenset({OURS}), frozenset({node.usdt.lower()}), native=True))
    stage = EvmStage(node, tmp_path, proxy.url)
    watcher = stage.chain.watcher()
    first: ChainUpdate = await anext(watcher.updates((), watch))
    await node.pay_token(OURS, 1)
    await node.mine(2)
    proxy.refuse_requests("eth_getBlockReceipts", lambda _: {"code": 4444, "message": "pruned history unavailable"})
    with pytest.raises(HistoryGone):
        async with asyncio.timeout(10):
            await anext(watcher.updates((first.head,), watch))
    await watcher.close()
