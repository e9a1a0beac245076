"""Whether a database is whole: schema version, the engine's own check, foreign keys; and how much is in it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.engine import Database, DatabaseError
from astrapayd.db.migrate import SCHEMA_VERSION, schema_version
from astrapayd.db.tables import deliveries, events, links, sessions, transfers

_COUNTED = (links, sessions, transfers, events, deliveries)


async def check_integrity(database: Database) -> dict[str, Any]:
    """``schema``, ``problems`` (sentences) and ``rows`` by table. Changes nothing.

    :raises DatabaseError: if there is no database.
    """
    if not database.exists:
        raise DatabaseError(f"there is no database at {database.path} yet: astrapayd run makes it")
    schema = await schema_version(database)
    if schema != SCHEMA_VERSION:
        raise DatabaseError(f"the database is at schema {schema}, not {SCHEMA_VERSION}: run astrapayd db upgrade")
    problems: list[str] = []
    async with database.read() as connection:
        if database.is_sqlite:
            said = (await connection.execute(text("PRAGMA integrity_check"))).scalars().all()
            problems += [f"integrity check: {line}" for line in said if line != "ok"]
            orphans = (await connection.execute(text("PRAGMA foreign_key_check"))).all()
            problems += [f"a row of {row[0]} refers to a row of {row[2]} that is not there" for row in orphans]
        else:
            problems += await _postgresql_problems(connection)
        rows = {
            str(table.name): (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in _COUNTED
        }
    return {"schema": schema, "problems": problems, "rows": rows}


async def _postgresql_problems(connection: AsyncConnection) -> list[str]:
    """The server keeps its constraints by itself; what can be wrong is that one was switched off, or the disk."""
    unchecked = await connection.execute(
        text(
            "SELECT conname, conrelid::regclass::text FROM pg_constraint JOIN pg_namespace n ON n.oid = connamespace "
            "WHERE n.nspname = current_schema() AND NOT convalidated ORDER BY 1"
        )
    )
    problems = [
        f"the constraint {name} of {table} was never checked: ALTER TABLE … VALIDATE" for name, table in unchecked
    ]
    broken = await connection.execute(
        text(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = current_schema() AND NOT i.indisvalid ORDER BY 1"
        )
    )
    problems += [f"the index {name} is not valid: REINDEX it" for name in broken.scalars()]
    failures = text("SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()")
    if await connection.scalar(failures):
        problems.append("the server has found pages with a wrong checksum: restore a backup, and mistrust the disk")
    return problems
