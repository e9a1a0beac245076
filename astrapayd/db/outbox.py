"""The outbox: events and who is still to be told, written in the transaction of the change they tell about.

``ingest`` appends, the dispatcher claims and records, services redeliver. Order is kept per subscription and subject:
a delivery is due only when no earlier one of the two is still pending.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.engine import DatabaseError
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
class Due:
    """A delivery whose turn it is. ``superseded``: its subscription has accepted a later event of the subject."""

    delivery_id: int
    subscription_id: int
    subject: str
    superseded: bool


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


async def append_event(
    tx: AsyncConnection,
    *,
    type: EventType,
    store: str,
    subject: str,
    about: str = "",
    ordinal: int,
    created_at: int,
    data: Mapping[str, Any],
) -> Event:
    """Write one event with frozen bytes, and one delivery for each active subscription that asked for it.

    ``ordinal`` tells apart events of one type and subject (a session's revision), ``about`` those of one ordinal that
    concern different things (a session's payments). Appending the same (subject, type, about, ordinal) again answers
    the event as it was first written and tells nobody a second time.

    The sequence is taken under a row lock that lasts until commit, so that numbers become visible in order: whoever
    reads after sequence N never finds a smaller one later. Nothing slow belongs after this call in a transaction.

    :param tx: a write transaction; the event exists when it commits.
    :param created_at: Unix seconds.
    :param data: what orjson can write; see ``docs/events.md`` for the shapes.
    :raises DatabaseError: if the installation row is missing.
    """
    event, is_new = await _write_event(
        tx, type=type, store=store, subject=subject, about=about, ordinal=ordinal, created_at=created_at, data=data
    )
    if is_new:
        rows = await tx.execute(
            select(subscriptions.c.id, subscriptions.c.event_types)
            .where(subscriptions.c.active, subscriptions.c.store.in_(("", store)))
            .order_by(subscriptions.c.id)
        )
        wanted = [row.id for row in rows if not row.event_types or type in row.event_types]
        await _add_deliveries(tx, event, wanted)
    return event


async def append_event_for(
    tx: AsyncConnection,
    subscription_id: int,
    *,
    type: EventType,
    store: str,
    subject: str,
    ordinal: int,
    created_at: int,
    data: Mapping[str, Any],
) -> int:
    """As :func:`append_event`, but for one subscription, whatever it asked for (a test). Answers the delivery's id."""
    event, _ = await _write_event(
        tx, type=type, store=store, subject=subject, ordinal=ordinal, created_at=created_at, data=data
    )
    await _add_deliveries(tx, event, [subscription_id])
    of_event = (deliveries.c.sequence == event.sequence, deliveries.c.subscription_id == subscription_id)
    return int((await tx.execute(select(deliveries.c.id).where(*of_event))).scalar_one())


async def _write_event(
    tx: AsyncConnection,
    *,
    type: EventType,
    store: str,
    subject: str,
    about: str = "",
    ordinal: int,
    created_at: int,
    data: Mapping[str, Any],
) -> tuple[Event, bool]:
    # The update comes first: it is the lock. Of two writers the second waits here, and then sees the first's event.
    locked = await tx.execute(update(installation).values(last_sequence=installation.c.last_sequence + 1))
    if locked.rowcount != 1:
        raise DatabaseError("the database has no installation row: run astrapayd db upgrade")
    id = event_id(subject, f"{type}:{about}" if about else type, ordinal)
    known = (await tx.execute(select(events).where(events.c.id == id))).one_or_none()
    if known is not None:
        await tx.execute(update(installation).values(last_sequence=installation.c.last_sequence - 1))
        return _event(known), False
    sequence = int((await tx.execute(select(installation.c.last_sequence))).scalar_one())
    event = Event(
        id=id,
        sequence=sequence,
        type=type,
        store=store,
        subject=subject,
        created_at=created_at,
        body=envelope(
            id=id, sequence=sequence, type=type, created_at=created_at, store=store, subject=subject, data=data
        ),
    )
    await tx.execute(
        insert(events).values(
            sequence=sequence,
            id=id,
            type=type.value,
            store=store,
            subject=subject,
            created_at=created_at,
            body=event.body,
        )
    )
    return event, True


async def _add_deliveries(tx: AsyncConnection, event: Event, subscription_ids: Sequence[int]) -> None:
    if not subscription_ids:
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
            for subscription_id in subscription_ids
        ],
    )


