"""Queries on webhook endpoints, their subscriptions, and the delivery log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, Select, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.outbox import Attempt, AttemptOutcome, DeliveryState
from astrapayd.db.tables import deliveries, delivery_attempts, events, subscriptions, webhook_endpoints

PLUGIN = "webhooks"
"""Name under which subscriptions belong to the built-in webhook plugin."""


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """A receiver as the merchant made it. ``store`` empty: every store; ``event_types`` empty: every type.

    ``secrets`` newest first; ``active`` is false once the receiver has answered 410.
    """

    id: str
    store: str
    url: str
    description: str
    event_types: tuple[str, ...]
    active: bool
    created_at: int
    subscription_id: int
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One event and one receiver, with every attempt. Times in Unix seconds; ``next_attempt_at`` 0 means at once."""

    id: int
    subscription_id: int
    target: str
    sequence: int
    event_id: str
    event_type: str
    subject: str
    state: DeliveryState
    attempts: int
    next_attempt_at: int
    under_way: bool
    forced: bool
    finished_at: int | None
    log: tuple[Attempt, ...]


async def insert_endpoint(
    tx: AsyncConnection,
    *,
    id: str,
    store: str,
    url: str,
    description: str,
    event_types: Sequence[str],
    secrets: Sequence[str],
    now: int,
) -> int:
    """Write an endpoint and its subscription; answers the subscription's id."""
    await tx.execute(
        insert(webhook_endpoints).values(
            id=id, store=store, url=url, description=description, secrets=list(secrets), created_at=now
        )
    )
    added = await tx.execute(
        insert(subscriptions).values(
            plugin=PLUGIN, target=id, store=store, event_types=list(event_types), active=True, created_at=now
        )
    )
    assert added.inserted_primary_key is not None
    return int(added.inserted_primary_key[0])


async def load_endpoint(connection: AsyncConnection, endpoint_id: str, *, lock: bool = False) -> EndpointRow | None:
    """The endpoint, or None where there is none or it was removed; ``lock`` holds it until the transaction ends."""
    statement = _endpoints().where(webhook_endpoints.c.id == endpoint_id)
    if lock:
        statement = statement.with_for_update(of=webhook_endpoints, key_share=True)
    row = (await connection.execute(statement)).one_or_none()
    return _endpoint(row) if row is not None else None


async def load_endpoints(connection: AsyncConnection, store: str | None) -> list[EndpointRow]:
    """Every endpoint that is told of ``store`` (None: all), oldest first."""
    statement = _endpoints().order_by(webhook_endpoints.c.created_at, webhook_endpoints.c.id)
    if store is not None:
        statement = statement.where(webhook_endpoints.c.store.in_(("", store)))
    return [_endpoint(row) for row in await connection.execute(statement)]


async def update_secrets(tx: AsyncConnection, endpoint_id: str, secrets: Sequence[str]) -> None:
    """Replace the signing secrets, newest first."""
    await tx.execute(
        update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id).values(secrets=list(secrets))
    )


async def mark_removed(tx: AsyncConnection, endpoint_id: str, *, now: int) -> None:
    """Forget the secrets and keep the row: the delivery log refers to it."""
    await tx.execute(
        update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id).values(removed_at=now, secrets=[])
    )


async def activate(tx: AsyncConnection, subscription_id: int) -> None:
    """Make a subscription take new events again."""
    await tx.execute(update(subscriptions).where(subscriptions.c.id == subscription_id).values(active=True))


async def load_deliveries(
    connection: AsyncConnection, *, target: str | None, state: DeliveryState | None, before: int | None, limit: int
) -> list[DeliveryRow]:
    """Deliveries with their attempts, newest first, below the id ``before`` (keyset pagination)."""
    statement = _deliveries().order_by(deliveries.c.id.desc()).limit(limit)
    if target is not None:
        statement = statement.where(subscriptions.c.target == target)
    if state is not None:
        statement = statement.where(deliveries.c.state == state)
    if before is not None:
        statement = statement.where(deliveries.c.id < before)
    return await _with_log(connection, statement)


