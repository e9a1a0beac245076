"""Engine set-up: one writer and several readers, whichever database stands behind them."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from astrapayd.db import postgresql

_BUSY_TIMEOUT_MS = 10_000
_READERS = 4

T = TypeVar("T")


class DatabaseError(Exception):
    """The database cannot be used. The message is one sentence for the administrator."""


class Database:
    """Read and write transactions on one database.

    SQLite has one writer at a time. ``write()`` therefore begins with ``BEGIN IMMEDIATE`` (a transaction that reads
    first and writes later would fail with SQLITE_BUSY instead of waiting) on a pool of one connection, so that
    writers of this process queue fairly in Python. Readers see the last committed state and never wait (WAL).

    PostgreSQL has as many writers as there are transactions. They keep apart by locks, always in one order
    (``docs/adr/0006-locks-on-postgresql.md``); readers see one moment (``REPEATABLE READ``).
    """

    def __init__(self, url: str) -> None:
        """:raises DatabaseError: if the URL names no supported database, or its driver is not installed."""
        self._url = _async_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._writer = create_async_engine(self._url, pool_size=1, max_overflow=0, pool_timeout=60)
            self._reader = create_async_engine(self._url, pool_size=_READERS, max_overflow=0, pool_timeout=60)
            _set_up_sqlite(self._writer, begin="BEGIN IMMEDIATE")
            _set_up_sqlite(self._reader, begin="BEGIN")
        else:
            try:
                self._writer = postgresql.make_engine(self._url)
            except postgresql.DriverMissing:
                raise DatabaseError(
                    "database.url names PostgreSQL, but its driver asyncpg is not installed: "
                    "pip install 'astrapayd[postgres]'"
                ) from None
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def url(self) -> str:
        """Where it is, with a password if there is one: to connect with, not to show."""
        return self._url.render_as_string(hide_password=False)

    @property
    def path(self) -> Path | None:
        """The SQLite file, or None on a server."""
        return Path(self._url.database) if self.is_sqlite and self._url.database else None

    @property
    def exists(self) -> bool:
        """Whether there is something to connect to: a SQLite file appears when it is first opened."""
        return self.path is None or self.path.exists()

    @property
    def engine(self) -> AsyncEngine:
        """The writing engine, for migrations."""
        return self._writer

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One write transaction: committed at the end, rolled back if the block raises.

        :raises DatabaseError: if the server cannot be reached.
        """
        async with self._connected(self._writer) as tx, tx.begin():
            yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent read; never blocks a writer.

        :raises DatabaseError: if the server cannot be reached.
        """
        async with self._connected(self._reader) as connection:
            yield connection

    async def close(self) -> None:
        """Give back every connection."""
        await self._writer.dispose()
        if self.is_sqlite:
            await self._reader.dispose()

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(engine.connect())
            except Exception as error:
                why = None if self.is_sqlite else postgresql.why_unreachable(error, self._url)
                if why is None:
                    raise
                raise DatabaseError(why) from error
            yield connection


class DaemonLock:
    """Keeps a second daemon off one SQLite database: an advisory lock on a file beside it, freed by the kernel when
    the process ends, however it ends."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._handle: int | None = None

    def acquire(self) -> None:
        """:raises DatabaseError: if another daemon holds it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise DatabaseError(
                f"another astrapayd (process {other}) is running on {self._path.with_suffix('')}: "
                "stop it first, or give this one a database of its own"
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle

    def release(self) -> None:
        """Let the next daemon start. Safe to call twice."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await what uses the database to its end; a cancellation meanwhile is raised afterwards.

    A task that is cancelled inside a statement loses its connection: the driver's thread goes on, its transaction stays
    open, and the one writer (or SQLite's write lock) is gone until the process ends. Whatever may be cancelled while it
    works on the database therefore does so through this. Transactions are short, so a stop waits for milliseconds.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if not task.cancelled():
                cancelled = error
        except Exception:  # noqa: S110 - raised by result() below
            pass
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # it was seen: asyncio need not complain
        raise cancelled
    return task.result()


def _async_url(url: str) -> URL:
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise DatabaseError(f"database.url {url!r} names no file: write sqlite:///path/to/astrapayd.db")
            return parsed.set(drivername="sqlite+aiosqlite")
        case "postgresql":
            try:
                return postgresql.checked_url(parsed)
            except ValueError as error:
                raise DatabaseError(f"database.url {error}") from None
        case other:
            raise DatabaseError(f"database.url names {other!r}: use sqlite:///… or postgresql://…")


def _set_up_sqlite(engine: AsyncEngine, *, begin: str) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # The driver's own transaction handling begins late and commits around DDL; BEGIN is ours alone.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",  # an opened session must survive a power cut: its customer may have paid
            "foreign_keys = ON",
            f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)
