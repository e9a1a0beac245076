"""Queries on reservations: what is held for a session on an address, and when it is given back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.chains import ChainRegistry
from astrapayd.db.sessions import SessionRow
from astrapayd.db.tables import addresses, reservations, sessions
from astrapayd.matching import MAX_CANDIDATES, Reservation, rest_amount
from astrapayd.money import Asset

_BATCH = 300


@dataclass(frozen=True, slots=True)
class ReservationRow:
    """What is held for a session. ``purpose``: the ``price``, or the ``rest`` after an underpayment."""

    session_id: str
    purpose: str
    tail: int | None
    due_base: int

    def is_rest_of(self, missing_base: int, asset: Asset) -> bool:
        """Whether paying exactly this completes a session of which ``missing_base`` is missing."""
        if self.purpose != "rest" or self.tail is None:
            return False
        return self.due_base == rest_amount(missing_base, self.tail, asset)


async def insert_reservation(
    tx: AsyncConnection, row: SessionRow, *, purpose: str, tail: int | None, due_base: int, opened_at: int, height: int
) -> None:
    """Hold a tail, or (``tail`` None) the address itself, for a session until its late window ends.

    :raises sqlalchemy.exc.IntegrityError: if somebody else holds it.
    """
    await tx.execute(
        insert(reservations).values(
            session_id=row.id,
            purpose=purpose,
            asset=row.asset.id,
            address_id=row.address_id,
            tail=tail,
            due_base=due_base,
            opened_at=opened_at,
            opened_height=height,
            live_until=row.state.late_until,
        )
    )


async def taken_tails(
    connection: AsyncConnection, address_id: int, asset_id: str, since: int
) -> tuple[set[int], dict[int, int]]:
    """The tails reserved now, and when those given back after ``since`` (Unix seconds) were given back last."""
    r = reservations
    of_address = (r.c.address_id == address_id, r.c.asset == asset_id, r.c.tail.is_not(None))
    held = await connection.execute(select(r.c.tail).where(*of_address, r.c.released_at.is_(None)))
    rested = await connection.execute(
        select(r.c.tail, func.max(r.c.released_at)).where(*of_address, r.c.released_at > since).group_by(r.c.tail)
    )
    return set(held.scalars()), {row[0]: row[1] for row in rested}


async def live_reservations(
    connection: AsyncConnection, address_ids: Sequence[int], registry: ChainRegistry
) -> dict[int, list[Reservation]]:
    """What is held on each of the addresses, for the matcher."""
    found: dict[int, list[Reservation]] = {address_id: [] for address_id in address_ids}
    for start in range(0, len(address_ids), _BATCH):
        rows = await connection.execute(
            select(reservations)
            .where(
                reservations.c.address_id.in_(address_ids[start : start + _BATCH]),
                reservations.c.released_at.is_(None),
            )
            .order_by(reservations.c.id)
        )
        for row in rows:
            found[row.address_id].append(
                Reservation(
                    row.session_id,
                    registry.asset(row.asset),
                    row.tail,
                    row.due_base,
                    row.opened_height,
                    row.live_until,
                )
            )
    return found


async def unpaid_for(
    connection: AsyncConnection, address_id: int, asset: Asset, amount_base: int, since: int
) -> list[Reservation]:
    """What was held on an address for exactly this amount, was given back after ``since`` (Unix seconds), and was never
    paid; the newest first, a few of them."""
    rows = await connection.execute(
        _unpaid(select(reservations), address_id, asset, since)
        .where(reservations.c.due_base == amount_base)
        .order_by(reservations.c.id.desc())
        .limit(MAX_CANDIDATES)
    )
    return [
        Reservation(row.session_id, asset, row.tail, row.due_base, row.opened_height, row.live_until) for row in rows
    ]


async def unpaid_dues(
    connection: AsyncConnection, address_id: int, asset: Asset, price_base: int, since: int
) -> list[tuple[int, int]]:
    """(tail, due) of what was given back after ``since`` (Unix seconds) and never paid, for about the same price."""
    near = reservations.c.due_base.between(price_base, price_base + 2 * asset.price_step_base)
    wanted = select(reservations.c.tail, reservations.c.due_base).where(near)
    rows = await connection.execute(_unpaid(wanted, address_id, asset, since))
    return [(row.tail, row.due_base) for row in rows]


def _unpaid(statement: Select[Any], address_id: int, asset: Asset, since: int) -> Select[Any]:
    return statement.join(sessions, sessions.c.id == reservations.c.session_id).where(
        reservations.c.address_id == address_id,
        reservations.c.asset == asset.id,
        reservations.c.tail.is_not(None),
        reservations.c.released_at > since,
        sessions.c.paid_at.is_(None),
    )


async def reservations_of(connection: AsyncConnection, session_id: str) -> list[ReservationRow]:
    """A session's own, oldest first: the price's, then one for each rest that was asked for."""
    rows = await connection.execute(
        select(reservations.c.session_id, reservations.c.purpose, reservations.c.tail, reservations.c.due_base)
        .where(reservations.c.session_id == session_id)
        .order_by(reservations.c.id)
    )
    return [ReservationRow(row.session_id, row.purpose, row.tail, row.due_base) for row in rows]


async def release_reservations(tx: AsyncConnection, chain_id: str, chain_time: int) -> None:
    """Give back what is held beyond its late window, judged by the chain's time."""
    of_chain = select(addresses.c.id).where(addresses.c.chain == chain_id).scalar_subquery()
    await tx.execute(
        update(reservations)
        .where(
            reservations.c.released_at.is_(None),
            reservations.c.live_until < chain_time,
            reservations.c.address_id.in_(of_chain),
        )
        .values(released_at=chain_time)
    )