async def load_deliveries_by_id(connection: AsyncConnection, ids: Sequence[int]) -> list[DeliveryRow]:
    """Those of ``ids`` that exist, oldest event first."""
    return await _with_log(
        connection, _deliveries().where(deliveries.c.id.in_(ids)).order_by(deliveries.c.sequence, deliveries.c.id)
    )


async def lock_deliveries(tx: AsyncConnection, ids: Sequence[int]) -> None:
    """Hold deliveries until the transaction ends, in the order in which everybody takes them: no worker claims one."""
    d = deliveries
    statement = select(d.c.id).where(d.c.id.in_(ids)).order_by(d.c.subscription_id, d.c.id)
    await tx.execute(statement.with_for_update(key_share=True))


async def is_superseded(connection: AsyncConnection, row: DeliveryRow) -> bool:
    """Whether the subscription has accepted a later event of the delivery's subject."""
    later = exists().where(
        deliveries.c.subscription_id == row.subscription_id,
        deliveries.c.subject == row.subject,
        deliveries.c.state == DeliveryState.ACCEPTED,
        deliveries.c.sequence > row.sequence,
    )
    return bool((await connection.execute(select(later))).scalar_one())


async def is_active(connection: AsyncConnection, subscription_id: int) -> bool:
    """Whether a subscription gets anything at all."""
    statement = select(subscriptions.c.active).where(subscriptions.c.id == subscription_id)
    return bool((await connection.execute(statement)).scalar_one())


async def make_pending(tx: AsyncConnection, delivery_id: int, *, forced: bool) -> None:
    """Send again at once, with the whole schedule before it; the log keeps the attempts so far."""
    await tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(
            state=DeliveryState.PENDING.value,
            attempts=0,
            next_attempt_at=0,
            claimed_until=None,
            forced=forced,
            finished_at=None,
        )
    )


def _endpoints() -> Select[Any]:
    s, w = subscriptions, webhook_endpoints
    return (
        select(w, s.c.event_types, s.c.active, s.c.id.label("subscription_id"))
        .join(s, (s.c.plugin == PLUGIN) & (s.c.target == w.c.id))
        .where(w.c.removed_at.is_(None))
    )


def _endpoint(row: Row[Any]) -> EndpointRow:
    return EndpointRow(
        id=row.id,
        store=row.store,
        url=row.url,
        description=row.description,
        event_types=tuple(row.event_types),
        active=row.active,
        created_at=row.created_at,
        subscription_id=row.subscription_id,
        secrets=tuple(row.secrets),
    )


def _deliveries() -> Select[Any]:
    d, s, e = deliveries, subscriptions, events
    return (
        select(d, s.c.target, e.c.id.label("event_id"), e.c.type.label("event_type"))
        .join(s, s.c.id == d.c.subscription_id)
        .join(e, e.c.sequence == d.c.sequence)
    )


async def _with_log(connection: AsyncConnection, statement: Select[Any]) -> list[DeliveryRow]:
    rows = (await connection.execute(statement)).all()
    a = delivery_attempts
    logs: dict[int, list[Attempt]] = {row.id: [] for row in rows}
    for line in await connection.execute(select(a).where(a.c.delivery_id.in_(logs)).order_by(a.c.id)):
        logs[line.delivery_id].append(
            Attempt(
                line.delivery_id,
                line.attempt,
                line.started_at,
                line.duration_ms,
                AttemptOutcome(line.outcome),
                line.note,
            )
        )
    return [
        DeliveryRow(
            id=row.id,
            subscription_id=row.subscription_id,
            target=row.target,
            sequence=row.sequence,
            event_id=row.event_id,
            event_type=row.event_type,
            subject=row.subject,
            state=DeliveryState(row.state),
            attempts=row.attempts,
            next_attempt_at=row.next_attempt_at,
            under_way=row.claimed_until is not None and row.state == DeliveryState.PENDING,
            forced=row.forced,
            finished_at=row.finished_at,
            log=tuple(logs[row.id]),
        )
        for row in rows
    ]
