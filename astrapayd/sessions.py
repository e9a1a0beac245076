"""The session state machine. Pure: ``transition(session, change) -> (session, events)``.

A session's status follows from what the chain shows (its credits), from the chain's time, and from what a person
decided; it is computed anew from these at each change, so that a reorg simply yields what the winning branch
supports. Commit first, act after: the events are facts to be written with the new state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from astrapayd.events import EventType


class Status(StrEnum):
    """Where a session stands; the table in ``docs/explanation/sessions.md`` says what each means."""

    DRAFT = "draft"
    PENDING = "pending"
    PROCESSING = "processing"
    PAID = "paid"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Flag(StrEnum):
    """What else is true of a session."""

    UNDERPAID = "underpaid"
    OVERPAID = "overpaid"
    LATE = "late"
    HELD = "held"
    DUPLICATE = "duplicate"
    REVERTED = "reverted"
    MANUAL = "manual"
    FINAL = "final"


class LatePolicy(StrEnum):
    """What a payment after expiry does inside the late window."""

    ACCEPT = "accept"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Session:
    """One customer's attempt to pay. Amounts in base units of its asset, times in Unix seconds of the chain.

    ``overpaid_from_base`` is the smallest excess that counts as overpaid: one price step, since smaller ones are
    tails. A rest below ``minimum_base`` cannot be sent by anybody, so that nobody is asked for it. A payment that was
    seen in time keeps the session open until ``held_until``, however long its block takes. ``announced`` is true once
    ``session.paid`` was written, forever. ``open`` is true while the chain can still change the session by itself.
    """

    id: str
    status: Status
    flags: frozenset[Flag]
    revision: int
    due_base: int
    tolerance_base: int
    overpaid_from_base: int
    received_base: int
    confirmed_base: int
    expires_at: int
    late_until: int
    held_until: int
    late_policy: LatePolicy
    minimum_base: int
    announced: bool
    open: bool

    @property
    def enough_base(self) -> int:
        """What must be there for the session to be payable."""
        return max(self.due_base - self.tolerance_base, 1)

    @property
    def missing_base(self) -> int:
        """What is still to come; 0 when enough is there."""
        return self.due_base - self.received_base if self.received_base < self.enough_base else 0

    @property
    def rest_is_dust(self) -> bool:
        """Something came, and what is missing is too little to be sent."""
        return self.received_base > 0 and 0 < self.missing_base < self.minimum_base


@dataclass(frozen=True, slots=True)
class Credit:
    """A transfer counted for the session, as the chain shows it now and as it was last told (``was_…``).

    ``live``: not reorganised or replaced away. ``on_time``: seen or mined before expiry. ``too_late``: in no block by
    the session's ``held_until``, so that only a person can accept it. ``turns`` counts how often it went and came back;
    it numbers the payment's events.
    """

    transfer_id: str
    amount_base: int
    on_time: bool
    too_late: bool
    live: bool
    confirmed: bool
    final: bool
    was_live: bool
    was_confirmed: bool
    turns: int

    def told(self) -> Credit:
        """The credit after its events were written. Each loss, of the block or of enough confirmations, begins a new
        turn, so that what follows has ids of its own."""
        lost = (self.was_live and not self.live) or (self.was_confirmed and not self.confirmed)
        return replace(self, was_live=self.live, was_confirmed=self.confirmed, turns=self.turns + lost)


@dataclass(frozen=True, slots=True)
class Looked:
    """The chain was looked at: the session's credits as they are now, and the chain's own time.

    ``order_taken``: another session of the same order was fulfilled already; ``sold_out``: the link's last use went
    to others after this session had given its own back.
    """

    credits: tuple[Credit, ...]
    chain_time: int
    order_taken: bool
    sold_out: bool = False


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The customer's own browser or the merchant gives it up. ``by`` names who."""

    by: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The merchant settles it by hand, whatever came in. ``by`` names who, ``note`` says why."""

    by: str
    note: str


Change = Looked | Cancelled | Settled


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """A fact to be written with the new state. ``ordinal`` makes its id: a replay gives the same one.

    ``transfer_id`` is set on ``payment.*`` events.
    """

    type: EventType
    ordinal: int
    transfer_id: str | None = None


class NotPossible(Exception):
    """The change does not fit the session's status. The message is one sentence for who asked."""


