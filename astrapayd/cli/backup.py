"""`astrapayd backup`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from astrapayd.cli.common import emit_facts, emit_json, leaf

if TYPE_CHECKING:
    from astrapayd.services.backup import Backup
    from astrapayd.services.core import Core
    from astrapayd.services.epochs import Begun

T = TypeVar("T")

_FILE = click.argument("file", type=click.Path(path_type=Path))
_SKIPPED = click.option(
    "--skip-addresses",
    "skipped",
    type=click.IntRange(0, 100_000),
    default=1_000,
    show_default=True,
    help="So many addresses of each xpub are passed by: more than sessions were opened on it since the backup.",
)


@click.group()
def backup() -> None:
    """Take backups of a SQLite database, check them, and restore one."""


@backup.command(
    epilog="""\b
Examples:
  astrapayd backup create /var/backups/astrapayd-$(date +%F).db
"""
)
@_FILE
@leaf
def create(file: Path, config_path: Path, as_json: bool) -> None:
    """Take a backup into FILE, while the daemon runs. Beside it goes a manifest, FILE.json.

    FILE holds secrets of webhooks and what customers have entered: only its owner can read it, keep it so. The
    configuration is not in it.
    """
    from astrapayd.services import backup as service

    progress = _Progress("copied", "pages")
    taken = _with_database(config_path, lambda core: service.create(core, file, progress))
    progress.done()
    if as_json:
        emit_json(service.as_document(taken))
        return
    _print(taken)
    click.echo(f"the backup {file} is whole; copy it and {service.manifest_of(file).name} to another machine")


@backup.command(
    epilog="""\b
Examples:
  astrapayd backup verify /var/backups/astrapayd-2026-11-24.db
"""
)
@_FILE
@leaf
def verify(file: Path, config_path: Path, as_json: bool) -> None:
    """Say whether a backup can be restored, and what is in it. Needs no configuration and changes nothing."""
    import asyncio

    from astrapayd.services import backup as service

    found = asyncio.run(service.verify(file))
    if as_json:
        emit_json(service.as_document(found))
        return
    _print(found)
    if not found.sha256:
        click.echo(f"there is no {service.manifest_of(file).name}: whether a byte was changed cannot be told")
    click.echo("the backup can be restored" + (", and its schema will be migrated" if found.older else ""))


@backup.command(
    epilog="""\b
Examples:
  astrapayd backup restore /var/backups/astrapayd-2026-11-24.db
"""
)
@_FILE
@_SKIPPED
@leaf
def restore(file: Path, skipped: int, config_path: Path, as_json: bool) -> None:
    """Put a backup in the database's place. The daemon must be stopped; what was there is kept under another name.

    Then the chain is read again from where the backup was taken, and a new epoch begins: event numbers and indexes of
    keys jump ahead, so that nothing of the time that is lost is given out twice. See docs/backup.md.
    """
    from astrapayd.services import backup as service

    progress = _Progress("done", "")
    done = _with_database(config_path, lambda core: service.restore(core, file, skipped=skipped, progress=progress))
    progress.done()
    if as_json:
        emit_json(
            service.as_document(done.backup) | _epoch_document(done.begun) | {"aside": str(done.aside or "") or None}
        )
        return
    _print(done.backup)
    _print_epoch(done.begun)
    if done.aside is not None:
        click.echo(f"the database that was there before is {done.aside}")
    click.echo("restored; start the daemon: sessions can be opened again when it has read the chain up to the node")


@backup.command(
    epilog="""\b
Examples:
  pg_restore --dbname=astrapayd astrapayd.dump && astrapayd backup restored
"""
)
@_SKIPPED
@leaf
def restored(skipped: int, config_path: Path, as_json: bool) -> None:
    """Say that the database was restored by other means: pg_restore, or a snapshot of its disk.

    Begins the new epoch that `backup restore` begins by itself. Stop every astrapayd first. Once is enough; a second
    time only jumps again.
    """
    from astrapayd.services import backup as service

    progress = _Progress("done", "")
    begun = _with_database(config_path, lambda core: service.adopt(core, skipped=skipped, progress=progress))
    progress.done()
    if as_json:
        emit_json(_epoch_document(begun))
        return
    _print_epoch(begun)
    click.echo("a new epoch has begun; start the daemon")


def _with_database(config_path: Path, work: Callable[[Core], Awaitable[T]]) -> T:
    """As ``with_core``, but what lies in the database's place is neither opened nor made."""
    import asyncio

    from astrapayd.app import assemble

    core = assemble(config_path).core

    async def run() -> T:
        try:
            return await work(core)
        finally:
            await core.database.close()

    return asyncio.run(run())


class _Progress:
    """One line on a terminal that is written over; nothing elsewhere. May be called from another thread."""

    def __init__(self, verb: str, what: str) -> None:
        self._verb, self._what = verb, what
        self._shown = -1

    def __call__(self, done: int, of: int) -> None:
        percent = done * 100 // of if of else 100
        if percent != self._shown and sys.stderr.isatty():
            self._shown = percent
            click.echo(f"\r{percent:3} % {self._verb} ({done} of {of} {self._what})\x1b[K", nl=False, err=True)

    def done(self) -> None:
        """Leave the line."""
        if self._shown >= 0:
            click.echo("", err=True)


def _print(found: Backup) -> None:
    emit_facts(
        [
            ("taken", found.taken_at),
            ("schema", found.contents.schema),
            *((f"{chain} read to", f"block {height}  {block}") for chain, height, block in found.contents.heads),
            *found.contents.rows.items(),
        ]
    )


def _print_epoch(begun: Begun) -> None:
    emit_facts(
        [
            ("epoch", begun.epoch),
            ("next event", begun.next_sequence),
            ("addresses passed by", begun.watched or ""),
        ]
    )


def _epoch_document(begun: Begun) -> dict[str, int]:
    return {"epoch": begun.epoch, "next_event": begun.next_sequence, "addresses_passed_by": begun.watched}
