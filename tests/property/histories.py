"""Histories of a store: what people do, what its chain does, and how it is ingested, as a hypothesis state machine.

A history is made of openings (amounts on a shared address, addresses of their own, orders, limited links), payments
(exact, short, over, rests, another asset, a stranger's, the largest amount), sightings in any order, blocks, catching
up, reorganisations, cancellations, settlements, a clock that goes wrong, and restarts. The machine drives a book in
memory; :class:`~tests.property.on_a_database.OnADatabase` a database beside it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from astrapayd.chains import Depth
from astrapayd.matching import Allowance
from astrapayd.money import MAX_AMOUNT_BASE, Asset, parse_amount
from astrapayd.sessions import Cancelled, Change, LatePolicy, NotPossible, Session, Settled, Status
from astrapayd.testing import ChainScript
from astrapayd.transfers import ChainUpdate, Transfer
from tests.property import laws, second_book
from tests.property.book import Book, Fenced, Opened, Policy, SoldOut, StaleWatch

SHARED = "fake1shop"
CONFIRMATIONS, FINAL, GENESIS = Depth(2, "2 blocks"), Depth(6, "6 blocks"), 100
WINDOW_SECS = 1_800

# Few tails (90 and 9), so that histories see them taken and let again. `eur` has digits beyond its tail, `pts` takes
# addresses of its own.
ASSETS = {
    "usd": Asset("usd", "fake", "USD", 4, 2, 2, "0xusd", "fake:1/erc20:0xusd"),
    "eur": Asset("eur", "fake", "EUR", 4, 2, 1, "0xeur", "fake:1/erc20:0xeur"),
    "pts": Asset("pts", "fake", "PTS", 2, 2, 0, "0xpts", "fake:1/erc20:0xpts"),
}


@dataclass(frozen=True)
class Offer:
    """A link."""

    asset: str
    price: str
    max_uses: int | None = None


OFFERS = {
    "usual": Offer("usd", "25.00"),
    "less": Offer("usd", "24.00"),
    "odd": Offer("usd", "24.9951"),
    "cheap": Offer("usd", "0.50"),
    "limited": Offer("usd", "25.00", 2),
    "other": Offer("eur", "25.001"),
    "near": Offer("eur", "24.99"),
    "own": Offer("pts", "25"),
}
Order = Literal["", "1042"]
WHICH = st.integers(0, 63)  # one of what there is, counted round
OFF_STEPS = st.sampled_from([0, 0, 0, 0, -1, -2, 1, -100, 100, -900, -1_300])
CRASHES = st.integers(0, 100)  # the statement at which a database's first try ends; beyond the last one: none
STEPS, ENGINE_STEPS = 20, 20  # rules, of which some mine several blocks


class Histories(RuleBasedStateMachine):
    """One daemon, one store, one shared address and one key, one chain."""

    @initialize(
        late=st.sampled_from(list(LatePolicy)),
        tolerance=st.sampled_from(["0", "0.02"]),
        late_window_secs=st.sampled_from([3_600, 30 * 86_400]),
        seed=st.integers(0, 2**32),
    )
    def begin(self, late: LatePolicy, tolerance: str, late_window_secs: int, seed: int) -> None:
        self.late, self.tolerance, self.late_window_secs = late, tolerance, late_window_secs
        self.script = ChainScript(genesis_height=GENESIS)
        self.script.watch_version = 1
        self.ahead_secs = 0
        self.clocks = {self.script.tip.hash: self.now()}
        self.unmined: list[Transfer] = []
        self.opened: list[Opened] = []
        self.orders: dict[str, Order] = {}
        self.seed, self.steps = seed, 0
        self.chance = random.Random(seed)
        policy = Policy(
            *(CONFIRMATIONS, FINAL, Allowance(), {a.contract: a for a in ASSETS.values()}, SHARED),
            derive=lambda index: f"fake1fakepub1x0x{index}",
        )
        self.book = Book(policy, self.script.tip, lambda below: self.chance.randrange(below), addresses={SHARED})
        self.peak, self.reorganised = GENESIS, False
        self.begun()
        self.catch_up(6, 100)  # room for a reorganisation

    def begun(self) -> None:
        """For a database that goes along."""

    def now(self) -> int:
        return self.script.tip.time + self.ahead_secs

    def throw_again(self) -> None:
        """Tails of one step are the same for whoever repeats it."""
        self.chance.seed(f"{self.seed} {self.steps}")

    # -- what people do

    @rule(offer=st.sampled_from(list(OFFERS)), order=st.sampled_from(["", "", "", "1042"]))
    def open(self, offer: str, order: Order) -> None:
        self.steps += 1
        asset = ASSETS[OFFERS[offer].asset]
        session_id = self.open_beside(offer, order)
        price_base = parse_amount(OFFERS[offer].price, asset.decimals)
        expires_at = self.now() + WINDOW_SECS
        wanted = Opened(
            id=session_id or f"ses_{len(self.opened):03}",
            order_key=f"order:{order}" if order else f"checkout:{len(self.opened)}",
            link=offer,
            max_uses=OFFERS[offer].max_uses,
            asset=asset,
            address="",
            price_base=price_base,
            opened_at=self.now(),
            opened_height=self.book.head.height,
        )
        state = Session(
            id=wanted.id,
            status=Status.PENDING,
            flags=frozenset(),
            revision=1,
            due_base=price_base,
            tolerance_base=parse_amount(self.tolerance, asset.decimals),
            overpaid_from_base=asset.price_step_base,
            received_base=0,
            confirmed_base=0,
            expires_at=expires_at,
            late_until=expires_at + self.late_window_secs,
            held_until=expires_at + max(86_400, self.late_window_secs),
            late_policy=self.late,
            minimum_base=0,
            announced=False,
            open=True,
        )
        self.throw_again()
        try:
            opened = self.book.open(wanted, state, self.now())
        except SoldOut:
            assert session_id is None
            return
        self.opened.append(opened)
        self.orders[opened.id] = order
        self.script.watch_version = self.book.watch_version
        self.went_along()

    def open_beside(self, offer: str, order: Order) -> str | None:
        """For a database that goes along: the session's id, or None where the opening was refused."""
        return None

    @rule(
        offer=st.sampled_from(list(OFFERS)),
        order=st.sampled_from(["", "", "1042"]),
        blocks=st.integers(0, 7),
        crash=CRASHES,
    )
    def sell(self, offer: str, order: Order, blocks: int, crash: int) -> None:
        """What happens most: opened, paid exactly, and so many blocks on top."""
        before = len(self.opened)
        self.open(offer, order)
        if len(self.opened) > before:
            self.sign(before, 0)
            self.unmined.insert(0, self.unmined.pop())
        self.mine(1, 12, crash)
        for _ in range(blocks):
            self.mine(0, 12, crash)

    @rule(offer=st.sampled_from(["near", "other"]), customers=st.integers(2, 6))
    def rush(self, offer: str, customers: int) -> None:
        """Nine tails are soon taken."""
        for _ in range(customers):
            self.open(offer, "")

    @precondition(lambda self: self.opened)
    @rule(which=WHICH, really=st.sampled_from([False, False, True]))
    def cancel(self, which: int, really: bool) -> None:
        if really:
            self.decide(which, Cancelled("customer"))

    @precondition(lambda self: self.opened)
    @rule(which=WHICH, really=st.sampled_from([False] * 9 + [True]))
    def settle(self, which: int, really: bool) -> None:
        if really:
            self.decide(which, Settled("merchant", ""))

    def decide(self, which: int, change: Cancelled | Settled) -> None:
        self.steps += 1
        session = self.one(which).id
        possible = True
        try:
            self.book.decide(session, change)
        except NotPossible:
            possible = False
        self.decide_beside(session, change, possible=possible)
        self.went_along()

    def decide_beside(self, session: str, change: Change, *, possible: bool) -> None:
        """For a database that goes along."""

    def one(self, which: int) -> Opened:
        return self.opened[which % len(self.opened)]

    @precondition(lambda self: self.opened)
    @rule(which=WHICH, off_steps=OFF_STEPS)
    def sign(self, which: int, off_steps: int) -> None:
        """A transfer that some later block will hold: what is due, or off by so many price steps."""
        opened = self.one(which)
        due = self.book.sessions[opened.id].due_base
        self.pay(opened.asset, opened.address, max(due + off_steps * opened.asset.price_step_base, 1))

    @precondition(lambda self: self.opened)
    @rule(which=WHICH, wrong=st.sampled_from(["asset", "digit", "largest"]))
    def sign_wrongly(self, which: int, wrong: str) -> None:
        opened = self.one(which)
        due = self.book.sessions[opened.id].due_base
        match wrong:
            case "asset":
                self.pay(ASSETS["eur" if opened.asset.id != "eur" else "usd"], opened.address, due)
            case "digit":
                self.pay(opened.asset, opened.address, due + 1)
            case _:
                self.pay(opened.asset, opened.address, MAX_AMOUNT_BASE)

    @rule(amount=st.sampled_from([1, 250_000, 250_011, 250_017, 249_913, 240_042, MAX_AMOUNT_BASE]))
    def sign_a_strangers(self, amount: int) -> None:
        self.pay(ASSETS["usd"], SHARED, amount)

    @precondition(lambda self: any(h.purpose == "rest" for h in self.book.held))
    @rule(which=WHICH)
    def sign_a_rest(self, which: int) -> None:
        rests = [h for h in self.book.held if h.purpose == "rest"]
        rest = rests[which % len(rests)]
        self.pay(rest.asset, rest.address, rest.due_base)

    def pay(self, asset: Asset, address: str, amount_base: int) -> None:
        self.unmined.append(self.script.transfer(asset, address, amount_base))

    # -- what the chain does

    @precondition(lambda self: self.unmined)
    @rule(most=st.integers(1, 3), gone=st.booleans(), crash=CRASHES)
    def see(self, most: int, gone: bool, crash: int) -> None:
        """Sightings that do not depend on each other come in some order (6)."""
        notes = [self.script.see(transfer) for transfer in self.unmined[:most]]
        if gone and len(self.unmined) > most:
            notes.append(self.script.give_up(self.unmined[-1].tx))
        self.in_any_order(notes)
        for note in notes:
            self.ingest(note, crash)

    @rule(most=st.integers(0, 3), secs=st.sampled_from([1, 12, 12, 12, 600, 2_000, 4_000, -5]), crash=CRASHES)
    def mine(self, most: int, secs: int, crash: int) -> None:
        self.ingest(self.script.mine(*self.take(most), secs=secs), crash)

    @rule(crash=CRASHES)
    def sleep(self, crash: int) -> None:
        """No block for longer than the shorter late window; then two, so that tails are free again."""
        self.mine(1, WINDOW_SECS + 3_700, crash)
        self.mine(0, 12, crash)

    @rule(offer=st.sampled_from(["usual", "own"]), crash=CRASHES)
    def mine_while_somebody_opens(self, offer: str, crash: int) -> None:
        """The opening is committed between the fetching of the block and its own commit."""
        tip = self.script.tip
        step = self.script.mine(*self.take(1))
        mined, self.script.tip = self.script.tip, tip
        self.open(offer, "")
        self.script.tip = mined
        if step.watch_version < self.book.watch_version:
            with pytest.raises(StaleWatch):
                self.book.copy().apply(step, self.book.epoch, self.now())
            self.is_stale_beside(step)
            step = replace(step, watch_version=self.script.watch_version)
        self.ingest(step, crash)

    def is_stale_beside(self, step: ChainUpdate) -> None:
        """For a database that goes along."""

    @rule(blocks=st.integers(2, 8), crash=CRASHES)
    def catch_up(self, blocks: int, crash: int) -> None:
        """Several blocks in one update, as after a downtime."""
        base = self.script.tip
        for _ in range(blocks):
            self.script.mine(*self.take(1))
        self.ingest(self.script.since(base), crash)

    @precondition(lambda self: self.room() > 0)
    @rule(depth=st.integers(1, 5), longer=st.integers(0, 2), data=st.data(), crash=CRASHES)
    def reorganise(self, depth: int, longer: int, data: st.DataObject, crash: int) -> None:
        """What stood in the lost blocks, and one more, is mined in some other block, or later, or never."""
        depth = min(depth, self.room())
        branch: list[list[Transfer]] = [[] for _ in range(depth + longer)]
        for transfer in self.lost(depth) + self.take(1):
            where = data.draw(st.integers(-1, len(branch) - 1), label="mined again in block")
            (branch[where] if where >= 0 else self.unmined).append(transfer)
        self.ingest(self.script.reorg(depth, *branch), crash)
        self.reorganised = True

    @precondition(lambda self: self.room() >= (CONFIRMATIONS.blocks or 0) + 1)
    @rule(blocks=st.integers(1, 2), crash=CRASHES)
    def fall_back(self, blocks: int, crash: int) -> None:
        """The watcher has taken blocks off and has not put the new ones on yet. Never so many that what was final has
        too few confirmations for the laws: test_what_is_final_stays_paid_while_the_watcher_falls_back is about that."""
        self.unmined += self.lost(blocks)
        self.ingest(self.script.reorg(blocks), crash)
        self.reorganised = True

    def room(self) -> int:
        """How many blocks may go: what was once final stays."""
        return self.script.tip.height - self.peak + (FINAL.blocks or 0) - 1

    def take(self, most: int) -> list[Transfer]:
        taken, self.unmined = self.unmined[:most], self.unmined[most:]
        return taken

    def lost(self, depth: int) -> list[Transfer]:
        blocks = self.script.branch()[:depth]
        return [replace(t, block=None) for block in blocks for t in self.script.transfers_of(block)]

    # -- what becomes of the daemon

    @rule(ahead_secs=st.sampled_from([0, 0, 600, -600]))
    def tick(self, ahead_secs: int) -> None:
        """The clock moves and no block comes; backwards too."""
        self.ahead_secs = ahead_secs

    @rule()
    def restart(self) -> None:
        """A new watcher begins an epoch: what the old one still sends is refused."""
        self.book.epoch += 1
        self.restart_beside()
        late = self.script.give_up("0xnone")
        with pytest.raises(Fenced):
            self.book.apply(late, self.book.epoch - 1, self.now())
        self.went_along()

    def restart_beside(self) -> None:
        """For a database that goes along."""

    # -- how it is ingested

    def ingest(self, step: ChainUpdate, crash: int) -> None:
        self.steps += 1
        self.peak = max(self.peak, step.head.height)
        for block in step.connected:
            self.clocks[block.hash] = self.now()
        before = self.book.copy()
        if len(step.transfers) > 1:
            self.in_any_order([replace(step, transfers=order) for order in (step.transfers, step.transfers[::-1])], 1)
        self.throw_again()
        self.book.apply(step, self.book.epoch, self.now())
        laws.credits_postdate_their_openings(before, self.book)
        laws.credits_follow_a_rule(before, self.book)
        laws.credits_stay(before, self.book)
        if step.head.hash != before.head.hash:
            with pytest.raises(Fenced):
                self.book.apply(step, self.book.epoch, self.now())
        else:
            again = self.book.copy()
            self.throw_again()
            again.apply(step, self.book.epoch, self.now())
            assert again == self.book, "the same news twice changes nothing"
        self.ingest_beside(step, crash)
        self.went_along()

    def ingest_beside(self, step: ChainUpdate, crash: int) -> None:
        """For a database that goes along."""

    def went_along(self) -> None:
        """For a database that goes along."""

    def in_any_order(self, notes: Sequence[ChainUpdate], each: int = 0) -> None:
        """6. All in this order and in the reverse one (or, with ``each``, every one alone) count the same."""
        orders: Iterable[Sequence[ChainUpdate]] = [[n] for n in notes] if each else [notes, notes[::-1]]
        outcomes = []
        for order in orders:
            book = self.book.copy()
            for note in order:
                self.throw_again()
                book.apply(note, book.epoch, self.now())
            outcomes.append(laws.counted(book))
        assert all(outcome == outcomes[0] for outcome in outcomes)

    # -- what must always hold

    @precondition(lambda self: self.reorganised)
    @rule()
    def a_book_that_saw_only_the_winning_branch_has_the_same(self) -> None:
        """4. Asked now and then, and at the end of each history."""
        second_book.has_the_same(self.book, self.script, self.clocks)
        self.reorganised = False

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "book"):
            return
        laws.sums_agree_with_the_chain(self.book, self.script)
        laws.reservations_are_apart(self.book)
        laws.events_are_told_once(self.book)
        laws.paid_is_told_once_and_only_with_enough(self.book)
        laws.amounts_survive(self.book)

    def teardown(self) -> None:
        if hasattr(self, "book") and self.reorganised:
            second_book.has_the_same(self.book, self.script, self.clocks)

    def came_to(self) -> set[str]:
        """What occurred in this history, for a report that shows whether the generator reaches it."""
        found = {"histories"}
        if hasattr(self, "book"):
            found |= {event.type.value for event in self.book.told.values()}
            found |= {f"flag {flag}" for state in self.book.sessions.values() for flag in state.flags}
            found |= {f"credited by {credit.reason}" for credit in self.book.credits.values()}
            given_back = {(h.asset.id, h.tail) for h in self.book.held if h.released_at is not None}
            live = {(h.asset.id, h.tail) for h in self.book.held if h.released_at is None and h.tail is not None}
            found |= {"tail let again"} if given_back & live else set()
            found |= {"rest reserved"} if any(h.purpose == "rest" for h in self.book.held) else set()
        return found
