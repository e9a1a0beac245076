"""Tells other processes what a commit has changed: PostgreSQL's NOTIFY and LISTEN. On SQLite there is one process.

A notice is sent by the transaction itself, so that it arrives when, and only when, the change can be read. Like
:mod:`astrapayd.news` it is a hint to look again: one that is lost costs a moment, never the news.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db import postgresql
from astrapayd.db.engine import Database

if TYPE_CHECKING:
    import asyncpg

CHANNEL: Final = "astrapayd"
_MOST_BYTES: Final = 7_900  # PostgreSQL refuses a payload of 8000
_PAUSE_SECS: Final = 1.0
_PING_EVERY_SECS: Final = 10.0
_PING_TIMEOUT_SECS: Final = 5.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


async def notify(tx: AsyncConnection, subjects: Iterable[str]) -> None:
    """Tell every process, once the transaction commits, that these have changed."""
    if tx.dialect.name == "postgresql":
        for payload in payloads(subjects):
            await tx.execute(select(func.pg_notify(CHANNEL, payload)))


def payloads(subjects: Iterable[str]) -> Iterator[str]:
    """The subjects, one a line, in as few texts as PostgreSQL takes."""
    lines: list[str] = []
    size = 0
    for subject in dict.fromkeys(subjects):
        width = len(subject.encode()) + 1
        if lines and size + width > _MOST_BYTES:
            yield "\n".join(lines)
            lines, size = [], 0
        lines.append(subject)
        size += width
    if lines:
        yield "\n".join(lines)


class Listener:
    """Hears what other processes have committed (and this one, again)."""

    def __init__(
        self, database: Database, changed: Callable[[Iterable[str]], None], missed: Callable[[], None]
    ) -> None:
        """:param changed: called with the subjects of each notice.
        :param missed: called when the connection is there (again): anything may have changed meanwhile."""
        self._database = database
        self._changed = changed
        self._missed = missed

    async def run(self) -> None:
        """Listen until cancelled, on a connection of its own; one that is lost is made again."""
        in_trouble = False
        while True:
            try:
                connection = await postgresql.connect_alone(self._database.engine)
                try:
                    if in_trouble:
                        _log.info("hears of other processes' commits again")
                    in_trouble = False
                    await self._listen(connection)
                finally:
                    connection.terminate()
            except Exception as error:
                if not in_trouble:
                    _log.warning("cannot hear of other processes' commits; trying again", error=type(error).__name__)
                in_trouble = True
            await asyncio.sleep(_PAUSE_SECS)

    async def _listen(self, connection: asyncpg.Connection[Any]) -> None:
        """Until the connection is lost."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, lambda *notice: self._changed(str(notice[-1]).split("\n")))
        self._missed()
        while not lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PING_EVERY_SECS):
                    await lost.wait()
                    return
            async with asyncio.timeout(_PING_TIMEOUT_SECS):  # a server that vanished without a word says nothing
                await connection.execute("SELECT 1")
