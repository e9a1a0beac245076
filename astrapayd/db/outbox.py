"""The outbox: events and who is still to be told, written in the transaction of the change they tell about.

``ingest`` appends, the dispatcher claims and records, services redeliver. Order is kept per subscription and subject:
a delivery is due only when no earlier one of the two is still pending.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BigInteger, Row, Select, bindparam, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.engine import DatabaseError
from astrapayd.db.notices import notify
from astrapayd.db.tables import deliveries, delivery_attempts, events, installation, subscriptions
from astrapayd.events import Event, EventType, envelope, event_id

_AT_ONCE = 0  # as a time in the past: an event's own time may be the chain's, which can be ahead of the clock


class DeliveryState(StrEnum):
    """Where one event stands with one subscription."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    PARKED = "parked"
    SUPERSEDED = "superseded"


class AttemptOutcome(StrEnum):
    """How one attempt ended, as the delivery log says it."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What is to be told.

    ``ordinal`` tells apart events of one type and subject (a session's revision), ``about`` those of one ordinal that
    concern different things (a session's payments). ``data`` is what orjson can write; ``docs/events.md`` has the
    shapes.
    """

    type: EventType
    subject: str
    ordinal: int
    data: Mapping[str, Any]
    about: str = ""

    @property
    def id(self) -> str:
        """The same for the same news, however often it is told."""
        return event_id(self.subject, f"{self.type}:{self.about}" if self.about else self.type, self.ordinal)


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose turn it is, after ``attempts`` that failed.

    ``superseded``: its subscription has accepted a later event of the subject.
    """

    delivery_id: int
    subscription_id: int
    plugin: str
    target: str
    attempts: int
    superseded: bool
    event: Event


@dataclass(frozen=True, slots=True)
class Claim:
    """One delivery that the caller is to make now. ``attempt`` counts from 1 and includes this one."""

    delivery_id: int
    subscription_id: int
    plugin: str
    target: str
    attempt: int
    event: Event


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of the delivery log. ``started_at`` in Unix seconds, ``duration_ms`` until the answer."""

    delivery_id: int
    attempt: int
    started_at: int
    duration_ms: int
    outcome: AttemptOutcome
    note: str


# -- writing events -----------------------------------------------------------------------------------------------


async def append_events(tx: AsyncConnection, new: Sequence[NewEvent], *, store: str, created_at: int) -> list[Event]:
    """Write events with frozen bytes, in this order, and a delivery of each for every active subscription that asked
    for it. One that was told before is answered as it was first written, and nobody is told a second time.

    The sequence is taken under a row lock that lasts until commit, so that numbers become visible in order: whoever
    reads after sequence N never finds a smaller one later. Nothing slow belongs after this call in a transaction.

    :param tx: a write transaction; the events exist when it commits.
    :param created_at: Unix seconds.
    :raises DatabaseError: if the installation row is missing.
    """
    written, fresh = await _write_events(tx, new, store=store, created_at=created_at)
    if fresh:
        subscribed = await tx.execute(
            select(subscriptions.c.id, subscriptions.c.event_types)
            .where(subscriptions.c.active, subscriptions.c.store.in_(("", store)))
            .order_by(subscriptions.c.id)
            # One that is being switched off is waited for: what is appended then would wait for ever.
            .with_for_update(read=True)
        )
        rows = subscribed.all()
        pairs = [(e, row.id) for e in fresh for row in rows if not row.event_types or e.type in row.event_types]
        await _add_deliveries(tx, pairs)
        await notify(tx, {e.subject for e in fresh})
    return written


async def append_event_for(
    tx: AsyncConnection, subscription_id: int, new: NewEvent, *, store: str, created_at: int
) -> int:
    """As :func:`append_events`, but for one subscription, whatever it asked for (a test). Answers the delivery's id."""
    (event,), _ = await _write_events(tx, [new], store=store, created_at=created_at)
    await _add_deliveries(tx, [(event, subscription_id)])
    await notify(tx, [event.subject])
    of_event = (deliveries.c.sequence == event.sequence, deliveries.c.subscription_id == subscription_id)
    return int((await tx.execute(select(deliveries.c.id).where(*of_event))).scalar_one())


async def _write_events(
    tx: AsyncConnection, new: Sequence[NewEvent], *, store: str, created_at: int
) -> tuple[list[Event], list[Event]]:
    """All as they stand now, and those among them that were not there before."""
    if not new:
        return [], []
    # The update comes first: it is the lock. Of two writers the second waits here, and then sees the first's events.
    last = await _take_numbers(tx, len(new))
    known = {
        row.id: _event(row) for row in await tx.execute(select(events).where(events.c.id.in_({n.id for n in new})))
    }
    if known:
        last = await _take_numbers(tx, -sum(one.id in known for one in new))
    unknown = [one for one in new if one.id not in known]
    fresh = [
        _new_event(one, sequence, store=store, created_at=created_at)
        for sequence, one in enumerate(unknown, last - len(unknown) + 1)
    ]
    if fresh:
        await tx.execute(
            insert(events),
            [
                {
                    "sequence": event.sequence,
                    "id": event.id,
                    "type": event.type.value,
                    "store": store,
                    "subject": event.subject,
                    "created_at": created_at,
                    "body": event.body,
                }
                for event in fresh
            ],
        )
    stand = known | {event.id: event for event in fresh}
    return [stand[one.id] for one in new], fresh


