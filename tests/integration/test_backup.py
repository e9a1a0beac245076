"""Backups: taken while payments come in, found out where they are broken, and restored beside a chain that went on."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from astrapayd.config import AccountSection
from astrapayd.db import chains as chain_queries
from astrapayd.db import migrate
from astrapayd.db.engine import DaemonLock, Database, DatabaseError
from astrapayd.db.epoch import load_epoch
from astrapayd.db.integrity import check_integrity
from astrapayd.db.tables import addresses, credits, events, reservations, sessions, transfers
from astrapayd.db.turns import chain_turn
from astrapayd.services import backup
from astrapayd.sessions import Status
from astrapayd.testing import FakeChain
from astrapayd.transfers import ChainUpdate
from tests.databases import both_engines
from tests.shopfront import PRICE, Shopfront, shopfront

ACCOUNT = AccountSection(xpub="fakepub1")


def first(_n: int) -> int:
    """The tail that a stranger would aim at: where nothing kept them apart, two databases would choose the same."""
    return 0


# -- a chain that went on -----------------------------------------------------------------------------------------


async def test_restored_backup_against_a_chain_that_went_on(tmp_path: Path) -> None:
    """Sessions of the backup end as if it had never been away; what was opened afterwards is unmatched."""
    chain, saved, calm = FakeChain(), tmp_path / "saved.db", tmp_path / "calm"
    lost_steps: list[ChainUpdate] = []
    async with shopfront(tmp_path, chain=chain, pick=first) as front:

        async def step(one: ChainUpdate) -> None:
            lost_steps.append(one)
            await front.apply(one)

        link = await front.link()
        reorganised, later, short, never = [await front.open(link) for _ in range(4)]
        before = front.pay(reorganised.due_base)
        await front.mine(before)
        await backup.create(front.core, saved)

        after = front.pay(later.due_base)
        await step(chain.script.mine(after))
        lost = await front.open(link)
        unpaid = await front.open(link)
        to_lost = front.pay(lost.due_base)
        await step(chain.script.mine(to_lost))
        # Below the backup's head: it is on the chain no more, and its payment stands in another block.
        await step(chain.script.reorg(3, [], [before], [after, to_lost], []))
        await step(chain.script.mine(front.pay(lost.due_base), front.pay(short.due_base - 1_000_000)))
        for _ in range(8):
            await step(chain.script.mine())
        assert (await front.session(lost.id)).status is not Status.PENDING, "or nothing would be lost"
        last_told = max(r["sequence"] for r in await front.rows(events))
        told = {r["id"]: r for r in await front.rows(events)}

    calm.mkdir()
    shutil.copy(saved, calm / "shop.db")
    async with shopfront(calm, chain=chain, pick=first) as undisturbed:
        for one in lost_steps:
            await undisturbed.apply(one)
        expected = await ledger(undisturbed)

    restored = await backup.restore(front.core, saved)
    async with shopfront(tmp_path, chain=chain, pick=first) as front:
        await catch_up(front)
        assert await ledger(front) == expected
        ids = [reorganised.id, later.id, short.id, never.id]
        paid = [(await front.session(i)).received_base for i in ids]
        assert paid == [reorganised.due_base, later.due_base, short.due_base - 1_000_000, 0]
        of_lost = [r for r in await front.rows(transfers) if r["amount_base"] == lost.due_base]
        assert {r["standing"] for r in of_lost} == {"unmatched"}
        assert lost.id not in {r["id"] for r in await front.rows(sessions)}

        # What is opened now has an amount of which no lost session can have had the tail.
        new = [await front.open(await front.link()) for _ in range(3)]
        assert not {s.due_base for s in new} & {lost.due_base, unpaid.due_base}
        await front.mine(front.pay(unpaid.due_base), front.pay(lost.due_base))  # their customers are late
        assert [(await front.session(s.id)).received_base for s in new] == [0, 0, 0]
        await front.mine(*(front.pay(s.due_base) for s in new))
        assert [(await front.session(s.id)).received_base for s in new] == [s.due_base for s in new]

        # A number once told means that event for ever; a fact told again has the id it was told under.
        fresh = [r for r in await front.rows(events) if r["created_at"] and r["sequence"] > last_told]
        assert min(r["sequence"] for r in fresh) >= restored.begun.next_sequence > last_told
        kept = [r for r in await front.rows(events) if r["sequence"] <= last_told]
        assert all(told[r["id"]]["body"] == r["body"] for r in kept)
        again = [r for r in fresh if r["id"] in told]
        assert {r["type"] for r in again} >= {"session.paid", "payment.confirmed"}


async def test_restored_backup_against_a_chain_that_went_on_gives_no_address_twice(tmp_path: Path) -> None:
    """Also where nothing is left but the backup, where it is restored twice, and where the first was the wrong one."""
    chain, early, saved = FakeChain(), tmp_path / "early.db", tmp_path / "saved.db"
    given: list[int] = []
    async with shopfront(tmp_path, chain=chain, account=ACCOUNT) as front:
        await backup.create(front.core, early)  # the key was never used: its counter is not even there
        known = [await open_own(front, given) for _ in range(2)]
        await backup.create(front.core, saved)
        lost = [await open_own(front, given) for _ in range(3)]
        to_lost = [front.pay(PRICE, to=f"fake1fakepub1x0x{i}") for i in (2, 4)]
        to_known = front.pay(PRICE, to="fake1fakepub1x0x1")
        chain.script.mine(to_lost[0], to_known)
    core = front.core

    for file in tmp_path.glob("shop.db*"):  # the disk is gone
        file.unlink()
    restored = await backup.restore(core, saved, skipped=50)
    assert restored.aside is None
    assert restored.begun.watched == 50
    async with shopfront(tmp_path, chain=chain, account=ACCOUNT) as front:
        await catch_up(front)
        assert (await front.session(known[1].id)).received_base == PRICE
        await front.mine(to_lost[1])
        for transfer in to_lost:
            row = await front.transfer_row(transfer)
            assert (row["standing"], row["reason"]) == ("unmatched", "nobody was expected to pay to this address")
        new = [await open_own(front, given) for _ in range(2)]
        assert [(await front.session(s.id)).received_base for s in new] == [0, 0]

    for saved_before in (early, saved):
        restored = await backup.restore(core, saved_before, skipped=50)
        assert restored.aside is not None
        async with shopfront(tmp_path, chain=chain, account=ACCOUNT) as front:
            await catch_up(front)
            for _ in range(2):
                await open_own(front, given)
            assert {(await front.transfer_row(t))["standing"] for t in to_lost} == {"unmatched"}
    assert len(lost) == 3
    assert len(given) == len(set(given)) == 11


async def open_own(front: Shopfront, given: list[int]) -> Any:
    opened = await front.open_new()
    rows = [r for r in await front.rows(addresses) if r["derivation"] is not None]
    given.append(max(r["derivation_index"] for r in rows))
    return opened


async def catch_up(front: Shopfront) -> None:
    """From the head that was restored to the chain's tip, as a watcher does after a downtime."""
    async with front.core.database.read() as connection:
        base = await chain_queries.head_block(connection, front.chain.id)
    await front.apply(front.script.since(base))


