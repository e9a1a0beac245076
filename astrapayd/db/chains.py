"""Queries on chains: the head and its fence, the blocks kept until final, and what is watched."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import case, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.tables import addresses, chain_blocks, chains, derivations, tail_spaces, transfers
from astrapayd.money import Asset
from astrapayd.transfers import BlockRef, ChainUpdate, Watched

_BATCH = 500


@dataclass(frozen=True, slots=True)
class ChainRow:
    """One chain as committed. ``looked_at`` is Unix seconds; ``level``: its watcher is live and level with its node."""

    id: str
    network: str
    genesis: str
    head_height: int | None
    head_hash: str | None
    final_height: int
    watcher_epoch: int
    watch_version: int
    level: bool
    looked_at: int
    problem: str


async def load_chain(connection: AsyncConnection, chain_id: str) -> ChainRow | None:
    """The chain's row, or None before its first start."""
    row = (await connection.execute(select(chains).where(chains.c.id == chain_id))).one_or_none()
    return ChainRow(**row._mapping) if row is not None else None


async def lock_chain(tx: AsyncConnection, chain_id: str) -> None:
    """Hold the chain's row until the transaction ends, as each of its updates does by moving the head: what a person
    decides, and what is opened, comes before one update or after it, never in between. The first of all locks
    (``docs/adr/0006-locks-on-postgresql.md``)."""
    await tx.execute(select(chains.c.id).where(chains.c.id == chain_id).with_for_update(key_share=True))


async def insert_chain(tx: AsyncConnection, chain_id: str, network: str) -> None:
    """A chain that this database sees for the first time."""
    await tx.execute(
        insert(chains).values(
            id=chain_id,
            network=network,
            final_height=-1,
            watcher_epoch=0,
            watch_version=0,
            level=False,
            looked_at=0,
        )
    )


async def set_network(tx: AsyncConnection, chain_id: str, network: str) -> None:
    """Correct the CAIP-2 id of a chain that was never followed."""
    await tx.execute(update(chains).where(chains.c.id == chain_id).values(network=network))


async def begin_epoch(tx: AsyncConnection, chain_id: str) -> int:
    """Take the chain for a new watcher: whatever an older one still sends is refused from now on."""
    statement = (
        update(chains)
        .where(chains.c.id == chain_id)
        .values(watcher_epoch=chains.c.watcher_epoch + 1, level=False)
        .returning(chains.c.watcher_epoch)
    )
    return int((await tx.execute(statement)).scalar_one())


async def move_head(tx: AsyncConnection, step: ChainUpdate, epoch: int) -> bool:
    """Compare-and-swap of the head; False if the watcher lost its epoch or the head is no longer ``step.base``."""
    base_hash = step.base.hash if step.base else None
    # What was final stays so: another node that lags, or does not say, takes nothing back.
    final_height = case((chains.c.final_height > step.final_height, chains.c.final_height), else_=step.final_height)
    moved = await tx.execute(
        update(chains)
        .where(
            chains.c.id == step.chain,
            chains.c.watcher_epoch == epoch,
            chains.c.head_hash == base_hash if base_hash is not None else chains.c.head_hash.is_(None),
        )
        .values(head_height=step.head.height, head_hash=step.head.hash, final_height=final_height)
    )
    return moved.rowcount == 1


async def record_look(
    tx: AsyncConnection, chain_id: str, epoch: int, *, level: bool, looked_at: int, problem: str
) -> None:
    """What the watcher says of itself between updates; ignored from a watcher that lost its epoch.

    ``looked_at`` 0 leaves the last good look as it was.
    """
    values = {"level": level, "problem": problem} | ({"looked_at": looked_at} if looked_at else {})
    await tx.execute(update(chains).where(chains.c.id == chain_id, chains.c.watcher_epoch == epoch).values(values))


async def record_genesis(tx: AsyncConnection, chain_id: str, genesis: str) -> None:
    """Remember which chain this database follows; two chains can share an id (every dev chain does)."""
    await tx.execute(update(chains).where(chains.c.id == chain_id).values(genesis=genesis))


async def head_block(connection: AsyncConnection, chain_id: str) -> BlockRef | None:
    """The newest block kept, or None before the first."""
    found = await connection.execute(
        select(chain_blocks.c.height, chain_blocks.c.hash, chain_blocks.c.parent, chain_blocks.c.time)
        .where(chain_blocks.c.chain == chain_id)
        .order_by(chain_blocks.c.height.desc())
        .limit(1)
    )
    row = found.one_or_none()
    return BlockRef(*row) if row is not None else None


