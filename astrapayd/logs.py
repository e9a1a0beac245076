"""Logging: one JSON object a line, or colours on a terminal; secrets and customers' data never get that far.

Everything goes to stderr through one handler, the lines of libraries included. Under systemd each line begins with
its journal priority (``<3>`` is an error, see ``sd-daemon(3)``), so that ``journalctl -p warning`` works.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"
"""Stands where a value was dropped, so that a reader sees that there was one."""

_OPENS_SOMETHING: Final = """
    api_key authorization cookie credential mnemonic passphrase password private_key secret secrets session_secret
    set_cookie signature signing_key token xprv
"""
_ABOUT_A_PERSON: Final = """
    answers city client_ip company customer customer_email customer_name email fields first_name form full_name ip
    last_name phone postcode remote_addr shipping shipping_address street user_agent
"""
SECRET_KEYS: Final = frozenset(_OPENS_SOMETHING.split())
"""Names whose values open something."""

CUSTOMER_KEYS: Final = frozenset(_ABOUT_A_PERSON.split())
"""Names whose values are about a person. ``address`` is not among them: here it is one on a chain."""

_PRIORITY: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_URL_LOGIN: Final = re.compile(r"(?<=://)[^/\s@]+@")
_MAX_DEPTH: Final = 8

Format = Literal["auto", "json", "console"]


def configure(
    format: Format = "auto",  # noqa: A002 - as the setting is called
    level: str = "info",
    *,
    stream: TextIO | None = None,
) -> None:
    """Set logging up for the process. A second call replaces the first.

    :param format: ``auto`` means ``console`` on a terminal, else ``json``.
    :param level: ``debug``, ``info``, ``warning`` or ``error``: less than that is dropped.
    :param stream: where lines go, by default stderr.
    """
    stream = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and stream.isatty())
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    at_end: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    # tracebacks are made before redaction, and never with locals: that is where secrets and customers are
    if console:
        plain = structlog.dev.plain_traceback
        at_end += [structlog.processors.format_exc_info, redact]
        at_end.append(structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain))
    else:
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
        at_end += [structlog.processors.ExceptionRenderer(tracebacks), redact, JsonLine(_is_journal(stream))]

    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=at_end))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # each request of a checkout names a customer's address, and each statement shows its values
    for noisy in ("aiohttp.access", "sqlalchemy.engine", "aiosqlite", "asyncio", "websockets"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=False,
    )


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Processor: drops the values of :data:`SECRET_KEYS` and :data:`CUSTOMER_KEYS` at any depth, and logins in URLs."""
    return {key: _clean(key, value, 0) for key, value in event.items()}


def _clean(key: str, value: Any, depth: int) -> Any:
    name = key.lower().replace("-", "_")
    if name in SECRET_KEYS or name in CUSTOMER_KEYS:
        return value if value is None or isinstance(value, bool) else REDACTED
    if depth > _MAX_DEPTH:
        return "..."
    if isinstance(value, str):
        return _URL_LOGIN.sub(f"{REDACTED}@", value) if "://" in value else value
    if isinstance(value, Mapping):
        return {str(inner): _clean(str(inner), child, depth + 1) for inner, child in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", child, depth + 1) for child in value]
    return value


class JsonLine:
    """Processor: the event as one line of JSON, behind its journal priority where ``journal`` is true.

    An integer too long for JSON readers (amounts in base units) becomes text; what JSON does not know, its ``str``.
    """

    def __init__(self, journal: bool) -> None:
        self._journal = journal

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """The line, without a line break in it."""
        line = orjson.dumps(_plain(event), default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        return f"<{_PRIORITY.get(event.get('level', ''), 6)}>{line}" if self._journal else line


def _plain(value: Any) -> Any:
    """``value`` with what orjson refuses written as text: integers beyond 53 bits, lone surrogates."""
    match value:
        case bool() | None | float():
            return value
        case int():
            return value if -(2**53) < value < 2**53 else str(value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case Mapping():
            return {_plain(str(key)): _plain(child) for key, child in value.items()}
        case list() | tuple():
            return [_plain(child) for child in value]
        case _:
            return _plain(str(value))


def _is_journal(stream: TextIO) -> bool:
    """Whether ``stream`` is the journal itself: systemd names its device and inode, since a service can redirect."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
