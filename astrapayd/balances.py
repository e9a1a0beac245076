"""Coin that arrived without a transfer: noticed by what an address holds, told, and never credited.

Contracts send a chain's own coin on in ways that a node may not show (no traces, a block too heavy to trace). So what
an address holds is compared with the last look: what it rose by beyond the transfers in between is unexplained. What
left the address lowers it and may hide a rise; it never feigns one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.chains import Chain
from astrapayd.db import balances as queries
from astrapayd.db.balances import BalanceRow
from astrapayd.db.chains import AddressRow
from astrapayd.money import Asset
from astrapayd.transfers import Balance, BlockRef


@dataclass(frozen=True, slots=True)
class Rise:
    """``amount_base`` came to an address above block ``from_height``, by ``to_height``, and no transfer shows it."""

    address: AddressRow
    amount_base: int
    from_height: int
    to_height: int


def coin_of(chain: Chain) -> Asset | None:
    """The chain's own coin, if it is listed."""
    return next((asset for asset in chain.assets.values() if asset.contract is None), None)


async def begin_empty(tx: AsyncConnection, chain: Chain, address_id: int, height: int) -> None:
    """Hold an address to have been empty at a height: a new one, whose very first coin is to be told."""
    coin = coin_of(chain)
    if coin is not None:
        await queries.insert_balances(tx, coin, [BalanceRow(address_id, height, 0)])


async def compare(
    tx: AsyncConnection,
    coin: Asset,
    seen: Sequence[Balance],
    receiving: Mapping[str, AddressRow],
    height: int,
) -> list[Rise]:
    """Set what addresses hold after the block at ``height`` against the last look; transfers are written already."""
    held = {receiving[one.address].id: one.amount_base for one in seen if one.address in receiving}
    before = await queries.load_balances(tx, coin, list(held))
    # Where nothing changed nothing rose, and most of the time nothing changes.
    changed = {i: row.height for i, row in before.items() if row.amount_base != held[i]}
    received = await queries.received_since(tx, coin, changed) if changed else {}
    by_id = {row.id: row for row in receiving.values()}
    rises = []
    for address_id, transfers in received.items():
        unexplained = held[address_id] - before[address_id].amount_base - sum(amount for _, amount in transfers)
        if unexplained > 0:
            rises.append(Rise(by_id[address_id], unexplained, before[address_id].height, height))
    looked = [BalanceRow(address_id, height, amount) for address_id, amount in held.items()]
    await queries.insert_balances(tx, coin, [row for row in looked if row.address_id not in before])
    await queries.update_balances(tx, coin, [row for row in looked if row.address_id in before])
    return rises


async def take_back(tx: AsyncConnection, coin: Asset, disconnected: Sequence[BlockRef]) -> None:
    """Looks that were taken in blocks that are being disconnected become looks at the block below them.

    Called while the transfers still lie in those blocks.
    """
    if not disconnected:
        return
    height = disconnected[-1].height - 1
    rows = await queries.balances_above(tx, coin, height)
    received = await queries.received_since(tx, coin, {row.address_id: height for row in rows})
    taken = {row.address_id: sum(a for h, a in received[row.address_id] if h <= row.height) for row in rows}
    await queries.update_balances(
        tx,
        coin,
        [BalanceRow(row.address_id, height, max(row.amount_base - taken[row.address_id], 0)) for row in rows],
    )
