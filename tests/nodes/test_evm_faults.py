"""The daemon beside nodes that fail: nothing is lost, nothing credited wrongly. Each test goes from link to webhook."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from astrapayd.services.chains import chain_states
from astrapayd.services.payments import list_payments
from astrapayd.services.sessions import find_session
from astrapayd.sessions import Status
from astrapayd.testing import Fault, NodeProxy
from astrapayd_evm.demo.accounts import OWNER
from astrapayd_evm.demo.wallet import DemoWallet
from tests.nodes.harness import EmbeddedNode, TestNode, running
from tests.shop import USDT, Asked, Shop, a_shop

SETTINGS = "request_timeout_secs = 1.0\npoll_secs = 0.5"


@pytest.fixture
async def proxy(node: TestNode) -> AsyncIterator[NodeProxy]:
    async with NodeProxy(node.url).running() as proxy:
        yield proxy


@pytest.fixture
async def shop(node: TestNode, proxy: NodeProxy, tmp_path: Path) -> AsyncIterator[Shop]:
    """A running shop that sees the node through the proxy only."""
    async with a_shop(tmp_path, url=proxy.url, chain_id=node.chain_id, usdt=node.usdt, settings=SETTINGS) as shop:
        await shop.start()
        yield shop


async def opened(shop: Shop) -> Asked:
    return await shop.open(await shop.link("25.00", "USDT"), USDT)


async def paid_once(shop: Shop, asked: Asked) -> None:
    """The webhook came, and the session has exactly what was due by exactly one payment."""
    told = (await shop.until("session.paid"))[-1]["data"]
    assert told["session"]["id"] == asked.session_id
    details = await find_session(shop.core, asked.session_id)
    assert details.row.state.status is Status.PAID
    assert details.row.state.received_base == asked.due_base
    assert len(details.credits) == 1


@pytest.mark.parametrize("method", ["eth_getBlockReceipts", "eth_getBlockByNumber"])
async def test_call_that_fails_for_13_seconds(shop: Shop, node: TestNode, proxy: NodeProxy, method: str) -> None:
    asked = await opened(shop)
    proxy.fail(method, Fault.ERROR)
    await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    await asyncio.sleep(13)
    assert (await find_session(shop.core, asked.session_id)).row.state.status is Status.PENDING
    proxy.mend()
    await paid_once(shop, asked)


async def test_daemon_down_for_20_blocks(shop: Shop, node: TestNode) -> None:
    early, late = await opened(shop), await opened(shop)
    await shop.stop()
    await node.pay_token(early.address, early.due_base)
    await node.mine(10)
    await node.pay_token(late.address, late.due_base)
    await node.mine(10)
    await shop.start()
    paid = {(await shop.until("session.paid"))[-1]["data"]["session"]["id"] for _ in range(2)}
    assert paid == {early.session_id, late.session_id}


async def test_two_transfers_in_one_transaction_to_two_sessions(shop: Shop, node: TestNode) -> None:
    first, second = await opened(shop), await opened(shop)
    tx = await node.pay_batch([(first.address, first.due_base), (second.address, second.due_base)])
    await node.mine()
    payments: dict[str, Any] = {}
    for _ in range(2):
        told = (await shop.until("session.paid"))[-1]["data"]
        payments[told["session"]["id"]] = told["payments"]
    assert {p[0]["tx"] for p in payments.values()} == {tx}
    assert [payments[s.session_id][0]["ordinal"] for s in (first, second)] == [0, 1]
    assert all(len(p) == 1 for p in payments.values())


async def test_two_open_sessions_paid_by_one_payer(shop: Shop, node: TestNode) -> None:
    first, second = await opened(shop), await opened(shop)
    await node.pay_token(second.address, second.due_base)
    await node.mine()
    await paid_once(shop, second)
    assert (await find_session(shop.core, first.session_id)).row.state.status is Status.PENDING
    await node.pay_token(first.address, first.due_base)
    await node.mine()
    await paid_once(shop, first)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
async def test_node_answers_badly(shop: Shop, node: TestNode, proxy: NodeProxy, fault: Fault) -> None:
    asked = await opened(shop)
    proxy.fail("eth_getBlockReceipts", fault)
    await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    await asyncio.sleep(2)
    assert (await find_session(shop.core, asked.session_id)).row.state.received_base == 0
    proxy.mend()
    await paid_once(shop, asked)


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR])
async def test_node_refuses_connections(shop: Shop, node: TestNode, proxy: NodeProxy, status: HTTPStatus) -> None:
    asked = await opened(shop)
    proxy.refuse = status
    await proxy.cut()
    await node.pay_token(asked.address, asked.due_base)
    await node.mine(3)
    await asyncio.sleep(2)
    proxy.mend()
    await paid_once(shop, asked)


async def test_subscription_silently_dead(shop: Shop, node: TestNode, proxy: NodeProxy) -> None:
    proxy.muted = True
    for _ in range(5):
        asked = await opened(shop)
        await node.pay_token(asked.address, asked.due_base)
        await node.mine()
        await paid_once(shop, asked)  # found by looking
    subscribed = proxy.requests.count("eth_subscribe")
    assert subscribed >= 2, "the dead subscription was noticed and made again"


async def test_node_behind_after_failover(node: TestNode, tmp_path: Path) -> None:
    """The second node has only the first part of the chain: it means wait, and reverts nothing."""
    frozen: dict[str, Any] = {}

    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(NodeProxy(node.url).running())
        behind = await stack.enter_async_context(NodeProxy(node.url).running())
        shop = await stack.enter_async_context(
            a_shop(
                tmp_path,
                url=good.url,
                more_urls=[behind.url],
                chain_id=node.chain_id,
                usdt=node.usdt,
                settings=SETTINGS,
            )
        )
        await shop.start()
        asked = await opened(shop)
        frozen["head"] = await node.wallet.request("eth_getBlockByNumber", "latest", False)
        await node.pay_token(asked.address, asked.due_base)
        await node.mine(2)
        await paid_once(shop, asked)

        def old_head(block: Any) -> Any:
            return frozen["head"] if block and int(block["number"], 16) > int(frozen["head"]["number"], 16) else block

        behind.rewrite("eth_getBlockByNumber", old_head)
        good.refuse = HTTPStatus.SERVICE_UNAVAILABLE
        await good.cut()
        await asyncio.sleep(4)
        details = await find_session(shop.core, asked.session_id)
        assert details.row.state.status is Status.PAID, "a node that is behind reverts nothing"
        assert not details.level, "and no session is opened meanwhile"
        (chain,) = await chain_states(shop.core)
        assert "behind block" in chain.problem
        good.mend()
        again = await opened(shop)
        await node.pay_token(again.address, again.due_base)
        await node.mine()
        await paid_once(shop, again)


async def test_node_on_the_wrong_chain_after_failover(node: TestNode, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(running(EmbeddedNode(tmp_path / "other", 64, "--chain-id", "4242")))
        good = await stack.enter_async_context(NodeProxy(node.url).running())
        wrong = await stack.enter_async_context(NodeProxy(node.url).running())
        shop = await stack.enter_async_context(
            a_shop(
                tmp_path,
                url=good.url,
                more_urls=[wrong.url],
                chain_id=node.chain_id,
                usdt=node.usdt,
                settings=SETTINGS,
            )
        )
        await shop.start()
        asked = await opened(shop)
        wrong.upstream = other.url
        good.refuse = HTTPStatus.SERVICE_UNAVAILABLE
        await good.cut()
        await other.pay_token(asked.address, asked.due_base)  # exact, but on another chain
        await other.mine(5)
        await asyncio.sleep(3)
        assert (await find_session(shop.core, asked.session_id)).row.state.received_base == 0
        assert await list_payments(shop.core) == []
        (chain,) = await chain_states(shop.core)
        assert "is of chain 4242" in chain.problem
        good.mend()
        await node.pay_token(asked.address, asked.due_base)
        await node.mine()
        await paid_once(shop, asked)


async def test_node_restarts(shop: Shop, node: TestNode) -> None:
    asked = await opened(shop)
    await node.stop()
    await asyncio.sleep(1)
    await node.start()
    await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    await paid_once(shop, asked)
    said = [json.loads(line) for line in shop.log.read_text().splitlines() if line.startswith("{")]
    trouble = [line["event"] for line in said if line["logger"] == "astrapayd.evm" and line["level"] != "debug"]
    assert trouble == ["node trouble", "node is back"], "one line when it begins, one when it is over"


async def test_zero_value_and_look_alike_token_transfers(shop: Shop, node: TestNode) -> None:
    asked = await opened(shop)
    look_alike = await node.wallet.deploy_token(10**15)
    await node.mine()
    receipt = await node.wallet.request("eth_getTransactionReceipt", look_alike)
    forged = DemoWallet(node.url, receipt["contractAddress"])
    async with forged:
        await forged.pay_token(asked.address, asked.due_base, OWNER.address)
    await node.pay_token(asked.address, 0)
    await node.mine(2)
    await asyncio.sleep(1.5)
    assert await list_payments(shop.core) == []
    await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    await paid_once(shop, asked)
