"""A stand-in for Bitcoin Core: JSON-RPC over HTTP and notifications over ZeroMQ, from a chain in memory.

It answers as a node does (errors are HTTP 500 with the node's own codes and words, wrong credentials an empty 401), and
tells nothing that it was not asked to tell: :class:`tests.plugins.bitcoin.regtest.Regtest` drives it as a chain that
can be mined and reorganised, and the recordings drive it frame by frame.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq
import zmq.asyncio
from aiohttp import web

from astrapayd_bitcoin.networks import REGTEST

_QUIET_SECS = 0.15
USER, PASSWORD = "alice", "p@ss:w/ord"


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """``raw`` is empty where only its header is known."""

    height: int
    hash: str
    parent: str
    time: int
    raw: bytes = field(repr=False, default=b"")


class RpcFailure(Exception):
    """An error object, with HTTP 500."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class NodeState:
    """What the node knows: blocks of all branches, the tip, the mempool by transaction id."""

    def __init__(self) -> None:
        self.blocks: dict[str, StoredBlock] = {}
        self.tip = ""
        self.mempool: dict[str, bytes] = {}
        self.syncing = False
        self.pruned_below = 0
        self.genesis = REGTEST.genesis
        self.chain = "regtest"

    def active(self, height: int) -> StoredBlock | None:
        """The block of the winning branch at a height."""
        at = self.blocks.get(self.tip)
        while at is not None and at.height > height:
            at = self.blocks.get(at.parent)
        return at if at is not None and at.height == height else None

    # Answers

    def getblockchaininfo(self) -> dict[str, Any]:
        tip = self.blocks[self.tip]
        answer = {
            "chain": self.chain,
            "blocks": tip.height,
            "headers": tip.height,
            "bestblockhash": tip.hash,
            "initialblockdownload": self.syncing,
            "pruned": bool(self.pruned_below),
        }
        return answer | ({"pruneheight": self.pruned_below} if self.pruned_below else {})

    def getbestblockhash(self) -> str:
        return self.tip

    def getblockhash(self, height: int) -> str:
        if height == 0:
            return self.genesis
        block = self.active(height)
        if block is None:
            raise RpcFailure(-8, "Block height out of range")
        return block.hash

    def getblockheader(self, block_hash: str) -> dict[str, Any]:
        block = self._block(block_hash)
        return {
            "hash": block.hash,
            "height": block.height,
            "time": block.time,
            "previousblockhash": block.parent,
            "difficulty": 4.656542373906925e-10,
        }

    def getblock(self, block_hash: str, verbosity: int) -> str:
        assert verbosity == 0
        block = self._block(block_hash)
        if block.height < self.pruned_below:
            raise RpcFailure(-1, "Block not available (pruned data)")
        if not block.raw:
            raise RpcFailure(-1, "Block not found on disk")
        return block.raw.hex()

    def getrawmempool(self) -> list[str]:
        return list(self.mempool)

    def getmempoolentry(self, txid: str) -> dict[str, Any]:
        if txid not in self.mempool:
            raise RpcFailure(-5, "Transaction not in mempool")
        return {"vsize": 141, "fees": {"base": 0.00001410}}

    def getrawtransaction(self, txid: str) -> str:
        if txid not in self.mempool:
            raise RpcFailure(-5, "No such mempool transaction. Use -txindex or provide a block hash")
        return self.mempool[txid].hex()

    def getnetworkinfo(self) -> dict[str, Any]:
        return {"version": 319900, "subversion": "/Satoshi:31.99.0/"}

    def _block(self, block_hash: str) -> StoredBlock:
        if block_hash not in self.blocks:
            raise RpcFailure(-5, "Block not found")
        return self.blocks[block_hash]


class StandInNode:
    """Serves a :class:`NodeState` on two ports, which stay the same over a restart."""

    def __init__(self, state: NodeState) -> None:
        self.state = state
        self.credentials = f"{USER}:{PASSWORD}"
        self.topics: tuple[str, ...] = ("rawtx", "sequence", "hashblock")
        self.refusing = False
        """As while a node starts or stops."""
        self._busy_at = 0.0
        self.answer_instead: Callable[[str], web.Response | None] = lambda method: None
        """What a broken node says; None: the right answer."""
        self._port = 18443  # a node's own, until one is taken
        self._endpoint = "tcp://127.0.0.1:28443"
        self._started = False
        self._runner: web.AppRunner | None = None
        self._publisher: Any = None
        self._counters: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def endpoint(self) -> str:
        return self._endpoint

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        port = self._port if self._started else 0
        site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        assert site._server is not None
        self._port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self._publisher = zmq.asyncio.Context.instance().socket(zmq.PUB)
        await self._bind(self._endpoint if self._started else "tcp://127.0.0.1:*")
        self._started = True
        self._endpoint = self._publisher.getsockopt_string(zmq.LAST_ENDPOINT)
        self._counters = {}

    async def _bind(self, endpoint: str) -> None:
        """A port is let go in the background, a moment after its socket was closed."""
        for _ in range(100):
            try:
                self._publisher.bind(endpoint)
            except zmq.ZMQError:
                await asyncio.sleep(0.02)
            else:
                return
        raise AssertionError(f"{endpoint} is not let go")

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._publisher is not None:
            self._publisher.close(linger=0)
        self._runner = self._publisher = None

    async def publish(self, topic: str, body: bytes, count: int | None = None) -> None:
        """One frame; counted by itself, or with a number that was recorded."""
        self._busy_at = time.monotonic()
        number = self._counters.get(topic, 0) if count is None else count
        self._counters[topic] = number + 1
        await self._publisher.send_multipart([topic.encode(), body, number.to_bytes(4, "little")])

    async def quiet(self) -> None:
        """Until whoever follows has heard, asked and understood; not while it refuses, when that never comes."""
        while not self.refusing and time.monotonic() - self._busy_at < _QUIET_SECS:
            await asyncio.sleep(0.02)

    def lose_a_frame(self, topic: str) -> None:
        """The node counts it, and nobody gets it."""
        self._counters[topic] = self._counters.get(topic, 0) + 1

    async def _answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Basic " + base64.b64encode(self.credentials.encode()).decode():
            return web.Response(status=401, content_type="text/html", headers={"WWW-Authenticate": "Basic"})
        self._busy_at = time.monotonic()
        if self.refusing:
            return web.Response(status=503)
        question = json.loads(await request.text())
        method, params = question["method"], question["params"]
        instead = self.answer_instead(method)
        if instead is not None:
            return instead
        try:
            if method == "getzmqnotifications":
                result: Any = [{"type": f"pub{topic}", "address": self.endpoint, "hwm": 1000} for topic in self.topics]
            else:
                result = getattr(self.state, method)(*params)
        except RpcFailure as failure:
            return error(failure.code, failure.message)
        return as_json({"result": result, "error": None, "id": question["id"]})


def error(code: int, message: str, status: int = 500) -> web.Response:
    """As a node answers a JSON-RPC 1.0 call that fails."""
    return as_json({"result": None, "error": {"code": code, "message": message}, "id": 1}, status)


def as_json(answer: Any, status: int = 200) -> web.Response:
    """With the content type exactly as a node has it."""
    return web.Response(
        body=json.dumps(answer).encode() + b"\n", status=status, headers={"Content-Type": "application/json"}
    )
