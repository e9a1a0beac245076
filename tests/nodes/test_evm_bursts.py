"""Many payments at once, and crashes in the middle of them: every one is settled exactly once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from astrapayd.db.tables import credits, events, sessions
from astrapayd.services.sessions import open_session
from astrapayd.sessions import Status
from tests.nodes.harness import TestNode
from tests.shop import USDT, Asked, Shop, a_shop

PAYMENTS = 200
IN_ONE_TRANSACTION = 10
BLOCKS = 5


@pytest.fixture
async def shop(node: TestNode, tmp_path: Path) -> AsyncIterator[Shop]:
    async with a_shop(
        tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt, settings="poll_secs = 0.5"
    ) as shop:
        await shop.start()
        yield shop


async def open_many(shop: Shop) -> list[Asked]:
    """As many sessions of one price on one address; the first through the page, which waits until the shop is open."""
    url = await shop.link("25.00", "USDT")
    asked = [await shop.open(url, USDT)]
    slug = url.rpartition("/")[2]
    for _ in range(PAYMENTS - 1):
        opened = await open_session(shop.core, slug, USDT, form_token="", source="api")
        async with shop.core.database.read() as connection:
            due = select(sessions.c.due_base).where(sessions.c.id == opened.session_id)
            asked.append(Asked(opened.session_id, asked[0].address, (await connection.execute(due)).scalar_one()))
    assert len({one.due_base for one in asked}) == PAYMENTS
    return asked


async def pay_all(node: TestNode, asked: list[Asked]) -> None:
    """In several blocks, several transfers to a transaction."""
    batches = [asked[i : i + IN_ONE_TRANSACTION] for i in range(0, PAYMENTS, IN_ONE_TRANSACTION)]
    for number, batch in enumerate(batches, 1):
        await node.pay_batch([(one.address, one.due_base) for one in batch])
        if number % (len(batches) // BLOCKS) == 0:
            await node.mine()


async def all_settled_once(shop: Shop, asked: list[Asked]) -> None:
    """Every session is paid by one transfer and told once, in the database and to the receiver."""
    told: Counter[str] = Counter()
    async with asyncio.timeout(90):
        while len(told) < PAYMENTS:
            event = (await shop.until("session.paid", 60))[-1]
            told[event["data"]["session"]["id"]] += 1
    assert set(told) == {one.session_id for one in asked}
    async with shop.core.database.read() as connection:
        rows = (
            await connection.execute(select(sessions.c.status, sessions.c.received_base, sessions.c.due_base))
        ).all()
        assert all(row.status == Status.PAID and row.received_base == row.due_base for row in rows)
        assert len(rows) == PAYMENTS
        assert (await connection.execute(select(func.count()).select_from(credits))).scalar_one() == PAYMENTS
        paid = select(func.count()).where(events.c.type == "session.paid")
        assert (await connection.execute(paid)).scalar_one() == PAYMENTS


async def test_daemon_killed_in_a_burst_of_200(shop: Shop, node: TestNode) -> None:
    asked = await open_many(shop)
    paying = asyncio.create_task(pay_all(node, asked))
    await shop.until("payment.seen")
    await shop.stop(signal.SIGKILL)
    await paying
    await shop.start()
    await asyncio.sleep(0.5)
    await shop.stop(signal.SIGKILL)  # and once more, while it catches up and delivers
    await shop.start()
    await all_settled_once(shop, asked)


async def test_node_killed_in_a_burst_of_200(shop: Shop, node: TestNode) -> None:
    asked = await open_many(shop)
    half = PAYMENTS // 2
    for part in (asked[:half], asked[half:]):
        for i in range(0, half, IN_ONE_TRANSACTION):
            await node.pay_batch([(one.address, one.due_base) for one in part[i : i + IN_ONE_TRANSACTION]])
        await node.mine()
        await node.kill()
        await asyncio.sleep(0.3)
        await node.start()
    # What the node lost with its memory, wallets send again; what it kept is mined already and is refused.
    await resend_lost(node, asked)
    await all_settled_once(shop, asked)


async def resend_lost(node: TestNode, asked: list[Asked]) -> None:
    """Pay again for sessions of which nothing is on the chain: a killed node may lose its newest blocks."""
    await node.mine()
    height = int(await node.wallet.request("eth_blockNumber"), 16)
    query = {"fromBlock": "0x0", "toBlock": hex(height), "address": node.usdt}
    on_chain = {int(log["data"], 16) for log in await node.wallet.request("eth_getLogs", query)}
    lost = [one for one in asked if one.due_base not in on_chain]
    for i in range(0, len(lost), IN_ONE_TRANSACTION):
        await node.pay_batch([(one.address, one.due_base) for one in lost[i : i + IN_ONE_TRANSACTION]])
    await node.mine()


def said(shop: Shop) -> list[dict[str, Any]]:
    """The daemon's log so far."""
    return [json.loads(line) for line in shop.log.read_text().splitlines() if line.startswith("{")]


async def test_daemon_down_for_1000_blocks(shop: Shop, node: TestNode) -> None:
    url = await shop.link("25.00", "USDT")
    first, second = [await shop.open(url, USDT) for _ in range(2)]
    await shop.stop()
    await node.mine(300)
    await node.pay_token(first.address, first.due_base)
    await node.mine(400)
    await node.pay_token(second.address, second.due_base)
    await node.mine(300)
    await shop.start()
    paid = {(await shop.until("session.paid", 60))[-1]["data"]["session"]["id"] for _ in range(2)}
    assert paid == {first.session_id, second.session_id}
    async with asyncio.timeout(5):  # the last webhook may be faster than the line
        while not any(line["event"] == "caught up" and line["blocks_left"] == 0 for line in said(shop)):
            await asyncio.sleep(0.1)
