"""One update of a chain, one transaction: the only way in which what a node said becomes payments.

A crash at any point replays from the committed head and changes nothing twice.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd import balances
from astrapayd.bookkeeping import RE_LET_SECS, Bookkeeping, ChainView
from astrapayd.chains import Chain, ChainRegistry, Tier
from astrapayd.db import chains as chain_queries
from astrapayd.db import outbox
from astrapayd.db import payers as payer_queries
from astrapayd.db import reservations as reservation_queries
from astrapayd.db import sessions as session_queries
from astrapayd.db import transfers as transfer_queries
from astrapayd.db.chains import AddressRow
from astrapayd.db.engine import Database
from astrapayd.db.notices import notify
from astrapayd.db.outbox import NewEvent
from astrapayd.db.transfers import TransferRow
from astrapayd.event_data import amount_text, unexplained_data, unmatched_data
from astrapayd.events import EventType
from astrapayd.ids import new_id
from astrapayd.matching import Allowance, Arrival, CreditReason, Matched, Reservation, Unmatched, match
from astrapayd.money import Asset
from astrapayd.sessions import Cancelled, Session, Settled
from astrapayd.transfers import BlockRef, ChainUpdate, Transfer

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Refused(Exception):
    """The update cannot be applied; the watcher begins again from the committed head."""


class Fenced(Refused):
    """Another watcher holds the chain now, or the head is no longer what the update was made from."""


class BrokenUpdate(Refused):
    """The update's blocks do not hang together: a fault of the watcher or its node. Nothing was written."""


class StaleWatch(Refused):
    """An address was added after the update was fetched: it must be fetched again to see that address too."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a committed update did. ``transfers`` counts those seen, ``sessions`` are the ones that changed."""

    sessions: frozenset[str]
    transfers: int


