"""`astrapayd doctor`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astrapayd.cli.common import emit_json, leaf

if TYPE_CHECKING:
    from astrapayd.services.doctor import Finding

_COLOURS = {"fine": "green", "look": "yellow", "wrong": "red"}


@click.command(
    epilog="""\b
Examples:
  astrapayd doctor
  astrapayd doctor --json
"""
)
@leaf
def doctor(config_path: Path, as_json: bool) -> None:
    """Look at everything that can be wrong and say it in plain words. Exit code 1 if something is. Changes nothing."""
    from dataclasses import asdict

    from astrapayd.app import assemble
    from astrapayd.services.doctor import Verdict, examine

    assembly = assemble(config_path)

    async def work() -> list[Finding]:
        try:
            return await examine(assembly.core, assembly.host)
        finally:
            await assembly.core.database.close()

    found = asyncio.run(work())
    if as_json:
        emit_json([asdict(finding) for finding in found])
    else:
        for finding in found:
            mark = click.style(f"{finding.verdict:<5}", fg=_COLOURS[finding.verdict])
            click.echo(f"{mark}  {finding.place}: {finding.sentence}")
    if any(finding.verdict is Verdict.WRONG for finding in found):
        sys.exit(1)
