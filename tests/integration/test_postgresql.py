"""What only PostgreSQL can do wrong: who may connect, what cannot be reached, what it checks of itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, text

from astrapayd.db import migrate
from astrapayd.db.engine import Database, DatabaseError
from astrapayd.db.integrity import check_integrity
from astrapayd.db.tables import installation
from tests.postgres import Server

ROOT = Path(__file__).parents[2]


async def refusal(url: str) -> str:
    """The one sentence that an administrator reads."""
    database = Database(url)
    try:
        with pytest.raises(DatabaseError) as refused:
            await migrate.upgrade(database)
    finally:
        await database.close()
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def test_a_server_that_is_away() -> None:
    said = await refusal("postgresql://me:hunter2@127.0.0.1:1/shop")
    assert "127.0.0.1:1 cannot be reached" in said
    assert "is it running" in said
    assert "hunter2" not in said
    assert "cannot be reached" in await refusal("postgresql://me@/shop?host=/nowhere")
    assert "cannot be reached" in await refusal("postgresql://me@no-such-host.invalid/shop")


async def test_no_such_database_and_no_such_role(postgresql: Server) -> None:
    assert "createdb --owner=postgres nothing" in await refusal(postgresql.url("nothing"))
    said = await refusal(postgresql.url("postgres").replace("//postgres@", "//nobody-here@"))
    assert "does not let nobody-here in" in said


async def test_a_wrong_password(postgresql: Server) -> None:
    await postgresql.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    async with postgresql.asking_for_passwords("guarded"):
        url = postgresql.url("postgres").replace("//postgres@", "//guarded:wrong@")
        said = await refusal(url)
        assert "refuses the password of guarded: set database.password" in said
        assert "wrong" not in said
        assert "set database.password" in await refusal(url.replace(":wrong@", "@"))
    await postgresql.execute("DROP ROLE guarded")


def test_unknown_parameters_of_the_url() -> None:
    with pytest.raises(DatabaseError, match="has the parameter 'sslcert'"):
        Database("postgresql://me@host/shop?sslcert=x")
    assert Database("postgresql://me@host/shop?sslmode=require").engine.url.query["ssl"] == "require"


def test_without_the_driver() -> None:
    """One sentence, and nothing of PostgreSQL is needed for SQLite."""
    script = """
import sys
sys.modules["asyncpg"] = None
from astrapayd.db.engine import Database, DatabaseError
Database("sqlite:////tmp/x.db")
try:
    Database("postgresql://me@host/shop")
except DatabaseError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert said.count("\n") == 1
    assert "pip install 'astrapayd[postgres]'" in said


async def test_integrity_of_a_good_database_and_of_one_with_a_constraint_switched_off(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    assert (await check_integrity(database))["problems"] == []
    async with database.write() as tx:
        await tx.execute(text("ALTER TABLE credits DROP CONSTRAINT fk_credits_session_id"))
        await tx.execute(
            text(
                "ALTER TABLE credits ADD CONSTRAINT fk_credits_session_id FOREIGN KEY (session_id) "
                "REFERENCES sessions (id) NOT VALID"
            )
        )
    (problem,) = (await check_integrity(database))["problems"]
    assert "fk_credits_session_id" in problem
    await database.close()


async def test_many_processes_that_start_at_one_moment_migrate_once(postgresql: Server) -> None:
    url = postgresql.empty()
    databases = [Database(url) for _ in range(4)]
    before = await asyncio.gather(*(migrate.upgrade(database) for database in databases))
    assert None in before
    async with databases[0].read() as connection:
        assert len((await connection.execute(select(installation))).all()) == 1
    for database in databases:
        await database.close()
    await asyncio.to_thread(postgresql.drop, url)


async def test_a_server_that_was_restarted_costs_no_error(postgresql: Server, postgresql_url: str) -> None:
    """Its connections are dead and nobody was told: the next transaction makes new ones."""
    database = Database(postgresql_url)
    async with database.read() as connection:
        await connection.execute(select(installation))
    await postgresql.end_connections(postgresql_url)
    async with database.write() as tx:
        await tx.execute(select(installation))
    await database.close()


async def test_a_read_sees_one_moment_and_writes_nothing(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    async with database.read() as connection:
        before = await connection.scalar(select(installation.c.last_sequence))
        async with database.write() as tx:
            await tx.execute(installation.update().values(last_sequence=77))
        assert await connection.scalar(select(installation.c.last_sequence)) == before
    async with database.read() as connection:
        assert await connection.scalar(select(installation.c.last_sequence)) == 77
        with pytest.raises(Exception, match="read-only transaction"):
            await connection.execute(installation.update().values(last_sequence=78))
    await database.close()