class Ingest:
    """The only writer of payment state. ``now`` answers Unix seconds."""

    def __init__(
        self,
        database: Database,
        registry: ChainRegistry,
        allowances: Mapping[str, Allowance],
        tiers: Mapping[str, Sequence[Tier]],
        now: Callable[[], int] = lambda: int(time.time()),
        pick: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        """:param allowances: by store.
        :param tiers: by asset, the smallest first.
        :param pick: answers a random integer below its argument, for tails; predictable ones are for tests only.
        """
        self._database = database
        self._registry = registry
        self._allowances = allowances
        self._now = now
        self.books = Bookkeeping(registry, tiers, now, pick)

    async def apply(self, step: ChainUpdate, epoch: int) -> Applied:
        """Apply an update whole or not at all.

        1. Move the head by compare-and-swap, which fences an old watcher and locks the chain's row.
        2. Take transfers out of disconnected blocks, and put the new branch in their place.
        3. Write transfers that are new or moved.
        4. Match those that are not counted for a session yet.
        5. Compute anew every session that the update can have changed; events and deliveries are written with it.
        6. Set balances against the transfers, and tell of coin that came without one.
        7. Release what is past its late window, forget blocks that are final.

        :raises BrokenUpdate: if its blocks are not linked to each other and to its base.
        :raises Fenced: if the watcher's epoch or base is no longer the committed one.
        :raises StaleWatch: if the update was made with an older set of addresses.
        """
        _check_links(step)
        chain = self._registry[step.chain]
        async with self._database.write() as tx:
            if not await chain_queries.move_head(tx, step, epoch):
                raise Fenced(f"the head of {step.chain} is no longer the one that this update was made from")
            committed = await chain_queries.load_chain(tx, step.chain)
            if committed is None or step.watch_version < committed.watch_version:
                raise StaleWatch(f"an address of {step.chain} was added while the update was fetched")

            coin = balances.coin_of(chain)
            if coin is not None:
                await balances.take_back(tx, coin, step.disconnected)
            touched = await transfer_queries.take_out_of_blocks(tx, step.chain, step.disconnected)
            touched += await transfer_queries.mark_replaced(tx, step.chain, step.replaced)
            await chain_queries.replace_blocks(tx, step.chain, step.disconnected, step.connected)

            # A header may be hours ahead of the clock (Bitcoin); nobody's window is over before its time.
            view = ChainView(step.head.height, committed.final_height, min(step.head.time, self._now()))
            arrived, to_match = await self._write_transfers(tx, chain, step)
            rules, unmatched = await self._match(tx, chain, to_match)
            sessions = await transfer_queries.credited_sessions(tx, touched + arrived)
            sessions |= set(rules)
            sessions |= await session_queries.sessions_to_look_at(
                tx, step.chain, view.time, reorganised=bool(step.disconnected)
            )
            changed = await self.books.look(tx, sessions, view, f"{step.chain} block {step.head.height}", rules)

            for store, event in unmatched:  # as late as the sessions' own: the numbers of events are everybody's
                await outbox.append_events(tx, [event], store=store, created_at=self._now())
            if coin is not None and step.balances:
                await self._compare_balances(tx, chain, coin, step)
            await reservation_queries.release_reservations(tx, step.chain, view.time)
            await self._forget_final(tx, chain, view)
            await notify(tx, [*changed, f"chain:{step.chain}"])
        return Applied(frozenset(changed), len(arrived))

    async def change(self, session_id: str, change: Cancelled | Settled) -> Session:
        """Apply what a person decided about a session.

        :raises astrapayd.bookkeeping.NoSuchSession: if there is none with that id.
        :raises astrapayd.sessions.NotPossible: if its status does not allow it.
        """
        async with self._database.write() as tx:
            chain_id = await session_queries.chain_of_session(tx, session_id)
            if chain_id is not None:
                await chain_queries.lock_chain(tx, chain_id)
            return await self.books.decide(tx, session_id, change)

    async def _write_transfers(
        self, tx: AsyncConnection, chain: Chain, step: ChainUpdate
    ) -> tuple[list[str], list[tuple[TransferRow, AddressRow]]]:
        """Ids of all that are new or moved, and those among them that no session is credited with yet."""
        if not step.transfers:
            return [], []
        receiving = await chain_queries.load_addresses(tx, step.chain, {t.recipient for t in step.transfers})
        assets = {asset.contract: asset for asset in chain.assets.values()}
        known = await transfer_queries.load_by_identity(tx, step.chain, {t.identity for t in step.transfers})
        arrived: dict[str, tuple[TransferRow, AddressRow]] = {}
        for transfer in step.transfers:
            address, asset = receiving.get(transfer.recipient), assets.get(transfer.contract)
            if address is None or asset is None or transfer.amount_base <= 0:
                continue  # watched no longer, or never ours: a watcher may send more than it was asked for
            row = known.get(transfer.identity)
            if row is None:
                row = self._new_row(transfer, chain, asset, address, step)
                await transfer_queries.insert_transfer(tx, row)
            elif transfer.block is not None:
                row = await _mined(tx, row, transfer.block)
            elif not row.live:
                row = await _pending_again(tx, row)
            else:
                continue  # heard of again, and nothing new: what was unmatched is not tried against newer sessions
            known[transfer.identity] = row
            arrived[row.id] = row, address
        # Mined again in another block, an unmatched one may now lie above the opening that it lay below.
        return list(arrived), [(row, address) for row, address in arrived.values() if row.standing == "unmatched"]

    def _new_row(
        self, transfer: Transfer, chain: Chain, asset: Asset, address: AddressRow, step: ChainUpdate
    ) -> TransferRow:
        block, now = transfer.block, self._now()
        return TransferRow(
            id=new_id("pay"),
            chain=chain.id,
            tx=transfer.tx,
            kind=transfer.kind,
            ordinal=transfer.ordinal,
            asset=asset.id,
            sender=transfer.sender,
            address_id=address.id,
            amount_base=transfer.amount_base,
            state="mined" if block else "unconfirmed",
            block_height=block.height if block else None,
            block_hash=block.hash if block else None,
            block_time=block.time if block else None,
            first_seen_at=min(block.time, now) if block else now,
            first_seen_height=block.height if block else step.head.height,
            standing="unmatched",
            reason="",
            candidates=(),
        )

    async def _match(
        self, tx: AsyncConnection, chain: Chain, arrived: list[tuple[TransferRow, AddressRow]]
    ) -> tuple[dict[str, list[str]], list[tuple[str, NewEvent]]]:
        """Credit what a rule covers; answers why, by credited session, and what is to be told of the rest (store and
        event)."""
        rules: dict[str, list[str]] = {}
        told: list[tuple[str, NewEvent]] = []
        if not arrived:
            return rules, told
        held = await reservation_queries.live_reservations(tx, sorted({a.id for _, a in arrived}), self._registry)
        for row, address in arrived:
            verdict = await self._verdict(tx, row, address, held[address.id])
            match verdict:
                case Matched(session_id, reason, rule):
                    await transfer_queries.insert_credit(tx, row.id, session_id, reason, self._now())
                    await transfer_queries.set_standing(tx, row.id, "credited", rule, ())
                    rules.setdefault(session_id, []).append(rule)
                case Unmatched(why, candidates):
                    if row.reason == why:
                        continue  # mined again, and still nobody's: it was told
                    await transfer_queries.set_standing(tx, row.id, "unmatched", why, candidates)
                    told.append((address.store, self._unmatched(chain, row, address, verdict)))
        return rules, told

    async def _verdict(
        self, tx: AsyncConnection, row: TransferRow, address: AddressRow, held: list[Reservation]
    ) -> Matched | Unmatched:
        asset = self._registry.asset(row.asset)
        arrival = Arrival(asset, row.amount_base, row.block_height, row.first_seen_height, row.first_seen_at)
        allowance = self._allowances.get(address.store, Allowance())
        released: list[Reservation] = []
        verdict = match(arrival, held, allowance)
        if isinstance(verdict, Matched) and verdict.reason in (CreditReason.AMOUNT, CreditReason.TAIL):
            # One who forgot to pay may remember days later, when the tail is somebody else's: nothing is guessed.
            since = row.first_seen_at - RE_LET_SECS
            released = await reservation_queries.unpaid_for(tx, address.id, asset, row.amount_base, since)
            verdict = match(arrival, held, allowance, released)
        if isinstance(verdict, Unmatched) and row.sender and held:
            proved = await payer_queries.proved_by(tx, row.sender, {r.session_id for r in held})
            verdict = match(arrival, held, allowance, released, proved)
        return verdict

    def _unmatched(self, chain: Chain, row: TransferRow, address: AddressRow, verdict: Unmatched) -> NewEvent:
        asset = self._registry.asset(row.asset)
        told = replace(row, reason=verdict.reason, candidates=verdict.candidates)
        return NewEvent(
            EventType.TRANSFER_UNMATCHED,
            row.id,
            0,
            unmatched_data(told, asset, chain, address.address),
            # Mined again, there or elsewhere, it is told again if the reason changed.
            about=f"{row.block_hash or ''} {verdict.reason}",
        )

    async def _compare_balances(self, tx: AsyncConnection, chain: Chain, coin: Asset, step: ChainUpdate) -> None:
        receiving = await chain_queries.load_addresses(tx, chain.id, {b.address for b in step.balances})
        rises = await balances.compare(tx, coin, step.balances, receiving, step.head.height)
        held = await reservation_queries.live_reservations(tx, [r.address.id for r in rises], self._registry)
        for rise in rises:
            expecting = [
                reservation.session_id
                for reservation in held[rise.address.id]
                if reservation.asset == coin and reservation.due_base == rise.amount_base
            ]
            _log.warning(
                "coin came without a transfer",
                chain=chain.id,
                address=chain.display_address(rise.address.address),
                rose_by=amount_text(rise.amount_base, coin),
                above_height=rise.from_height,
                height=step.head.height,
                sessions=expecting,
            )
            new = NewEvent(
                EventType.BALANCE_UNEXPLAINED,
                chain.display_address(rise.address.address),
                step.head.height,
                unexplained_data(rise, coin, chain, expecting, step.head),
                about=step.head.hash,
            )
            await outbox.append_events(tx, [new], store=rise.address.store, created_at=self._now())

    async def _forget_final(self, tx: AsyncConnection, chain: Chain, view: ChainView) -> None:
        """Keep every block that may still be disconnected, and one final block below as an anchor."""
        depth = chain.final
        final_height = view.final_height if depth.blocks is None else view.head_height - depth.blocks + 1
        await chain_queries.forget_blocks(tx, chain.id, min(final_height, view.head_height))


def _check_links(step: ChainUpdate) -> None:
    """Each block must stand on the one before, so that what is kept until final is always one branch."""
    at = step.base
    for block in step.disconnected:
        if at is None or block.hash != at.hash:
            raise BrokenUpdate(f"{step.chain}: block {block.hash} is not the head that it was to be taken from")
        at = BlockRef(block.height - 1, block.parent, "", 0)
    for block in step.connected:
        if at is not None and (block.parent != at.hash or block.height != at.height + 1):
            raise BrokenUpdate(f"{step.chain}: block {block.hash} does not stand on {at.hash}")
        at = block
    if at is None or step.head.hash != at.hash or step.head.height != at.height:
        raise BrokenUpdate(f"{step.chain}: the head {step.head.hash} is not where the blocks lead")


async def _pending_again(tx: AsyncConnection, row: TransferRow) -> TransferRow:
    """Its block was disconnected, or a rival had taken its place, and the node holds it for minable again."""
    await transfer_queries.put_in_mempool(tx, row.id)
    return replace(row, state="unconfirmed")


async def _mined(tx: AsyncConnection, row: TransferRow, block: BlockRef) -> TransferRow:
    """Seen before, and now (again) in a block. The first sight counts for being on time, whichever came first."""
    first_seen_at = min(row.first_seen_at, block.time)
    await transfer_queries.put_in_block(tx, row.id, block, first_seen_at)
    return replace(
        row,
        state="mined",
        block_height=block.height,
        block_hash=block.hash,
        block_time=block.time,
        first_seen_at=first_seen_at,
    )