async def recent_blocks(connection: AsyncConnection, chain_id: str) -> tuple[BlockRef, ...]:
    """The blocks kept until final, newest first."""
    rows = await connection.execute(
        select(chain_blocks.c.height, chain_blocks.c.hash, chain_blocks.c.parent, chain_blocks.c.time)
        .where(chain_blocks.c.chain == chain_id)
        .order_by(chain_blocks.c.height.desc())
    )
    return tuple(BlockRef(*row) for row in rows)


async def replace_blocks(
    tx: AsyncConnection, chain_id: str, disconnected: Sequence[BlockRef], connected: Sequence[BlockRef]
) -> None:
    """Take blocks off the kept branch and put others on."""
    if disconnected:
        await tx.execute(
            delete(chain_blocks).where(
                chain_blocks.c.chain == chain_id, chain_blocks.c.hash.in_([b.hash for b in disconnected])
            )
        )
    if connected:
        await tx.execute(
            insert(chain_blocks),
            [
                {"chain": chain_id, "height": b.height, "hash": b.hash, "parent": b.parent, "time": b.time}
                for b in connected
            ],
        )


async def forget_blocks(tx: AsyncConnection, chain_id: str, below_height: int) -> None:
    """Drop kept blocks below a height; the caller knows them to be final."""
    await tx.execute(delete(chain_blocks).where(chain_blocks.c.chain == chain_id, chain_blocks.c.height < below_height))


async def watch_version(connection: AsyncConnection, chain_id: str) -> int:
    """The version of the watched set; it grows with each address that is added."""
    return int((await connection.execute(select(chains.c.watch_version).where(chains.c.id == chain_id))).scalar_one())


async def load_watched(connection: AsyncConnection, chain_id: str, assets: Iterable[Asset]) -> Watched:
    """Everything watched on a chain: retired addresses too, since a customer may still pay to one."""
    version = await watch_version(connection, chain_id)
    found = await connection.execute(select(addresses.c.address).where(addresses.c.chain == chain_id))
    assets = tuple(assets)
    return Watched(
        version=version,
        addresses=frozenset(found.scalars()),
        contracts=frozenset(a.contract for a in assets if a.contract is not None),
        native=any(a.contract is None for a in assets),
    )


@dataclass(frozen=True, slots=True)
class AddressRow:
    """A receiving address. ``derived``: it belongs to one session, and no tail is needed."""

    id: int
    chain: str
    address: str
    store: str
    derived: bool


async def load_addresses(connection: AsyncConnection, chain_id: str, wanted: Collection[str]) -> dict[str, AddressRow]:
    """Those among ``wanted`` that are receiving addresses of the chain, by address."""
    found: dict[str, AddressRow] = {}
    in_order = sorted(wanted)
    for start in range(0, len(in_order), _BATCH):
        rows = await connection.execute(
            select(
                addresses.c.id, addresses.c.chain, addresses.c.address, addresses.c.store, addresses.c.derivation
            ).where(addresses.c.chain == chain_id, addresses.c.address.in_(in_order[start : start + _BATCH]))
        )
        for row in rows:
            found[row.address] = AddressRow(row.id, row.chain, row.address, row.store, row.derivation is not None)
    return found


async def synchronise_addresses(
    tx: AsyncConnection, chain_id: str, configured: Mapping[str, str], now: int
) -> dict[str, str]:
    """Make the static addresses of a chain those of the configuration (address → store).

    An address that left the configuration is retired, not forgotten. Answers those that the database knows as another
    store's (address → that store); then nothing was changed.
    """
    known = {
        row.address: row
        for row in await tx.execute(
            select(addresses.c.id, addresses.c.address, addresses.c.store, addresses.c.retired_at).where(
                addresses.c.chain == chain_id, addresses.c.derivation.is_(None)
            )
        )
    }
    foreign = {a: known[a].store for a, store in configured.items() if a in known and known[a].store != store}
    if foreign:
        return foreign
    added = [a for a in configured if a not in known]
    if added:
        version = await next_watch_version(tx, chain_id)
        await tx.execute(
            insert(addresses),
            [{"chain": chain_id, "address": a, "store": configured[a], "added_version": version} for a in added],
        )
    for address, row in known.items():
        retired = None if address in configured else now
        if (row.retired_at is None) != (retired is None):
            await tx.execute(update(addresses).where(addresses.c.id == row.id).values(retired_at=retired))
    return {}


async def watch_lost_addresses(tx: AsyncConnection, chain_id: str, lost: Mapping[str, str], now: int) -> int:
    """Watch addresses (address → store) that customers may have been given in a time that a restored backup does not
    know, and never give them out. Answers how many are new."""
    known = await load_addresses(tx, chain_id, lost)
    added = [address for address in lost if address not in known]
    if added:
        version = await next_watch_version(tx, chain_id)
        rows = [
            {"chain": chain_id, "address": a, "store": lost[a], "added_version": version, "retired_at": now}
            for a in added
        ]
        await tx.execute(insert(addresses), rows)
    return len(added)


