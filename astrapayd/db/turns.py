"""Whose turn it is to watch a chain: one process at a time, and another as soon as that one's connection ends.

On PostgreSQL the turn is an advisory lock of a session, on a connection that does nothing else: the server frees it
when the process ends, however it ends. It only keeps two from working at the same time; that an old one cannot write is
the epoch's doing (:func:`astrapayd.db.chains.begin_epoch`). On SQLite one daemon has every chain (``DaemonLock``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlalchemy import func, select

from astrapayd.db import postgresql
from astrapayd.db.engine import Database, uninterrupted

if TYPE_CHECKING:
    import asyncpg

_ASK_EVERY_SECS: Final = 1.0
_PING_EVERY_SECS: Final = 2.0
_PING_TIMEOUT_SECS: Final = 5.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class TurnLost(Exception):
    """The connection that holds the chain is gone: another process may have it."""


class ChainTurn:
    """This process's turn on one chain."""

    def __init__(self, connection: asyncpg.Connection[Any] | None = None) -> None:
        """:param connection: holds the lock; None where there is but one process."""
        self._connection = connection
        self._lost = asyncio.Event()
        if connection is not None:
            connection.add_termination_listener(lambda _: self._lost.set())

    async def confirm(self) -> None:
        """Ask the server whether it is still so: a process that was stopped for a while does not know.

        :raises TurnLost: if the connection, and the lock with it, is gone.
        """
        if self._connection is None:
            return
        try:
            async with asyncio.timeout(_PING_TIMEOUT_SECS):
                await self._connection.execute("SELECT 1")
        except Exception as error:
            raise TurnLost from error

    async def lost(self) -> None:
        """Wait until it is over."""
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(_PING_EVERY_SECS):
                    await self._lost.wait()
            except TimeoutError:
                try:
                    await uninterrupted(self.confirm())
                except TurnLost:
                    return


@asynccontextmanager
async def chain_turn(database: Database, chain_id: str) -> AsyncIterator[ChainTurn]:
    """Wait for the turn on a chain, and hold it while the block runs."""
    if database.is_sqlite:
        yield ChainTurn()
        return
    connection = await _locked(database, chain_id)
    try:
        yield ChainTurn(connection)
    finally:
        connection.terminate()  # at once, whatever it is at: the lock goes with it


async def has_turn_elsewhere(database: Database, chain_id: str) -> bool:
    """Whether some process watches the chain at this moment."""
    if database.is_sqlite:
        return False
    async with database.write() as tx:
        free = select(func.pg_try_advisory_xact_lock(postgresql.lock_key(_lock_name(chain_id))))
        return not await tx.scalar(free)


def _lock_name(chain_id: str) -> str:
    return f"watch {chain_id}"


async def _locked(database: Database, chain_id: str) -> asyncpg.Connection[Any]:
    """A connection that holds the chain's lock, as soon as nobody else does.

    It asks again and again instead of waiting in the server: a connection that waits there does not notice that its
    process has ended, and would take the lock for a dead one.
    """
    log = _log.bind(chain=chain_id)
    key, waits, in_trouble = postgresql.lock_key(_lock_name(chain_id)), False, False
    while True:
        try:
            connection = await postgresql.connect_alone(database.engine)
        except Exception as error:
            why = postgresql.why_unreachable(error, database.engine.url)
            if why is None:
                raise
            if not in_trouble:
                log.error("waits for the database", reason=why)
            in_trouble = True
            await asyncio.sleep(_ASK_EVERY_SECS)
            continue
        in_trouble = False
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):
                if not waits:
                    log.info("another process watches this chain; waits for its turn")
                waits = True
                await asyncio.sleep(_ASK_EVERY_SECS)
        except asyncio.CancelledError:
            connection.terminate()
            raise
        except Exception as error:
            connection.terminate()
            log.warning("lost the connection while waiting for the turn", error=type(error).__name__)
            await asyncio.sleep(_ASK_EVERY_SECS)
        else:
            if waits:
                log.info("takes the chain over")
            return connection
