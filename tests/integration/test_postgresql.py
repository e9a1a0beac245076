"""What only PostgreSQL can do wrong: who may connect, what cannot be reached, what it checks of itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError

from astrapayd.db import migrate
from astrapayd.db.engine import Database, DatabaseError
from astrapayd.db.integrity import check_integrity
from astrapayd.db.links import load_link
from astrapayd.db.tables import addresses, balances, chains, installation, metadata, reservations
from astrapayd.money import MAX_AMOUNT_BASE
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


async def test_integrity_of_a_good_database_and_of_one_with_a_constraint_switched_off(postgresql: Server) -> None:
    database = Database(await asyncio.to_thread(postgresql.copy, "migrated"))
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
    await asyncio.to_thread(postgresql.drop, database.url)


async def test_migrations_make_the_tables_and_constraints_that_the_code_knows(
    postgresql: Server, postgresql_url: str
) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    database, from_tables = Database(postgresql_url), Database(postgresql.empty())
    async with from_tables.write() as tx:
        await tx.run_sync(metadata.create_all)
    async with database.read() as connection:
        assert await connection.run_sync(differences) == []
    assert await _definitions(database) == await _definitions(from_tables)
    for one in (database, from_tables):
        await one.close()
    await asyncio.to_thread(postgresql.drop, from_tables.url)


async def test_amounts_come_back_as_they_were_written_and_sort_as_numbers(postgresql_url: str) -> None:
    amounts = [10, 9, MAX_AMOUNT_BASE, 0, 2**64, 2**53 + 1]
    database = Database(postgresql_url)
    async with database.write() as tx:
        more = {"final_height": -1, "watcher_epoch": 0, "watch_version": 0, "level": False, "looked_at": 0}
        await tx.execute(chains.insert().values(id="fake", network="fake:1", **more))
        await tx.execute(addresses.insert().values(id=1, chain="fake", address="fake1a", store="shop", added_version=1))
        for i, amount in enumerate(amounts):
            await tx.execute(balances.insert().values(address_id=1, asset=f"a{i}", height=1, amount_base=amount))
    async with database.read() as connection:
        found = await connection.execute(select(balances.c.amount_base).order_by(balances.c.amount_base))
        assert list(found.scalars()) == sorted(amounts)
    await database.close()


@pytest.mark.parametrize("tail", [0, 10, 3410, -1])
async def test_the_database_refuses_a_tail_that_is_not_truncation_safe(postgresql_url: str, tail: int) -> None:
    database = Database(postgresql_url)
    held = {"session_id": "ses_1", "purpose": "price", "asset": "usd", "address_id": 1, "due_base": 1}
    with pytest.raises(IntegrityError, match="tail_truncation_safe"):
        async with database.write() as tx:
            await tx.execute(
                reservations.insert().values(**held, tail=tail, opened_at=0, opened_height=0, live_until=0)
            )
    await database.close()


async def test_a_character_that_postgresql_does_not_take_is_no_obstacle(postgresql_url: str) -> None:
    """A receiver answers with U+0000, a browser asks for a page with it."""
    database = Database(postgresql_url)
    async with database.write() as tx:
        assert await load_link(tx, "coffee\0") is None
        blank = {"network": "fake:1", "final_height": -1, "watcher_epoch": 0, "watch_version": 0, "looked_at": 0}
        made = [{"id": f"c\0{i}", "level": False, "problem": "no\0such thing", **blank} for i in range(2)]
        await tx.execute(chains.insert(), made)
        assert list((await tx.execute(select(chains.c.problem))).scalars()) == ["no\ufffdsuch thing"] * 2
    await database.close()


async def _definitions(database: Database) -> dict[str, str]:
    """Every constraint and index in the server's own words."""
    constraints = (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    async with database.read() as connection:
        rows = [row for one in (constraints, indexes) for row in (await connection.execute(text(one))).all()]
    return {name: words for name, words in rows if not name.startswith("alembic")}


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
