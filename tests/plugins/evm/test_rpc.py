"""The connection to a node keeps reading, whatever is thrown at it."""

from __future__ import annotations

import json
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from astrapayd_evm.rpc import NodeRpc

FLOOD = 30_000
"""Three times what geth holds back for a client before it cuts it."""


async def flooding(client: ServerConnection) -> None:
    """A node that sends its flood between a question and its answer."""
    async for message in client:
        request: dict[str, Any] = json.loads(message)
        if request["method"] == "eth_subscribe":
            await client.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": "0x1"}))
            continue
        news = json.dumps({"method": "eth_subscription", "params": {"subscription": "0x1", "result": {"n": "0" * 500}}})
        for _ in range(FLOOD):
            await client.send(news)
        await client.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": "0x7"}))


async def test_flood_of_notifications_is_read_away_and_wakes_once() -> None:
    async with serve(flooding, "127.0.0.1", 0) as server:
        rpc = NodeRpc(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
        await rpc.open()
        wakeup = await rpc.subscribe("newHeads")
        assert await rpc.call("eth_chainId") == "0x7", "the answer behind them is found"
        assert wakeup.notifications == FLOOD
        assert await wakeup.wait(0.1), "whoever waits is woken"
        assert not await wakeup.wait(0.1), "and only once, since each told the same: look"
        await rpc.close()
