"""What every command shares: where the configuration is, how answers and failures are printed."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import orjson

if TYPE_CHECKING:
    from astrapayd.app import Assembly
    from astrapayd.services.core import Core

T = TypeVar("T")
Function = Callable[..., Any]

DEFAULT_CONFIG = Path("/etc/astrapayd/astrapayd.toml")
LOCAL_CONFIG = Path("astrapayd.toml")


class Failed(click.ClickException):
    """A command that failed, with one sentence for each problem. Printed to stderr; exit code 1."""

    def __init__(self, kind: str, problems: Sequence[tuple[str, str]]) -> None:
        """:param problems: place (a key, an option, or empty) and sentence."""
        super().__init__("\n".join(f"{key}: {reason}" if key else reason for key, reason in problems))
        self._kind = kind
        self._problems = problems
        self._as_json = bool(click.get_current_context().params.get("as_json"))

    def show(self, file: Any = None) -> None:
        """One line a problem, or one JSON object on stderr."""
        if self._as_json:
            problems = [{"key": key, "reason": reason} for key, reason in self._problems]
            error = {"type": self._kind, "message": self.message, "problems": problems}
            click.echo(orjson.dumps({"error": error}).decode(), err=True)
        else:
            for line in self.message.splitlines():
                click.echo(f"{click.style('error:', fg='red')} {line}", err=True)


def leaf(function: Function) -> Function:
    """Give a command ``--config`` and ``--json``, and turn what a user or a machine did wrong into sentences."""

    @click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        envvar="ASTRAPAYD_CONFIG",
        help=f"Configuration file. Default: ./{LOCAL_CONFIG} if there is one, else {DEFAULT_CONFIG}.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        kwargs["config_path"] = kwargs["config_path"] or (LOCAL_CONFIG if LOCAL_CONFIG.exists() else DEFAULT_CONFIG)
        log_to_stderr()
        try:
            return function(*args, **kwargs)
        except click.ClickException:
            raise
        except Exception as error:
            problems = _problems(error)
            if problems is None:
                raise
            raise Failed(type(error).__name__, problems) from error

    return wrapped


def log_to_stderr() -> None:
    """Whatever plugins and libraries have to say, stdout is for the answer."""
    from astrapayd.logs import configure

    configure("auto", "error")


def _problems(error: Exception) -> Sequence[tuple[str, str]] | None:
    """The sentences of an error that is no bug; None for a bug."""
    from sqlalchemy.exc import DBAPIError

    from astrapayd.app import StartError
    from astrapayd.claims import ClaimRefused
    from astrapayd.config import ConfigError
    from astrapayd.db.engine import DatabaseError
    from astrapayd.links import DraftError
    from astrapayd.plugins import PluginError
    from astrapayd.prefill import PrefillRefused
    from astrapayd.services.core import NotFound, TryLater
    from astrapayd.services.endpoints import EndpointError
    from astrapayd.services.prefill import RotationError
    from astrapayd.services.unmatched import NotSortable
    from astrapayd.sessions import NotPossible

    match error:
        case ConfigError():
            return [(f"{error.path}: {p.key}" if p.key else str(error.path), p.reason) for p in error.problems]
        case DraftError():
            return [(p.field, p.reason) for p in error.problems]
        case StartError():
            return [("", line) for line in str(error).splitlines()]
        case DBAPIError():
            return [
                ("database", f"{error.orig}: is it a database of astrapayd, its disk full, or somebody writing to it?")
            ]
        case OSError():
            return [("", str(error))]
        case BaseExceptionGroup() if len(error.exceptions) == 1 and isinstance(error.exceptions[0], Exception):
            return _problems(error.exceptions[0])
        case DatabaseError() | PluginError() | NotFound() | TryLater() | EndpointError():
            return [("", str(error))]
        case NotPossible() | NotSortable() | ClaimRefused() | PrefillRefused() | RotationError():
            return [("", str(error))]
        case _:
            return None


def with_core(config_path: Path, work: Callable[[Core], Awaitable[T]]) -> T:
    """Run a service against the configured database, while a daemon may be running on it or not."""
    from astrapayd.app import assemble, prepare_database

    assembly: Assembly = assemble(config_path)

    async def run() -> T:
        core = assembly.core
        try:
            await prepare_database(core, may_upgrade=False)
            return await work(core)
        finally:
            await core.database.close()

    return asyncio.run(run())


def the_store(core: Core, store: str | None) -> str:
    """The store that was named, or the only one there is.

    :raises Failed: if there are several, or none of that name.
    """
    if store is not None:
        core.store(store)
        return store
    stores = tuple(core.config.stores)
    if len(stores) != 1:
        fail("store", f"name one with --store: {', '.join(stores) or 'the configuration has none yet'}")
    return stores[0]


def fail(place: str, reason: str) -> NoReturn:
    """:raises Failed: with one problem."""
    raise Failed("Failed", [(place, reason)])


def emit_json(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2).decode())


def emit_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, nothing: str) -> None:
    """Aligned columns; a sentence where there is nothing."""
    cells = [[_plain(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(nothing)
        return
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    click.echo(click.style("  ".join(h.ljust(w) for h, w in zip(headers, widths, strict=True)).rstrip(), bold=True))
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def emit_facts(facts: Iterable[tuple[str, object]]) -> None:
    """One fact a line; empty ones are left out."""
    shown = [(_plain(name), _plain(value)) for name, value in facts if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {value}")


def emit_lines(title: str, lines: Iterable[str]) -> None:
    """A thing that needs more than one line: its name, and what is to be said of it below."""
    click.echo(click.style(_plain(title), bold=True))
    for line in lines:
        click.echo(f"  {_plain(line)}")


def _plain(cell: object) -> str:
    """One line without control characters: what a customer or a node has sent must not steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in str(cell))


def local_time(unix_secs: int) -> str:
    """A time as this machine's administrator reads it."""
    return datetime.fromtimestamp(unix_secs, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def on_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()
