"""A restored database begins a new epoch: nothing that was given out in the time that is lost is given out again.

In the lost time customers may have been given unique amounts and addresses. Of the amounts :func:`choose_tail` keeps
some back for this. Addresses made from a key are passed by, and watched: who pays there is found among the unmatched.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db import chains as chain_queries
from astrapayd.db.engine import Database
from astrapayd.db.epoch import Counters, begin_next_epoch, next_indexes
from astrapayd.services.core import Core
from astrapayd.services.reserving import BRANCH

SKIPPED_ADDRESSES = 1_000
"""How many addresses of each key are passed by after a restore, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The new epoch. ``next_sequence`` is the next event's number at the earliest, ``watched`` how many addresses of
    keys are passed by and watched."""

    epoch: int
    next_sequence: int
    watched: int


@dataclass(frozen=True, slots=True)
class _Lost:
    """An address that a customer may have been given in the lost time."""

    chain: str
    address: str
    store: str


async def begin_epoch(
    core: Core,
    database: Database,
    *,
    replaced: Counters,
    skipped: int = SKIPPED_ADDRESSES,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Begun:
    """Make a database that was restored fit to go on with: all of it in one transaction.

    1. Events, watchers and the epoch itself (:func:`astrapayd.db.epoch.begin_next_epoch`).
    2. Every key's counter goes on from the further of the two databases, and passes ``skipped`` indexes by.
    3. The addresses of those indexes are watched, on every chain where a store is paid by that key.

    :param database: at the newest schema, and used by nobody else.
    :param replaced: how far the database had come that was in use until now.
    """
    async with database.read() as connection:
        known = await next_indexes(connection)
    starts = {key: (index, max(index, replaced.next_indexes.get(key, 0)) + skipped) for key, index in known.items()}
    for key in _configured_keys(core):
        starts.setdefault(key, (0, replaced.next_indexes.get(key, 0) + skipped))
    lost = await asyncio.to_thread(_derive, core, starts, progress)
    async with database.write() as tx:
        begun = await begin_next_epoch(tx, replaced, core.now())
        for (key_hash, branch), (_, next_index) in sorted(starts.items()):
            await chain_queries.skip_indexes(tx, key_hash, branch, next_index)
        watched = await _watch(core, tx, lost)
    return Begun(begun.number, begun.last_sequence + 1, watched)


def _configured_keys(core: Core) -> set[tuple[str, int]]:
    return {(_key_hash(core, chain, xpub), BRANCH) for _, chain, xpub in _accounts(core)}


def _accounts(core: Core) -> list[tuple[str, str, str]]:
    """Store, chain and xpub of each account that has one."""
    return [
        (store_id, chain_id, account.xpub)
        for store_id, store in core.config.stores.items()
        for chain_id, account in store.accounts.items()
        if account.xpub is not None
    ]


def _key_hash(core: Core, chain_id: str, xpub: str) -> str:
    return hashlib.sha256(core.registry[chain_id].parse_xpub(xpub).encode()).hexdigest()


def _derive(
    core: Core, starts: dict[tuple[str, int], tuple[int, int]], progress: Callable[[int, int], None]
) -> list[_Lost]:
    todo = [
        (store, core.registry[chain_id], core.registry[chain_id].parse_xpub(xpub), index)
        for store, chain_id, xpub in _accounts(core)
        for index in range(*starts[_key_hash(core, chain_id, xpub), BRANCH])
    ]
    found: list[_Lost] = []
    for done, (store, chain, xpub, index) in enumerate(todo, 1):
        found.append(_Lost(chain.id, chain.derive(xpub, BRANCH, index), store))
        progress(done, len(todo))
    return found


async def _watch(core: Core, tx: AsyncConnection, lost: list[_Lost]) -> int:
    watched = 0
    for chain_id in sorted({one.chain for one in lost}):
        if await chain_queries.load_chain(tx, chain_id) is None:  # it came into the configuration afterwards
            await chain_queries.insert_chain(tx, chain_id, core.registry[chain_id].network)
        of_chain = {one.address: one.store for one in lost if one.chain == chain_id}
        watched += await chain_queries.watch_lost_addresses(tx, chain_id, of_chain, core.now())
    return watched
