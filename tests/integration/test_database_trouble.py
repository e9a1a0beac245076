"""A disk that is full, a database that is locked, a clock that was set back: nothing is half done, and it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from astrapayd import watching
from astrapayd.db import outbox
from astrapayd.db.outbox import NewEvent
from astrapayd.db.tables import chain_blocks, chains, credits, deliveries, events, sessions, transfers
from astrapayd.events import EventType
from astrapayd.sessions import Flag, Status
from astrapayd.watching import ChainWatch
from tests.delivery import NOW, fresh_database
from tests.shopfront import Shopfront, shopfront

EVERYTHING = (chains, chain_blocks, transfers, credits, sessions, events, deliveries)


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def limit_pages(front: Shopfront, pages: int) -> None:
    """How large the file may grow, for the one writing connection; never below what it is."""
    async with front.core.database.write() as tx:
        await tx.execute(text(f"PRAGMA max_page_count = {pages}"))


async def until_at_the_tip(front: Shopfront) -> None:
    async with asyncio.timeout(20):
        while (await front.rows(chains))[0]["head_hash"] != front.script.tip.hash:
            await asyncio.sleep(0.02)


async def test_disk_full(front: Shopfront) -> None:
    """The update is refused whole; once there is room, the same one is applied."""
    session = await front.open_new()
    before = [await front.rows(table) for table in EVERYTHING]
    step = front.script.mine(front.pay(session.due_base), *(front.pay(3) for _ in range(300)))
    await limit_pages(front, 1)
    with pytest.raises(OperationalError, match="full"):
        await front.apply(step)
    assert [await front.rows(table) for table in EVERYTHING] == before
    await limit_pages(front, 1_000_000)
    await front.apply(step)
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID


async def test_disk_full_for_a_while_ends_no_watcher(front: Shopfront, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where there is no room to write down that something is wrong."""
    monkeypatch.setattr(watching, "_FIRST_PAUSE_SECS", 0.05)
    full, refused = True, 0

    def no_room(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        nonlocal refused
        if full and statement.startswith(("UPDATE", "INSERT")):
            refused += 1
            raise sqlite3.OperationalError("database or disk is full")

    session = await front.open_new()
    watch = asyncio.create_task(ChainWatch(front.chain, front.core.database, front.core.ingest, lambda _: None).run())
    await until_at_the_tip(front)
    event.listen(front.core.database.engine.sync_engine, "before_cursor_execute", no_room)
    front.script.mine(front.pay(session.due_base))
    async with asyncio.timeout(10):
        while refused < 4:
            await asyncio.sleep(0.02)
    assert not watch.done()
    full = False
    await until_at_the_tip(front)
    assert (await front.session(session.id)).status is Status.PROCESSING
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch


async def test_database_locked(front: Shopfront, tmp_path: Path) -> None:
    """Another program holds the lock for a moment: the update waits for it; readers do not."""
    session = await front.open_new()
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(front.mine(front.pay(session.due_base)))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    assert await front.session(session.id) == session
    other.execute("ROLLBACK")
    other.close()
    await waiting
    assert (await front.session(session.id)).status is Status.PROCESSING


async def test_database_locked_for_good_is_an_error_and_leaves_nothing(front: Shopfront, tmp_path: Path) -> None:
    session = await front.open_new()
    async with front.core.database.write() as tx:
        await tx.execute(text("PRAGMA busy_timeout = 50"))
    step = front.script.mine(front.pay(session.due_base))
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"):
            await front.apply(step)
    assert await front.session(session.id) == session
    await front.apply(step)
    assert (await front.session(session.id)).status is Status.PROCESSING


async def test_clock_set_back(front: Shopfront) -> None:
    """An hour, between opening and paying: nobody is late, nobody expires early, and the story stays in order."""
    session = await front.open_new()
    front.clock.ahead_secs = -3_600
    await front.mine(front.pay(session.due_base))
    await front.mine_more(8)
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, {Flag.FINAL})
    late = await front.open_new()
    front.clock.ahead_secs = 0
    assert late.expires_at < front.clock(), "its window is over by the right clock"
    await front.mine(front.pay(late.due_base))
    assert (await front.session(late.id)).flags == {Flag.LATE}
    sequences = [r["sequence"] for r in await front.rows(events)]
    assert sequences == sorted(sequences)


async def test_event_feed_never_skips_while_two_writers_commit_out_of_order(tmp_path: Path) -> None:
    """The first to take a number commits last, or never: whoever reads after N never finds a smaller one later."""
    async with fresh_database(tmp_path) as database:
        seen: list[int] = []

        async def write(subject: str, secs: float, *, fails: bool) -> None:
            async with database.write() as tx:
                new = NewEvent(EventType.SESSION_PAID, subject, 1, {})
                await outbox.append_events(tx, [new], store="shop", created_at=NOW)
                await asyncio.sleep(secs)
                if fails:
                    raise RuntimeError(subject)

        async def read_on() -> None:
            while len(seen) < 20:
                async with database.read() as connection:
                    after = text("SELECT sequence FROM events WHERE sequence > :after ORDER BY sequence")
                    seen.extend((await connection.execute(after, {"after": seen[-1] if seen else 0})).scalars())
                await asyncio.sleep(0)

        reading = asyncio.create_task(read_on())
        outcomes = await asyncio.gather(
            *(write(f"ses_{i}", 0.03 if i % 2 else 0, fails=i % 3 == 0) for i in range(30)), return_exceptions=True
        )
        assert sum(isinstance(outcome, RuntimeError) for outcome in outcomes) == 10
        async with asyncio.timeout(10):
            await reading
        assert seen == list(range(1, 21)), "no gap, and in order"
