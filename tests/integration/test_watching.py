"""A watcher kept running: what it says is committed, and nothing that it does wrong ends more than itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from astrapayd import watching
from astrapayd.db import chains as chain_queries
from astrapayd.sessions import Status
from astrapayd.testing import ChainScript, FakeChain, FakeWatcher
from astrapayd.transfers import BlockRef, ChainUpdate, Watcher, WatchSet
from astrapayd.watching import ChainWatch
from tests.databases import both_engines
from tests.shopfront import Shopfront, shopfront

pytestmark = both_engines


@dataclass
class TroubledChain(FakeChain):
    """Answers the watcher that a test prepared."""

    prepared: Watcher | None = field(default=None)

    def watcher(self) -> FakeWatcher:
        return self.prepared or FakeWatcher(self.script)  # type: ignore[return-value]


class FaultyWatcher(FakeWatcher):
    """Its first updates are broken, or it fails; then it is as it should be."""

    def __init__(self, script: ChainScript, *faults: str) -> None:
        super().__init__(script)
        self.faults = list(faults)
        self.begun = 0

    async def updates(self, recent: Sequence[BlockRef], watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        self.begun += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "ends":
            return
        if fault == "raises":
            raise RuntimeError("nobody thought of this")
        async for step in super().updates(recent, watch):
            yield replace(step, head=replace(step.head, hash="0xno")) if fault == "broken" else step


@asynccontextmanager
async def watched(front: Shopfront, watcher: Watcher | None = None) -> AsyncIterator[list[str]]:
    """The chain followed by a watch of its own; yields what it tells of."""
    told: list[str] = []
    chain = TroubledChain(front.script, front.chain.assets, front.chain.confirmations, prepared=watcher)
    watch = ChainWatch(chain, front.core.database, front.core.ingest, told.extend)
    task = asyncio.create_task(watch.run())
    try:
        yield told
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait a little for it."""
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0.02)


def at_the_tip(front: Shopfront) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        async with front.core.database.read() as connection:
            head = await chain_queries.head_block(connection, "fake")
        return head == front.script.tip

    return holds


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_FIRST_PAUSE_SECS", 0.05)


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def test_what_is_mined_is_committed_and_told(front: Shopfront) -> None:
    session = await front.open_new()
    async with watched(front) as told:
        front.script.mine(front.pay(session.due_base))
        await until(at_the_tip(front))
        front.script.mine()
        await until(at_the_tip(front))
    assert (await front.session(session.id)).status is Status.PAID
    assert [subject for subject in told if subject.startswith("ses_")] == [session.id, session.id]


async def test_daemon_down_for_1000_blocks(front: Shopfront) -> None:
    session = await front.open_new()
    async with watched(front):
        front.script.mine()
        await until(at_the_tip(front))
    front.script.mine(front.pay(session.due_base))
    for _ in range(1_000):
        front.script.mine()
    async with watched(front):
        await until(at_the_tip(front))
    assert (await front.session(session.id)).status is Status.PAID


async def test_reorganised_while_the_daemon_was_down(front: Shopfront) -> None:
    session = await front.open_new()
    async with watched(front):
        front.script.mine(front.pay(session.due_base))
        await until(at_the_tip(front))
    front.script.reorg(1, [], [])
    async with watched(front):
        await until(at_the_tip(front))
    assert (await front.session(session.id)).received_base == 0


@pytest.mark.parametrize("fault", ["ends", "raises", "broken"])
async def test_a_watcher_that_fails_is_begun_again(front: Shopfront, fault: str) -> None:
    session = await front.open_new()
    watcher = FaultyWatcher(front.script, fault, fault)
    front.script.mine(front.pay(session.due_base))
    async with watched(front, watcher):
        await until(at_the_tip(front))
    assert watcher.begun == 3
    assert watcher.closed
    assert (await front.session(session.id)).received_base == session.due_base


async def test_an_address_added_meanwhile_is_watched_from_then_on(front: Shopfront) -> None:
    async with watched(front):
        front.script.mine()
        await until(at_the_tip(front))
        async with front.core.database.write() as tx:
            both = {"fake1shop": "shop", "fake1more": "shop"}
            assert not await chain_queries.synchronise_addresses(tx, "fake", both, 0)
        payment = front.pay(7, to="fake1more")
        front.script.mine(payment)
        await until(at_the_tip(front))
    assert (await front.transfer_row(payment))["standing"] == "unmatched"


async def test_another_watch_takes_the_chain_over(front: Shopfront) -> None:
    """The older one is refused from then on, and waits before it tries again: they do not spin against each other."""
    async with watched(front):
        front.script.mine()
        await until(at_the_tip(front))
        async with front.core.database.write() as tx:
            epoch = await chain_queries.begin_epoch(tx, "fake")
        base = front.script.tip
        front.script.mine()
        await front.core.ingest.apply(replace(front.script.since(base), watch_version=1), epoch)
        assert await at_the_tip(front)()


async def test_the_look_says_level_and_why_not(front: Shopfront) -> None:
    watcher = FakeWatcher(front.script)
    async with watched(front, watcher):

        async def level() -> bool:
            async with front.core.database.read() as connection:
                row = await chain_queries.load_chain(connection, "fake")
            assert row is not None
            return row.level and not row.problem and row.looked_at > 0

        await until(level)
        watcher.reachable = False

        async def in_trouble() -> bool:
            async with front.core.database.read() as connection:
                row = await chain_queries.load_chain(connection, "fake")
            assert row is not None
            return not row.level and row.problem == "the node does not answer"

        await until(in_trouble)
