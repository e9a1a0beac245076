"""Bring the schema to the version that this code was written for."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, insert, inspect, select, text

from astrapayd.db.engine import Database, DatabaseError
from astrapayd.db.postgresql import lock_key
from astrapayd.db.tables import installation

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA_VERSION = "0001"
"""Newest revision in ``migrations/versions``; a test compares them. Known here so that an ordinary start need not
import Alembic (0.3 s)."""


async def schema_version(database: Database) -> str | None:
    """The revision that the database is at, or None for an empty one."""
    async with database.read() as connection:
        return await connection.run_sync(_schema_version)


async def upgrade(database: Database) -> str | None:
    """Migrate to :data:`SCHEMA_VERSION` and answer the revision before; does nothing where it is current.

    :raises DatabaseError: if the file cannot be made, or the database was written by a newer astrapayd.
    """
    if database.path is not None:
        _make_private_file(database.path)
    before = await schema_version(database)
    if before == SCHEMA_VERSION:
        return before
    from alembic import command
    from alembic.util import CommandError

    def run(connection: Connection) -> None:
        hold_off_others(connection)
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if connection.execute(select(installation.c.id)).one_or_none() is None:
            connection.execute(insert(installation).values(id=1, epoch=1, created_at=int(time.time()), last_sequence=0))

    try:
        async with database.write() as tx:
            await tx.run_sync(run)
    except CommandError as error:
        raise DatabaseError(
            f"the database is at schema {before!r}, which this astrapayd (schema {SCHEMA_VERSION}) does not know: "
            "it was written by a newer version; install that one again or restore a backup"
        ) from error
    return before


def known_revisions() -> tuple[str, ...]:
    """Every schema that this version can migrate from, the newest first."""
    from alembic.script import ScriptDirectory

    return tuple(script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions())


def hold_off_others(connection: Connection) -> None:
    """Processes that start at one moment migrate, and write what the configuration says, one after the other.

    SQLite's writers do so anyway; on PostgreSQL a lock is held until the transaction ends.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(lock_key("start"))))


def _schema_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _make_private_file(path: Path) -> None:
    """Create the SQLite file so that only its owner can read it; WAL files inherit its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise DatabaseError(f"database.url: cannot write {path}: {error.strerror}") from error
