"""From link to signed webhook, against every real node that is there."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from astrapayd.services.sessions import find_session
from astrapayd.sessions import Status
from tests.nodes.harness import TestNode
from tests.shop import COIN, USDT, Shop, a_shop


@pytest_asyncio.fixture
async def shop(node: TestNode, tmp_path: Path) -> AsyncIterator[Shop]:
    """A running shop beside the node; one confirmation is enough, and nothing is final for long."""
    async with a_shop(tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt) as shop:
        await shop.start()
        yield shop


async def test_exact_token_payment(shop: Shop, node: TestNode) -> None:
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    tx = await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    events = await shop.until("session.paid")
    assert [e["type"] for e in events] == [
        *("link.created", "session.created", "session.pending"),
        *("payment.seen", "payment.confirmed", "session.paid"),
    ]
    assert [e["sequence"] for e in events] == sorted(e["sequence"] for e in events)
    told = events[-1]["data"]
    assert told["session"]["id"] == asked.session_id
    assert told["session"]["received"] == told["session"]["due"] == f"25.00{asked.due_base % 10_000:04d}"
    assert [p["tx"] for p in told["payments"]] == [tx]
    page = await shop.pay_page(asked.session_id)
    assert tx in page
    story = await shop.run("session", "show", told["session"]["code"])
    assert [change["revision"] for change in story["story"]] == [1, 2]
    assert (await shop.run("payment", "list"))[0]["session"] == asked.session_id
    assert (await shop.run("session", "list", "--status", "paid"))[0]["session"]["id"] == asked.session_id
    assert f"/r/{asked.session_id}" in page


async def test_exact_native_payment(shop: Shop, node: TestNode) -> None:
    asked = await shop.open(await shop.link("0.015", "ETH"), COIN)
    await node.pay_native(asked.address, asked.due_base)
    await node.mine()
    told = (await shop.until("session.paid"))[-1]["data"]
    assert told["payments"][0]["kind"] == "native"
    assert told["payments"][0]["ordinal"] == 0
    assert told["session"]["asset"]["caip19"].startswith(f"eip155:{node.chain_id}/")


async def test_payment_while_the_daemon_is_stopped(shop: Shop, node: TestNode) -> None:
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    await shop.stop()
    await node.mine(3)
    await node.pay_token(asked.address, asked.due_base)
    await node.mine(10)
    await shop.start()
    told = (await shop.until("session.paid"))[-1]["data"]
    assert told["session"]["id"] == asked.session_id
    assert told["payments"][0]["confirmations"] == 10


async def test_payment_around_a_crash_of_the_daemon(shop: Shop, node: TestNode) -> None:
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    await node.pay_token(asked.address, asked.due_base)
    await shop.stop(signal.SIGKILL)
    await node.mine()
    await shop.start()
    assert (await shop.until("session.paid"))[-1]["data"]["session"]["id"] == asked.session_id


async def test_reorg_removes_the_payment(shop: Shop, node: TestNode) -> None:
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    tx = await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    await shop.until("session.paid")
    await node.reorg_away(tx)
    events = await shop.until("session.reverted")
    assert events[-2]["type"] == "payment.reverted"
    told = events[-1]["data"]["session"]
    assert (told["status"], told["flags"], told["received"]) == ("pending", ["reverted"], "0.00")
    assert told["revision"] > 2
    # The customer pays again with the same exact amount: the session comes back, and is not told as paid a second time.
    await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    types = [e["type"] for e in await shop.until("session.restored")]
    assert "session.paid" not in types


async def test_transaction_mined_again_with_other_log_indices(shop: Shop, node: TestNode) -> None:
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    tx = await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    before = await node.mined_at(tx)
    first = (await shop.until("session.paid"))[-1]["data"]["payments"][0]
    after = await node.reorg_move(tx)
    assert before is not None
    assert (after.block_hash, after.log_index) != (before.block_hash, before.log_index)
    await node.mine(2)
    async with asyncio.timeout(20):
        while True:
            details = await find_session(shop.core, asked.session_id)
            if details.credits[0].transfer.block_hash == after.block_hash:
                break
            await asyncio.sleep(0.05)
    (credit,) = details.credits
    assert credit.transfer.id == first["id"], "the same payment, not a second one"
    assert details.row.state.status is Status.PAID
    assert details.row.state.received_base == asked.due_base
