"""Catching up on Tron: blocks of 300 transactions each, beside the same HTTP calls, with the same prefetch and the same
JSON parsing, that nobody looks into. The node is a process of its own with prepared answers."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import aclosing
from typing import Any

from aiohttp import web

from astrapayd.chains import Depth
from astrapayd.money import Asset
from astrapayd.transfers import BlockRef, Watched, WatchSet
from astrapayd_tron import decode
from astrapayd_tron.address import from_hex20
from astrapayd_tron.fetching import SPAN, Fetcher, together
from astrapayd_tron.networks import PRIVATE
from astrapayd_tron.rpc import HttpLimits, NodeHttp
from astrapayd_tron.watcher import NodeSettings, Settings, TronWatcher
from benchmarks.figures import Figure, median
from tests.plugins.tron import tron_blocks
from tests.plugins.tron.ledger import GENESIS, Block, Ledger, Pending

TRANSACTIONS = 300
BLOCKS = 200
ADDRESSES = 1_000
ROUNDS = 5
_KINDS = 50  # different blocks' contents: making 60,000 transactions takes longer than reading them


async def measure() -> list[Figure]:
    """Blocks per second, each way by turns, the middle of several rounds. A payment is in each block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.tron_catch_up", str(BLOCKS)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    try:
        ours, bare = [], []
        for _ in range(ROUNDS):
            bare.append(BLOCKS / await _bare(ready))
            ours.append(BLOCKS / await _ours(ready))
    finally:
        process.kill()
        await process.wait()
    name = f"Tron catch-up, {TRANSACTIONS} transactions a block"
    return [Figure(name, median(ours), "blocks/s", median(bare), "same calls and JSON, no processing")]


async def _ours(ready: dict[str, Any]) -> float:
    """Seconds that the watcher takes from the first block to the last."""
    watch = WatchSet(Watched(1, frozenset(_addresses()), frozenset({tron_blocks.USDT}), native=True))
    assets = (
        Asset("usdt", "tron", "USDT", 6, 2, 4, tron_blocks.USDT, ""),
        Asset("trx", "tron", "TRX", 6, 2, 4, None, ""),
    )
    watcher = TronWatcher(
        Settings(
            chain="tron",
            network=PRIVATE,
            nodes=(NodeSettings(ready["url"], ready["solidity"]),),
            genesis=GENESIS,
            assets=assets,
            confirmations=Depth.of_blocks(1),
            final=Depth(None, "solidified"),
        )
    )
    found = 0
    begun = time.perf_counter()
    async with aclosing(watcher.updates((BlockRef(**ready["base"]),), watch)) as updates:
        async for step in updates:
            found += len(step.transfers)
            if step.head.height == BLOCKS + 1:
                break
    seconds = time.perf_counter() - begun
    await watcher.close()
    assert found == BLOCKS, found
    return seconds


async def _bare(ready: dict[str, Any]) -> float:
    """Seconds that the same questions take; each span is asked for while the one before is thrown away."""
    limits = HttpLimits()
    full, solidity = NodeHttp(ready["url"], limits), NodeHttp(ready["solidity"], limits)
    begun = time.perf_counter()
    await Fetcher(full, solidity).identify(GENESIS)
    await solidity.ask("walletsolidity/getnowblock")
    await full.ask("wallet/getnowblock")
    await full.ask("wallet/getblockbynum", num=1)
    first, last = 2, BLOCKS + 1
    fetching = asyncio.create_task(_span(full, first, min(first + SPAN - 1, last)))
    while first <= last:
        await fetching
        first += SPAN
        if first <= last:
            fetching = asyncio.create_task(_span(full, first, min(first + SPAN - 1, last)))
    await full.ask("wallet/getnowblock")
    seconds = time.perf_counter() - begun
    await full.close()
    await solidity.close()
    return seconds


async def _span(full: NodeHttp, first: int, last: int) -> None:
    await together(
        full.ask("wallet/getblockbylimitnext", startNum=first, endNum=last + 1),
        *(full.ask("wallet/gettransactioninfobyblocknum", num=height) for height in range(first, last + 1)),
    )
    await full.ask("wallet/getblockbynum", num=last)


# -- the node ---------------------------------------------------------------------------------------------------------


def _addresses() -> list[str]:
    return [from_hex20(f"{number:040x}") for number in range(1, ADDRESSES + 1)]


def _ledger(blocks: int) -> Ledger:
    """Of mainnet's mix: mostly USDT, then TRX, then calls of other contracts and delegations; one of each block's is
    ours."""
    rng = random.Random(195)
    ledger = Ledger(1)
    ours = _addresses()
    contents = [_content(ledger, rng, ours) for _ in range(min(blocks, _KINDS))]
    for number in range(blocks):
        ledger.waiting = contents[number % len(contents)]
        ledger.mine()
    return ledger


def _content(ledger: Ledger, rng: random.Random, ours: list[str]) -> list[Pending]:
    content = [ledger.token([(rng.choice(ours), rng.randrange(1, 10**9))])]
    other = from_hex20("0a" * 20)
    while len(content) < TRANSACTIONS:
        to, amount, kind = from_hex20(rng.randbytes(20).hex()), rng.randrange(1, 10**9), rng.random()
        if kind < 0.5:
            content.append(ledger.token([(to, amount)]))
        elif kind < 0.8:
            content.append(ledger.trx(to, amount))
        elif kind < 0.9:
            content.append(ledger.token([(to, amount)] * rng.randrange(1, 8), contract=other))
        else:
            content.append(ledger.posing("DelegateResourceContract", to, amount))
    rng.shuffle(content)
    return content


async def _serve(blocks: int) -> None:
    """Answers prepared as bytes, so that the node costs as little as can be."""
    ledger = _ledger(blocks)
    chain = [ledger.at(height) for height in range(ledger.tip.height + 1)]
    by_height = [json.dumps(block.as_json()).encode() for block in chain]
    infos = [json.dumps(block.infos).encode() for block in chain]

    async def answer(request: web.Request) -> web.Response:
        question = json.loads(await request.read())
        match request.match_info["method"]:
            case "getnowblock":
                body = by_height[-1]
            case "getblockbynum":
                body = by_height[question["num"]]
            case "getblockbylimitnext":
                body = b'{"block": [' + b",".join(by_height[question["startNum"] : question["endNum"]]) + b"]}"
            case _:
                body = infos[question["num"]]
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/{port}/{method}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    urls = []
    for _ in range(2):
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
    urls = [f"http://127.0.0.1:{port}" for _, port in runner.addresses]
    print(json.dumps({"url": urls[0], "solidity": urls[1], "base": _ref(chain[1])}), flush=True)
    await asyncio.Event().wait()


def _ref(block: Block) -> dict[str, Any]:
    ref = decode.block_ref(block.as_json())
    return {"height": ref.height, "hash": ref.hash, "parent": ref.parent, "time": ref.time}


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
