"""One process for each role, on one PostgreSQL database, beside a node: the way from link to webhook, and take-over."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.db import chains as chain_queries
from astrapayd.db.chains import ChainRow
from astrapayd.db.tables import chain_blocks, deliveries, events, transfers
from tests.databases import put_on_server
from tests.nodes.harness import EmbeddedNode, running
from tests.postgres import Server, database_name
from tests.shop import USDT, Shop, a_shop


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedNode]:
    async with running(EmbeddedNode(tmp_path)) as node:
        assert isinstance(node, EmbeddedNode)
        yield node


@pytest.fixture
async def shop(embedded: EmbeddedNode, tmp_path: Path, postgresql_url: str) -> AsyncIterator[Shop]:
    """Its database is on the server; nothing runs yet."""
    put_on_server(tmp_path, postgresql_url)
    async with a_shop(tmp_path, url=embedded.url, chain_id=embedded.chain_id, usdt=embedded.usdt) as shop:
        yield shop


@contextlib.asynccontextmanager
async def process(shop: Shop, *roles: str) -> AsyncIterator[Process]:
    """A daemon with these roles, ended with the block."""
    started = await shop.start_process(*(word for role in roles for word in ("--role", role)))
    try:
        yield started
    finally:
        if started.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                started.send_signal(signal.SIGCONT)
                started.terminate()
            async with asyncio.timeout(20):
                assert await started.wait() == 0


async def chain(shop: Shop) -> ChainRow:
    async with shop.core.database.read() as connection:
        row = await chain_queries.load_chain(connection, "test")
    assert row is not None
    return row


async def head_is(shop: Shop, height: int, within_secs: float) -> None:
    async with asyncio.timeout(within_secs):
        while (await chain(shop)).head_height != height:
            await asyncio.sleep(0.02)


async def lock_holder(server: Server, shop: Shop) -> int:
    """The server's process that keeps the turn on the chain."""
    return int(
        await server.execute(
            "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' "
            f"AND l.granted AND d.datname = '{database_name(shop.core.database.url)}'"
        )
    )


async def nothing_twice(shop: Shop) -> None:
    async with shop.core.database.read() as connection:
        numbers = list((await connection.execute(events.select().order_by(events.c.sequence))).scalars())
        assert numbers == list(range(1, len(numbers) + 1))
        told = (await connection.execute(deliveries.select())).all()
        assert sorted(row.sequence for row in told) == numbers
        heights = [row.height for row in (await connection.execute(chain_blocks.select())).all()]
        assert len(heights) == len(set(heights))


async def test_one_process_for_each_role(shop: Shop, embedded: EmbeddedNode) -> None:
    """The page of the web's process learns of the payment that the watch's process has committed, and the dispatch's
    process tells the shop."""
    async with process(shop, "watch"), process(shop, "web"), process(shop, "dispatch"):
        asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
        live = f"{shop.core.config.server.public_url}/s/{asked.session_id}/live"
        async with shop.browser.get(live) as page:
            assert b"data:" in await page.content.readuntil(b"\n\n")
            await embedded.pay_token(asked.address, asked.due_base)
            await embedded.mine()
            async with asyncio.timeout(5):  # not by the page's regular repetition, which takes longer
                while b'data-page="paid"' not in await page.content.readuntil(b"\n\n"):
                    pass
        told = await shop.until("session.paid")
    assert [e["type"] for e in told] == [
        *("link.created", "session.created", "session.pending"),
        *("payment.seen", "payment.confirmed", "session.paid"),
    ]


async def test_kill_9_of_the_watching_process_and_another_goes_on_within_5_s(
    shop: Shop, embedded: EmbeddedNode
) -> None:
    """With a payment in the block that nobody has ingested yet. Nothing is lost, nothing doubled."""
    async with process(shop, "web", "dispatch"), process(shop, "watch") as first, process(shop, "watch"):
        height = await embedded.mine()
        await head_is(shop, height, 10)
        asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
        epoch = (await chain(shop)).watcher_epoch
        tx = await embedded.pay_token(asked.address, asked.due_base)
        first.kill()
        await first.wait()
        await embedded.mine()
        await head_is(shop, height + 1, 5)
        assert (await chain(shop)).watcher_epoch == epoch + 1
        told = await shop.until("session.paid")
        assert [e["type"] for e in told].count("session.paid") == 1
        async with shop.core.database.read() as connection:
            rows = (await connection.execute(transfers.select())).all()
        assert [row.tx for row in rows] == [tx]
        await nothing_twice(shop)


async def test_a_stopped_process_that_lost_its_turn_cannot_write_when_it_goes_on(
    shop: Shop, embedded: EmbeddedNode, postgresql: Server
) -> None:
    """SIGSTOP; the server ends its connection (as when a machine is cut off); another has the chain; SIGCONT."""
    async with process(shop, "watch") as old:
        height = await embedded.mine()
        await head_is(shop, height, 10)
        async with process(shop, "watch"):
            old.send_signal(signal.SIGSTOP)
            await postgresql.execute(f"SELECT pg_terminate_backend({await lock_holder(postgresql, shop)})")
            await embedded.mine()
            await head_is(shop, height + 1, 5)
            epoch = (await chain(shop)).watcher_epoch
            await embedded.mine()
            old.send_signal(signal.SIGCONT)
            await embedded.mine()
            await head_is(shop, height + 3, 5)
            await asyncio.sleep(3)  # time enough to begin an epoch, if it thought that it might
            row = await chain(shop)
            assert (row.watcher_epoch, row.level, row.problem) == (epoch, True, "")
            await nothing_twice(shop)


async def test_roles_need_postgresql(embedded: EmbeddedNode, tmp_path: Path) -> None:
    async with a_shop(tmp_path, url=embedded.url, chain_id=embedded.chain_id, usdt=embedded.usdt) as shop:
        with pytest.raises(AssertionError, match="SQLite serves one process that has every role"):
            await shop.start_process("--role", "web", "--role", "watch")
        async with process(shop, "web", "watch", "dispatch"):
            pass
