"""Whether a database is whole: schema version, the engine's own check, foreign keys; and how much is in it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, text

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
        rows = {
            str(table.name): (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in _COUNTED
        }
    return {"schema": schema, "problems": problems, "rows": rows}
