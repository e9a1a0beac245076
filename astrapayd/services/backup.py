"""Backups of a SQLite database: taken while the daemon runs, checked, and put in the database's place.

PostgreSQL brings its own; what it restored begins a new epoch by :func:`adopt`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from astrapayd import __version__
from astrapayd.db import copies, migrate
from astrapayd.db.copies import Contents, Progress
from astrapayd.db.engine import DaemonLock, Database, DatabaseError
from astrapayd.db.epoch import Counters
from astrapayd.db.turns import has_turn_elsewhere
from astrapayd.services.core import Core
from astrapayd.services.epochs import SKIPPED_ADDRESSES, Begun, begin_epoch

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was looked into. ``taken_at`` (ISO 8601) and ``sha256`` are those of the manifest beside it, empty
    where there is none; ``older``: a restore will migrate its schema."""

    path: Path
    contents: Contents
    taken_at: str
    sha256: str
    older: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. ``aside`` is where the database that was there before lies, None where there was none."""

    backup: Backup
    begun: Begun
    aside: Path | None


def _silent(_done: int, _of: int) -> None:
    pass


def manifest_of(path: Path) -> Path:
    """Where the manifest of a backup lies: beside it."""
    return path.with_name(path.name + ".json")


async def create(core: Core, target: Path, progress: Progress = _silent) -> Backup:
    """Take a backup while a daemon may be writing. It gets its name when it is whole and was found sound.

    :raises DatabaseError: if there is no SQLite database to back up, the target exists, or the copy is not sound.
    :raises OSError: if it cannot be written.
    """
    source = _sqlite_path(core.database, "pg_dump -Fc (docs/backup.md)")
    if not source.exists():
        raise DatabaseError(f"there is no database at {source} yet: nothing to back up")
    return await asyncio.to_thread(_create, source, target, progress)


def _create(source: Path, target: Path, progress: Progress) -> Backup:
    for path in (target, manifest_of(target)):
        if path.exists():
            raise DatabaseError(f"{path} exists already: a backup never overwrites a file, name another")
    if not target.parent.is_dir():
        raise DatabaseError(f"there is no folder {target.parent}")
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    with _unfinished(target) as made:
        copies.copy_database(source, made, progress)
        contents = copies.look_into(made)
        sha256 = _sha256(made)
        manifest = {"astrapayd": __version__, "schema": contents.schema, "taken_at": taken_at, "sha256": sha256}
        with _unfinished(manifest_of(target)) as described:
            described.touch(mode=0o600)
            described.write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            copies.move_into_place(described, manifest_of(target))
        copies.move_into_place(made, target)
    return Backup(target, contents, taken_at, sha256, contents.schema != migrate.SCHEMA_VERSION)


async def verify(path: Path) -> Backup:
    """Look into a backup: is it whole, unchanged since it was taken, and of a schema that this version knows?

    :raises DatabaseError: if not; one sentence.
    """
    return await asyncio.to_thread(_verify, path)


def _verify(path: Path) -> Backup:
    contents = copies.look_into(path)
    if contents.schema not in migrate.known_revisions():
        raise DatabaseError(
            f"{path} was written by a newer astrapayd: its schema is {contents.schema}, this one knows up to "
            f"{migrate.SCHEMA_VERSION}; install that version to restore it"
        )
    manifest = _read_manifest(manifest_of(path))
    sha256 = str(manifest.get("sha256", ""))
    if sha256 and sha256 != _sha256(path):
        raise DatabaseError(
            f"{path} is not as it was written: its SHA-256 is another than in {manifest_of(path).name}; "
            "use another backup"
        )
    older = contents.schema != migrate.SCHEMA_VERSION
    return Backup(path, contents, str(manifest.get("taken_at", "")), sha256, older)


async def restore(
    core: Core,
    path: Path,
    *,
    skipped: int = SKIPPED_ADDRESSES,
    progress: Progress = _silent,
) -> Restored:
    """Put a backup in the database's place.

    1. Hold the daemon's lock: none may run, and none can start meanwhile.
    2. Verify the backup, and copy it beside the database.
    3. Migrate the copy where it is older, and begin a new epoch in it.
    4. Only then exchange the two; what was there is kept under another name.

    A crash or an error before the last step leaves the database as it was.

    :param skipped: how many addresses of each key are passed by.
    :raises DatabaseError: if a daemon runs, the backup is not sound, or the engine is PostgreSQL.
    """
    database = _sqlite_path(core.database, "pg_restore, then astrapayd backup restored (docs/backup.md)")
    if not database.parent.is_dir():
        raise DatabaseError(f"there is no folder {database.parent}: make it, owned by the user that astrapayd runs as")
    with _locked(database):
        backup = await verify(path)
        replaced = await asyncio.to_thread(copies.counters_of, database)
        with _unfinished(database) as made:
            await asyncio.to_thread(copies.copy_database, path, made, progress)
            begun = await _prepare(core, made, replaced or Counters(), skipped, progress)
            aside = _free_name(database)
            had_one = database.exists()
            await asyncio.to_thread(copies.exchange, database, made, aside)
    return Restored(backup, begun, aside if had_one else None)


async def adopt(core: Core, *, skipped: int = SKIPPED_ADDRESSES, progress: Progress = _silent) -> Begun:
    """Begin a new epoch in a database that was restored by other means (``pg_restore``, a snapshot of a disk).

    :raises DatabaseError: if an astrapayd runs on it, or there is no database.
    """
    if not core.database.exists or await migrate.schema_version(core.database) is None:
        raise DatabaseError("the database is empty: restore it first, then run astrapayd backup restored")
    if core.database.path is not None:
        with _locked(core.database.path):
            await migrate.upgrade(core.database)
            return await begin_epoch(core, core.database, replaced=Counters(), skipped=skipped, progress=progress)
    for chain in core.registry:
        if await has_turn_elsewhere(core.database, chain.id):
            raise DatabaseError(f"an astrapayd is watching {chain.id} on this database: stop every one of them first")
    await migrate.upgrade(core.database)
    return await begin_epoch(core, core.database, replaced=Counters(), skipped=skipped, progress=progress)


async def _prepare(core: Core, made: Path, replaced: Counters, skipped: int, progress: Progress) -> Begun:
    restored = Database(f"sqlite:///{made}")
    try:
        await migrate.upgrade(restored)
        return await begin_epoch(core, restored, replaced=replaced, skipped=skipped, progress=progress)
    finally:
        await restored.close()  # the last to close it takes its write-ahead log in


def _free_name(database: Path) -> Path:
    """Where the replaced database goes: two restores may be made in one second."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    first = path = database.with_name(f"{database.name}.before-restore-{now}")
    count = 1
    while path.exists():
        count += 1
        path = first.with_name(f"{first.name}-{count}")
    return path


def as_document(backup: Backup) -> dict[str, Any]:
    """For ``--json``."""
    return {"path": str(backup.path), "taken_at": backup.taken_at, "sha256": backup.sha256, "older": backup.older} | {
        "schema": backup.contents.schema,
        "heads": [{"chain": chain, "height": height, "hash": block} for chain, height, block in backup.contents.heads],
        "rows": backup.contents.rows,
    }


def _sqlite_path(database: Database, instead: str) -> Path:
    if database.path is None:
        raise DatabaseError(f"database.url names PostgreSQL, which has backups of its own: use {instead}")
    return database.path


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    lock = DaemonLock(database)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A name beside the target for what is not finished; whatever is left of it goes."""
    made = target.with_name(f"{target.name}.unfinished")
    for end in ("", "-wal", "-shm", "-journal"):
        made.with_name(made.name + end).unlink(missing_ok=True)
    try:
        yield made
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                made.with_name(made.name + end).unlink(missing_ok=True)


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("sha256"), str):
        raise DatabaseError(f"{path} is damaged: it is no manifest of a backup")
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
