"""A book in memory over the pure core: what a store's database must hold after each step, without a database.

It is the rules of ``docs/explanation`` written a second time, over dictionaries, around the same ``matching`` and
``sessions``. Histories run on it by the thousand, and on a database every step is compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from astrapayd.chains import Depth
from astrapayd.events import EventType
from astrapayd.matching import (
    Allowance,
    AmountSpaceFull,
    Arrival,
    Candidate,
    CreditReason,
    Matched,
    Reservation,
    Unmatched,
    choose_tail,
    due_amount,
    match,
    rest_amount,
)
from astrapayd.money import Asset
from astrapayd.sessions import Cancelled, Credit, Flag, Looked, Session, SessionEvent, Settled, Status, transition
from astrapayd.transfers import BlockRef, ChainUpdate, Transfer, TransferKind

Identity = tuple[str, TransferKind, int]
_REST_SECS = 30 * 86_400
_RE_LET_SECS = 7 * 86_400
_USING = (Status.PENDING, Status.PROCESSING, Status.PAID)


class Fenced(Exception):
    """The head, or the watcher's epoch, is another."""


class StaleWatch(Exception):
    """An address was added after the update was fetched."""


class SoldOut(Exception):
    """The link's uses are all taken."""


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation. ``released_in`` is the block whose coming gave it back."""

    session: str
    purpose: str
    asset: Asset
    address: str
    tail: int | None
    due_base: int
    opened_height: int
    live_until: int
    released_at: int | None = None
    released_in: str = ""

    @property
    def rule(self) -> Reservation:
        """As the matcher takes it."""
        return Reservation(self.session, self.asset, self.tail, self.due_base, self.opened_height, self.live_until)


@dataclass(frozen=True, slots=True)
class Known:
    """A transfer, where it stands on chain and what became of it."""

    asset: Asset
    address: str
    amount_base: int
    state: str
    block: BlockRef | None
    first_seen_at: int
    first_seen_height: int
    standing: str = "unmatched"
    reason: str = ""
    candidates: tuple[Candidate, ...] = ()

    @property
    def live(self) -> bool:
        return self.state in ("mined", "unconfirmed")

    def arrival(self) -> Arrival:
        """As the matcher takes it."""
        height = self.block.height if self.block else None
        return Arrival(self.asset, self.amount_base, height, self.first_seen_height, self.first_seen_at)


@dataclass(frozen=True, slots=True)
class Counted:
    """A credit; the last three as last told."""

    session: str
    reason: CreditReason
    live: bool = False
    confirmed: bool = False
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """What a session was opened with."""

    id: str
    order_key: str
    link: str
    max_uses: int | None
    asset: Asset
    address: str
    price_base: int
    opened_at: int
    opened_height: int


@dataclass(frozen=True, slots=True)
class Told:
    """An event. ``subject`` is a session, or the identity of an unmatched transfer."""

    type: EventType
    subject: str | Identity
    ordinal: int
    about: Identity | str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """How the store and its chain are configured."""

    confirmations: Depth
    final: Depth
    allowance: Allowance
    assets: Mapping[str | None, Asset]  # by contract
    shared: str  # the address that many sessions share
    derive: Callable[[int], str]  # addresses of the key, by index


@dataclass(slots=True)
class Book:
    """One store on one chain. ``pick`` chooses tails."""

    policy: Policy
    head: BlockRef
    pick: Callable[[int], int]
    epoch: int = 1
    watch_version: int = 1
    addresses: set[str] = field(default_factory=set)
    opened: dict[str, Opened] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    known: dict[Identity, Known] = field(default_factory=dict)
    credits: dict[Identity, Counted] = field(default_factory=dict)
    fulfilled: dict[str, str] = field(default_factory=dict)
    told: dict[tuple[object, ...], Told] = field(default_factory=dict)
    decided: int = 0  # session events decided so far; each must have become an event of its own

    def copy(self) -> Book:
        """A book of its own that goes on from here."""
        return replace(
            self,
            addresses=set(self.addresses),
            opened=dict(self.opened),
            sessions=dict(self.sessions),
            held=list(self.held),
            known=dict(self.known),
            credits=dict(self.credits),
            fulfilled=dict(self.fulfilled),
            told=dict(self.told),
        )

    # -- openings -----------------------------------------------------------------------------------------------------

    def open(self, wanted: Opened, state: Session, now: int) -> Opened:
        """An amount of its own on the shared address; an address of its own, where none is free or the asset takes no
        tails. Answers ``wanted`` with the address.

        :raises SoldOut: if the link takes no more.
        """
        if wanted.max_uses is not None and self.uses(wanted.link) >= wanted.max_uses:
            raise SoldOut
        opened, tail = replace(wanted, address=self.policy.shared), None
        try:
            if not opened.asset.takes_tails:
                raise AmountSpaceFull
            tail = self._free_tail(opened, opened.price_base, now)
            state = replace(state, due_base=due_amount(opened.price_base, tail, opened.asset))
        except AmountSpaceFull:
            opened = replace(wanted, address=self.policy.derive(len(self.addresses) - 1))
            self.addresses.add(opened.address)
            self.watch_version += 1
        self.opened[opened.id], self.sessions[opened.id] = opened, state
        self._hold(opened, "price", tail, state.due_base, opened.opened_height)
        self._tell(opened.id, [SessionEvent(EventType.SESSION_CREATED, 0), SessionEvent(EventType.SESSION_PENDING, 1)])
        return opened

    def uses(self, link: str, but: str = "") -> int:
        """How many uses of a limited link are taken."""
        return sum(
            self.opened[s.id].link == link and s.status in _USING and Flag.HELD not in s.flags and s.id != but
            for s in self.sessions.values()
        )

    def decide(self, session_id: str, change: Cancelled | Settled) -> None:
        """:raises astrapayd.sessions.NotPossible: as the state machine does."""
        after, events = transition(self.sessions[session_id], change)
        self._write(session_id, after, events)

    # -- updates ------------------------------------------------------------------------------------------------------

    def apply(self, step: ChainUpdate, epoch: int, clock: int) -> set[str]:
        """Apply an update; answers the sessions that changed.

        :raises Fenced: if the head or the epoch is another.
        :raises StaleWatch: if an address was added since.
        """
        if epoch != self.epoch or step.base is None or step.base.hash != self.head.hash:
            raise Fenced
        if step.watch_version < self.watch_version:
            raise StaleWatch
        self.head = step.head
        lost = {block.hash for block in step.disconnected}
        touched: list[Identity] = []
        for identity, row in self.known.items():
            if row.block is not None and row.block.hash in lost:
                self.known[identity] = replace(row, state="orphaned", block=None)
                touched.append(identity)
            elif identity[0] in step.replaced and row.state in ("unconfirmed", "orphaned"):
                self.known[identity] = replace(row, state="replaced")
                touched.append(identity)
        time = min(step.head.time, clock)
        came = [self._arrive(transfer, step, clock) for transfer in step.transfers]
        arrived = [identity for identity in came if identity is not None]
        rules, unmatched = self._match(arrived)
        look = {self.credits[i].session for i in (*touched, *arrived) if i in self.credits} | rules
        look |= self._changed_by_time(time, reorganised=bool(step.disconnected))
        changed = self._look(look, time, clock)
        for event in unmatched:
            self.told.setdefault((event.type, event.subject, 0, event.about), event)
        self.held = [
            replace(h, released_at=time, released_in=step.head.hash)
            if h.released_at is None and h.live_until < time
            else h
            for h in self.held
        ]
        return changed

    def _arrive(self, transfer: Transfer, step: ChainUpdate, clock: int) -> Identity | None:
        asset = self.policy.assets.get(transfer.contract)
        if asset is None or transfer.recipient not in self.addresses or transfer.amount_base <= 0:
            return None
        identity, block = transfer.identity, transfer.block
        row = self.known.get(identity)
        if row is None:
            row = Known(
                asset,
                transfer.recipient,
                transfer.amount_base,
                "mined" if block else "unconfirmed",
                block,
                min(block.time, clock) if block else clock,
                block.height if block else step.head.height,
            )
        elif block is not None:
            row = replace(row, state="mined", block=block, first_seen_at=min(row.first_seen_at, block.time))
        elif not row.live:
            row = replace(row, state="unconfirmed")
        else:
            return None
        self.known[identity] = row
        return identity

    def _match(self, arrived: Iterable[Identity]) -> tuple[set[str], list[Told]]:
        """The sessions that were credited, and what is to be told of the rest."""
        matched, told = set(), []
        live = [h for h in self.held if h.released_at is None]
        for identity in arrived:
            row = self.known[identity]
            if row.standing == "credited":
                continue
            verdict = self.verdict(row, live)
            match verdict:
                case Matched(session, reason, rule):
                    self.credits[identity] = Counted(session, reason)
                    self.known[identity] = replace(row, standing="credited", reason=rule, candidates=())
                    matched.add(session)
                case Unmatched(why, candidates):
                    if row.reason != why:
                        self.known[identity] = replace(row, reason=why, candidates=candidates)
                        block = row.block.hash if row.block else ""
                        told.append(Told(EventType.TRANSFER_UNMATCHED, identity, 0, f"{block} {why}"))
        return matched, told

    def verdict(self, row: Known, live: Sequence[Held]) -> Matched | Unmatched:
        """What the matcher says of a transfer, with the reservations that were given back before."""
        there = [h.rule for h in live if h.address == row.address]
        verdict = match(row.arrival(), there, self.policy.allowance)
        if isinstance(verdict, Matched) and verdict.reason in (CreditReason.AMOUNT, CreditReason.TAIL):
            unpaid = self._unpaid(row.address, row.asset, row.first_seen_at)
            asked = [h.rule for h in reversed(unpaid) if h.due_base == row.amount_base][:5]
            verdict = match(row.arrival(), there, self.policy.allowance, asked)
        return verdict

    def _unpaid(self, address: str, asset: Asset, at: int) -> list[Held]:
        """What was given back lately and never paid: its customer may still pay."""
        return [
            h
            for h in self.held
            if h.released_at is not None
            and h.released_at > at - _RE_LET_SECS
            and (h.address, h.asset) == (address, asset)
            and h.tail is not None
            and not self.sessions[h.session].announced
        ]

    def _changed_by_time(self, time: int, *, reorganised: bool) -> set[str]:
        credited: dict[str, list[Counted]] = {}
        for credit in self.credits.values():
            credited.setdefault(credit.session, []).append(credit)
        found = set()
        for state in self.sessions.values():
            if not state.open:
                continue
            counted = credited.get(state.id, [])
            if (
                state.status is Status.PROCESSING
                or (state.status is Status.PAID and Flag.FINAL not in state.flags)
                or (state.status is Status.PENDING and state.expires_at < time)
                or state.late_until < time
                or any(c.live and not c.confirmed for c in counted)
                or (reorganised and (state.status is Status.EXPIRED or counted))
            ):
                found.add(state.id)
        return found

    # -- sessions -----------------------------------------------------------------------------------------------------

    def _look(self, ids: set[str], time: int, clock: int) -> set[str]:
        changed = set()
        for opened in sorted((self.opened[i] for i in ids), key=lambda o: (o.opened_at, o.id)):
            before = self.sessions[opened.id]
            seen = self.credits_of(opened.id, time)
            other = self.fulfilled.get(opened.order_key, opened.id) != opened.id
            look = Looked(
                tuple(seen.values()), time, order_taken=other, sold_out=bool(seen) and self._is_beyond_limit(opened)
            )
            after, events = transition(before, look)
            if after.revision == before.revision:
                self.sessions[opened.id] = after
                continue
            changed.add(opened.id)
            for identity, credit in seen.items():
                told = credit.told()
                self.credits[identity] = replace(
                    self.credits[identity], live=told.was_live, confirmed=told.was_confirmed, turns=told.turns
                )
            self._write(opened.id, after, events)
            self._reserve_rest(opened, after, clock)
        return changed

    def credits_of(self, session_id: str, time: int) -> dict[Identity, Credit]:
        """The session's credits as the chain shows them at a time, in the order in which they came."""
        state = self.sessions[session_id]
        of_session = [(i, self.known[i], c) for i, c in self.credits.items() if c.session == session_id]
        of_session.sort(key=lambda row: (row[1].first_seen_at, row[0]))
        found = {}
        for identity, row, counted in of_session:
            on_time = min(row.first_seen_at, row.block.time if row.block else row.first_seen_at) <= state.expires_at
            found[identity] = Credit(
                transfer_id=repr(identity),
                amount_base=row.amount_base,
                on_time=on_time,
                too_late=not state.announced and (row.block.time if row.block else time) > state.held_until,
                live=row.live,
                confirmed=self.is_deep(row, self.policy.confirmations),
                final=self.is_deep(row, self.policy.final),
                was_live=counted.live,
                was_confirmed=counted.confirmed,
                turns=counted.turns,
            )
        return found

    def is_deep(self, row: Known, depth: Depth) -> bool:
        """Whether a transfer lies so deep below the head."""
        return row.block is not None and depth.reached(row.block.height, self.head.height, -1)

    def _is_beyond_limit(self, opened: Opened) -> bool:
        state = self.sessions[opened.id]
        if opened.max_uses is None or state.announced or (state.status in _USING and Flag.HELD not in state.flags):
            return False
        return self.uses(opened.link, but=opened.id) >= opened.max_uses

    def _write(self, session_id: str, after: Session, events: Sequence[SessionEvent]) -> None:
        opened, first = self.opened[session_id], not self.sessions[session_id].announced
        self.sessions[session_id] = after
        if after.announced and first:
            self.fulfilled.setdefault(opened.order_key, session_id)
        self._tell(session_id, events)

    def _tell(self, session_id: str, events: Sequence[SessionEvent]) -> None:
        for event in events:
            about = event.transfer_id or ""
            self.told.setdefault(
                (event.type, session_id, event.ordinal, about), Told(event.type, session_id, event.ordinal, about)
            )
        self.decided += len(events)

    # -- reservations -------------------------------------------------------------------------------------------------

    def _reserve_rest(self, opened: Opened, state: Session, clock: int) -> None:
        if state.status is not Status.PENDING or not 0 < state.received_base < state.enough_base:
            return
        own = [h for h in self.held if h.session == opened.id]
        if own[0].tail is None:
            return
        missing = state.missing_base
        if any(
            h.purpose == "rest" and h.tail is not None and h.due_base == rest_amount(missing, h.tail, h.asset)
            for h in own
        ):
            return
        try:
            tail = self._free_tail(opened, missing, clock, rest_amount)
        except AmountSpaceFull:
            return
        self._hold(opened, "rest", tail, rest_amount(missing, tail, opened.asset), self.head.height)

    def _free_tail(
        self, opened: Opened, price_base: int, now: int, amount: Callable[[int, int, Asset], int] = due_amount
    ) -> int:
        there = [h for h in self.held if h.address == opened.address and h.asset == opened.asset]
        taken = {h.tail for h in there if h.released_at is None and h.tail is not None}
        rested: dict[int, int] = {}
        for h in there:
            if h.tail is not None and h.released_at is not None and h.released_at > now - _REST_SECS:
                rested[h.tail] = max(rested.get(h.tail, 0), h.released_at)
        ambiguous = {
            h.tail
            for h in self._unpaid(opened.address, opened.asset, now)
            if h.tail is not None and amount(price_base, h.tail, opened.asset) == h.due_base
        }
        try:
            return choose_tail(price_base, opened.asset, taken | ambiguous, lambda t: rested.get(t, 0), self.pick)
        except AmountSpaceFull:
            return choose_tail(price_base, opened.asset, taken, lambda t: rested.get(t, 0), self.pick)

    def _hold(self, opened: Opened, purpose: str, tail: int | None, due_base: int, height: int) -> None:
        until = self.sessions[opened.id].late_until
        self.held.append(Held(opened.id, purpose, opened.asset, opened.address, tail, due_base, height, until))
