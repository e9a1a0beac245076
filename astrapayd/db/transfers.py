"""Queries on transfers and credits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.tables import addresses, transfers
from astrapayd.db.tables import credits as credit_rows
from astrapayd.matching import Candidate, CreditReason
from astrapayd.transfers import BlockRef, TransferKind

_BATCH = 300  # SQLite limits bound values per statement; a chunk of identities stays well below


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A transfer as committed. ``block`` is set exactly while ``state`` is ``mined``; its parent is not kept.

    ``first_seen_at``: Unix seconds, its block's time where that is earlier.
    """

    id: str
    chain: str
    tx: str
    kind: TransferKind
    ordinal: int
    asset: str
    sender: str
    address_id: int
    amount_base: int
    state: str
    block_height: int | None
    block_hash: str | None
    block_time: int | None
    first_seen_at: int
    first_seen_height: int
    standing: str
    reason: str
    candidates: tuple[Candidate, ...]
    note: str = ""

    @property
    def identity(self) -> tuple[str, TransferKind, int]:
        """As :attr:`astrapayd.transfers.Transfer.identity`."""
        return (self.tx, self.kind, self.ordinal)

    @property
    def live(self) -> bool:
        """Whether it counts: neither reorganised nor replaced away."""
        return self.state in ("mined", "unconfirmed")


@dataclass(frozen=True, slots=True)
class CreditRow:
    """A transfer with the session it is counted for; ``live``, ``confirmed`` and ``turns`` as last told."""

    session_id: str
    credited_by: CreditReason
    credited_at: int
    live: bool
    confirmed: bool
    turns: int
    transfer: TransferRow


async def load_by_identity(
    connection: AsyncConnection, chain_id: str, identities: Collection[tuple[str, TransferKind, int]]
) -> dict[tuple[str, TransferKind, int], TransferRow]:
    """Those of the identities that are known."""
    found: dict[tuple[str, TransferKind, int], TransferRow] = {}
    # By transaction, and sorted out here: for a list of whole identities SQLite would read every transfer there is.
    txs = sorted({tx for tx, _, _ in identities})
    for start in range(0, len(txs), _BATCH):
        statement = select(transfers).where(
            transfers.c.chain == chain_id, transfers.c.tx.in_(txs[start : start + _BATCH])
        )
        for row in await connection.execute(statement):
            transfer = transfer_of(row._mapping)
            if transfer.identity in identities:
                found[transfer.identity] = transfer
    return found


async def insert_transfer(tx: AsyncConnection, row: TransferRow) -> None:
    """A transfer seen for the first time."""
    await tx.execute(
        insert(transfers).values(
            {
                "id": row.id,
                "chain": row.chain,
                "tx": row.tx,
                "kind": row.kind,
                "ordinal": row.ordinal,
                "asset": row.asset,
                "sender": row.sender,
                "address_id": row.address_id,
                "amount_base": row.amount_base,
                "state": row.state,
                "block_height": row.block_height,
                "block_hash": row.block_hash,
                "block_time": row.block_time,
                "first_seen_at": row.first_seen_at,
                "first_seen_height": row.first_seen_height,
                "standing": row.standing,
                "reason": row.reason,
                "candidates": [{"session": c.session_id, "reason": c.reason} for c in row.candidates],
            }
        )
    )


async def put_in_block(tx: AsyncConnection, transfer_id: str, block: BlockRef, first_seen_at: int) -> None:
    """It was mined, for the first time or again elsewhere."""
    await tx.execute(
        update(transfers)
        .where(transfers.c.id == transfer_id)
        .values(
            state="mined",
            block_height=block.height,
            block_hash=block.hash,
            block_time=block.time,
            first_seen_at=first_seen_at,
        )
    )


async def put_in_mempool(tx: AsyncConnection, transfer_id: str) -> None:
    """It was in a block or given up, and can be mined again."""
    await tx.execute(update(transfers).where(transfers.c.id == transfer_id).values(state="unconfirmed"))


async def take_out_of_blocks(tx: AsyncConnection, chain_id: str, blocks: Sequence[BlockRef]) -> list[str]:
    """Their blocks were disconnected: the transfers' ids. They may be mined again."""
    if not blocks:
        return []
    gone = await tx.execute(
        update(transfers)
        .where(transfers.c.chain == chain_id, transfers.c.block_hash.in_([b.hash for b in blocks]))
        .values(state="orphaned", block_height=None, block_hash=None, block_time=None)
        .returning(transfers.c.id)
    )
    return list(gone.scalars())


async def mark_replaced(tx: AsyncConnection, chain_id: str, txs: Sequence[str]) -> list[str]:
    """These transactions can no longer be mined: the ids of their transfers."""
    found: list[str] = []
    for start in range(0, len(txs), _BATCH):
        gone = await tx.execute(
            update(transfers)
            .where(
                transfers.c.chain == chain_id,
                transfers.c.tx.in_(txs[start : start + _BATCH]),
                transfers.c.state.in_(["unconfirmed", "orphaned"]),
            )
            .values(state="replaced")
            .returning(transfers.c.id)
        )
        found.extend(gone.scalars())
    return found