async def ledger(front: Shopfront) -> dict[str, Any]:
    """What is owed and what was paid, without row numbers, moments of writing, and the ways that led there."""
    keep: dict[Any, tuple[str, ...]] = {
        sessions: ("id", "status", "flags", "due_base", "received_base", "confirmed_base", "open"),
    }
    found: dict[str, Any] = {
        table.name: sorted(str([row[c] for c in columns]) for row in await front.rows(table))
        for table, columns in keep.items()
    }
    tx_of = {r["id"]: (r["tx"], r["ordinal"]) for r in await front.rows(transfers)}
    for row in await front.rows(reservations):
        # What an underpaid session is asked for is another amount where its time is the time after a restore.
        exact = (row["tail"], row["due_base"]) if row["purpose"] == "price" else ()
        found.setdefault("reservations", set()).add((row["session_id"], row["purpose"], row["released_at"], *exact))
    found["transfers"] = sorted(
        (r["tx"], r["ordinal"], r["amount_base"], r["state"], str(r["block_hash"]), r["standing"])
        for r in await front.rows(transfers)
    )
    found["credits"] = sorted(
        (tx_of[r["transfer_id"]], r["session_id"], r["credited_by"]) for r in await front.rows(credits)
    )
    return found


# -- while the daemon runs ----------------------------------------------------------------------------------------


