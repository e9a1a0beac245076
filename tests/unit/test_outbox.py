"""Events and their deliveries, as queries on a real SQLite file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from sqlalchemy import func, select, update

from astrapayd.db import outbox
from astrapayd.db.engine import Database, DatabaseError
from astrapayd.db.outbox import NewEvent
from astrapayd.db.tables import deliveries, events, installation, subscriptions
from astrapayd.events import EventType, event_id
from tests.databases import both_engines
from tests.delivery import NOW, append, fresh_database, subscribe

pytestmark = both_engines


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path) as database:
        yield database


async def claim(
    database: Database, *, now: int = NOW, busy: tuple[int, ...] = (), limit: int = 100
) -> list[outbox.Claim]:
    """As the dispatcher does, without bounds of its own."""
    async with database.write() as tx:
        due = await outbox.find_due(tx, now=now, plugins={"webhooks"}, busy=busy, limit=limit)
        await outbox.set_aside(tx, [one.delivery_id for one in due if one.superseded], now=now)
        return await outbox.claim(tx, [one for one in due if not one.superseded], until=now + 60)


async def finish(database: Database, claimed: outbox.Claim, outcome: str, at: int = NOW) -> None:
    async with database.write() as tx:
        match outcome:
            case "accepted":
                await outbox.accept(tx, claimed.delivery_id, now=at)
            case "parked":
                await outbox.park(tx, claimed.delivery_id, now=at)
            case _:
                await outbox.retry(tx, claimed.delivery_id, at=at)


async def state(database: Database, delivery_id: int) -> str:
    async with database.read() as connection:
        found = await connection.execute(select(deliveries.c.state).where(deliveries.c.id == delivery_id))
        return str(found.scalar_one())


async def test_an_event_is_frozen_with_its_envelope(database: Database) -> None:
    event = await append(database)
    assert event.id == event_id("ses_1", "session.paid", 1)
    assert event.sequence == 1
    async with database.read() as connection:
        row = (await connection.execute(select(events))).one()
    assert row.body == event.body
    assert orjson.loads(row.body) == {
        "id": event.id,
        "sequence": 1,
        "type": "session.paid",
        "created_at": "2027-01-15T08:00:00Z",
        "api_version": "2026-11",
        "store": "shop",
        "subject": "ses_1",
        "data": {"n": 1},
    }


async def test_each_matching_active_subscription_gets_one_delivery(database: Database) -> None:
    everything = await subscribe(database, "all")
    same_store = await subscribe(database, "shop", store="shop", types=["session.paid", "session.final"])
    await subscribe(database, "other", store="other")
    await subscribe(database, "final", types=["session.final"])
    off = await subscribe(database, "off")
    async with database.write() as tx:
        await tx.execute(update(subscriptions).where(subscriptions.c.id == off).values(active=False))
    await append(database)
    async with database.read() as connection:
        rows = (await connection.execute(select(deliveries.c.subscription_id, deliveries.c.state))).all()
    assert [tuple(row) for row in rows] == [(everything, "pending"), (same_store, "pending")]


async def test_appending_again_changes_nothing(database: Database) -> None:
    await subscribe(database, "all")
    first = await append(database)
    assert await append(database) == first
    second = await append(database, ordinal=2)
    assert second.sequence == first.sequence + 1
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(deliveries))).scalar_one() == 2


async def test_events_told_again_among_new_ones(database: Database) -> None:
    await subscribe(database, "all")
    first = await append(database, ordinal=1)
    told = [NewEvent(EventType.SESSION_PAID, "ses_1", ordinal, {"n": "changed"}) for ordinal in (2, 1, 3)]
    async with database.write() as tx:
        second, again, third = await outbox.append_events(tx, told, store="shop", created_at=NOW + 1)
    assert again == first  # as it was first written
    assert (second.sequence, third.sequence) == (first.sequence + 1, first.sequence + 2)
    async with database.read() as connection:
        told_of = await connection.execute(select(deliveries.c.sequence).order_by("sequence"))
        assert list(told_of.scalars()) == [1, 2, 3]
    assert (await append(database, ordinal=4)).sequence == third.sequence + 1


async def test_a_rolled_back_event_leaves_no_gap(database: Database) -> None:
    await append(database)

    async def cut_off() -> None:
        async with database.write() as tx:
            paid = NewEvent(EventType.SESSION_PAID, "ses_2", 1, {})
            await outbox.append_events(tx, [paid], store="shop", created_at=NOW)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        await cut_off()
    assert (await append(database, "ses_3")).sequence == 2


async def test_event_feed_never_skips_while_writers_meet(database: Database) -> None:
    seen: list[int] = []

    async def read_on() -> None:
        while len(seen) < 40:
            async with database.read() as connection:
                rows = await connection.execute(
                    select(events.c.sequence).where(events.c.sequence > (seen[-1] if seen else 0)).order_by("sequence")
                )
                seen.extend(rows.scalars())
            await asyncio.sleep(0)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(read_on())
        for number in range(40):
            group.create_task(append(database, f"ses_{number}"))
    assert seen == list(range(1, 41))


async def test_without_installation_row_one_sentence(database: Database) -> None:
    async with database.write() as tx:
        await tx.execute(installation.delete())
    with pytest.raises(DatabaseError, match="no installation row"):
        await append(database)


async def test_order_kept_per_session(database: Database) -> None:
    await subscribe(database, "all")
    first, _second = await append(database, ordinal=1), await append(database, ordinal=2)
    other = await append(database, "ses_2")
    claims = await claim(database)
    assert [c.event.id for c in claims] == [first.id, other.id]
    assert await claim(database) == []  # claimed ones are taken, and the second waits for the first
    await finish(database, claims[0], "retry", NOW + 5)
    assert await claim(database, now=NOW + 4) == []
    (again,) = await claim(database, now=NOW + 5)
    assert (again.event.id, again.attempt) == (first.id, 2)
    await finish(database, again, "parked")
    assert [c.event.sequence for c in await claim(database)] == [2]


async def test_a_busy_subscription_holds_back_nobody_else(database: Database) -> None:
    dead = await subscribe(database, "dead")
    alive = await subscribe(database, "alive")
    for number in range(5):
        await append(database, f"ses_{number}")
    assert {c.subscription_id for c in await claim(database, busy=(dead,), limit=3)} == {alive}


async def test_a_missing_plugin_waits(database: Database) -> None:
    await subscribe(database, "order", plugin="shop-of-tomorrow")
    await append(database)
    assert await claim(database) == []
    async with database.read() as connection:
        waiting = await outbox.due_subjects(connection, now=NOW, plugins={"webhooks"}, limit=9)
        assert waiting == set()
        with_it = await outbox.due_subjects(connection, now=NOW, plugins={"webhooks", "shop-of-tomorrow"}, limit=9)
        assert {subject for _, subject in with_it} == {"ses_1"}
        assert await outbox.subscribed_plugins(connection) == {"shop-of-tomorrow"}


async def test_a_claim_ends_with_its_worker(database: Database) -> None:
    await subscribe(database, "all")
    await append(database)
    (claimed,) = await claim(database)
    async with database.read() as connection:
        assert await outbox.interrupted(connection) == [(claimed.delivery_id, 1)]
    assert await claim(database, now=NOW + 59) == []
    (again,) = await claim(database, now=NOW + 60)
    assert again.attempt == 2


async def test_what_a_later_event_overtook_is_superseded_unless_forced(database: Database) -> None:
    await subscribe(database, "all")
    await append(database, ordinal=1)
    await append(database, ordinal=2)
    (first,) = await claim(database)
    await finish(database, first, "parked")
    (second,) = await claim(database)
    await finish(database, second, "accepted")
    for forced, expected in ((False, []), (True, [first.delivery_id])):
        async with database.write() as tx:
            await tx.execute(
                update(deliveries)
                .where(deliveries.c.id == first.delivery_id)
                .values(state="pending", attempts=0, forced=forced)
            )
        assert [c.delivery_id for c in await claim(database)] == expected
        assert await state(database, first.delivery_id) == ("pending" if forced else "superseded")


async def test_a_forced_delivery_does_not_hold_up_new_events(database: Database) -> None:
    await subscribe(database, "all")
    await append(database, ordinal=1)
    (first,) = await claim(database)
    await finish(database, first, "accepted")
    async with database.write() as tx:
        await tx.execute(
            update(deliveries)
            .where(deliveries.c.id == first.delivery_id)
            .values(state="pending", forced=True, next_attempt_at=NOW + 3600)
        )
    new = await append(database, ordinal=2)
    assert [c.event.id for c in await claim(database)] == [new.id]


async def test_switching_off_parks_what_waits(database: Database) -> None:
    subscription = await subscribe(database, "all")
    for ordinal in (1, 2):
        await append(database, ordinal=ordinal)
    (first,) = await claim(database)
    async with database.write() as tx:
        assert await outbox.switch_off(tx, subscription, now=NOW) == 2
    await finish(database, first, "retry")  # the answer of the call that was under way brings nothing back
    assert await state(database, first.delivery_id) == "parked"
    await append(database, ordinal=3)
    assert await claim(database) == []


async def test_clock_set_back_brings_retries_forward(database: Database) -> None:
    await subscribe(database, "all")
    await append(database)
    (claimed,) = await claim(database, now=NOW + 10_000_000)
    await finish(database, claimed, "retry", NOW + 10_000_005)
    async with database.write() as tx:
        await outbox.bring_forward(tx, latest=NOW + 100)
    assert len(await claim(database, now=NOW + 100)) == 1


async def test_an_event_of_a_newer_version_waits(database: Database) -> None:
    await subscribe(database, "all")
    await append(database)
    async with database.write() as tx:
        await tx.execute(update(events).values(type="session.teleported"))
    assert await claim(database) == []


async def test_an_event_for_one_subscription_only(database: Database) -> None:
    await subscribe(database, "all")
    one = await subscribe(database, "one", types=["session.final"])
    async with database.write() as tx:
        down = NewEvent(EventType.NODE_DOWN, "x", 1, {})
        delivery = await outbox.append_event_for(tx, one, down, store="", created_at=NOW)
    (claimed,) = await claim(database)
    assert (claimed.delivery_id, claimed.subscription_id) == (delivery, one)