# -- the dispatcher's side ----------------------------------------------------------------------------------------


async def anything_due(connection: AsyncConnection, *, now: int, plugins: Collection[str]) -> bool:
    """Whether :func:`find_due` may find something: a look that takes no lock."""
    d, s = deliveries, subscriptions
    due = select(d.c.id).join(s, s.c.id == d.c.subscription_id).where(*_is_due(now), s.c.plugin.in_(plugins))
    return (await connection.execute(due.limit(1))).first() is not None


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
    statement = (
        select(d.c.id, d.c.subscription_id, d.c.subject, superseded.label("superseded"))
        .join(s, s.c.id == d.c.subscription_id)
        .join(e, e.c.sequence == d.c.sequence)
        .where(
            *_is_due(now),
            s.c.plugin.in_(plugins),
            d.c.subscription_id.not_in(busy),
            e.c.type.in_([known.value for known in EventType]),  # one of a newer version's waits for that version
            ~waits,
        )
        .order_by(d.c.next_attempt_at, d.c.id)
        .limit(limit)
        .with_for_update(of=d, skip_locked=True)  # PostgreSQL; SQLite has one writer and says nothing here
    )
    return [Due(row.id, row.subscription_id, row.subject, bool(row.superseded)) for row in await tx.execute(statement)]


async def claim(tx: AsyncConnection, delivery_ids: Sequence[int], *, until: int) -> list[Claim]:
    """Take deliveries and count the attempt before it is made, in the given order.

    So one that brings the process down is still counted, and the next waits its turn. Until ``until`` (Unix seconds)
    no other worker takes them.
    """
    d, s, e = deliveries, subscriptions, events
    if not delivery_ids:
        return []
    await tx.execute(update(d).where(d.c.id.in_(delivery_ids)).values(attempts=d.c.attempts + 1, claimed_until=until))
    rows = await tx.execute(
        select(d.c.id.label("delivery_id"), d.c.subscription_id, d.c.attempts, s.c.plugin, s.c.target, *e.c)
        .join(s, s.c.id == d.c.subscription_id)
        .join(e, e.c.sequence == d.c.sequence)
        .where(d.c.id.in_(delivery_ids))
    )
    claims = {
        row.delivery_id: Claim(
            row.delivery_id, row.subscription_id, row.plugin, row.target, row.attempts, event=_event(row)
        )
        for row in rows
    }
    return [claims[delivery_id] for delivery_id in delivery_ids]


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


async def retry(tx: AsyncConnection, delivery_id: int, *, at: int) -> None:
    """Try again at ``at`` (Unix seconds); one that was parked meanwhile (its endpoint removed) stays parked."""
    await tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state == DeliveryState.PENDING)
        .values(next_attempt_at=at, claimed_until=None)
    )


async def park(tx: AsyncConnection, delivery_id: int, *, now: int) -> None:
    """Give up on it: the next of its subject goes, and this one only by hand."""
    await tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state == DeliveryState.PENDING)
        .values(state=DeliveryState.PARKED.value, finished_at=now, claimed_until=None)
    )


async def switch_off(tx: AsyncConnection, subscription_id: int, *, now: int) -> int:
    """Make a subscription inactive and park what waits for it; answers how many deliveries were parked."""
    await tx.execute(update(subscriptions).where(subscriptions.c.id == subscription_id).values(active=False))
    parked = await tx.execute(
        update(deliveries)
        .where(deliveries.c.subscription_id == subscription_id, deliveries.c.state == DeliveryState.PENDING)
        .values(state=DeliveryState.PARKED.value, finished_at=now, claimed_until=None)
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


def _is_due(now: int) -> tuple[Any, ...]:
    d, s = deliveries, subscriptions
    return (
        d.c.state == DeliveryState.PENDING,
        d.c.next_attempt_at <= now,
        or_(d.c.claimed_until.is_(None), d.c.claimed_until <= now),  # a claim outlives its worker only so long
        s.c.active,
    )


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
