"""A task may be cancelled at any moment: the one writer is never lost, and the daemon stops when it is told to."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from sqlalchemy import select, update

from astrapayd.db import migrate
from astrapayd.db.engine import Database, uninterrupted
from astrapayd.db.tables import installation
from tests.databases import both_engines, database_url

pytestmark = both_engines


async def count_up(database: Database) -> None:
    async with database.write() as tx:
        last = (await tx.execute(select(installation.c.last_sequence))).scalar_one()
        await tx.execute(update(installation).values(last_sequence=last + 1))


async def test_cancelled_writers_leave_the_writer_usable(tmp_path: Path) -> None:
    rng = random.Random(7)
    database = Database(database_url(tmp_path))
    await migrate.upgrade(database)
    for _ in range(300):
        work = asyncio.create_task(uninterrupted(count_up(database)))
        await asyncio.sleep(rng.random() * 0.003)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    async with asyncio.timeout(2):
        await count_up(database)
    async with database.read() as connection:
        counted = (await connection.execute(select(installation.c.last_sequence))).scalar_one()
    assert 1 <= counted <= 301
    await database.close()


async def test_uninterrupted_raises_what_the_work_raises() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await uninterrupted(fails())


async def test_uninterrupted_finishes_first_and_is_cancelled_then() -> None:
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.set()

    task = asyncio.create_task(uninterrupted(work()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
