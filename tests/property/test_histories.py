"""What must always hold, over generated histories on real databases: SQLite and PostgreSQL.

A history is made of openings, payments (exact, short, over, rests, a stranger's), blocks, catching up, reorganisations,
unconfirmed sightings, cancellations, settlements and time that passes. Every update is ingested with a crash (an
exception at some statement of the transaction, after which the watcher begins again) and once more after it succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import event

from astrapayd.chains import Depth
from astrapayd.db import migrate
from astrapayd.db.engine import Database
from astrapayd.ingest import Fenced
from astrapayd.services.sessions import cancel, settle
from astrapayd.sessions import NotPossible, Session
from astrapayd.testing import ChainScript, FakeChain
from astrapayd.transfers import ChainUpdate, Transfer
from tests.databases import put_on_server
from tests.hypothesis_profiles import examples
from tests.postgres import Server
from tests.property import invariants
from tests.property.winning_branch import credits_and_confirmed, kept_from_a_lost_branch, second_daemon
from tests.shopfront import Shopfront, shopfront

T = TypeVar("T")
WHOLE, CENT = 1_000_000, 10_000
CONFIRMATIONS, FINAL, GENESIS = 2, 6, 100
CRASHES = st.integers(0, 100)  # the statement at which the first try ends; beyond the last one: none
ROOM_FOR_A_REORG = GENESIS + FINAL


class Crash(Exception):
    """The process ends here, in the middle of a transaction."""


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A migrated database to copy: migrating takes longer than most histories."""
    Histories.template = tmp_path_factory.mktemp("template") / "shop.db"

    async def migrated() -> None:
        database = Database(f"sqlite:///{Histories.template}")
        await migrate.upgrade(database)
        await database.close()

    asyncio.run(migrated())