async def test_backup_taken_while_running_restored_verified(tmp_path: Path) -> None:
    """Payments are ingested between the portions of the copy: it is of one moment, and restored it comes to the same
    end."""
    chain, saved = FakeChain(), tmp_path / "saved.db"
    mined, copied = threading.Semaphore(0), threading.Event()
    portions = 0
    async with shopfront(tmp_path, chain=chain) as front:
        link = await front.link()
        opened = [await front.open(link) for _ in range(30)]
        await front.mine(front.pay(opened[0].due_base))

        def between_portions(_done: int, _of: int) -> None:
            nonlocal portions
            portions += 1
            assert copied.is_set() or mined.acquire(timeout=20), "nobody writes"

        taking = asyncio.create_task(backup.create(front.core, saved, between_portions))
        for session in opened[1:]:
            if taking.done():
                break
            await front.mine(front.pay(session.due_base))
            mined.release()
        copied.set()
        taken = await taking
        assert portions > 2, "the copy was made in one go: nothing came in between"
        assert await front.count(transfers) > portions - 1
        for session in opened:
            if (await front.session(session.id)).received_base == 0:
                await front.mine(front.pay(session.due_base))
        await front.mine_more(8)
        expected = await ledger(front)

    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(backup.manifest_of(saved).stat().st_mode) == 0o600
    found = await backup.verify(saved)
    assert found == taken
    assert found.contents.rows["sessions"] == 30
    assert 1 <= found.contents.rows["transfers"] < 30, "it was taken in the middle"

    await backup.restore(front.core, saved)
    async with shopfront(tmp_path, chain=chain) as front:
        assert (await check_integrity(front.core.database))["problems"] == []
        rows = await front.rows(sessions)
        paid = {r["id"]: r["amount_base"] for r in await front.rows(transfers)}
        by_session: dict[str, int] = {}
        for credit in await front.rows(credits):
            by_session[credit["session_id"]] = by_session.get(credit["session_id"], 0) + paid[credit["transfer_id"]]
        assert {r["id"]: r["received_base"] for r in rows} == {r["id"]: by_session.get(r["id"], 0) for r in rows}
        await front.every_event_has_one_delivery()
        await catch_up(front)
        assert await ledger(front) == expected


async def test_what_a_restore_replaces_is_kept_and_can_be_restored_itself(tmp_path: Path) -> None:
    saved, kept = tmp_path / "saved.db", tmp_path / "kept.db"
    async with shopfront(tmp_path) as front:
        await backup.create(front.core, saved)
        afterwards = await front.open_new()
    restored = await backup.restore(front.core, saved)
    assert restored.aside is not None
    assert stat.S_IMODE((tmp_path / "shop.db").stat().st_mode) == 0o600
    restored.aside.rename(kept)
    assert (await backup.verify(kept)).sha256 == "", "it has no manifest"
    await backup.restore(front.core, kept)
    async with shopfront(tmp_path, chain=front.chain) as front:
        assert (await front.session(afterwards.id)).due_base == afterwards.due_base
        async with front.core.database.read() as connection:
            assert (await load_epoch(connection)).number == 3
    assert not list(tmp_path.glob("*.unfinished*"))


