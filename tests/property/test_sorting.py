"""What must always hold while a merchant sorts payments and customers claim them, over generated histories.

Each decision ends at some statement first (the transaction is rolled back, and nothing is left of it), then it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import event, select

from astrapayd.chains import Depth
from astrapayd.claims import ClaimRefused
from astrapayd.db import migrate
from astrapayd.db.engine import Database
from astrapayd.db.tables import claims
from astrapayd.services.claims import Evidence, approve, challenge_of, present, refuse
from astrapayd.services.core import Core
from astrapayd.services.sessions import find_session
from astrapayd.services.unmatched import NotSortable, assign, dismiss, mark_own, take_back
from astrapayd.sessions import Session
from astrapayd.testing import ChainScript, FakeChain, fake_signature
from astrapayd.transfers import ChainUpdate, Transfer
from tests.databases import put_on_server
from tests.hypothesis_profiles import examples
from tests.postgres import Server
from tests.property import invariants
from tests.shopfront import Shopfront, shopfront

T = TypeVar("T")
WHOLE = 1_000_000
CONFIRMATIONS, FINAL, GENESIS = 2, 6, 100
PAYER = "fake1payer"
CRASHES = st.integers(0, 60)  # the statement at which the first try ends; beyond the last one: none


class Crash(Exception):
    """The process ends here, in the middle of a transaction."""


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A migrated database to copy: migrating takes longer than most histories."""
    Sorting.template = tmp_path_factory.mktemp("template") / "shop.db"

    async def migrated() -> None:
        database = Database(f"sqlite:///{Sorting.template}")
        await migrate.upgrade(database)
        await database.close()

    asyncio.run(migrated())


