"""On which engine a test works: the same tests run on SQLite and on PostgreSQL.

A folder stands for a merchant's machine. Its database is a SQLite file in it, unless the fixture ``engine`` has noted
there that it is one on the run's PostgreSQL server; a process that is only told the folder finds it too.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_NOTE = "database.url"

both_engines = pytest.mark.usefixtures("engine")
"""Marks a module or test that is to run on both; ``tmp_path`` is then the folder."""


def database_url(folder: Path, file_name: str = "shop.db") -> str:
    """Where the database of that folder is."""
    note = folder / _NOTE
    return note.read_text() if note.exists() else f"sqlite:///{folder / file_name}"


def put_on_server(folder: Path, url: str) -> None:
    """The folder's database is that one."""
    (folder / _NOTE).write_text(url)
