"""Databases of every version that there was, as they lie on merchants' disks, are brought to the present schema.

``tests/releases`` holds one dump of each revision, with something in it (``python -m tests.releases.make``).
"""

from __future__ import annotations

import gzip
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select

from astrapayd.chains import ChainRegistry
from astrapayd.db import migrate
from astrapayd.db.engine import Database
from astrapayd.db.integrity import check_integrity
from astrapayd.db.sessions import load_sessions
from astrapayd.db.tables import metadata, sessions
from astrapayd.sessions import Status
from astrapayd.testing import FakeChain
from tests.releases.make import DUMPS

AGAIN = "python -m tests.releases.make"
REVISIONS = migrate.known_revisions()
Rows = dict[str, list[dict[str, Any]]]


def test_every_revision_has_its_dump() -> None:
    """A new revision needs a dump of its own; those of older ones stay as they are."""
    assert {path.name.removesuffix(".sql.gz") for path in DUMPS.glob("*.sql.gz")} == set(REVISIONS), AGAIN


async def test_dump_of_the_newest_revision_is_of_what_its_migration_makes(tmp_path: Path) -> None:
    """While a revision is not released it may still change, and its dump with it; afterwards this holds by itself."""
    fresh, dumped = tmp_path / "fresh.db", tmp_path / "dumped.db"
    await make_fresh(fresh)
    load(dumped, migrate.SCHEMA_VERSION)
    assert definitions(dumped) == definitions(fresh), (
        f"schema {migrate.SCHEMA_VERSION} was changed: if it is not released yet, run {AGAIN}; "
        "if it is, write a new revision instead"
    )


@pytest.mark.parametrize("revision", REVISIONS)
async def test_migration_from_every_released_version(tmp_path: Path, revision: str) -> None:
    """The schema is that of the tables, every row keeps what it held, and the program reads it."""
    file = tmp_path / "astrapayd.db"
    load(file, revision)
    before = rows_of(file)
    assert not [table for table, rows in before.items() if not rows], AGAIN
    database = Database(f"sqlite:///{file}")
    try:
        assert await migrate.upgrade(database) == revision

        def differences(connection: Connection) -> list[object]:
            return list(compare_metadata(MigrationContext.configure(connection), metadata))

        async with database.read() as connection:
            assert await connection.run_sync(differences) == []
            ids = list((await connection.execute(select(sessions.c.id))).scalars())
            registry = ChainRegistry()
            registry.add(FakeChain())
            found = await load_sessions(connection, ids, registry)
        assert {row.state.status for row in found.values()} >= {Status.PENDING, Status.PAID}
        assert (await check_integrity(database))["problems"] == []
    finally:
        await database.close()
    await make_fresh(tmp_path / "fresh.db")
    assert definitions(file) == definitions(tmp_path / "fresh.db")
    after = rows_of(file)
    for table, rows in before.items():
        if table != "alembic_version":
            assert len(after[table]) == len(rows)
            for old, new in zip(rows, after[table], strict=True):
                assert {column: new[column] for column in old if column in new} == {
                    column: value for column, value in old.items() if column in new
                }
                assert set(old) <= set(new), "a column is gone: say here where its contents went"


def load(file: Path, revision: str) -> None:
    """A dump as the database that it was made from."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(gzip.decompress((DUMPS / f"{revision}.sql.gz").read_bytes()).decode())


def rows_of(file: Path) -> Rows:
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [dict(row) for row in connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid')]
            for table in tables
            if not table.startswith("sqlite_")
        }


async def make_fresh(file: Path) -> None:
    """An empty database of the present schema."""
    database = Database(f"sqlite:///{file}")
    await migrate.upgrade(database)
    await database.close()


def definitions(file: Path) -> dict[str, list[str]]:
    """The words that each table and index is defined with; the order of columns and constraints does not count."""
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: sorted(re.sub(r"[\s\"(),]", " ", sql).split()) for name, sql in found if "alembic" not in name}
