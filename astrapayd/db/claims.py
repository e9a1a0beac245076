"""Queries on claims: who says that an unmatched transaction was meant for which session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.claims import ClaimStatus
from astrapayd.db.tables import claims, sessions


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A claim as committed, with its session's chain and store. ``proof`` is empty where nothing was signed."""

    id: str
    session_id: str
    chain: str
    store: str
    tx: str
    status: ClaimStatus
    proof: Mapping[str, str]
    note: str
    created_at: int
    decided_at: int | None


async def insert_claim(
    tx: AsyncConnection,
    *,
    claim_id: str,
    session_id: str,
    tx_id: str,
    status: ClaimStatus,
    proof: Mapping[str, str],
    note: str,
    now: int,
) -> None:
    """A new claim; one of a session on a transaction is all that there is."""
    await tx.execute(
        insert(claims).values(
            id=claim_id,
            session_id=session_id,
            tx=tx_id,
            status=status,
            proof=dict(proof),
            note=note,
            created_at=now,
            decided_at=None if status is ClaimStatus.OPEN else now,
        )
    )


async def decide_claim(
    tx: AsyncConnection,
    claim_id: str,
    status: ClaimStatus,
    *,
    note: str,
    now: int,
    proof: Mapping[str, str] | None = None,
) -> None:
    """Approve or refuse it; with ``proof`` the one that decided."""
    values: dict[str, Any] = {"status": status, "note": note, "decided_at": now}
    if proof is not None:
        values["proof"] = dict(proof)
    await tx.execute(update(claims).where(claims.c.id == claim_id).values(values))


async def load_claim(connection: AsyncConnection, claim_id: str) -> ClaimRow | None:
    """A claim by its id."""
    row = (await connection.execute(_whole().where(claims.c.id == claim_id))).one_or_none()
    return _claim(row) if row is not None else None


async def claims_on(connection: AsyncConnection, chain_id: str, tx_ids: Sequence[str]) -> list[ClaimRow]:
    """Every claim on these transactions, the oldest first."""
    rows = await connection.execute(
        _whole().where(sessions.c.chain == chain_id, claims.c.tx.in_(tx_ids)).order_by(claims.c.created_at, claims.c.id)
    )
    return [_claim(row) for row in rows]


async def claims_of(connection: AsyncConnection, session_id: str) -> list[ClaimRow]:
    """A session's own, the oldest first."""
    rows = await connection.execute(
        _whole().where(claims.c.session_id == session_id).order_by(claims.c.created_at, claims.c.id)
    )
    return [_claim(row) for row in rows]


async def count_open(connection: AsyncConnection, session_id: str) -> int:
    """How many claims of a session wait for the merchant."""
    statement = select(func.count()).where(claims.c.session_id == session_id, claims.c.status == ClaimStatus.OPEN)
    return int((await connection.execute(statement)).scalar_one())


async def newest_claims(
    connection: AsyncConnection, store: str | None, status: ClaimStatus | None, limit: int
) -> list[ClaimRow]:
    """The newest first."""
    statement = _whole().order_by(claims.c.created_at.desc(), claims.c.id).limit(limit)
    if store is not None:
        statement = statement.where(sessions.c.store == store)
    if status is not None:
        statement = statement.where(claims.c.status == status)
    return [_claim(row) for row in await connection.execute(statement)]


def _whole() -> Select[Any]:
    return select(claims, sessions.c.chain, sessions.c.store).join(sessions, sessions.c.id == claims.c.session_id)


def _claim(row: Any) -> ClaimRow:
    return ClaimRow(
        id=row.id,
        session_id=row.session_id,
        chain=row.chain,
        store=row.store,
        tx=row.tx,
        status=ClaimStatus(row.status),
        proof=row.proof,
        note=row.note,
        created_at=row.created_at,
        decided_at=row.decided_at,
    )
