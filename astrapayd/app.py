"""The composition root: builds everything from one configuration file, starts it, and stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog
from aiohttp import ClientSession, web
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.asset_rules import read_asset_rules
from astrapayd.chains import AddressError, Chain, ChainRegistry
from astrapayd.config import Config, ConfigError, ConfigRegistry, Problem, load, parse_listener
from astrapayd.db import chains as chain_queries
from astrapayd.db import sessions as session_queries
from astrapayd.db.engine import DaemonLock, Database, DatabaseError, uninterrupted
from astrapayd.db.migrate import SCHEMA_VERSION, hold_off_others, schema_version, upgrade
from astrapayd.db.notices import Listener
from astrapayd.db.tables import installation
from astrapayd.db.turns import ChainTurn
from astrapayd.dispatcher import Dispatcher
from astrapayd.hookspecs import PluginContext
from astrapayd.ingest import Ingest
from astrapayd.matching import Allowance
from astrapayd.news import News
from astrapayd.plugins import PluginHost
from astrapayd.rates import RateRegistry
from astrapayd.sdnotify import Notifier
from astrapayd.services.chains import ChainNodes, ask_nodes
from astrapayd.services.core import Core
from astrapayd.services.endpoints import StoredEndpoints
from astrapayd.services.quotes import Quotes
from astrapayd.services.vetting import Vetting
from astrapayd.watching import ChainWatch, watch_in_turn
from astrapayd.web.routes import RouteRegistry
from astrapayd.web.site import admin_site, public_site

_log = structlog.get_logger("astrapayd")


class StartError(Exception):
    """The daemon cannot start. Each line of the message is one sentence for the administrator."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything that needs no running loop: what CLI commands work with."""

    core: Core
    host: PluginHost


def assemble(config_path: Path, *, plugins: Mapping[str, object] | None = None) -> Assembly:
    """Read the configuration and build the core from it; nothing is connected or written.

    :param plugins: more plugins than the installed ones, by name (the demo brings its wallet).
    :raises ConfigError: with everything that is wrong in the file.
    :raises astrapayd.plugins.PluginError: if a plugin fails while it registers.
    """
    host = PluginHost()
    host.load_installed()
    for name, plugin in (plugins or {}).items():
        host.add(name, plugin)
    sections = ConfigRegistry()
    host.register_config(sections)
    config = load(config_path, sections)
    registry = ChainRegistry()
    host.register_chains(registry, config)
    if registry.problems:
        raise ConfigError(config.path, registry.problems)
    rules, problems = read_asset_rules(config, registry)
    problems += _account_problems(config, registry)
    if problems:
        raise ConfigError(config.path, tuple(problems))
    sources = RateRegistry()
    host.register_rate_sources(sources, config)
    quotes = Quotes(sources, config.rates.max_age_secs, _now)
    database = Database(config.database.connect_url())
    allowances = {
        store_id: Allowance(store.allowance, store.allowance_percent) for store_id, store in config.stores.items()
    }
    ingest = Ingest(database, registry, allowances, rules.tiers, _now)
    return Assembly(Core(config, registry, database, ingest, Vetting(_now), quotes, rules.minimums, _now), host)


def _now() -> int:
    return int(time.time())


def _account_problems(config: Config, registry: ChainRegistry) -> Iterable[Problem]:
    """Addresses that the chain refuses, and those that two stores would share."""
    owners: dict[tuple[str, str], str] = {}
    for store_id, store in config.stores.items():
        for chain_id, account in store.accounts.items():
            for i, text in enumerate(account.addresses):
                key = f"stores.{store_id}.accounts.{chain_id}.addresses[{i}]"
                try:
                    address = registry[chain_id].parse_address(text)
                except AddressError as error:
                    yield Problem(key, str(error))
                    continue
                owner = owners.setdefault((chain_id, address), store_id)
                if owner != store_id:
                    yield Problem(key, f"belongs to store {owner!r} already: an address is paid into by one store only")
            if account.xpub is not None:
                try:
                    registry[chain_id].parse_xpub(account.xpub)
                except AddressError as error:
                    yield Problem(f"stores.{store_id}.accounts.{chain_id}.xpub", str(error))


# -- database -----------------------------------------------------------------------------------------------------


