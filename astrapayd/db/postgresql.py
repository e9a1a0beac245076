"""What is PostgreSQL's own: how it is connected to, what a failure to connect means, and locks by name.

Nothing of the driver is imported before a PostgreSQL database is configured: it is an extra.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

if TYPE_CHECKING:
    import asyncpg

CONNECT_TIMEOUT_SECS: Final = 10
_POOL: Final = 10
_QUERY_KEYS: Final = {"host", "port", "ssl", "sslmode"}

_SESSION: Final = {
    "application_name": "astrapayd",
    "timezone": "UTC",
    # A process that is stopped inside a transaction (SIGSTOP, a frozen machine) must not keep its row locks for ever.
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "60s",  # longer than that, so that who waits for a stopped one lives to see it ended
    "jit": "off",  # every query here is short: compiling one takes longer than running it
    # A machine that vanished without a word is noticed in 25 s instead of two hours, and what it held is free.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


class DriverMissing(Exception):
    """asyncpg is not installed."""


def checked_url(url: URL) -> URL:
    """The URL as SQLAlchemy's asyncpg dialect wants it.

    :raises ValueError: if it has parameters that are not known. One clause for the administrator.
    """
    query = dict(url.query)
    unknown = sorted(set(query) - _QUERY_KEYS)
    if unknown:
        raise ValueError(f"has the parameter {unknown[0]!r}: known are {', '.join(sorted(_QUERY_KEYS))}")
    if "sslmode" in query:  # libpq's name of it
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)


def make_engine(url: URL) -> AsyncEngine:
    """:raises DriverMissing: if the extra is not installed."""
    try:
        engine = create_async_engine(
            url,
            # The rules hold by row locks in one order and by constraints (docs/adr/0006); no transaction is refused
            # for having read something, so none must be begun again.
            isolation_level="READ COMMITTED",
            pool_size=_POOL,
            pool_timeout=60,
            pool_pre_ping=True,  # a server that was restarted meanwhile costs nobody an error
            connect_args={"timeout": CONNECT_TIMEOUT_SECS, "server_settings": _SESSION},
        )
    except ModuleNotFoundError as error:
        raise DriverMissing from error
    event.listen(engine.sync_engine, "before_cursor_execute", _without_nul, retval=True)
    return engine


def _without_nul(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
) -> tuple[str, Any]:
    """PostgreSQL's texts hold every character but U+0000, and refuse the statement. A receiver's answer, a node's
    message or an address in the browser may have one: it becomes U+FFFD, and is found, or not found, like any other.
    """

    def clean(row: Any) -> Any:
        if any(isinstance(value, str) and "\0" in value for value in row):
            return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row)
        return row

    return statement, [clean(row) for row in parameters] if many else clean(parameters)


async def connect_alone(engine: AsyncEngine) -> asyncpg.Connection[Any]:
    """A connection outside of the pool, for what lives as long as its connection: locks of a session, and listening."""
    import asyncpg

    _, arguments = engine.dialect.create_connect_args(engine.url)
    return await asyncpg.connect(**arguments, timeout=CONNECT_TIMEOUT_SECS, server_settings=_SESSION)


def lock_key(name: str) -> int:
    """The 64-bit number under which PostgreSQL keeps the advisory lock of that name."""
    digest = hashlib.sha256(f"astrapayd {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def why_unreachable(error: BaseException, url: URL) -> str | None:
    """One sentence for the administrator, or None where the error is something else."""
    import asyncpg

    if isinstance(error, DBAPIError):
        error = error.orig or error
        error = error.__cause__ or error
    server, user = _where(url), url.username or "the user that runs it"
    match error:
        case asyncpg.InvalidPasswordError():
            return (
                f"database.url: the PostgreSQL server at {server} refuses the password of {user}: set database.password"
            )
        case asyncpg.InvalidAuthorizationSpecificationError():
            return (
                f"database.url: the PostgreSQL server at {server} does not let {user} in ({_line(error)}): "
                "make the role, or allow it in pg_hba.conf"
            )
        case asyncpg.InvalidCatalogNameError():
            return (
                f"database.url: the PostgreSQL server at {server} has no database {url.database!r}: "
                f"make it with createdb --owner={url.username or 'ROLE'} {url.database}"
            )
        case asyncpg.CannotConnectNowError() | asyncpg.TooManyConnectionsError():
            return f"database.url: the PostgreSQL server at {server} takes no connection now: {_line(error)}"
        case OSError() | TimeoutError():
            reason = _line(error) or f"no answer in {CONNECT_TIMEOUT_SECS} s"
            return (
                f"database.url: the PostgreSQL server at {server} cannot be reached ({reason}): "
                "is it running, and are host and port right?"
            )
        case asyncpg.PostgresError() | asyncpg.InterfaceError():
            return f"database.url: the PostgreSQL server at {server} cannot be used: {_line(error)}"
        case _:
            return None


def _where(url: URL) -> str:
    """Host and port without the password that may stand in the URL."""
    host = url.host or url.query.get("host") or "the default socket"
    return f"{host}:{url.port}" if url.port else str(host)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
