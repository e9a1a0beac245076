"""Queries on the secrets with which stores sign pre-filled checkouts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.postgresql import lock_key
from astrapayd.db.tables import link_signing_keys


async def lock_signing_secrets(tx: AsyncConnection, store: str) -> None:
    """Keep other transactions from changing a store's secrets until this one ends, even where it has none yet.

    SQLite has one writer and needs none of it.
    """
    if tx.dialect.name == "postgresql":
        await tx.execute(select(func.pg_advisory_xact_lock(lock_key(f"signing key {store}"))))


async def load_signing_secrets(connection: AsyncConnection, store: str) -> tuple[str, ...]:
    """A store's secrets, newest first; none where it has never signed."""
    statement = select(link_signing_keys.c.secrets).where(link_signing_keys.c.store == store)
    return tuple((await connection.execute(statement)).scalar_one_or_none() or ())


async def save_signing_secrets(tx: AsyncConnection, store: str, secrets: Sequence[str]) -> None:
    """Replace them, newest first. :func:`lock_signing_secrets` comes before."""
    await tx.execute(delete(link_signing_keys).where(link_signing_keys.c.store == store))
    await tx.execute(insert(link_signing_keys).values(store=store, secrets=list(secrets)))
