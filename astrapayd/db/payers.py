"""Queries on payers: which account has proved, before paying, that it pays a session."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.tables import payers


async def insert_payer(
    tx: AsyncConnection, session_id: str, sender: str, *, proof: Mapping[str, str], now: int
) -> None:
    """From now on, whatever this account (canonical) sends to the session's address is the session's.

    :raises sqlalchemy.exc.IntegrityError: if it is one of its payers already.
    """
    await tx.execute(insert(payers).values(session_id=session_id, sender=sender, proof=dict(proof), proved_at=now))


async def payers_of(connection: AsyncConnection, session_id: str) -> list[str]:
    """The accounts that have proved to pay a session, in the order of their proofs."""
    rows = await connection.execute(
        select(payers.c.sender).where(payers.c.session_id == session_id).order_by(payers.c.proved_at, payers.c.sender)
    )
    return list(rows.scalars())


async def proved_by(connection: AsyncConnection, sender: str, session_ids: Collection[str]) -> frozenset[str]:
    """Those of the sessions that have this account for a payer."""
    rows = await connection.execute(select(payers.c.session_id).where(payers.c.sender == sender))
    return frozenset(rows.scalars()) & frozenset(session_ids)