class Histories(RuleBasedStateMachine):
    """One daemon, one store, one shared address, one chain."""

    template: Path
    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="astrapayd-histories-"))
        self.give_database(self.folder)
        self.stack = AsyncExitStack()
        self.unmined: list[Transfer] = []
        self.reorganised = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Rules are called from outside any event loop."""
        return self.loop.run_until_complete(work)

    def give_database(self, folder: Path) -> None:
        """A migrated one for the folder."""
        shutil.copy(self.template, folder / "shop.db")

    def state(self) -> invariants.State:
        async def read() -> invariants.State:
            async with self.front.core.database.read() as connection:
                return await connection.run_sync(invariants.read_state)

        return self.run(read())

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)

    @initialize(
        late=st.sampled_from(["accept", "hold"]),
        tolerance=st.sampled_from(["0", "0.02"]),
        late_window_secs=st.sampled_from([7_200, 30 * 86_400]),
        seed=st.integers(0, 2**32),
    )
    def begin(self, seed: int, **store: Any) -> None:
        self.store = store
        self.chain = FakeChain(
            ChainScript(genesis_height=GENESIS),
            confirmations=Depth(CONFIRMATIONS, "2 blocks"),
            final=Depth(FINAL, "6 blocks"),
        )
        self.script = self.chain.script
        front = shopfront(self.folder, chain=self.chain, pick=random.Random(seed).randrange, **store)
        self.front: Shopfront = self.run(self.stack.enter_async_context(front))
        self.links = {price: self.run(self.front.link(price)) for price in ("25.00", "24.00", "0.50")}

    # -- what people do

    @rule(target=opened, price=st.sampled_from(["25.00", "24.00", "0.50"]))
    def open(self, price: str) -> Session:
        return self.run(self.front.open(self.links[price]))

    @rule(session=opened)
    def cancel(self, session: Session) -> None:
        with contextlib.suppress(NotPossible):
            self.run(cancel(self.front.core, session.id, by="customer"))

    @rule(session=opened, really=st.sampled_from([True, False, False, False]))
    def settle(self, session: Session, really: bool) -> None:
        if really:
            with contextlib.suppress(NotPossible):
                self.run(settle(self.front.core, session.id, by="merchant", note=""))

    @rule(session=opened, off=st.sampled_from([0, 0, 0, -CENT, -2 * CENT, -WHOLE, CENT, -9 * WHOLE, 1]))
    def sign(self, session: Session, off: int) -> None:
        """A transfer that some later block will hold."""
        self.unmined.append(self.front.pay(max(session.due_base + off, 1)))

    @rule(amount=st.sampled_from([1, 25 * WHOLE, 24_000_001, 2**256 - 1]))
    def sign_a_strangers(self, amount: int) -> None:
        self.unmined.append(self.front.pay(amount))

    @precondition(lambda self: any(r["purpose"] == "rest" for r in self.state().reservations))
    @rule(data=st.data())
    def sign_a_rest(self, data: st.DataObject) -> None:
        due = [r["due_base"] for r in self.state().reservations if r["purpose"] == "rest"]
        self.unmined.append(self.front.pay(data.draw(st.sampled_from(due))))

    # -- what the chain does

    @precondition(lambda self: self.unmined)
    @rule(crash=CRASHES)
    def see(self, crash: int) -> None:
        self.ingest(self.script.see(self.unmined[0]), crash)

    @rule(most=st.integers(0, 3), secs=st.sampled_from([1, 12, 12, 12, 600, 2_000]), crash=CRASHES)
    def mine(self, most: int, secs: int, crash: int) -> None:
        self.ingest(self.script.mine(*self.take(most), secs=secs), crash)

    @rule(blocks=st.integers(2, 8), crash=CRASHES)
    def catch_up(self, blocks: int, crash: int) -> None:
        """Several blocks in one update, as after a downtime."""
        base = self.script.tip
        for _ in range(blocks):
            self.script.mine(*self.take(1))
        self.ingest(self.script.since(base), crash)

    @precondition(lambda self: self.script.tip.height >= ROOM_FOR_A_REORG)
    @rule(depth=st.integers(1, FINAL - 1), longer=st.integers(0, 2), data=st.data(), crash=CRASHES)
    def reorganise(self, depth: int, longer: int, data: st.DataObject, crash: int) -> None:
        """What stood in the lost blocks, and one more, is mined in some other block, or later, or never."""
        branch: list[list[Transfer]] = [[] for _ in range(depth + longer)]
        for transfer in self.lost(depth) + self.take(1):
            where = data.draw(st.integers(-1, len(branch) - 1), label="mined again in block")
            (branch[where] if where >= 0 else self.unmined).append(transfer)
        self.ingest(self.script.reorg(depth, *branch), crash)
        self.reorganised = True

    @precondition(lambda self: self.script.tip.height >= ROOM_FOR_A_REORG)
    @rule(blocks=st.integers(1, 2), crash=CRASHES)
    def fall_back(self, blocks: int, crash: int) -> None:
        """The watcher has taken blocks off and has not put the new ones on yet."""
        self.unmined += self.lost(blocks)
        self.ingest(self.script.reorg(blocks), crash)
        self.reorganised = True

    def take(self, most: int) -> list[Transfer]:
        taken, self.unmined = self.unmined[:most], self.unmined[most:]
        return taken

    def lost(self, depth: int) -> list[Transfer]:
        blocks = self.script.branch()[:depth]
        return [replace(t, block=None) for block in blocks for t in self.script.transfers_of(block)]

    # -- how it is ingested

    def ingest(self, step: ChainUpdate, crash: int) -> None:
        before = self.state()
        if self.run(self._crashes_at(step, crash)):
            assert self.state() == before, "a crash leaves nothing behind"
            self.run(self.front.apply(step))
        after = self.state()
        invariants.new_credits_postdate_their_openings(before, after)
        if step.base is not None and step.head.hash != step.base.hash:
            with pytest.raises(Fenced):
                self.run(self.front.apply(step))
        else:
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

    # -- what must always hold

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "front"):
            return
        state = self.state()
        invariants.sums_agree_with_the_chain(state, self.script, CONFIRMATIONS)
        invariants.reservations_are_apart(state)
        invariants.events_are_told_once(state)
        invariants.paid_is_told_once_and_only_with_enough(state)

    @precondition(lambda self: self.reorganised and self.store["late_window_secs"] > 86_400)
    @rule()
    def a_daemon_that_saw_only_the_winning_branch_has_the_same(self) -> None:
        """4. Not where late windows end meanwhile: which time a transfer was seen at first may then decide."""
        mine = self.state()
        second = Path(tempfile.mkdtemp(prefix="second-", dir=self.folder))
        self.give_database(second)
        theirs = self.run(second_daemon(self.chain, self.front.core.database, second, **self.store))
        but = kept_from_a_lost_branch(mine)
        assert credits_and_confirmed(mine, but) == credits_and_confirmed(theirs, but)
        self.reorganised = False


class HistoriesOnPostgreSQL(Histories):
    """The same, with databases on the run's server."""

    server: Server

    def __init__(self) -> None:
        self.urls: list[str] = []
        super().__init__()

    def give_database(self, folder: Path) -> None:
        self.urls.append(self.server.fresh())
        put_on_server(folder, self.urls[-1])

    def teardown(self) -> None:
        super().teardown()
        for url in self.urls:
            self.server.give_back(url)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)


@pytest.fixture(scope="module")
def on_server(postgresql: Server) -> None:
    HistoriesOnPostgreSQL.server = postgresql


@pytest.mark.usefixtures("on_server")
class TestHistoriesOnPostgreSQL(HistoriesOnPostgreSQL.TestCase):  # type: ignore[name-defined,misc]
    """Fewer, since each statement is a round trip; the soak has as many as of the others."""

    settings = settings(max_examples=examples(20), stateful_step_count=40, deadline=None)
