"""Copies of a SQLite database: taken while others write to it, and looked into before they are trusted.

Plain ``sqlite3``, since SQLAlchemy has no word for the online backup. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from astrapayd.db.engine import DatabaseError
from astrapayd.db.epoch import Counters

Progress = Callable[[int, int], None]
"""Called now and then with how much is done, and of how much."""

_HEADER: Final = b"SQLite format 3\0"
_PAGES_AT_ONCE: Final = 16
_COUNTED: Final = ("links", "sessions", "transfers", "events", "deliveries")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a copy holds. ``heads`` are chain, height and block hash; ``rows`` counts by table."""

    schema: str
    heads: tuple[tuple[str, int, str], ...]
    rows: dict[str, int]


def copy_database(source: Path, target: Path, progress: Progress) -> None:
    """Write a copy of the database as it is committed at this moment, readable by its owner only.

    1. A read transaction pins the moment: the copy is of one state however long it takes, and is not begun anew at each
       commit of somebody else.
    2. Pages are copied in portions; writers go on meanwhile.
    3. The copy becomes one file (no write-ahead log beside it) and reaches the disk.

    :param target: must not exist.
    :raises DatabaseError: if the source is no sound database.
    :raises OSError: if the target cannot be written.
    """
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with _sentence(source), _opened(source, "ro") as reader, closing(sqlite3.connect(target)) as writer:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reader.backup(writer, pages=_PAGES_AT_ONCE, progress=lambda _, left, total: progress(total - left, total))
        writer.execute("PRAGMA journal_mode = DELETE")
    _to_disk(target)
    _to_disk(target.parent)


def move_into_place(made: Path, target: Path) -> None:
    """Give a finished file its name.

    :raises FileExistsError: if there is one of that name.
    """
    os.link(made, target)
    made.unlink()
    _to_disk(target.parent)


def exchange(database: Path, made: Path, aside: Path) -> None:
    """Put a finished database in the place of another, which is kept under the name ``aside``; in that order, so that a
    crash leaves the old one or the new one there, never none.

    Nobody may have the old one open. Its write-ahead log goes with it: beside the new one it would destroy it.
    """
    if database.exists():
        with suppress(sqlite3.Error), _opened(database, "rw") as old:  # a damaged one is kept as it is
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.link(database, aside)
    log = _beside(database, "-wal")
    if log.exists():
        log.rename(_beside(aside, "-wal"))
    _beside(database, "-shm").unlink(missing_ok=True)
    made.replace(database)
    _to_disk(database.parent)


def look_into(path: Path) -> Contents:
    """Check a copy whole and say what it holds. Changes nothing.

    :raises DatabaseError: if it is missing, damaged, cut off, or not of astrapayd; one sentence.
    """
    if not path.is_file():
        raise DatabaseError(f"there is no file {path}")
    with path.open("rb") as file:
        if file.read(len(_HEADER)) != _HEADER:
            raise DatabaseError(f"{path} is not a backup: it is no SQLite database")
    if any(_beside(path, end).exists() for end in ("-wal", "-journal")):
        raise DatabaseError(
            f"{path} is not a backup but a database in use: a write-ahead log lies beside it; "
            "take a backup of it with astrapayd backup create"
        )
    with _sentence(path), _opened(path, "ro&immutable=1") as copy:
        if wrong := [line for (line,) in copy.execute("PRAGMA integrity_check(3)") if line != "ok"]:
            raise DatabaseError(_damaged(path, " ".join(wrong[0].split())))
        tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"alembic_version", "installation", "chains"} <= tables:
            raise DatabaseError(f"{path} is not a backup: it is a SQLite database, but not one of astrapayd")
        row = copy.execute("SELECT version_num FROM alembic_version").fetchone()
        if row is None or copy.execute("SELECT 1 FROM installation").fetchone() is None:
            raise DatabaseError(f"{path} is not a backup: it is an empty database")
        if orphan := copy.execute("PRAGMA foreign_key_check").fetchone():
            raise DatabaseError(
                _damaged(path, f"a row of {orphan[0]} refers to a row of {orphan[2]} that is not there")
            )
        heads = copy.execute("SELECT id, head_height, head_hash FROM chains WHERE head_height IS NOT NULL ORDER BY id")
        counted = [table for table in _COUNTED if table in tables]
        return Contents(
            schema=str(row[0]),
            heads=tuple((str(chain), int(height), str(block)) for chain, height, block in heads),
            rows={t: int(copy.execute(f'SELECT count(*) FROM "{t}"').fetchone()[0]) for t in counted},  # noqa: S608 - names of ours
        )


def counters_of(path: Path) -> Counters | None:
    """How far a database had come that is about to be replaced, or None where that cannot be read (any more)."""
    if not path.exists():
        return None
    try:
        with _opened(path, "rw") as old:  # its write-ahead log may need recovery
            epoch, last_sequence = old.execute("SELECT epoch, last_sequence FROM installation").fetchone()
            indexes = old.execute("SELECT key_hash, branch, next_index FROM derivations").fetchall()
    except (sqlite3.Error, TypeError):
        return None
    return Counters(int(epoch), int(last_sequence), {(str(k), int(b)): int(n) for k, b, n in indexes})


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)) as connection:
        yield connection


@contextmanager
def _sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, disk full, not to be opened
        raise DatabaseError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise DatabaseError(_damaged(path, str(error))) from error


def _damaged(path: Path, what: str) -> str:
    return f"{path} is damaged or cut off ({what}): use another backup"


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