async def next_derivation_index(tx: AsyncConnection, key_hash: str, branch: int) -> tuple[int, int]:
    """Take the next index of a key's branch: (derivation's id, index). One counter, whichever stores and chains use it;
    an index is never given twice, not even after an opening that failed later in the same transaction.
    """
    derivation = await _derivation(tx, key_hash, branch)
    taken = (
        update(derivations)
        .where(derivations.c.id == derivation)
        .values(next_index=derivations.c.next_index + 1)
        .returning(derivations.c.next_index)
    )
    return derivation, int((await tx.execute(taken)).scalar_one()) - 1


async def skip_indexes(tx: AsyncConnection, key_hash: str, branch: int, next_index: int) -> None:
    """Give out no index below ``next_index`` any more: they have a history."""
    derivation = await _derivation(tx, key_hash, branch)
    await tx.execute(
        update(derivations)
        .where(derivations.c.id == derivation, derivations.c.next_index < next_index)
        .values(next_index=next_index)
    )


async def _derivation(tx: AsyncConnection, key_hash: str, branch: int) -> int:
    """The counter of a key's branch, made at its first use."""
    known = select(derivations.c.id).where(derivations.c.key_hash == key_hash, derivations.c.branch == branch)
    derivation = (await tx.execute(known)).scalar_one_or_none()
    if derivation is None:
        with contextlib.suppress(IntegrityError):  # an opening on another chain was the first at the same moment
            async with tx.begin_nested():
                await tx.execute(insert(derivations).values(key_hash=key_hash, branch=branch, next_index=0))
        derivation = (await tx.execute(known)).scalar_one()
    return int(derivation)


async def unfunded_run(connection: AsyncConnection, key_hash: str, branch: int, at_most: int) -> int:
    """How many of the newest derived addresses in a row have never received anything, counted up to ``at_most``."""
    funded = select(transfers.c.id).where(transfers.c.address_id == addresses.c.id).exists()
    rows = await connection.execute(
        select(funded)
        .select_from(addresses.join(derivations, derivations.c.id == addresses.c.derivation))
        .where(derivations.c.key_hash == key_hash, derivations.c.branch == branch)
        .order_by(addresses.c.derivation_index.desc())
        .limit(at_most)
    )
    run = 0
    for received in rows.scalars():
        if received:
            break
        run += 1
    return run


async def insert_derived_address(
    tx: AsyncConnection, chain_id: str, address: str, store: str, derivation: int, index: int
) -> int | None:
    """Add a session's own address to the watched ones; None if it is known already (and may have a history)."""
    known = select(addresses.c.id).where(addresses.c.chain == chain_id, addresses.c.address == address)
    if (await tx.execute(known)).one_or_none() is not None:
        return None
    statement = (
        insert(addresses)
        .values(
            chain=chain_id,
            address=address,
            store=store,
            derivation=derivation,
            derivation_index=index,
            added_version=await next_watch_version(tx, chain_id),
        )
        .returning(addresses.c.id)
    )
    return int((await tx.execute(statement)).scalar_one())


async def next_watch_version(tx: AsyncConnection, chain_id: str) -> int:
    """Begin a new version of the watched set, in the transaction that adds to it."""
    statement = (
        update(chains)
        .where(chains.c.id == chain_id)
        .values(watch_version=chains.c.watch_version + 1)
        .returning(chains.c.watch_version)
    )
    return int((await tx.execute(statement)).scalar_one())


async def bound_tail_space(connection: AsyncConnection, address_id: int, asset: Asset) -> tuple[int, int] | None:
    """The price decimals and tail digits that an address was first used with for the asset, or None if never."""
    space = (
        await connection.execute(
            select(tail_spaces.c.price_decimals, tail_spaces.c.tail_digits).where(
                tail_spaces.c.address_id == address_id, tail_spaces.c.asset == asset.id
            )
        )
    ).one_or_none()
    return (int(space.price_decimals), int(space.tail_digits)) if space is not None else None


async def fix_tail_space(tx: AsyncConnection, address_id: int, asset: Asset) -> bool:
    """Bind an address to the asset's price decimals and tail digits at its first use.

    False if it is bound to others: amounts reserved before would no longer be told apart, so nothing may be reserved.
    """
    wanted = (asset.price_decimals, asset.tail_digits)
    bound = await bound_tail_space(tx, address_id, asset)
    if bound is None:
        await tx.execute(
            insert(tail_spaces).values(
                address_id=address_id, asset=asset.id, price_decimals=wanted[0], tail_digits=wanted[1]
            )
        )
    return bound in (None, wanted)
