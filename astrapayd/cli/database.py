"""`astrapayd db`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrapayd.cli.common import emit_facts, emit_json, fail, leaf

if TYPE_CHECKING:
    from astrapayd.services.core import Core


@click.group()
def db() -> None:
    """Look after the database."""


@db.command(
    epilog="""\b
Examples:
  astrapayd db upgrade
"""
)
@leaf
def upgrade(config_path: Path, as_json: bool) -> None:
    """Bring the schema to the version of this program. `astrapayd run` does it by itself."""
    import asyncio

    from astrapayd.app import assemble
    from astrapayd.db import migrate

    async def work() -> str | None:
        database = assemble(config_path).core.database
        try:
            return await migrate.upgrade(database)
        finally:
            await database.close()

    before = asyncio.run(work())
    if as_json:
        emit_json({"before": before, "now": migrate.SCHEMA_VERSION})
    elif before == migrate.SCHEMA_VERSION:
        click.echo(f"the schema is {before} already")
    else:
        click.echo(f"the schema was {before or 'empty'} and is {migrate.SCHEMA_VERSION} now")


@db.command(
    epilog="""\b
Examples:
  astrapayd db check
"""
)
@leaf
def check(config_path: Path, as_json: bool) -> None:
    """Check version and integrity, and count what is in it. Changes nothing."""
    import asyncio

    from astrapayd.app import assemble
    from astrapayd.db.integrity import check_integrity

    async def work(core: Core) -> dict[str, Any]:
        try:
            return await check_integrity(core.database)
        finally:
            await core.database.close()

    found = asyncio.run(work(assemble(config_path).core))
    if found["problems"]:
        fail("database", "; ".join(found["problems"]))
    if as_json:
        emit_json(found)
        return
    emit_facts([("schema", found["schema"]), *((table, count) for table, count in found["rows"].items())])
    click.echo("the database is in order")
