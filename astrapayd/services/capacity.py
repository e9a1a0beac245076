"""How many unique amounts are left, who may take them, and when they will be used up.

Amounts are the one thing that a stranger can take from a shop without paying: each opening holds one until its late
window is over. So openings by anonymous browsers stop before the last ones are gone, those of one link and of one key
too, each at a share of its own; never at a number per client address, since many customers share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.config import StoreSection
from astrapayd.db.tables import addresses, reservations, sessions
from astrapayd.money import Asset
from astrapayd.services.core import Core, TryLater

ANONYMOUS = "checkout"
"""Who opened a session from a link's public page."""

KEY_PREFIX = "key:"
"""Begins the source of sessions that an API key opened; its id follows."""

_DAY_SECS = 86_400
_SHORTEST_PAUSE_SECS, _LONGEST_PAUSE_SECS = 30, 3600


@dataclass(frozen=True, slots=True)
class Space:
    """The unique amounts of one asset on a store's shared addresses. ``opened_lately``: taken within the last day;
    ``held_secs``: how long each is held."""

    store: str
    asset: Asset
    size: int
    taken: int
    opened_lately: int
    held_secs: int

    @property
    def expected(self) -> int:
        """How many will be taken at the same time if openings go on as in the last day."""
        return ceil(self.opened_lately * self.held_secs / _DAY_SECS)

    @property
    def full_in_secs(self) -> int | None:
        """When they will be used up at that pace, or None: never."""
        if self.expected < self.size or not self.opened_lately:
            return None
        return max(self.size - self.taken, 0) * _DAY_SECS // self.opened_lately


async def check_share(core: Core, tx: AsyncConnection, store_id: str, asset: Asset, link_id: str, source: str) -> None:
    """Whether this opening may take one more of the store's unique amounts.

    :raises TryLater: if whoever opens it holds the whole of the share already.
    """
    store, whose = core.store(store_id), sessions.c.opened_by == source
    if source == ANONYMOUS:
        shares = [(whose, store.anonymous_percent), (whose & (sessions.c.link_id == link_id), store.link_percent)]
    elif source.startswith(KEY_PREFIX):
        shares = [(whose, store.key_percent)]
    else:
        return  # the merchant's own command line
    ids = await _shared_addresses(core, tx, store, asset)
    size = len(ids) * size_of(asset)
    for whose, percent in shares:
        taken, next_free_at = await _held(tx, ids, asset, whose)
        if percent < 100 and taken * 100 >= size * percent:
            pause_secs = min(max(next_free_at - core.now(), _SHORTEST_PAUSE_SECS), _LONGEST_PAUSE_SECS)
            raise TryLater("too many payments of this kind are open at the moment", pause_secs)


async def spaces(core: Core) -> list[Space]:
    """Every store's, for each asset that it takes on shared addresses."""
    found = []
    async with core.database.read() as connection:
        for store_id, store in core.config.stores.items():
            for asset in core.assets_of(store_id):
                ids = await _shared_addresses(core, connection, store, asset)
                if not ids or not asset.takes_tails:
                    continue
                taken, _ = await _held(connection, ids, asset)
                lately = select(func.count()).where(
                    reservations.c.address_id.in_(ids),
                    reservations.c.asset == asset.id,
                    reservations.c.opened_at > core.now() - _DAY_SECS,
                )
                found.append(
                    Space(
                        store=store_id,
                        asset=asset,
                        size=len(ids) * size_of(asset),
                        taken=taken,
                        opened_lately=int(await connection.scalar(lately) or 0),
                        held_secs=store.payment_window_secs + store.late_window_secs,
                    )
                )
    return found


def size_of(asset: Asset) -> int:
    """How many unique amounts one address has: the last digit of a tail is never zero."""
    return asset.tail_space * 9 // 10 if asset.takes_tails else 0


async def _shared_addresses(
    core: Core, connection: AsyncConnection, store: StoreSection, asset: Asset
) -> Sequence[int]:
    account = store.accounts.get(asset.chain)
    texts = [core.registry[asset.chain].parse_address(text) for text in account.addresses] if account else []
    rows = await connection.execute(
        select(addresses.c.id).where(addresses.c.chain == asset.chain, addresses.c.address.in_(texts))
    )
    return list(rows.scalars())


async def _held(
    connection: AsyncConnection, ids: Sequence[int], asset: Asset, whose: ColumnElement[bool] | None = None
) -> tuple[int, int]:
    """How many amounts are held, and when the first of them is given back (Unix seconds; 0 where none is held)."""
    held = select(func.count(), func.min(reservations.c.live_until)).where(
        reservations.c.address_id.in_(ids), reservations.c.asset == asset.id, reservations.c.released_at.is_(None)
    )
    if whose is not None:
        held = held.join(sessions, sessions.c.id == reservations.c.session_id).where(whose)
    count, first = (await connection.execute(held)).one()
    return int(count), int(first or 0)
