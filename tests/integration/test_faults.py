"""kill -9 in the middle of ingesting and of delivering: the end is that of the undisturbed run.

A process of its own, since each kill is a fork of it; ``make faults`` runs every point there is.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def test_kill_9_at_every_statement_of_an_ingest_transaction(tmp_path: Path) -> None:
    """Every commit, every hook call, and a seeded share of the rest (``ASTRAPAYD_FAULT_SEED`` for another share)."""
    seed = os.environ.get("ASTRAPAYD_FAULT_SEED", "20261124")
    report = tmp_path / "faults.md"
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.run", "--sample", "--seed", seed, "--report", str(report)),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await run.wait() == 0, report.read_text() if report.exists() else "it did not come to a report"
