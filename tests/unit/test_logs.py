"""Log lines: JSON, journal priorities, console, and what never appears in any of them."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from astrapayd import logs
from astrapayd.secret import Secret


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_of_ours_and_of_libraries() -> None:
    stream = io.StringIO()
    logs.configure("auto", "info", stream=stream)
    structlog.get_logger("astrapayd.ingest").info("applied", chain="ethereum", height=7, amount_base=2**256 - 1)
    logging.getLogger("library").warning("slow: %s", "x")
    ours, theirs = _lines(stream)
    assert ours["event"] == "applied"
    assert ours["height"] == 7
    assert ours["amount_base"] == str(2**256 - 1)  # JSON readers would round the number
    assert ours["logger"] == "astrapayd.ingest"
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("slow: x", "warning", "library")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_levels(level: str) -> None:
    stream = io.StringIO()
    logs.configure("json", level, stream=stream)
    log = structlog.get_logger("x")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)(name)
        getattr(logging.getLogger("y"), name)(name)
    order = ["debug", "info", "warning", "error"]
    assert [line["event"] for line in _lines(stream)] == [n for n in order[order.index(level) :] for _ in "xy"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_and_customers_never_appear(form: logs.Format) -> None:
    stream = io.StringIO()
    logs.configure(form, "debug", stream=stream)
    log = structlog.get_logger("x").bind(api_key="hunter2")
    held = "hunter2"
    log.info(
        "told",
        password="hunter2",
        customer={"name": "hunter2"},
        nested=[{"Set-Cookie": "hunter2", "fine": "shown"}],
        node="ws://me:hunter2@node/path",
        secret_object=Secret("hunter2"),
        address="0x5aAe",
    )
    try:
        raise ValueError(f"ws://me:{held}@node failed")
    except ValueError:
        log.exception("failed", email="hunter2")
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "shown" in text
    assert "0x5aAe" in text
    assert logs.REDACTED in text
    assert "ValueError" in text


def test_an_exception_is_one_structured_field() -> None:
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError:
        structlog.get_logger("x").exception("failed")
        logging.getLogger("library").exception("failed too")
    for line in _lines(stream):
        outer, inner = line["exception"]
        assert (outer["exc_type"], inner["exc_type"]) == ("ValueError", "KeyError")
        assert all("locals" not in frame for frame in outer["frames"])


def test_what_json_does_not_know_is_text() -> None:
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    structlog.get_logger("x").info("odd", path=Path("/x"), raw=b"\xff", lone="\ud800", inner={3: {4, 5}}, nothing=None)
    (line,) = _lines(stream)
    assert line["path"] == "/x"
    assert line["nothing"] is None
    assert line["inner"] == {"3": [4, 5]}


def test_journal_priorities_only_when_the_stream_is_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.configure("json", "debug", stream=stream)
        log = structlog.get_logger("x")
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(log, level)("said\nin two lines")
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
        logs.configure("json", stream=stream)
        log.info("redirected")
        stream.seek(0)
        assert [line[:3] for line in stream] == ["<7>", "<6>", "<4>", "<3>", "<2>", '{"e']


def test_console_has_no_json_and_a_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("json", stream=first)
    logs.configure("console", stream=second)
    structlog.get_logger("x").warning("told", chain="ethereum")
    assert first.getvalue() == ""
    assert "told" in second.getvalue()
    assert "{" not in second.getvalue()