async def _take_numbers(tx: AsyncConnection, count: int) -> int:
    """The last sequence after ``count`` more (or fewer) were taken."""
    column = installation.c.last_sequence
    taken = await tx.execute(update(installation).values(last_sequence=column + count).returning(column))
    last = taken.scalar_one_or_none()
    if last is None:
        raise DatabaseError("the database has no installation row: run astrapayd db upgrade")
    return int(last)


def _new_event(new: NewEvent, sequence: int, *, store: str, created_at: int) -> Event:
    body = envelope(
        id=new.id,
        sequence=sequence,
        type=new.type,
        created_at=created_at,
        store=store,
        subject=new.subject,
        data=new.data,
    )
    return Event(new.id, sequence, new.type, store, new.subject, created_at, body)


async def _add_deliveries(tx: AsyncConnection, wanted: Sequence[tuple[Event, int]]) -> None:
    if not wanted:
        return
    await tx.execute(
        insert(deliveries),
        [
            {
                "sequence": event.sequence,
                "subscription_id": subscription_id,
                "subject": event.subject,
                "state": DeliveryState.PENDING.value,
                "attempts": 0,
                "next_attempt_at": _AT_ONCE,
            }
            for event, subscription_id in wanted
        ],
    )


# -- the dispatcher's side ----------------------------------------------------------------------------------------


async def due_subjects(
    connection: AsyncConnection, *, now: int, plugins: Collection[str], limit: int
) -> set[tuple[int, str]]:
    """Up to ``limit`` (subscription, subject) that :func:`find_due` may answer: a look that takes no lock."""
    rows = await connection.execute(_DUE_SUBJECTS, {"now": now, "plugins": list(plugins), "limit": limit})
    return {(row.subscription_id, row.subject) for row in rows}


async def find_due(
    tx: AsyncConnection,
    *,
    now: int,
    plugins: Collection[str],
    busy: Collection[int],
    limit: int,
) -> list[Due]:
    """Up to ``limit`` deliveries whose turn it is, oldest first; on PostgreSQL locked until the transaction ends.

    :param plugins: those that can be called; the deliveries of others wait.
    :param busy: subscriptions that take no more at the moment.
    """
    found = await tx.execute(_FIND_DUE, {"now": now, "plugins": list(plugins), "busy": list(busy), "limit": limit})
    return [
        Due(
            row.delivery_id,
            row.subscription_id,
            row.plugin,
            row.target,
            row.attempts,
            bool(row.superseded),
            _event(row),
        )
        for row in found
    ]


async def claim(tx: AsyncConnection, due: Sequence[Due], *, until: int) -> list[Claim]:
    """Take deliveries that :func:`find_due` found in this transaction, and count the attempt before it is made.

    So one that brings the process down is still counted, and the next waits its turn. Until ``until`` (Unix seconds)
    no other worker takes them.
    """
    d = deliveries
    if due:
        ids = [one.delivery_id for one in due]
        await tx.execute(update(d).where(d.c.id.in_(ids)).values(attempts=d.c.attempts + 1, claimed_until=until))
    return [
        Claim(one.delivery_id, one.subscription_id, one.plugin, one.target, one.attempts + 1, one.event) for one in due
    ]


async def set_aside(tx: AsyncConnection, delivery_ids: Sequence[int], *, now: int) -> None:
    """Mark deliveries superseded: the receiver has later news of the subject, and old news would mislead it."""
    if delivery_ids:
        await tx.execute(
            update(deliveries)
            .where(deliveries.c.id.in_(delivery_ids))
            .values(state=DeliveryState.SUPERSEDED.value, finished_at=now)
        )


async def record_attempts(tx: AsyncConnection, attempts: Sequence[Attempt]) -> None:
    """Add lines to the delivery log."""
    if attempts:
        await tx.execute(
            insert(delivery_attempts),
            [
                {
                    "delivery_id": attempt.delivery_id,
                    "attempt": attempt.attempt,
                    "started_at": attempt.started_at,
                    "duration_ms": attempt.duration_ms,
                    "outcome": attempt.outcome.value,
                    "note": attempt.note,
                }
                for attempt in attempts
            ],
        )


async def accept(tx: AsyncConnection, delivery_id: int, *, now: int) -> None:
    """The receiver has it, also where somebody parked the delivery while it was under way."""
    await tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(state=DeliveryState.ACCEPTED.value, finished_at=now, claimed_until=None)
    )


async def retry(tx: AsyncConnection, delivery_id: int, *, at: int, attempt: int | None = None) -> None:
    """Try again at ``at`` (Unix seconds); one that was parked meanwhile (its endpoint removed) stays parked.

    :param attempt: the caller's; if another worker has begun the next one meanwhile, nothing is changed.
    """
    await tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state == DeliveryState.PENDING, *_is_attempt(attempt))
        .values(next_attempt_at=at, claimed_until=None)
    )