async def load_transfer(tx: AsyncConnection, transfer_id: str) -> tuple[TransferRow, str] | None:
    """A transfer with the store whose address it came to, or None."""
    statement = (
        select(transfers, addresses.c.store)
        .join(addresses, addresses.c.id == transfers.c.address_id)
        .where(transfers.c.id == transfer_id)
    )
    row = (await tx.execute(statement)).one_or_none()
    return (transfer_of(row._mapping), row.store) if row is not None else None


async def load_by_tx(connection: AsyncConnection, chain_id: str, tx_id: str) -> list[tuple[TransferRow, str]]:
    """What is known of one transaction: its transfers to addresses of ours, each with the store."""
    rows = await connection.execute(
        select(transfers, addresses.c.store)
        .join(addresses, addresses.c.id == transfers.c.address_id)
        .where(transfers.c.chain == chain_id, transfers.c.tx == tx_id)
        .order_by(transfers.c.kind, transfers.c.ordinal)
    )
    return [(transfer_of(row._mapping), row.store) for row in rows]


async def session_credited_with(connection: AsyncConnection, transfer_id: str) -> tuple[str, CreditReason] | None:
    """The session that a transfer is counted for, and why; or None."""
    row = (
        await connection.execute(
            select(credit_rows.c.session_id, credit_rows.c.credited_by).where(credit_rows.c.transfer_id == transfer_id)
        )
    ).one_or_none()
    return (row.session_id, CreditReason(row.credited_by)) if row is not None else None


async def sort_by_hand(tx: AsyncConnection, transfer_id: str, standing: str, note: str) -> None:
    """A person says what a transfer is. Why no rule covered it stays, for when that is taken back."""
    await tx.execute(update(transfers).where(transfers.c.id == transfer_id).values(standing=standing, note=note))


async def set_standing(
    tx: AsyncConnection, transfer_id: str, standing: str, reason: str, candidates: Iterable[Candidate]
) -> None:
    """What became of a transfer, and why."""
    await tx.execute(
        update(transfers)
        .where(transfers.c.id == transfer_id)
        .values(
            standing=standing,
            reason=reason,
            candidates=[{"session": c.session_id, "reason": c.reason} for c in candidates],
        )
    )


async def insert_credit(
    tx: AsyncConnection, transfer_id: str, session_id: str, credited_by: CreditReason, now: int
) -> None:
    """Count a transfer for a session; the primary key refuses a second time."""
    await tx.execute(
        insert(credit_rows).values(
            transfer_id=transfer_id,
            session_id=session_id,
            credited_by=credited_by,
            credited_at=now,
            live=False,
            confirmed=False,
            turns=0,
        )
    )


async def save_told(tx: AsyncConnection, transfer_id: str, *, live: bool, confirmed: bool, turns: int) -> None:
    """Remember what was told of a credit."""
    await tx.execute(
        update(credit_rows)
        .where(credit_rows.c.transfer_id == transfer_id)
        .values(live=live, confirmed=confirmed, turns=turns)
    )


async def credited_sessions(connection: AsyncConnection, transfer_ids: Sequence[str]) -> set[str]:
    """The sessions that these transfers are counted for."""
    found: set[str] = set()
    for start in range(0, len(transfer_ids), _BATCH):
        rows = await connection.execute(
            select(credit_rows.c.session_id).where(credit_rows.c.transfer_id.in_(transfer_ids[start : start + _BATCH]))
        )
        found.update(rows.scalars())
    return found


async def load_credits(connection: AsyncConnection, session_ids: Sequence[str]) -> dict[str, list[CreditRow]]:
    """The credits of each session, in the order in which they came; every asked id has an entry."""
    found: dict[str, list[CreditRow]] = {session_id: [] for session_id in session_ids}
    for start in range(0, len(session_ids), _BATCH):
        rows = await connection.execute(
            select(
                transfers,
                credit_rows.c.session_id,
                credit_rows.c.credited_by,
                credit_rows.c.credited_at,
                credit_rows.c.live,
                credit_rows.c.confirmed,
                credit_rows.c.turns,
            )
            .join(credit_rows, credit_rows.c.transfer_id == transfers.c.id)
            .where(credit_rows.c.session_id.in_(session_ids[start : start + _BATCH]))
            .order_by(transfers.c.first_seen_at, transfers.c.tx, transfers.c.kind, transfers.c.ordinal)
        )
        for row in rows:
            found[row.session_id].append(
                CreditRow(
                    row.session_id,
                    CreditReason(row.credited_by),
                    row.credited_at,
                    row.live,
                    row.confirmed,
                    row.turns,
                    transfer_of(row._mapping),
                )
            )
    return found


def transfer_of(row: RowMapping) -> TransferRow:
    """The transfer in a row that selects ``transfers`` (and perhaps more)."""
    values = {name: row[name] for name in TransferRow.__dataclass_fields__}
    values["kind"] = TransferKind(values["kind"])
    values["candidates"] = tuple(Candidate(c["session"], c["reason"]) for c in values["candidates"])
    return TransferRow(**values)
