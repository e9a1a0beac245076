"""kill -9 in the middle of ingesting on PostgreSQL, again and again: the end is that of the undisturbed run.

``tests/faults`` does it on SQLite, at more points.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from astrapayd.db.tables import credits, deliveries, events, reservations, sessions, transfers
from tests.databases import put_on_server
from tests.faults.scenario import PAYMENTS
from tests.postgres import Server, database_name
from tests.shopfront import Shopfront, shopfront

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("KILL_SEED", "20261124"))
KILLS = 9

Folders = tuple[Path, Callable[[str], Awaitable[Path]]]


@pytest.fixture
async def folders(tmp_path: Path, postgresql: Server, postgresql_url: str) -> AsyncIterator[Folders]:
    """One that stands for the store's database, and how to make two like it."""
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    copies: list[str] = []
    put_on_server(prepared, postgresql_url)

    async def copy(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(prepared, folder)
        copies.append(await asyncio.to_thread(postgresql.copy, database_name(postgresql_url)))
        put_on_server(folder, copies[-1])
        return folder

    yield prepared, copy
    for url in copies:
        await asyncio.to_thread(postgresql.drop, url)


async def test_kill_9_at_any_statement_of_ingest(folders: Folders) -> None:
    prepared, copy = folders
    async with shopfront(prepared) as front:
        link = await front.link()
        due = [(await front.open(link)).due_base for _ in range(PAYMENTS)]
    (prepared / "due.txt").write_text("\n".join(map(str, due)))
    calm, disturbed = await copy("calm"), await copy("disturbed")

    assert await _child(calm, 0) == 0
    chance = random.Random(SEED)
    killed = 0
    while (code := await _child(disturbed, chance.randint(1, 110) if killed < KILLS else 0)) != 0:
        assert code == -signal.SIGKILL, f"killed {killed} times with seed {SEED}, then it failed by itself"
        killed += 1
    assert killed == KILLS, "the scenario is long enough for all of them"

    async with shopfront(calm) as undisturbed:
        expected = await _outcome(undisturbed)
    async with shopfront(disturbed) as front:
        assert await _outcome(front) == expected, f"seed {SEED}"
        await front.every_event_has_one_delivery()
    statuses = [s["status"] for s in expected["sessions"].values()]
    assert (statuses.count("paid"), statuses.count("expired")) == (PAYMENTS - 2, 2), "the scenario does what it says"


async def _child(folder: Path, kill_at: int) -> int:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.ingest_child", str(folder), str(kill_at)), cwd=ROOT
    )
    return await child.wait()


async def _outcome(front: Shopfront) -> dict[str, Any]:
    """Everything but what is random at each insertion: a payment's own id, and the tail of a rest."""
    paid = {r["id"]: r for r in await front.rows(transfers)}
    written = await front.rows(events)
    told = []
    for row in written:
        payment = orjson.loads(row["body"])["data"].get("payment")
        is_random = payment is not None or row["type"] == "transfer.unmatched"
        about = payment["tx"] if payment else ""
        told.append(
            (row["type"], "" if is_random else row["id"], "" if row["subject"] in paid else row["subject"], about)
        )
    return {
        "sessions": {row["id"]: row for row in await front.rows(sessions)},
        "transfers": {(r["tx"], r["ordinal"]): {k: v for k, v in r.items() if k != "id"} for r in paid.values()},
        "credits": {paid[r["transfer_id"]]["tx"]: {**r, "transfer_id": ""} for r in await front.rows(credits)},
        "events": sorted(told),
        "deliveries": len(await front.rows(deliveries)),
        "reservations": sorted(
            (r["session_id"], r["purpose"], r["live_until"]) for r in await front.rows(reservations)
        ),
    }