def transition(session: Session, change: Change) -> tuple[Session, tuple[SessionEvent, ...]]:
    """The session after a change, and what to tell. Its revision grows with everything that others can see.

    :raises NotPossible: if a person asked for something that the status does not allow.
    """
    match change:
        case Looked():
            return _look(session, change)
        case Cancelled():
            return _cancel(session)
        case Settled():
            return _settle(session)
        case _:
            assert_never(change)


def _look(before: Session, look: Looked) -> tuple[Session, tuple[SessionEvent, ...]]:
    """1. sums; 2. status; 3. flags; 4. events, where anything differs."""
    received = _sum(c for c in look.credits if c.live)
    confirmed = _sum(c for c in look.credits if c.live and c.confirmed)
    accepts_late = before.late_policy is LatePolicy.ACCEPT
    counts = [c for c in look.credits if c.live and not c.too_late and (c.on_time or accepts_late)]
    payable = _sum(counts) >= before.enough_base
    payable_confirmed = _sum(c for c in counts if c.confirmed) >= before.enough_base
    duplicate = payable and look.order_taken and not before.announced
    beyond = payable and look.sold_out and not before.announced

    status = _status(before, look.chain_time, payable, payable_confirmed and not (duplicate or beyond))
    after = replace(before, status=status, received_base=received, confirmed_base=confirmed)
    announced = before.announced or status is Status.PAID
    flags = _flags(after, look, announced=announced, payable=payable, duplicate=duplicate, beyond=beyond)
    after = replace(after, flags=flags, announced=announced, open=_still_open(after, flags, look))

    payments = _payment_events(look.credits)
    if replace(after, open=before.open) == before and not payments:
        return after, ()  # at most out of the chain's reach now: nothing to tell, and no new revision
    after = replace(after, revision=before.revision + 1)
    return after, (*payments, *_session_events(before, after))


def _status(before: Session, chain_time: int, payable: bool, payable_confirmed: bool) -> Status:
    if before.status in (Status.CANCELLED, Status.DRAFT) or Flag.MANUAL in before.flags:
        return before.status  # a person decided; money that comes all the same is flagged for one
    # Final money stays paid while a watcher has taken blocks off and not put their successors on: its own block stands.
    if payable_confirmed or (payable and Flag.FINAL in before.flags):
        return Status.PAID
    if payable:
        return Status.PROCESSING
    # Judged by the chain's time: after downtime, an on-time payment is ingested before its session expires.
    return Status.EXPIRED if chain_time > before.expires_at else Status.PENDING


def _flags(
    after: Session, look: Looked, *, announced: bool, payable: bool, duplicate: bool, beyond: bool
) -> frozenset[Flag]:
    live = [c for c in look.credits if c.live]
    late = any(c.too_late or not c.on_time for c in live)
    manual = Flag.MANUAL in after.flags
    waits_for_merchant = not manual and (
        duplicate
        or beyond
        or (after.status is Status.CANCELLED and bool(live))
        or (late and not payable and after.received_base >= after.enough_base)
        or after.rest_is_dust
    )
    wanted = {
        Flag.UNDERPAID: 0 < after.received_base < after.enough_base,
        Flag.OVERPAID: after.received_base - after.due_base >= after.overpaid_from_base,
        Flag.LATE: late,
        Flag.HELD: waits_for_merchant,
        Flag.DUPLICATE: duplicate,
        Flag.REVERTED: announced and after.status is not Status.PAID,
        Flag.MANUAL: manual,
        # Final stays final: it is told once, and a second payment that may still go away does not change it.
        Flag.FINAL: after.status is Status.PAID and (Flag.FINAL in after.flags or _is_final(after, live)),
    }
    return frozenset(flag for flag, holds in wanted.items() if holds)


