"""What tests of outbox, dispatcher and webhooks share: a database with subscriptions, a clock, a receiver in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from astrapayd.chains import ChainRegistry
from astrapayd.config import Config, DatabaseSection, ServerSection, StoreSection
from astrapayd.db import migrate, outbox
from astrapayd.db.engine import Database
from astrapayd.db.outbox import NewEvent
from astrapayd.db.tables import installation, subscriptions
from astrapayd.events import Event, EventType
from astrapayd.hookspecs import Accepted, Delivery, Outcome
from astrapayd.rates import RateRegistry
from astrapayd.services.core import Core
from astrapayd.services.quotes import Quotes
from astrapayd.services.vetting import Vetting
from tests.databases import database_url

NOW = 1_800_000_000


class FakeClock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def fresh_database(folder: Path) -> AsyncIterator[Database]:
    """A migrated database with an installation row."""
    database = Database(database_url(folder))
    await migrate.upgrade(database)
    async with database.write() as tx:
        if (await tx.execute(select(installation))).first() is None:
            await tx.execute(insert(installation).values(id=1, epoch=1, created_at=NOW, last_sequence=0))
    yield database
    await database.close()


def core_on(database: Database, clock: Callable[[], float], folder: Path) -> Core:
    """The services' core with one store and no chain."""
    config = Config(
        path=folder / "astrapayd.toml",
        server=ServerSection(),
        database=DatabaseSection(),
        chains={},
        assets={},
        stores={"shop": StoreSection(name="Shop"), "other": StoreSection(name="Other")},
        plugins={},
    )
    no_ingest: Any = None  # endpoints never ask it
    return Core(
        config,
        ChainRegistry(),
        database,
        no_ingest,
        Vetting(lambda: 0),
        Quotes(RateRegistry(), 300, lambda: 0),
        {},
        lambda: int(clock()),
    )


async def subscribe(
    database: Database, target: str, *, store: str = "", types: list[str] | None = None, plugin: str = "webhooks"
) -> int:
    """A subscription's id."""
    async with database.write() as tx:
        added = await tx.execute(
            insert(subscriptions).values(
                plugin=plugin, target=target, store=store, event_types=types or [], active=True, created_at=NOW
            )
        )
        assert added.inserted_primary_key is not None
        return int(added.inserted_primary_key[0])


async def append(
    database: Database, subject: str = "ses_1", type: EventType = EventType.SESSION_PAID, ordinal: int = 1
) -> Event:
    """One committed event of the store ``shop``."""
    async with database.write() as tx:
        new = NewEvent(type, subject, ordinal, {"n": ordinal})
        return (await outbox.append_events(tx, [new], store="shop", created_at=NOW))[0]


Receiver = Callable[[Event, Delivery], Awaitable[Outcome]]


class FakePlugins:
    """In the place of the plugin host: receivers by target, and what each was told in which order."""

    event_timeout_secs = 30.0

    def __init__(self) -> None:
        self.receivers: dict[str, Receiver] = {}
        self.told: list[tuple[str, str, str, int]] = []  # target, subject, type, attempt
        self.asked = 0
        self.under_way: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.most_in_all = 0

    @property
    def event_plugins(self) -> frozenset[str]:
        self.asked += 1
        return frozenset({"webhooks"})

    async def deliver(self, plugin: str, event: Event, delivery: Delivery) -> Outcome:
        assert plugin == "webhooks"
        target = delivery.target
        self.told.append((target, event.subject, event.type.value, delivery.attempt))
        self.under_way[target] = self.under_way.get(target, 0) + 1
        self.most[target] = max(self.most.get(target, 0), self.under_way[target])
        self.most_in_all = max(self.most_in_all, sum(self.under_way.values()))
        try:
            if target in self.receivers:
                return await self.receivers[target](event, delivery)
            return Accepted()
        finally:
            self.under_way[target] -= 1
