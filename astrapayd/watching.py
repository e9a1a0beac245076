"""Keeps one watcher per chain running, and hands its updates to ingest one by one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import aclosing

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.chains import Chain
from astrapayd.db import chains as chain_queries
from astrapayd.db.engine import Database, uninterrupted
from astrapayd.ingest import Ingest, Refused, StaleWatch
from astrapayd.transfers import BlockRef, Watched, Watcher, WatcherError, WatcherHealth, WatchSet

_FIRST_PAUSE_SECS = 1.0
_LONGEST_PAUSE_SECS = 30.0
_LOOK_EVERY_SECS = 0.2
_LOOK_WRITTEN_EVERY_SECS = 10


class ChainWatch:
    """Supervises one chain's watcher.

    1. Begin an epoch: whatever an older watcher still sends is refused.
    2. Give the watcher the blocks kept until final, and pull updates; the next only after the last is committed.
    3. After each commit tell who waits: the dispatcher and the open pages.
    4. Refused: begin again from the committed head; at once where an address was added meanwhile, else (the head moved,
       the update is broken) after a pause, so that two daemons or a bad node do not make it spin.
    5. Failed: log it once, pause with back-off, begin again. The daemon goes on; openings on this chain wait.
    """

    def __init__(
        self,
        chain: Chain,
        database: Database,
        ingest: Ingest,
        committed: Callable[[Iterable[str]], None],
    ) -> None:
        """:param committed: called after each commit with what changed: sessions, and ``chain:ID``."""
        self._chain = chain
        self._database = database
        self._ingest = ingest
        self._committed = committed
        self._watcher: Watcher = chain.watcher()
        self._log = structlog.get_logger("astrapayd.watching").bind(chain=chain.id)

    async def run(self) -> None:
        """Run until cancelled."""
        pause = _FIRST_PAUSE_SECS
        try:
            while True:
                problem = "the watcher failed; see the log"
                epoch: int | None = None
                try:
                    begun, watch = await uninterrupted(self._begin())
                    epoch = begun
                    await self._follow_and_look(begun, watch)
                except StaleWatch as stale:
                    self._log.info("begins again from the committed head", reason=str(stale))
                    pause = _FIRST_PAUSE_SECS
                    continue
                except Refused as refused:
                    problem = str(refused)
                    self._log.warning("update refused", problem=problem, again_in_secs=round(pause))
                except WatcherError as error:
                    problem = str(error)
                    self._log.error("watcher stopped", problem=problem, again_in_secs=round(pause))
                except Exception:
                    self._log.exception("watcher failed", again_in_secs=round(pause))
                if epoch is not None:
                    await self._try_to_record(epoch, WatcherHealth(level=False, looked_at=0, problem=problem))
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, hides nothing
                pause = min(pause * 2, _LONGEST_PAUSE_SECS)
        finally:
            await self._watcher.close()

    async def _follow_and_look(self, epoch: int, watch: WatchSet) -> None:
        looks = asyncio.create_task(self._record_looks(epoch, watch), name=f"looks of {self._chain.id}")
        try:
            await self._follow(epoch, watch)
        finally:
            looks.cancel()
            await asyncio.gather(looks, return_exceptions=True)

    async def _follow(self, epoch: int, watch: WatchSet) -> None:
        recent = await uninterrupted(self._recent())
        updates = self._watcher.updates(recent, watch)
        async with aclosing(updates):
            async for step in updates:
                applied = await uninterrupted(self._ingest.apply(step, epoch))
                self._committed([*applied.sessions, f"chain:{self._chain.id}"])
                if step.transfers or step.disconnected:
                    self._log.info(
                        "block applied",
                        height=step.head.height,
                        transfers=applied.transfers,
                        sessions=len(applied.sessions),
                        disconnected=len(step.disconnected),
                    )
        raise WatcherError("the watcher ended by itself")

    async def _begin(self) -> tuple[int, WatchSet]:
        async with self._database.write() as tx:
            epoch = await chain_queries.begin_epoch(tx, self._chain.id)
            return epoch, WatchSet(await self._watched(tx))

    async def _recent(self) -> tuple[BlockRef, ...]:
        async with self._database.read() as connection:
            return await chain_queries.recent_blocks(connection, self._chain.id)

    async def _refresh(self, watch: WatchSet) -> None:
        async with self._database.read() as connection:
            if await chain_queries.watch_version(connection, self._chain.id) != watch.current.version:
                watch.current = await self._watched(connection)

    async def _watched(self, connection: AsyncConnection) -> Watched:
        return await chain_queries.load_watched(connection, self._chain.id, self._chain.assets.values())

    async def _record_looks(self, epoch: int, watch: WatchSet) -> None:
        """Openings and pages of every process ask the database how fresh the chain is; so it is written there.

        The other way, addresses that openings have added are given to the watcher: so it need not be refused first.
        """
        written: WatcherHealth | None = None
        while True:
            await asyncio.sleep(_LOOK_EVERY_SECS)
            try:
                await uninterrupted(self._refresh(watch))
            except SQLAlchemyError:
                self._log.exception("could not read what is to be watched")  # tried again at the next look
            health = self._watcher.health
            if (
                written is None
                or (health.level, health.problem) != (written.level, written.problem)
                or health.looked_at - written.looked_at >= _LOOK_WRITTEN_EVERY_SECS
            ) and await self._try_to_record(epoch, health):
                written = health

    async def _try_to_record(self, epoch: int, health: WatcherHealth) -> bool:
        """A disk that is full must not end the watch: there may be room again, and the next look tries it."""
        try:
            await uninterrupted(self._record(epoch, health))
        except SQLAlchemyError:
            self._log.exception("could not write how the node is")
            return False
        return True

    async def _record(self, epoch: int, health: WatcherHealth) -> None:
        async with self._database.write() as tx:
            await chain_queries.record_look(
                tx,
                self._chain.id,
                epoch,
                level=health.level,
                looked_at=health.looked_at,
                problem=health.problem,
            )