async def test_restore_is_refused_while_a_daemon_runs(tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    async with shopfront(tmp_path) as front:
        await backup.create(front.core, saved)
        was = (tmp_path / "shop.db").stat().st_ino
        lock = DaemonLock(tmp_path / "shop.db")
        lock.acquire()
        try:
            for refused in (backup.restore(front.core, saved), backup.adopt(front.core)):
                with pytest.raises(DatabaseError, match="stop it first"):
                    await refused
        finally:
            lock.release()
        assert (tmp_path / "shop.db").stat().st_ino == was


async def test_damaged_database_is_replaced_and_kept(tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    async with shopfront(tmp_path) as front:
        await backup.create(front.core, saved)
    (tmp_path / "shop.db").write_bytes(b"the disk was full of this")
    restored = await backup.restore(front.core, saved)
    assert restored.aside is not None
    assert restored.aside.read_bytes() == b"the disk was full of this"
    async with shopfront(tmp_path, chain=front.chain) as front:
        assert (await check_integrity(front.core.database))["problems"] == []


# -- what is no backup --------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scratch(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 4] = bytes(4096)
    path.write_bytes(content)


def another_byte(path: Path) -> None:
    """In the block hash of a chain: the database is sound all the same."""
    with closing(sqlite3.connect(path)) as copy, copy:
        copy.execute("UPDATE chains SET head_hash = '0xother'")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as copy, copy:
        copy.execute("UPDATE alembic_version SET version_num = '9999'")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as copy, copy:
        copy.execute("CREATE TABLE songs (name)")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (cut, "damaged or cut off"),
        (scratch, "damaged or cut off"),
        (another_byte, "not as it was written"),
        (newer, "written by a newer astrapayd: its schema is 9999"),
        (foreign, "not one of astrapayd"),
        (lambda path: path.write_bytes(b""), "no SQLite database"),
        (lambda path: path.write_text("Dear diary"), "no SQLite database"),
        (lambda path: path.unlink(), "there is no file"),
        (lambda path: path.with_name("saved.db-wal").touch(), "a database in use"),
        (lambda path: backup.manifest_of(path).write_text("{"), "no manifest"),
    ],
)
async def test_broken_backup_is_told_in_one_sentence_and_restores_nothing(
    tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    saved = tmp_path / "saved.db"
    async with shopfront(tmp_path) as front:
        await front.open_new()
        await backup.create(front.core, saved)
    spoil(saved)
    before = (tmp_path / "shop.db").read_bytes()
    for refused in (backup.verify(saved), backup.restore(front.core, saved)):
        with pytest.raises(DatabaseError, match=sentence) as error:
            await refused
        assert "\n" not in str(error.value)
    assert (tmp_path / "shop.db").read_bytes() == before


async def test_backup_overwrites_nothing_and_leaves_no_half_one(tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    async with shopfront(tmp_path) as front:
        await backup.create(front.core, saved)
        was = saved.read_bytes()
        with pytest.raises(DatabaseError, match="exists already"):
            await backup.create(front.core, saved)
        assert saved.read_bytes() == was

        def fails(_done: int, _of: int) -> None:
            raise OSError("no space left")

        with pytest.raises(OSError, match="no space left"):
            await backup.create(front.core, tmp_path / "other.db", fails)
    assert not list(tmp_path.glob("other*"))
    assert json.loads(backup.manifest_of(saved).read_text())["schema"] == migrate.SCHEMA_VERSION


# -- restored by other means --------------------------------------------------------------------------------------


@both_engines
async def test_database_restored_by_other_means_begins_an_epoch(tmp_path: Path) -> None:
    async with shopfront(tmp_path, pick=first) as front:
        session = await front.open_new()
        last = max(r["sequence"] for r in await front.rows(events))
        begun = await backup.adopt(front.core)
        assert begun.epoch == 2
        assert begun.next_sequence > last + 1_000_000
        with pytest.raises(Exception, match="no longer the one"):  # an old watcher cannot write
            await front.mine()
        async with front.core.database.read() as connection:
            chain = await chain_queries.load_chain(connection, front.chain.id)
        assert chain is not None
        assert not chain.level
    async with shopfront(tmp_path, chain=front.chain, pick=first) as front:
        await catch_up(front)
        other = await front.open_new()
        assert other.due_base % 10 == 8, (session.due_base, other.due_base)
        assert max(r["sequence"] for r in await front.rows(events)) > begun.next_sequence


async def test_postgresql_is_left_to_its_own_tools(tmp_path: Path, postgresql_url: str) -> None:
    async with shopfront(tmp_path) as front:
        database = Database(postgresql_url)
        core = replace(front.core, database=database)
        try:
            with pytest.raises(DatabaseError, match="use pg_dump"):
                await backup.create(core, tmp_path / "saved.db")
            with pytest.raises(DatabaseError, match="use pg_restore"):
                await backup.restore(core, tmp_path / "saved.db")
            async with chain_turn(database, front.chain.id):
                with pytest.raises(DatabaseError, match="watching fake"):
                    await backup.adopt(core)
            async with database.read() as connection:
                assert await connection.scalar(text("SELECT epoch FROM installation")) == 1
        finally:
            await database.close()
