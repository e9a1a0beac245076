"""What tests of the money core share: a store on a real database, its chain a script, its clock a number."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, insert, select

from astrapayd.chains import ChainRegistry, Tier
from astrapayd.config import AccountSection, AssetSection, Config, DatabaseSection, ServerSection, StoreSection
from astrapayd.db import chains as chain_queries
from astrapayd.db import migrate
from astrapayd.db.engine import Database
from astrapayd.db.sessions import load_sessions
from astrapayd.db.tables import deliveries, events, subscriptions, transfers
from astrapayd.ingest import Applied, Ingest
from astrapayd.links import Link, LinkDraft
from astrapayd.matching import Allowance
from astrapayd.money import Asset
from astrapayd.rates import RateRegistry
from astrapayd.services.core import Core
from astrapayd.services.links import create_link
from astrapayd.services.quotes import Quotes
from astrapayd.services.sessions import open_session
from astrapayd.services.vetting import Vetting
from astrapayd.sessions import Session
from astrapayd.testing import ChainScript, FakeChain, FakeWatcher
from astrapayd.transfers import ChainUpdate, Transfer
from tests.databases import database_url

ADDRESS = "fake1shop"
PRICE = 25_000_000
"""25 USD, the price of the usual link, in base units."""


class Clock:
    """Time that follows the scripted chain unless a test says otherwise."""

    def __init__(self, script: ChainScript) -> None:
        self._script = script
        self.ahead_secs = 0

    def __call__(self) -> int:
        return self._script.tip.time + self.ahead_secs


@dataclass
class Shopfront:
    """One store with one shared address on one scripted chain, and a subscriber to every event."""

    core: Core
    chain: FakeChain
    script: ChainScript
    clock: Clock
    epoch: int

    @property
    def usd(self) -> Asset:
        """The token with 6 decimals."""
        return self.chain.assets["usd"]

    async def apply(self, step: ChainUpdate) -> Applied:
        """Ingest one update, as this epoch's watcher."""
        return await self.core.ingest.apply(step, self.epoch)

    async def mine(self, *paid: Transfer, secs: int = 12) -> Applied:
        """Mine a block and ingest it."""
        return await self.apply(self.script.mine(*paid, secs=secs))

    async def mine_more(self, blocks: int) -> None:
        """Empty blocks, one update each."""
        for _ in range(blocks):
            await self.mine()

    async def reorg(self, depth: int, *branch: list[Transfer]) -> Applied:
        """Reorganise and ingest it."""
        return await self.apply(self.script.reorg(depth, *branch))

    def pay(self, amount_base: int, *, to: str = ADDRESS, asset: str = "usd", **more: Any) -> Transfer:
        """A transfer to the store that can be mined."""
        return self.script.transfer(self.chain.assets[asset], to, amount_base, **more)

    async def link(self, price: str = "25.00", currency: str = "USD", **more: Any) -> Link:
        """A link in the token."""
        draft = LinkDraft(store="shop", title="Test", price=price, currency=currency, **more)
        return await create_link(self.core, draft, source="test")

    async def open(self, link: Link, asset: str = "usd", *, form_token: str = "") -> Session:
        """Open a session and answer it; the watcher has just looked at its node."""
        await look(self.core, self.epoch, chain=self.chain.id)
        opened = await open_session(self.core, link.slug, asset, form_token=form_token, source="test")
        return await self.session(opened.session_id)

    async def open_new(self, price: str = "25.00") -> Session:
        """A session of a link of its own."""
        return await self.open(await self.link(price))

    async def session(self, session_id: str) -> Session:
        """As committed."""
        async with self.core.database.read() as connection:
            return (await load_sessions(connection, [session_id], self.core.registry))[session_id].state

    async def told(self, subject: str | None = None) -> list[str]:
        """Types of the events so far, in order, of one subject or of all."""
        statement = select(events.c.type).order_by(events.c.sequence)
        if subject is not None:
            statement = statement.where(events.c.subject == subject)
        async with self.core.database.read() as connection:
            return list((await connection.execute(statement)).scalars())

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        """Every row of a table."""
        async with self.core.database.read() as connection:
            return [dict(row._mapping) for row in await connection.execute(select(table))]

    async def transfer_row(self, transfer: Transfer) -> dict[str, Any]:
        """The transfer as committed."""
        return next(r for r in await self.rows(transfers) if (r["tx"], r["ordinal"]) == (transfer.tx, transfer.ordinal))

    async def count(self, table: Table) -> int:
        """How many rows."""
        async with self.core.database.read() as connection:
            return int(await connection.scalar(select(func.count()).select_from(table)) or 0)

    async def every_event_has_one_delivery(self) -> None:
        """One event, one subscriber, one delivery."""
        written = sorted(r["sequence"] for r in await self.rows(events))
        assert written == sorted(r["sequence"] for r in await self.rows(deliveries))
        assert written == list(range(1, len(written) + 1))