async def prepare_database(core: Core, *, may_upgrade: bool) -> None:
    """Make the schema current and its chains and addresses those of the configuration.

    :param may_upgrade: the daemon and ``db upgrade`` may migrate an older database; a command only makes a new one.
    :raises DatabaseError: if it is older and may not be migrated, or cannot be used.
    :raises ConfigError: if the configuration contradicts what the database was used with.
    """
    before = await schema_version(core.database) if core.database.exists else None
    if before not in (None, SCHEMA_VERSION) and not may_upgrade:
        raise DatabaseError(
            f"the database is at schema {before}, this astrapayd needs {SCHEMA_VERSION}: run astrapayd db upgrade"
        )
    await upgrade(core.database)
    problems: list[Problem] = []
    async with core.database.write() as tx:
        await tx.run_sync(hold_off_others)
        for chain in core.registry:
            known = await chain_queries.load_chain(tx, chain.id)
            if known is None:
                await chain_queries.insert_chain(tx, chain.id, chain.network)
            elif known.head_height is None:
                # Never followed: a chain_id mended after a first start that failed contradicts nothing.
                await chain_queries.set_network(tx, chain.id, chain.network)
            elif known.network != chain.network:
                problems.append(
                    Problem(
                        f"chains.{chain.id}",
                        f"is {chain.network}, but this database has followed {known.network} under that name: "
                        "use another name or another database",
                    )
                )
                continue
            problems += await _synchronise_addresses(core, tx, chain.id)
        known_assets = {asset.id for asset in core.registry.assets()}
        problems += [
            Problem(f"assets.{asset}", "is missing, but sessions or payments in it are in the database: put it back")
            for asset in sorted(await session_queries.open_assets(tx) - known_assets)
        ]
        if problems:
            raise ConfigError(core.config.path, tuple(problems))


async def _synchronise_addresses(core: Core, tx: AsyncConnection, chain_id: str) -> list[Problem]:
    chain = core.registry[chain_id]
    configured: dict[str, str] = {}
    for store_id, store in core.config.stores.items():
        if chain_id in store.accounts:
            configured |= {chain.parse_address(text): store_id for text in store.accounts[chain_id].addresses}
    foreign = await chain_queries.synchronise_addresses(tx, chain_id, configured, core.now())
    problems = [
        Problem(
            f"stores.{configured[address]}.accounts.{chain_id}.addresses",
            f"{chain.display_address(address)} was store {owner!r}'s before: give this store another address",
        )
        for address, owner in foreign.items()
    ]
    rows = await chain_queries.load_addresses(tx, chain_id, configured)
    for address in rows:
        for asset in chain.assets.values():
            bound = await chain_queries.bound_tail_space(tx, rows[address].id, asset)
            if bound not in (None, (asset.price_decimals, asset.tail_digits)):
                problems.append(
                    Problem(
                        f"assets.{asset.id}",
                        f"price_decimals and tail_digits are {asset.price_decimals} and {asset.tail_digits}, but "
                        f"{chain.display_address(address)} was used with {bound[0]} and {bound[1]}: put these back, or "
                        "use a new address, since open amounts could no longer be told apart",
                    )
                )
    return problems


# -- the daemon ---------------------------------------------------------------------------------------------------


class Role(StrEnum):
    """What a process does. One does all of it, unless several share a PostgreSQL database."""

    WATCH = "watch"
    WEB = "web"
    DISPATCH = "dispatch"


