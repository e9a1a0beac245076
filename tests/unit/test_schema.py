"""The schema, its migrations, and who may open the file."""

from __future__ import annotations

import asyncio
import re
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from astrapayd.db import migrate
from astrapayd.db.engine import DaemonLock, Database, DatabaseError
from astrapayd.db.tables import balances, chains, installation, metadata, reservations
from astrapayd.db.types import AMOUNT_DIGITS
from astrapayd.money import MAX_AMOUNT_BASE

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'new' / 'astrapayd.db'}")
    await migrate.upgrade(database)
    yield database
    await database.close()


async def test_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrations_make_the_same_constraints(database: Database, tmp_path: Path) -> None:
    """``compare_metadata`` sees no CHECK and no condition of a partial index; SQLite's own words do."""
    from_tables = Database(f"sqlite:///{tmp_path / 'tables.db'}")
    try:
        async with from_tables.write() as tx:
            await tx.run_sync(metadata.create_all)
        assert await _definitions(database) == await _definitions(from_tables)
    finally:
        await from_tables.close()


def test_schema_version_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.SCHEMA_VERSION


async def test_upgrading_a_current_database_does_nothing(database: Database) -> None:
    async with database.read() as connection:
        before = (await connection.execute(select(installation))).all()
    assert await migrate.upgrade(database) == migrate.SCHEMA_VERSION
    async with database.read() as connection:
        assert (await connection.execute(select(installation))).all() == before
    assert len(before) == 1


async def test_only_the_owner_can_read_the_file(database: Database) -> None:
    assert database.path is not None
    async with database.write() as tx:
        await tx.execute(text("UPDATE installation SET epoch = epoch"))
    files = list(database.path.parent.iterdir())
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


async def test_a_database_of_a_newer_version_is_refused_in_one_sentence(database: Database) -> None:
    async with database.write() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=r"schema '9999'.*newer version") as refused:
        await migrate.upgrade(database)
    assert "\n" not in str(refused.value)
    assert await migrate.schema_version(database) == "9999"


async def test_a_folder_that_cannot_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = Database(f"sqlite:///{tmp_path / 'file' / 'astrapayd.db'}")
    with pytest.raises(DatabaseError, match="cannot write"):
        await migrate.upgrade(database)
    await database.close()


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(DatabaseError):
        Database(url)


def test_two_daemons_on_one_database(tmp_path: Path) -> None:
    """The second is told which process has it; when that one ends, however it ends, the way is free."""
    path = tmp_path / "astrapayd.db"
    first = subprocess.Popen(
        [sys.executable, "-c", _HOLD_THE_LOCK, str(path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        lock = DaemonLock(path)
        with pytest.raises(DatabaseError, match=rf"process {first.pid}\) is running on {path}:"):
            lock.acquire()
    finally:
        first.kill()
        first.communicate()
    lock.acquire()
    lock.release()
    lock.release()


_HOLD_THE_LOCK = """
import pathlib, sys
from astrapayd.db.engine import DaemonLock
lock = DaemonLock(pathlib.Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
import time
time.sleep(60)
"""


async def test_a_failed_write_leaves_nothing(database: Database) -> None:
    async def fails_in_between() -> None:
        async with database.write() as tx:
            await tx.execute(text("UPDATE installation SET epoch = 77"))
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        await fails_in_between()
    async with database.read() as connection:
        assert await connection.scalar(select(installation.c.epoch)) == 1


async def test_readers_see_the_last_commit_while_somebody_writes(database: Database) -> None:
    async with database.write() as tx:
        await tx.execute(text("UPDATE installation SET epoch = 77"))
        async with database.read() as connection:
            assert await connection.scalar(select(installation.c.epoch)) == 1


async def test_writers_of_two_processes_wait_for_each_other(database: Database) -> None:
    """Each reads first and writes later; both begin as writers, so that neither finds its reading outdated."""
    assert database.path is not None
    other = Database(f"sqlite:///{database.path}")

    async def count_up(through: Database) -> None:
        async with through.write() as tx:
            epoch = await tx.scalar(select(installation.c.epoch)) or 0
            await asyncio.sleep(0.001)
            await tx.execute(installation.update().values(epoch=epoch + 1))

    try:
        await asyncio.gather(*(count_up(through) for through in (database, other) for _ in range(20)))
        async with database.read() as connection:
            assert await connection.scalar(select(installation.c.epoch)) == 41
    finally:
        await other.close()


@pytest.mark.parametrize("amount", [0, 1, 2**53 + 1, 2**63, MAX_AMOUNT_BASE])
async def test_amounts_come_back_as_they_were_written(database: Database, amount: int) -> None:
    await _one_address(database)
    async with database.write() as tx:
        await tx.execute(balances.insert().values(address_id=1, asset="usd", height=1, amount_base=amount))
    async with database.read() as connection:
        assert await connection.scalar(select(balances.c.amount_base)) == amount
        assert len(await connection.scalar(text("SELECT amount_base FROM balances")) or "") == AMOUNT_DIGITS


@pytest.mark.parametrize("amount", [-1, 10**78, 1.5, True])
async def test_what_is_no_amount_is_not_written(database: Database, amount: object) -> None:
    await _one_address(database)
    with pytest.raises((StatementError, OverflowError, TypeError)):
        async with database.write() as tx:
            await tx.execute(balances.insert().values(address_id=1, asset="usd", height=1, amount_base=amount))


async def test_amounts_sort_as_numbers(database: Database) -> None:
    amounts = [10, 9, MAX_AMOUNT_BASE, 0, 2**64]
    await _one_address(database)
    async with database.write() as tx:
        for i, amount in enumerate(amounts):
            await tx.execute(balances.insert().values(address_id=1, asset=f"a{i}", height=1, amount_base=amount))
    async with database.read() as connection:
        found = await connection.execute(select(balances.c.amount_base).order_by(balances.c.amount_base))
        assert list(found.scalars()) == sorted(amounts)


@pytest.mark.parametrize("tail", [0, 10, 3410, -1])
async def test_the_database_refuses_a_tail_that_is_not_truncation_safe(database: Database, tail: int) -> None:
    held = {"session_id": "ses_1", "purpose": "price", "asset": "usd", "address_id": 1, "due_base": 1}
    async with database.write() as tx:
        await tx.execute(text("PRAGMA defer_foreign_keys = ON"))
        with pytest.raises(IntegrityError, match="tail_truncation_safe"):
            await tx.execute(
                reservations.insert().values(**held, tail=tail, opened_at=0, opened_height=0, live_until=0)
            )


async def _one_address(database: Database) -> None:
    async with database.write() as tx:
        more = {"final_height": -1, "watcher_epoch": 0, "watch_version": 0, "level": False, "looked_at": 0}
        await tx.execute(chains.insert().values(id="fake", network="fake:1", **more))
        await tx.execute(text("INSERT INTO addresses VALUES (1, 'fake', 'fake1a', 'shop', NULL, NULL, 1, NULL)"))


async def _definitions(database: Database) -> dict[str, list[str]]:
    """The words that each table and index is defined with, without layout and without the order of constraints."""
    statement = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'")
    async with database.read() as connection:
        rows = (await connection.execute(statement)).all()
    return {row.name: sorted(re.sub(r"[\s\"()]", " ", row.sql).replace(",", " ").split()) for row in rows}
