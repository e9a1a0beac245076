"""Ingests a fixed scenario into a store's database, as a process of its own that can be killed.

``python -m tests.ingest_child FOLDER STATEMENT``: goes on from the committed head, and ends itself with SIGKILL at the
given statement or commit (0: never).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from sqlalchemy import event

from astrapayd.db import chains as chain_queries
from astrapayd.testing import FakeChain
from tests.faults.scenario import scenario
from tests.shopfront import shopfront


async def ingest(folder: Path, kill_at: int) -> None:
    """Apply what is not committed yet."""
    chain = FakeChain()
    script = chain.script
    due = [int(line) for line in (folder / "due.txt").read_text().split()]
    genesis = script.tip
    steps = scenario(script, due)
    script.tip = genesis
    async with shopfront(folder, chain=chain) as front:
        engine = front.core.database.engine.sync_engine
        left = kill_at

        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(engine, "after_cursor_execute", count)
        event.listen(engine, "commit", count)
        async with front.core.database.read() as connection:
            committed = await chain_queries.head_block(connection, chain.id)
        assert committed is not None
        todo = steps
        if committed.hash != genesis.hash:
            done = max(i for i, step in enumerate(steps) if step.head.hash == committed.hash)
            todo = steps[done + 1 :]
        for step in todo:
            script.tip = step.head  # the clock follows the chain
            await front.apply(replace(step, watch_version=script.watch_version))


if __name__ == "__main__":
    asyncio.run(ingest(Path(sys.argv[1]), int(sys.argv[2])))