class Daemon:
    """Runs every role in one process, or some. Start order: database, nodes checked, plugins, dispatcher, watchers,
    listeners; stop order is the reverse, so that nothing is accepted that could not be finished."""

    def __init__(self, assembly: Assembly, roles: Collection[Role] = tuple(Role)) -> None:
        self._roles = frozenset(roles)
        self._core = assembly.core
        self._host = assembly.host
        self._news = News()
        self._stopping = asyncio.Event()
        self._systemd = Notifier.from_environment()

    def stop(self) -> None:
        """Begin an orderly stop; safe to call from a signal handler, and twice."""
        self._stopping.set()

    async def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Run until :meth:`stop`.

        :param ready: called once everything listens.
        :raises StartError: if nodes or listeners cannot be used.
        :raises ConfigError: if the database was used with another configuration.
        :raises DatabaseError: if the database cannot be used, or another daemon uses it.
        :raises astrapayd.plugins.PluginError: if a plugin did not start.
        """
        core = self._core
        if core.database.is_sqlite and self._roles != frozenset(Role):
            raise StartError(
                "--role: SQLite serves one process that has every role: leave --role out, or use PostgreSQL "
                "(database.url)"
            )
        lock = DaemonLock(core.database.path) if core.database.path is not None else None
        try:
            if lock is not None:
                lock.acquire()
            await prepare_database(core, may_upgrade=True)
            if Role.WATCH in self._roles:
                await self._check_nodes()
            async with ClientSession() as http, self._plugins(http), asyncio.TaskGroup() as tasks:
                dispatcher = Dispatcher(core.database, self._host)

                def committed(subjects: Iterable[str]) -> None:
                    dispatcher.wake()
                    self._news.publish(subjects)

                running = [tasks.create_task(work, name=name) for name, work in self._work(dispatcher, committed)]
                async with self._listeners(committed) if Role.WEB in self._roles else nullcontext():
                    running.append(tasks.create_task(self._watchdog(), name="watchdog"))
                    ready()
                    self._systemd.ready()
                    _log.info("ready", public=core.config.server.public_url, roles=sorted(self._roles))
                    await self._stopping.wait()
                    self._systemd.stopping()
                for task in running:
                    task.cancel()
        finally:
            await core.database.close()
            if lock is not None:
                lock.release()
            _log.info("stopped")

    def _work(
        self, dispatcher: Dispatcher, committed: Callable[[Iterable[str]], None]
    ) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What goes on beside the listeners, in the order of its start."""
        core = self._core
        if Role.DISPATCH in self._roles:
            yield "dispatcher", dispatcher.run()

        def missed() -> None:
            dispatcher.wake()
            self._news.publish_all()

        if not core.database.is_sqlite and self._roles & {Role.DISPATCH, Role.WEB}:
            yield "notices", Listener(core.database, committed, missed).run()
        if Role.WATCH in self._roles:
            for chain in core.registry:

                def watch(turn: ChainTurn, chain: Chain = chain) -> ChainWatch:
                    return ChainWatch(chain, core.database, core.ingest, committed, turn)

                yield f"watch {chain.id}", watch_in_turn(core.database, chain.id, watch)

    async def _check_nodes(self) -> None:
        """A node of the wrong chain must never be believed; one that is merely away comes back, except at the very
        first start, where it is more likely a mistake in the configuration."""
        wrong: list[str] = []
        for asked in await ask_nodes(self._core):
            async with self._core.database.write() as tx:
                known = await chain_queries.load_chain(tx, asked.chain.id)
                assert known is not None  # prepare_database has written it
                wrong += unusable(asked, first_start=known.head_height is None)
                genesis = next((node.genesis for node in asked.nodes if node.genesis), "")
                if genesis and known.genesis not in ("", genesis):
                    wrong.append(
                        f"chains.{asked.chain.id}: the node's chain begins with block {genesis}, but this database has "
                        f"followed the one that begins with {known.genesis}: connect the right node, or use a new "
                        "database for the new chain"
                    )
                elif genesis and not wrong:
                    await chain_queries.record_genesis(tx, asked.chain.id, genesis)
        if wrong:
            raise StartError("\n".join(wrong))

    @asynccontextmanager
    async def _plugins(self, http: ClientSession) -> AsyncIterator[None]:
        core = self._core

        def context(name: str) -> PluginContext:
            return PluginContext(
                name=name,
                section=core.config.plugins.get(name),
                http=http,
                log=structlog.get_logger(f"plugin.{name}"),
                endpoints=StoredEndpoints(core.database),
            )

        await self._host.startup(context)
        try:
            yield
        finally:
            await self._host.shutdown()

    @asynccontextmanager
    async def _listeners(self, committed: Callable[[Iterable[str]], None]) -> AsyncIterator[None]:
        core, server = self._core, self._core.config.server
        routes = RouteRegistry()
        self._host.register_routes(routes, core.config)
        sites = (
            ("server.public", server.public, public_site(core, self._news, routes, committed, self._stopping)),
            ("server.admin", server.admin, admin_site(core)),
        )
        runners: list[web.AppRunner] = []
        try:
            for key, listener, site in sites:
                # No access log: it would hold the address of every session's page.
                runner = web.AppRunner(site, access_log=None, handle_signals=False, shutdown_timeout=5)
                runners.append(runner)
                await runner.setup()
                host, port = parse_listener(listener)
                try:
                    await web.TCPSite(runner, host, port).start()
                except OSError as error:
                    raise StartError(f"{key}: cannot listen on {listener}: {error.strerror or error}") from error
            yield
        finally:
            for runner in reversed(runners):
                await runner.cleanup()

    async def _ask_database(self) -> None:
        async with self._core.database.read() as connection:
            await connection.execute(select(installation.c.epoch))

    async def _watchdog(self) -> None:
        """Tell systemd that the loop turns and the database answers; when either hangs, it restarts the daemon."""
        while self._systemd.watchdog_secs is not None:
            with contextlib.suppress(
                DatabaseError, SQLAlchemyError
            ):  # a server that is away comes back, or systemd acts
                await uninterrupted(self._ask_database())
                self._systemd.alive()
            await asyncio.sleep(self._systemd.watchdog_secs)


def unusable(asked: ChainNodes, *, first_start: bool) -> list[str]:
    """Why a chain cannot be followed by its nodes, as sentences that begin with the place; empty where it can."""
    place = f"chains.{asked.chain.id}.nodes"
    wrong = [f"{place}: {n.node}: {p}" for n in asked.nodes if n.reachable and not n.syncing for p in n.problems]
    if first_start and not any(node.reachable for node in asked.nodes):
        wrong += [f"{place}: {n.node}: {p}" for n in asked.nodes for p in n.problems]
    return wrong


def run_daemon(assembly: Assembly, roles: Collection[Role] = tuple(Role)) -> None:
    """Run the daemon in this process until SIGTERM or SIGINT.

    :raises StartError: and the others of :meth:`Daemon.run`.
    """

    async def run() -> None:
        daemon = Daemon(assembly, roles)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.stop)
        await daemon.run()

    asyncio.run(run())