class Sorting(RuleBasedStateMachine):
    """Three sessions, and payments that are nobody's amount."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="astrapayd-sorting-"))
        self.give_database()
        self.stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Rules are called from outside any event loop."""
        return self.loop.run_until_complete(work)

    def give_database(self) -> None:
        """A migrated one for the folder."""
        shutil.copy(self.template, self.folder / "shop.db")

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)

    def state(self) -> tuple[invariants.State, list[dict[str, Any]]]:
        async def read() -> tuple[invariants.State, list[dict[str, Any]]]:
            async with self.front.core.database.read() as connection:
                rows = [dict(row._mapping) for row in await connection.execute(select(claims))]
                return await connection.run_sync(invariants.read_state), rows

        return self.run(read())

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.chain = FakeChain(
            ChainScript(genesis_height=GENESIS),
            confirmations=Depth(CONFIRMATIONS, "2 blocks"),
            final=Depth(FINAL, "6 blocks"),
        )
        front = shopfront(self.folder, chain=self.chain, pick=random.Random(seed).randrange)
        self.front: Shopfront = self.run(self.stack.enter_async_context(front))
        self.sessions: list[Session] = [self.run(self.front.open_new()) for _ in range(3)]
        self.codes = [self.run(find_session(self.front.core, session.id)).row.code for session in self.sessions]
        self.paid: list[Transfer] = []

    # -- what the chain does

    @rule(amount=st.integers(1, 60), asset=st.sampled_from(["usd", "usd", "usd", "eur"]))
    def pay(self, amount: int, asset: str) -> None:
        unit = 10 ** self.chain.assets[asset].decimals
        self.paid.append(self.front.pay(amount * unit, asset=asset, sender=PAYER))
        self.apply(self.chain.script.mine(self.paid[-1]))

    @rule(secs=st.sampled_from([12, 12, 2_000]))
    def mine(self, secs: int) -> None:
        self.apply(self.chain.script.mine(secs=secs))

    @precondition(lambda self: self.chain.script.tip.height > GENESIS + FINAL)
    @rule(depth=st.integers(1, FINAL - 1), data=st.data())
    def reorganise(self, depth: int, data: st.DataObject) -> None:
        """What stood in the lost blocks is mined in some other block, or never."""
        branch: list[list[Transfer]] = [[] for _ in range(depth + 1)]
        for block in self.chain.script.branch()[:depth]:
            for transfer in self.chain.script.transfers_of(block):
                where = data.draw(st.integers(-1, depth), label="mined again in block")
                if where >= 0:
                    branch[where].append(replace(transfer, block=None))
        self.apply(self.chain.script.reorg(depth, *branch))

    def apply(self, step: ChainUpdate) -> None:
        self.run(self.front.apply(step))

    # -- what people do

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), crash=CRASHES)
    def sort(self, data: st.DataObject, crash: int) -> None:
        # Ids are random: chosen from in their order, a history would be another one each time it is run.
        payments = sorted(self.state()[0].transfers, key=lambda row: (row["tx"], row["ordinal"]))
        payment = data.draw(st.sampled_from([row["id"] for row in payments]), label="payment")
        session = data.draw(st.sampled_from(self.sessions), label="session").id
        how: Callable[[Core], Awaitable[Any]] = data.draw(
            st.sampled_from(
                [
                    lambda core: assign(core, payment, session, by="the merchant"),
                    lambda core: dismiss(core, payment, note="no"),
                    lambda core: mark_own(core, payment),
                    lambda core: take_back(core, payment),
                ]
            )
        )
        self.decide(how, crash)

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), who=st.integers(0, 2), signs=st.sampled_from(["", "", PAYER, "fake1thief"]), crash=CRASHES)
    def claim(self, data: st.DataObject, who: int, signs: str, crash: int) -> None:
        tx = data.draw(st.sampled_from(self.paid), label="claimed").tx
        session = self.sessions[who].id
        row = self.run(find_session(self.front.core, session)).row
        signature = fake_signature(signs, challenge_of(self.front.core, row)) if signs else ""
        evidence = Evidence(tx, self.codes[who], signature)
        self.decide(lambda core: present(core, session, evidence), crash)

    @precondition(lambda self: self.state()[1])
    @rule(data=st.data(), believed=st.booleans(), crash=CRASHES)
    def judge(self, data: st.DataObject, believed: bool, crash: int) -> None:
        which = [session.id for session in self.sessions]
        made = sorted(self.state()[1], key=lambda row: (which.index(row["session_id"]), row["tx"]))
        claim = data.draw(st.sampled_from([row["id"] for row in made]), label="claim")
        if believed:
            self.decide(lambda core: approve(core, claim, by="the merchant"), crash)
        else:
            self.decide(lambda core: refuse(core, claim, note="no"), crash)

    def decide(self, how: Callable[[Core], Awaitable[Any]], crash: int) -> None:
        """First it ends at a statement, then it is made; what cannot be leaves everything as it was."""
        before = self.state()
        left = crash

        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash

        engine = self.front.core.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", count)
        made = False
        try:
            with contextlib.suppress(Crash, NotSortable, ClaimRefused):
                self.loop.run_until_complete(how(self.front.core))
                made = True
        finally:
            event.remove(engine, "before_cursor_execute", count)
        if made:
            return
        assert self.state() == before, "a decision that was not made leaves nothing behind"
        if left < 0:
            with contextlib.suppress(NotSortable, ClaimRefused):
                self.loop.run_until_complete(how(self.front.core))

    # -- what must always hold

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "front"):
            return
        state, made = self.state()
        invariants.sums_agree_with_the_chain(state, self.chain.script, CONFIRMATIONS)
        invariants.events_are_told_once(state)
        invariants.paid_is_told_once_and_only_with_enough(state)
        told = Counter(row["subject"] for row in state.events if row["type"] == "claim.opened")
        opened = {row["id"] for row in made if not row["proof"]}
        assert opened <= told.keys()
        assert set(told.values()) <= {1}
        assets = {row["id"]: row["asset"] for row in state.sessions}
        by_id = {row["id"]: row for row in state.transfers}
        for credit in state.credits:
            assert by_id[credit["transfer_id"]]["asset"] == assets[credit["session_id"]]
        # A claim that was believed has its payment; one that waits has something to wait for, or had.
        for row in made:
            if row["status"] == "approved":
                given = {c["session_id"] for c in state.credits if by_id[c["transfer_id"]]["tx"] == row["tx"]}
                assert given == {row["session_id"]}


class SortingOnPostgreSQL(Sorting):
    """The same, with databases on the run's server."""

    server: Server

    def give_database(self) -> None:
        self.url = self.server.fresh()
        put_on_server(self.folder, self.url)

    def teardown(self) -> None:
        super().teardown()
        self.server.give_back(self.url)


TestSorting = Sorting.TestCase
TestSorting.settings = settings(max_examples=examples(25), stateful_step_count=30, deadline=None)


@pytest.fixture(scope="module")
def on_server(postgresql: Server) -> None:
    SortingOnPostgreSQL.server = postgresql


@pytest.mark.usefixtures("on_server")
class TestSortingOnPostgreSQL(SortingOnPostgreSQL.TestCase):  # type: ignore[name-defined,misc]
    """Fewer, since each statement is a round trip."""

    settings = settings(max_examples=examples(10), stateful_step_count=30, deadline=None)
