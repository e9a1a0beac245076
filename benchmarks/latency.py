"""From mined to the signed webhook, beside a bare websocket subscriber that only hears of the block."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

from websockets.asyncio.client import connect

from benchmarks.figures import Figure, median, percentile
from tests.nodes.harness import TestNode
from tests.shop import USDT, a_shop

PAYMENTS = 100


async def measure(node: TestNode) -> list[Figure]:
    """One payment and one block at a time, so that each latency stands alone. Milliseconds."""
    heard: dict[int, float] = {}
    delays: list[float] = []
    whole: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with a_shop(Path(folder), url=node.url, chain_id=node.chain_id, usdt=node.usdt) as shop:
            await shop.start()
            subscriber = asyncio.create_task(_subscribe(node.url, heard))
            url = await shop.link("25.00", "USDT")
            try:
                for _ in range(PAYMENTS):
                    asked = await shop.open(url, USDT)
                    await node.pay_token(asked.address, asked.due_base)
                    begun = time.perf_counter()
                    height = await node.mine()
                    await shop.until("session.paid")
                    arrived = time.perf_counter()
                    while height not in heard:
                        await asyncio.sleep(0.001)
                    delays.append((arrived - heard[height]) * 1000)
                    whole.append((arrived - begun) * 1000)
                    bare.append((heard[height] - begun) * 1000)
            finally:
                subscriber.cancel()
    return [
        Figure(f"mined → webhook, p50 ({node.name})", median(whole), "ms", median(bare), "bare subscriber"),
        Figure(
            f"mined → webhook, p99 ({node.name})",
            percentile(whole, 0.99),
            "ms",
            percentile(bare, 0.99),
            "bare subscriber",
        ),
        Figure(f"above the bare subscriber, p99 ({node.name})", percentile(delays, 0.99), "ms", 100.0, "target 100 ms"),
    ]


async def _subscribe(url: str, heard: dict[int, float]) -> None:
    async with connect(url, max_size=None) as socket:
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}))
        async for message in socket:
            told = json.loads(message)
            if "params" in told:
                heard[int(told["params"]["result"]["number"], 16)] = time.perf_counter()
