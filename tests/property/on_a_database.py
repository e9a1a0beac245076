"""The histories on a database, which goes along with the book step by step and must agree with it after each.

Every update is ingested with a crash first (an exception at some statement of the transaction, after which the watcher
begins again) and once more after it succeeded. Restarts close the database and open it again.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import pytest
from sqlalchemy import event, update

from astrapayd.config import AccountSection
from astrapayd.db import migrate
from astrapayd.db.engine import Database
from astrapayd.db.tables import links, sessions
from astrapayd.ingest import Fenced, StaleWatch
from astrapayd.links import Link
from astrapayd.services.sessions import LinkUnavailable, cancel, settle
from astrapayd.sessions import Cancelled, Change, NotPossible
from astrapayd.testing import FakeChain
from astrapayd.transfers import ChainUpdate
from tests.databases import put_on_server
from tests.postgres import Server
from tests.property import invariants
from tests.property.agreement import agrees
from tests.property.histories import ASSETS, CONFIRMATIONS, FINAL, OFFERS, SHARED, Histories, Order
from tests.shopfront import Shopfront, shopfront

T = TypeVar("T")
MEMORY = Path("/dev/shm")  # a disk's fsync would be most of the time


class Crash(Exception):
    """The process ends here, in the middle of a transaction."""


class Store(Protocol):
    """The migrated database of one history, and the folder that stands for it (:mod:`tests.databases`)."""

    folder: Path

    def close(self) -> None:
        """Nobody needs it any more."""


class SqliteFile:
    """A migrated database in a folder of its own for each history: migrating takes longer than most histories."""

    _template: ClassVar[Path | None] = None

    def __init__(self) -> None:
        if SqliteFile._template is None:
            folder = _folder()
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            SqliteFile._template = folder / "template.db"
            asyncio.run(_migrate(SqliteFile._template))
        self.folder = _folder()
        shutil.copy(SqliteFile._template, self.folder / "shop.db")

    def close(self) -> None:
        shutil.rmtree(self.folder)


class OnServer:
    """One on the run's PostgreSQL server."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        self.folder = _folder()
        self._url = self.server.fresh()
        put_on_server(self.folder, self._url)

    def close(self) -> None:
        self.server.give_back(self._url)
        shutil.rmtree(self.folder)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="astrapayd-histories-", dir=MEMORY if MEMORY.is_dir() else None))


async def _migrate(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    await migrate.upgrade(database)
    await database.close()


class OnADatabase(Histories):
    """A subclass for another engine sets ``make_store``."""

    make_store: ClassVar[Callable[[], Store]] = SqliteFile

    def begun(self) -> None:
        self.store = type(self).make_store()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.chain = FakeChain(self.script, ASSETS, confirmations=CONFIRMATIONS, final=FINAL)
        self.tails = random.Random(0)
        self.enter()
        self.links: dict[str, Link] = {
            name: self.run(self.front.link("25", ASSETS[offer.asset].symbol, max_uses=offer.max_uses))
            for name, offer in OFFERS.items()
        }
        self.run(self._set_prices())

    async def _set_prices(self) -> None:
        """Also prices with more decimals than a merchant may write: a conversion will yield them."""
        async with self.front.core.database.write() as tx:
            for name, link in self.links.items():
                await tx.execute(update(links).where(links.c.id == link.id).values(price=OFFERS[name].price))

    def enter(self) -> None:
        front = shopfront(
            self.store.folder,
            chain=self.chain,
            account=AccountSection(addresses=(SHARED,), xpub="fakepub1", gap_limit=10_000),
            pick=lambda below: self.tails.randrange(below),
            late=self.late.value,
            tolerance=self.tolerance,
            late_window_secs=self.late_window_secs,
        )
        self.front: Shopfront = self.run(self.stack.enter_async_context(front))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Rules are called from outside any event loop."""
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "store"):
                self.run(self.stack.aclose())
                self.loop.close()
                self.store.close()

    def throw_again(self) -> None:
        super().throw_again()
        if hasattr(self, "tails"):
            self.tails.seed(f"{self.seed} {self.steps}")

    # -- what the book does, done here too

    def open_beside(self, offer: str, order: Order) -> str | None:
        self.throw_again()
        self.front.clock.ahead_secs = self.ahead_secs
        try:
            session = self.run(self.front.open(self.links[offer], OFFERS[offer].asset, form_token=str(self.steps)))
        except LinkUnavailable:
            return None
        if order:
            self.run(self._order(session.id, order))
        return session.id

    async def _order(self, session_id: str, order: Order) -> None:
        """As the checkout of a shop's order will do."""
        async with self.front.core.database.write() as tx:
            await tx.execute(update(sessions).where(sessions.c.id == session_id).values(order_ref=order))

    def decide_beside(self, session: str, change: Change, *, possible: bool) -> None:
        refused = contextlib.nullcontext() if possible else pytest.raises(NotPossible)
        core = self.front.core
        with refused:
            if isinstance(change, Cancelled):
                self.run(cancel(core, session, by="customer"))
            else:
                self.run(settle(core, session, by="merchant", note=""))

    def is_stale_beside(self, step: ChainUpdate) -> None:
        with pytest.raises(StaleWatch):
            self.run(self.front.apply(step))

    def restart_beside(self) -> None:
        old = self.front.epoch
        self.run(self.stack.aclose())
        self.enter()
        assert (old + 1, self.front.epoch) == (self.book.epoch, self.book.epoch)
        with pytest.raises(Fenced):
            self.run(self.front.core.ingest.apply(self.script.give_up("0xnone"), old))

    def ingest_beside(self, step: ChainUpdate, crash: int) -> None:
        self.front.clock.ahead_secs = self.ahead_secs
        before = self.state()
        self.throw_again()
        if self.run(self._crashes_at(step, crash)):
            assert self.state() == before, "a crash leaves nothing behind"
            self.throw_again()
            self.run(self.front.apply(step))
        after = self.state()
        if step.base is not None and step.head.hash != step.base.hash:
            with pytest.raises(Fenced):
                self.run(self.front.apply(step))
        else:
            self.throw_again()
            self.run(self.front.apply(step))
        assert self.state() == after, "the same update twice changes nothing"

    async def _crashes_at(self, step: ChainUpdate, statement: int) -> bool:
        left = statement

        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash

        engine = self.front.core.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", count)
        try:
            await self.front.apply(step)
        except Crash:
            return True
        finally:
            event.remove(engine, "before_cursor_execute", count)
        return False

    # -- what must always hold of the rows

    def state(self) -> invariants.State:
        return self.run(self._state())

    async def _state(self) -> invariants.State:
        async with self.front.core.database.read() as connection:
            return await connection.run_sync(invariants.read_state)

    def went_along(self) -> None:
        state = self.state()
        agrees(self.book, state)
        invariants.events_are_told_once(state)
        invariants.reservations_are_apart(state)
