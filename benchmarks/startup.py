"""Seconds from start to ready and memory when idle, beside a process that only imports what the daemon is built on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, median
from tests.nodes.harness import TestNode
from tests.shop import a_shop

RUNS = 5
IDLE_SECS = 3
_BARE = "import aiohttp.web, jinja2, sqlalchemy.ext.asyncio, aiosqlite, structlog, websockets.asyncio.client, pydantic"


async def measure(node: TestNode) -> list[Figure]:
    """The median of several starts on a database that exists."""
    ready: list[float] = []
    rss_mib = 0.0
    with tempfile.TemporaryDirectory() as folder:
        async with a_shop(Path(folder), url=node.url, chain_id=node.chain_id, usdt=node.usdt) as shop:
            for _ in range(RUNS):
                await shop.start()
                ready.append(shop.ready_secs)
                assert shop.process is not None
                await asyncio.sleep(IDLE_SECS)
                rss_mib = max(rss_mib, _rss_mib(shop.process.pid))
                await shop.stop()
    bare_secs, bare_mib = zip(*(_bare() for _ in range(RUNS)), strict=True)
    return [
        Figure("start → ready", median(ready), "s", median(bare_secs), "importing its libraries"),
        Figure("memory when idle", rss_mib, "MiB", median(bare_mib), "having imported its libraries"),
    ]


def _bare() -> tuple[float, float]:
    """Seconds and MiB of a process that imports the daemon's libraries and does nothing."""
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", f"{_BARE}\nprint(flush=True)\ninput()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - begun
        rss_mib = _rss_mib(process.pid)
        process.communicate(b"\n")
    return seconds, rss_mib


def _rss_mib(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")
