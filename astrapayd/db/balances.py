"""Queries on balances: how much of a chain's own coin each receiving address held when it was last looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.tables import addresses, balances, transfers
from astrapayd.money import Asset

_BATCH = 500


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """``amount_base`` is what the address held after the block at ``height``."""

    address_id: int
    height: int
    amount_base: int


async def load_balances(connection: AsyncConnection, asset: Asset, address_ids: Sequence[int]) -> dict[int, BalanceRow]:
    """The last look at each of these addresses that was looked at before."""
    found: dict[int, BalanceRow] = {}
    for start in range(0, len(address_ids), _BATCH):
        rows = await connection.execute(
            select(balances.c.address_id, balances.c.height, balances.c.amount_base).where(
                balances.c.asset == asset.id, balances.c.address_id.in_(address_ids[start : start + _BATCH])
            )
        )
        found |= {row.address_id: BalanceRow(*row) for row in rows}
    return found


async def balances_above(connection: AsyncConnection, asset: Asset, height: int) -> list[BalanceRow]:
    """The looks that were taken above a height of the asset's chain."""
    rows = await connection.execute(
        select(balances.c.address_id, balances.c.height, balances.c.amount_base)
        .join(addresses, addresses.c.id == balances.c.address_id)
        .where(balances.c.asset == asset.id, addresses.c.chain == asset.chain, balances.c.height > height)
    )
    return [BalanceRow(*row) for row in rows]


async def insert_balances(tx: AsyncConnection, asset: Asset, rows: Sequence[BalanceRow]) -> None:
    """First looks."""
    if rows:
        await tx.execute(
            insert(balances),
            [
                {"address_id": r.address_id, "asset": asset.id, "height": r.height, "amount_base": r.amount_base}
                for r in rows
            ],
        )


async def update_balances(tx: AsyncConnection, asset: Asset, rows: Sequence[BalanceRow]) -> None:
    """Later looks."""
    if rows:
        await tx.execute(
            update(balances)
            .where(balances.c.asset == asset.id, balances.c.address_id == bindparam("looked_at_id"))
            .values(height=bindparam("at_height"), amount_base=bindparam("held_base")),
            [{"looked_at_id": r.address_id, "at_height": r.height, "held_base": r.amount_base} for r in rows],
        )


async def received_since(
    connection: AsyncConnection, asset: Asset, heights: Mapping[int, int]
) -> dict[int, list[tuple[int, int]]]:
    """(height, amount) of the mined transfers to each address (the keys) above a height of its own."""
    found: dict[int, list[tuple[int, int]]] = {address_id: [] for address_id in heights}
    ids = list(heights)
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        rows = await connection.execute(
            select(transfers.c.address_id, transfers.c.block_height, transfers.c.amount_base).where(
                transfers.c.asset == asset.id,
                transfers.c.address_id.in_(batch),
                transfers.c.state == "mined",
                transfers.c.block_height > min(heights[one] for one in batch),
            )
        )
        for row in rows:
            if row.block_height > heights[row.address_id]:
                found[row.address_id].append((row.block_height, row.amount_base))
    return found