class SilentChain(FakeChain):
    """Its nodes are away whenever somebody asks."""

    def watcher(self) -> FakeWatcher:
        watcher = super().watcher()
        watcher.reachable = False
        return watcher


async def look(core: Core, epoch: int, *, level: bool = True, chain: str = "fake") -> None:
    """What the watcher says of itself."""
    async with core.database.write() as tx:
        await chain_queries.record_look(tx, chain, epoch, level=level, looked_at=core.now(), problem="")


@asynccontextmanager
async def shopfront(
    folder: Path,
    *,
    script: ChainScript | None = None,
    chain: FakeChain | None = None,
    addresses: tuple[str, ...] = (ADDRESS,),
    account: AccountSection | None = None,
    level: bool = True,
    tiers: Mapping[str, Sequence[Tier]] | None = None,
    minimums: Mapping[str, int] | None = None,
    sources: RateRegistry | None = None,
    assets: Mapping[str, AssetSection] | None = None,
    pick: Callable[[int], int] = secrets.randbelow,
    **store: Any,
) -> AsyncIterator[Shopfront]:
    """Open (or make) the store's database; ``store`` are settings of ``[stores.shop]``, ``pick`` chooses tails."""
    chain = chain or FakeChain(script or ChainScript())
    script = chain.script
    registry = ChainRegistry()
    registry.add(chain)
    section = StoreSection(name="Shop", accounts={chain.id: account or AccountSection(addresses=addresses)}, **store)
    database = Database(database_url(folder))
    config = Config(
        path=folder / "astrapayd.toml",
        server=ServerSection(),
        database=DatabaseSection(),
        chains={},
        assets=assets or {},
        stores={"shop": section},
        plugins={},
    )
    clock = Clock(script)
    allowance = Allowance(section.allowance, section.allowance_percent)
    ingest = Ingest(database, registry, {"shop": allowance}, tiers or {}, clock, pick)
    quotes = Quotes(sources or RateRegistry(), config.rates.max_age_secs, clock, answer_secs=0.2)
    core = Core(config, registry, database, ingest, Vetting(clock), quotes, minimums or {}, clock)
    await migrate.upgrade(database)
    async with database.write() as tx:
        is_new = await chain_queries.load_chain(tx, chain.id) is None
        if is_new:
            await chain_queries.insert_chain(tx, chain.id, chain.network)
            if await tx.scalar(select(func.count()).select_from(subscriptions)) == 0:  # not the store's second chain
                everything = {"plugin": "webhooks", "target": "all", "store": "", "event_types": [], "active": True}
                await tx.execute(insert(subscriptions).values(**everything, created_at=0))
        configured = {chain.parse_address(address): "shop" for address in section.accounts[chain.id].addresses}
        assert not await chain_queries.synchronise_addresses(tx, chain.id, configured, clock())
        script.watch_version = (await chain_queries.load_watched(tx, chain.id, chain.assets.values())).version
        epoch = await chain_queries.begin_epoch(tx, chain.id)
    front = Shopfront(core, chain, script, clock, epoch)
    if is_new:
        await front.apply(script.since(None))
    await look(core, epoch, level=level, chain=chain.id)
    try:
        yield front
    finally:
        await database.close()
