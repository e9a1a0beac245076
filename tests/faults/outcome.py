"""Everything that a run leaves, with what is random written by its meaning, so that two runs can be compared."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import create_engine, select

from astrapayd.db.tables import metadata

# Of the process or of its attempts, not of the payments.
_NOT_COMPARED = {
    "chains": {"watcher_epoch", "looked_at", "level", "problem"},
    "deliveries": {"attempts", "next_attempt_at", "claimed_until", "finished_at"},
}
_LEFT_OUT = {"delivery_attempts"}


def outcome(folder: Path) -> dict[str, list[Any]]:
    """Every row of every table. A payment's id becomes its transaction, an event's id its sequence."""
    engine = create_engine(f"sqlite:///{folder / 'shop.db'}")
    try:
        with engine.connect() as connection:
            rows = {
                table.name: [dict(row._mapping) for row in connection.execute(select(table))]
                for table in metadata.sorted_tables
                if table.name not in _LEFT_OUT
            }
    finally:
        engine.dispose()
    meanings = {r["id"]: f"pay:{r['tx']}:{r['kind']}:{r['ordinal']}" for r in rows["transfers"]}
    meanings |= {r["id"]: f"evt:{r['sequence']}" for r in rows["events"]}
    found = {}
    for name, table_rows in rows.items():
        hidden = _NOT_COMPARED.get(name, set())
        plain = [{str(k): v for k, v in row.items() if k not in hidden} for row in table_rows]
        found[name] = sorted((_by_meaning(row, meanings) for row in plain), key=repr)
    return found


def _by_meaning(row: dict[str, Any], meanings: dict[str, str]) -> dict[str, Any]:
    text = orjson.dumps(row, default=_bytes, option=orjson.OPT_SORT_KEYS).decode()
    for id, meaning in meanings.items():
        if id in text:
            text = text.replace(id, meaning)
    plain: dict[str, Any] = orjson.loads(text)
    return plain


def _bytes(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(type(value).__name__)


def differences(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> list[str]:
    """The tables that differ, each with the first rows that do."""
    said = []
    for name in expected:
        if found[name] != expected[name]:
            more = [row for row in found[name] if row not in expected[name]]
            less = [row for row in expected[name] if row not in found[name]]
            said.append(f"{name}: {len(more)} rows more, {len(less)} less; {more[:1]} instead of {less[:1]}")
    return said


def faults_of_delivery(folder: Path) -> list[str]:
    """What the plugin got: every event, perhaps twice but then the same, in order for each subject."""
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        wanted = {
            sequence: (id, subject, body.decode())
            for sequence, id, subject, body in database.execute("SELECT sequence, id, subject, body FROM events")
        }
    faults = []
    newest: dict[str, int] = {}
    got = set()
    for line in (folder / "received.jsonl").read_bytes().splitlines():
        one = orjson.loads(line)
        sequence, subject = one["sequence"], one["subject"]
        got.add(sequence)
        if wanted.get(sequence) != (one["id"], subject, one["body"]):
            faults.append(f"event {sequence} was told as {one['id']}, and is not what is written")
        if sequence < newest.get(subject, 0):
            faults.append(f"event {sequence} of {subject} came after {newest[subject]}")
        newest[subject] = sequence
    faults += [f"event {sequence} was never told" for sequence in sorted(wanted.keys() - got)]
    return faults