def _is_final(after: Session, live: list[Credit]) -> bool:
    """What makes the session paid can no longer be taken back."""
    if Flag.MANUAL in after.flags:
        return bool(live) and all(c.final for c in live)
    # Late money that is held has not made it paid, so its finality makes nothing final.
    counts = (c for c in live if c.on_time or after.late_policy is LatePolicy.ACCEPT)
    return _sum(c for c in counts if c.final) >= after.enough_base


def _still_open(after: Session, flags: frozenset[Flag], look: Looked) -> bool:
    """Whether a later look can still find something: until final, and at least until the late window is over."""
    if look.chain_time <= after.late_until:
        return True
    # One that went is looked at again when it comes back, whether the session is open or not.
    return any(not c.final for c in look.credits if c.live)


def _payment_events(credits_now: tuple[Credit, ...]) -> list[SessionEvent]:
    told: list[SessionEvent] = []
    for credit in credits_now:
        if credit.live and not credit.was_live:
            told.append(SessionEvent(EventType.PAYMENT_SEEN, credit.turns, credit.transfer_id))
        if credit.live and credit.confirmed and not credit.was_confirmed:
            told.append(SessionEvent(EventType.PAYMENT_CONFIRMED, credit.turns, credit.transfer_id))
        if not credit.live and credit.was_live:
            told.append(SessionEvent(EventType.PAYMENT_REVERTED, credit.turns, credit.transfer_id))
    return told


def _session_events(before: Session, after: Session) -> list[SessionEvent]:
    """In the order in which a shop should hear them: what became of it last."""
    told: list[EventType] = []
    gained = after.flags - before.flags
    more = after.received_base > before.received_base
    if Flag.UNDERPAID in after.flags and (Flag.UNDERPAID in gained or more):
        told.append(EventType.SESSION_UNDERPAID)
    if Flag.OVERPAID in after.flags and (Flag.OVERPAID in gained or more):
        told.append(EventType.SESSION_OVERPAID)
    if Flag.HELD in gained:
        told.append(EventType.SESSION_HELD)
    if before.announced and before.status is Status.PAID and after.status is not Status.PAID:
        told.append(EventType.SESSION_REVERTED)
    if after.status is not before.status:
        match after.status:
            case Status.PROCESSING:
                told.append(EventType.SESSION_PROCESSING)
            case Status.PAID:
                told.append(EventType.SESSION_RESTORED if before.announced else EventType.SESSION_PAID)
            case Status.EXPIRED:
                told.append(EventType.SESSION_EXPIRED)
            case Status.PENDING:
                told.append(EventType.SESSION_PENDING)
            case Status.CANCELLED:
                told.append(EventType.SESSION_CANCELLED)
            case Status.DRAFT:
                pass  # nothing leads back there
            case _:
                assert_never(after.status)
    if Flag.FINAL in gained:
        told.append(EventType.SESSION_FINAL)
    # session.paid has one id per session, ever: the events table itself refuses a second one.
    return [SessionEvent(t, 0 if t is EventType.SESSION_PAID else after.revision) for t in told]


def _cancel(before: Session) -> tuple[Session, tuple[SessionEvent, ...]]:
    if before.status not in (Status.DRAFT, Status.PENDING) or before.received_base:
        seen = "a payment for it was seen" if before.received_base else f"it is {before.status}"
        raise NotPossible(f"this session can no longer be cancelled: {seen}")
    after = replace(before, status=Status.CANCELLED, revision=before.revision + 1)
    return after, tuple(_session_events(before, after))


def _settle(before: Session) -> tuple[Session, tuple[SessionEvent, ...]]:
    if before.status is Status.PAID:
        raise NotPossible("this session is paid already")
    if before.status is Status.DRAFT:
        raise NotPossible("this session has not been opened for payment yet")
    flags = (before.flags - {Flag.HELD, Flag.DUPLICATE, Flag.REVERTED}) | {Flag.MANUAL}
    after = replace(before, status=Status.PAID, flags=flags, announced=True, revision=before.revision + 1)
    return after, tuple(_session_events(before, after))


def _sum(credits_now: Iterable[Credit]) -> int:
    return sum(credit.amount_base for credit in credits_now)
