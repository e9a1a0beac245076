"""What all tests share: real things (nodes, browsers, database servers) that may be missing.

Lines at the end of a run name those that took part. With REQUIRE_ALL=1 (as in CI) a missing one is a failure, never a
silent skip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.databases import put_on_server
from tests.postgres import NoServer, Server, running_server

KINDS = ("Real nodes", "Browsers", "Database servers")
TOOK_PART = pytest.StashKey[dict[str, set[str]]]()

TookPart = Callable[[str, str], None]
Missing = Callable[[str], NoReturn]


def pytest_configure(config: pytest.Config) -> None:
    nothing: dict[str, set[str]] = {kind: set() for kind in KINDS}
    config.stash[TOOK_PART] = nothing


@pytest.fixture(scope="session")
def took_part(pytestconfig: pytest.Config) -> TookPart:
    """Call as `took_part("Real nodes", "anvil 1.7.1")` once something real serves a test; the kinds are KINDS."""

    def record(kind: str, name: str) -> None:
        pytestconfig.stash[TOOK_PART][kind].add(name)

    return record


@pytest.fixture(scope="session")
def missing() -> Missing:
    """Call as `missing("anvil: run tests/nodes/fetch.sh")`: skips with that reason, or fails under REQUIRE_ALL=1."""

    def skip_or_fail(reason: str) -> NoReturn:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"REQUIRE_ALL=1 and missing: {reason}", pytrace=False)
        pytest.skip(reason)

    return skip_or_fail


@pytest.fixture(scope="session")
def postgresql(took_part: TookPart, missing: Missing) -> Iterator[Server]:
    """A PostgreSQL server of this run's own."""
    try:
        starting = running_server()
        server = starting.__enter__()
    except NoServer as error:
        missing(str(error))
    try:
        took_part("Database servers", f"PostgreSQL {server.version}")
        yield server
    finally:
        starting.__exit__(None, None, None)


@pytest.fixture
def postgresql_url(postgresql: Server) -> Iterator[str]:
    """A migrated database of this test's own on the server."""
    url = postgresql.fresh()
    yield url
    postgresql.give_back(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The test runs twice; its folder (``tmp_path``) stands for a database on that engine."""
    if request.param == "postgresql":
        put_on_server(tmp_path, request.getfixturevalue("postgresql_url"))
    return str(request.param)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for kind, names in config.stash[TOOK_PART].items():
        # Nodes are always reported; the others only by runs that had to do with them.
        if names or kind == "Real nodes":
            terminalreporter.write_line(f"{kind} that took part: {', '.join(sorted(names)) or 'none'}")
