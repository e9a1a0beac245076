"""Opens sessions in a store's database, as a process of its own.

``python -m tests.opening_child FOLDER SLUG COUNT``: says that it is ready, waits for a line, opens all at once, and
prints each session's id and what is due, in base units.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from astrapayd.services.core import TryLater
from astrapayd.services.sessions import open_session
from tests.shopfront import Shopfront, look, shopfront


async def _open(front: Shopfront, slug: str) -> str:
    while True:
        try:
            opened = await open_session(front.core, slug, "usd", form_token="", source="test")
        except TryLater:  # the other process has begun an epoch, and its watcher has not looked yet
            await look(front.core, front.epoch)
            await asyncio.sleep(0.01)
        else:
            return f"{opened.session_id} {(await front.session(opened.session_id)).due_base}"


async def main(folder: Path, slug: str, count: int) -> None:
    """Open ``count`` sessions of the link."""
    async with shopfront(folder) as front:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for line in await asyncio.gather(*(_open(front, slug) for _ in range(count))):
            print(line, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
