"""Several processes on one PostgreSQL database: openings, the turn on a chain, news, locks in one order."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.db import chains as chain_queries
from astrapayd.db.engine import Database
from astrapayd.db.notices import Listener, notify, payloads
from astrapayd.db.tables import reservations
from astrapayd.db.turns import ChainTurn, TurnLost, chain_turn
from astrapayd.ingest import Fenced
from astrapayd.services.sessions import cancel, open_session
from astrapayd.sessions import NotPossible
from astrapayd.watching import ChainWatch, watch_in_turn
from tests.databases import put_on_server
from tests.integration.test_watching import at_the_tip, until
from tests.postgres import Server, database_name
from tests.shopfront import PRICE, Shopfront, shopfront

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def front(tmp_path: Path, postgresql_url: str) -> AsyncIterator[Shopfront]:
    put_on_server(tmp_path, postgresql_url)
    async with shopfront(tmp_path) as front:
        yield front


@contextlib.asynccontextmanager
async def in_turn(front: Shopfront, database: Database) -> AsyncIterator[list[str]]:
    """A watcher as one of several processes has it; yields what it tells of."""
    told: list[str] = []

    def make(turn: ChainTurn) -> ChainWatch:
        return ChainWatch(front.chain, database, front.core.ingest, told.extend, turn)

    task = asyncio.create_task(watch_in_turn(database, "fake", make))
    try:
        yield told
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def epoch_of(front: Shopfront) -> int:
    async with front.core.database.read() as connection:
        row = await chain_queries.load_chain(connection, "fake")
    assert row is not None
    return row.watcher_epoch


async def lock_holders(server: Server, url: str) -> list[int]:
    """Backends that hold an advisory lock in that database, by process id."""
    found = await server.execute(
        "SELECT coalesce(array_agg(l.pid), '{}') FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
        f"WHERE l.locktype = 'advisory' AND l.granted AND d.datname = '{database_name(url)}'"
    )
    return [int(pid) for pid in found]


# -- openings -----------------------------------------------------------------------------------------------------


async def test_64_openings_of_one_price_from_two_processes_are_all_different(front: Shopfront, tmp_path: Path) -> None:
    link = await front.link()
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.opening_child", str(tmp_path), link.slug, "32"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
    due: list[int] = []
    for out, _ in await asyncio.gather(*(child.communicate(b"go\n") for child in children)):
        due += [int(line.split()[1]) for line in out.splitlines()]
    assert len(due) == len(set(due)) == 64
    assert all(PRICE < amount < PRICE + 10_000 and amount % 10 for amount in due)
    held = [r["tail"] for r in await front.rows(reservations)]
    assert len(held) == len(set(held)) == 64


# -- who watches a chain --------------------------------------------------------------------------------------------


async def test_one_process_has_the_turn_and_the_next_takes_over(front: Shopfront, postgresql_url: str) -> None:
    first, second = Database(postgresql_url), Database(postgresql_url)
    async with in_turn(front, second) as told:
        async with in_turn(front, first):
            pass  # whoever came first
        front.script.mine()
        await until(at_the_tip(front))
        epoch = await epoch_of(front)
        async with in_turn(front, first) as idle:
            front.script.mine()
            await until(at_the_tip(front))
            assert told
            assert not idle
            assert await epoch_of(front) == epoch, "who waits for its turn takes nothing"
    await first.close()
    await second.close()


async def test_a_turn_that_the_server_ended_goes_to_another_within_5_s(
    front: Shopfront, postgresql: Server, postgresql_url: str
) -> None:
    first, second = Database(postgresql_url), Database(postgresql_url)
    async with in_turn(front, first) as one:
        front.script.mine()
        await until(at_the_tip(front))
        async with in_turn(front, second) as other:
            for told in (one, other):
                told.clear()
            (pid,) = await lock_holders(postgresql, postgresql_url)
            async with asyncio.timeout(5):
                await postgresql.execute(f"SELECT pg_terminate_backend({pid})")
                while await lock_holders(postgresql, postgresql_url) in ([], [pid]):
                    await asyncio.sleep(0.02)
            front.script.mine()
            await until(at_the_tip(front))
            assert len(one + other) == 1, "the block was applied once"
    await first.close()
    await second.close()


async def test_a_lost_turn_begins_no_epoch(front: Shopfront, postgresql: Server, postgresql_url: str) -> None:
    """As of a process that was stopped, and goes on where it was: what it has fetched is refused, and it does not take
    the chain back."""
    async with chain_turn(front.core.database, "fake") as turn:
        await turn.confirm()
        (pid,) = await lock_holders(postgresql, postgresql_url)
        await postgresql.execute(f"SELECT pg_terminate_backend({pid})")
        async with front.core.database.write() as tx:
            epoch = await chain_queries.begin_epoch(tx, "fake")
        step = front.script.mine()
        with pytest.raises(Fenced):
            await front.apply(step)
        with pytest.raises(TurnLost):
            await turn.confirm()
        watch = ChainWatch(front.chain, front.core.database, front.core.ingest, lambda _: None, turn)
        async with asyncio.timeout(5):
            await watch.run()
        assert await epoch_of(front) == epoch
        await front.core.ingest.apply(step, epoch)


# -- locks ------------------------------------------------------------------------------------------------------------


async def test_blocks_openings_and_decisions_at_once_wait_for_each_other_and_never_in_a_ring(
    front: Shopfront,
) -> None:
    """Ingest tells of unmatched transfers and of sessions, while sessions are opened on several links, cancelled, and
    cancelled twice: no deadlock (which PostgreSQL would end with an error after a second), and nothing is lost."""
    links = [await front.link() for _ in range(4)]
    sessions = [await front.open(links[i % 4]) for i in range(24)]

    async def blocks() -> None:
        for i in range(12):
            exact, short = sessions[i].due_base, sessions[i + 12].due_base - 1_000_000
            await front.mine(*(front.pay(amount) for amount in (exact, short, 7_000_000 + i)), secs=1)

    async def openings(number: int) -> None:
        for i in range(8):
            token = f"{number} {i}"
            await open_session(front.core, links[number % 4].slug, "usd", form_token=token, source="test")

    async def cancellations() -> None:
        for session in sessions:
            with contextlib.suppress(NotPossible):
                await cancel(front.core, session.id, by="test")

    await asyncio.gather(blocks(), *(openings(i) for i in range(8)), cancellations(), cancellations())
    await front.every_event_has_one_delivery()
    held = [r["tail"] for r in await front.rows(reservations)]
    assert len(held) == len(set(held))


async def test_two_orders_of_limited_links_are_not_sold_twice_by_two_chains(front: Shopfront) -> None:
    """Two transactions that decide about one limited link and one order come one after the other."""
    session = await front.open(await front.link(max_uses=1))
    entered = asyncio.Event()
    order: list[str] = []

    async def decide(name: str, wait_secs: float) -> None:
        from astrapayd.db.sessions import load_sessions, lock_what_is_shared

        async with front.core.database.write() as tx:
            rows = await load_sessions(tx, [session.id], front.core.registry)
            await lock_what_is_shared(tx, rows.values())
            entered.set()
            order.append(f"{name} in")
            await asyncio.sleep(wait_secs)
            order.append(f"{name} out")

    first = asyncio.create_task(decide("first", 0.2))
    await entered.wait()
    await asyncio.gather(first, decide("second", 0))
    assert order == ["first in", "first out", "second in", "second out"]


# -- news -------------------------------------------------------------------------------------------------------------


async def test_commits_are_heard_by_other_processes(front: Shopfront, postgresql_url: str) -> None:
    heard: list[str] = []
    began = asyncio.Event()
    other = Database(postgresql_url)
    listening = asyncio.create_task(Listener(other, heard.extend, began.set).run())
    await began.wait()
    session = await front.open_new()

    async def told(*subjects: str) -> None:
        async with asyncio.timeout(5):
            while not set(subjects) <= set(heard):
                await asyncio.sleep(0.01)

    await told(session.id)
    heard.clear()
    await front.mine(front.pay(session.due_base))
    await told(session.id, "chain:fake")
    heard.clear()
    with contextlib.suppress(RuntimeError):
        async with front.core.database.write() as tx:
            await notify(tx, ["rolled back"])
            raise RuntimeError
    many = [f"ses_{'x' * 26}{i}" for i in range(2_000)]
    async with front.core.database.write() as tx:
        await notify(tx, many)
    await told(*many)
    assert "rolled back" not in heard
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    await other.close()


async def test_who_listens_comes_back_and_looks_at_everything(
    front: Shopfront, postgresql: Server, postgresql_url: str
) -> None:
    heard: list[str] = []
    began = asyncio.Event()
    other = Database(postgresql_url)
    listening = asyncio.create_task(Listener(other, heard.extend, began.set).run())
    await began.wait()
    began.clear()
    await postgresql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database_name(postgresql_url)}' AND query ILIKE 'LISTEN%'"
    )
    async with asyncio.timeout(5):
        await began.wait()
    await front.open_new()
    async with asyncio.timeout(5):
        while not heard:
            await asyncio.sleep(0.01)
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    await other.close()


def test_payloads_fit_and_lose_nothing() -> None:
    subjects = [f"{'é' * (i % 60)}{i}" for i in range(3_000)]
    texts = list(payloads([*subjects, *subjects]))
    assert all(len(text.encode()) < 8_000 for text in texts)
    assert "\n".join(texts).split("\n") == subjects
    assert list(payloads([])) == []