async def park(tx: AsyncConnection, delivery_id: int, *, now: int, attempt: int | None = None) -> None:
    """Give up on it: the next of its subject goes, and this one only by hand.

    :param attempt: as for :func:`retry`.
    """
    await tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state == DeliveryState.PENDING, *_is_attempt(attempt))
        .values(state=DeliveryState.PARKED.value, finished_at=now, claimed_until=None)
    )


async def switch_off(tx: AsyncConnection, subscription_id: int, *, now: int) -> int:
    """Make a subscription inactive and park what waits for it; answers how many deliveries were parked."""
    await tx.execute(update(subscriptions).where(subscriptions.c.id == subscription_id).values(active=False))
    waiting = (deliveries.c.subscription_id == subscription_id, deliveries.c.state == DeliveryState.PENDING)
    # In one order, so that two who write deliveries cannot wait for each other.
    await tx.execute(select(deliveries.c.id).where(*waiting).order_by(deliveries.c.id).with_for_update(key_share=True))
    parked = await tx.execute(
        update(deliveries).where(*waiting).values(state=DeliveryState.PARKED.value, finished_at=now, claimed_until=None)
    )
    return int(parked.rowcount)


async def interrupted(connection: AsyncConnection) -> list[tuple[int, int]]:
    """(delivery id, attempt) of every claim that no outcome was recorded for."""
    d = deliveries
    found = await connection.execute(
        select(d.c.id, d.c.attempts).where(d.c.claimed_until.is_not(None), d.c.state == DeliveryState.PENDING)
    )
    return [(row.id, row.attempts) for row in found]


async def bring_forward(tx: AsyncConnection, *, latest: int) -> None:
    """Nothing waits beyond ``latest``: where the clock was set back, retries would otherwise lie in a far future."""
    d = deliveries
    await tx.execute(
        update(d).where(d.c.state == DeliveryState.PENDING, d.c.next_attempt_at > latest).values(next_attempt_at=latest)
    )


async def subscribed_plugins(connection: AsyncConnection) -> set[str]:
    """Every plugin that an active subscription names, installed or not."""
    rows = await connection.execute(select(subscriptions.c.plugin).where(subscriptions.c.active).distinct())
    return {row.plugin for row in rows}


def _is_attempt(attempt: int | None) -> tuple[Any, ...]:
    return () if attempt is None else (deliveries.c.attempts == attempt,)


def _due_subjects() -> Select[Any]:
    d, s = deliveries, subscriptions
    return (
        select(d.c.subscription_id, d.c.subject)
        .distinct()
        .join(s, s.c.id == d.c.subscription_id)
        .where(*_is_due())
        .limit(bindparam("limit"))
    )


def _find_due() -> Select[Any]:
    d, s, e = deliveries, subscriptions, events
    earlier, later = deliveries.alias("earlier"), deliveries.alias("later")
    waits = exists().where(
        earlier.c.subscription_id == d.c.subscription_id,
        earlier.c.subject == d.c.subject,
        earlier.c.state == DeliveryState.PENDING,
        earlier.c.sequence < d.c.sequence,
        # What is forced keeps order among itself only: an old event sent again must not hold up new ones.
        earlier.c.forced == d.c.forced,
    )
    superseded = exists().where(
        later.c.subscription_id == d.c.subscription_id,
        later.c.subject == d.c.subject,
        later.c.state == DeliveryState.ACCEPTED,
        later.c.sequence > d.c.sequence,
        ~d.c.forced,
    )
    return (
        select(
            d.c.id.label("delivery_id"),
            d.c.subscription_id,
            d.c.attempts,
            s.c.plugin,
            s.c.target,
            superseded.label("superseded"),
            *e.c,
        )
        .join(s, s.c.id == d.c.subscription_id)
        .join(e, e.c.sequence == d.c.sequence)
        .where(
            *_is_due(),
            d.c.subscription_id.not_in(bindparam("busy", expanding=True)),
            e.c.type.in_([known.value for known in EventType]),  # one of a newer version's waits for that version
            ~waits,
        )
        .order_by(d.c.next_attempt_at, d.c.id)
        .limit(bindparam("limit"))
        .with_for_update(of=d, skip_locked=True)  # PostgreSQL; SQLite has one writer and says nothing here
    )


def _is_due() -> tuple[Any, ...]:
    d, s, now = deliveries, subscriptions, bindparam("now", type_=BigInteger)
    return (
        d.c.state == DeliveryState.PENDING,
        d.c.next_attempt_at <= now,
        or_(d.c.claimed_until.is_(None), d.c.claimed_until <= now),  # a claim outlives its worker only so long
        s.c.active,
        s.c.plugin.in_(bindparam("plugins", expanding=True)),
    )


# Built once: they run for every event of every subscription, and building them takes longer than the database does.
_DUE_SUBJECTS: Final = _due_subjects()
_FIND_DUE: Final = _find_due()


def _event(row: Row[Any]) -> Event:
    return Event(
        id=row.id,
        sequence=row.sequence,
        type=EventType(row.type),
        store=row.store,
        subject=row.subject,
        created_at=row.created_at,
        body=row.body,
    )
