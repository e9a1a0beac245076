"""Test kit: a proxy between a watcher and its node that does what nodes, and what stands before them, do on bad days.

For nodes that speak JSON-RPC 2.0 over a websocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from http import HTTPStatus
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Rewrite = Callable[[Any], Any]
Refusal = Callable[[dict[str, Any]], dict[str, Any] | None]


class Fault(Enum):
    """What becomes of a request."""

    ERROR = "an error object"
    RATE_LIMIT = "an error object that belongs to no request"
    NULL = "the result null"
    HTML = "an HTML page"
    GARBAGE = "bytes that are nothing"
    HALF = "half of the true answer, and the connection is cut"
    SILENCE = "nothing, ever"
    CUT = "the connection is cut"


class NodeProxy:
    """Passes everything through until told otherwise. Use as ``async with NodeProxy(url).running() as proxy``."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        """Where new connections go; changing it takes effect with the next one (see :meth:`cut`)."""
        self.url = ""
        self.refuse: HTTPStatus | None = None
        """Answer new connections with this status instead."""
        self.muted = False
        """Swallow notifications: the subscription is dead, and nothing says so."""
        self.unknown: set[str] = set()
        """Methods that the node does not have."""
        self.requests: list[str] = []
        """The methods asked so far."""
        self._faults: dict[str, Fault] = {}
        self._rewrites: dict[str, Rewrite] = {}
        self._refusals: dict[str, Refusal] = {}
        self._clients: set[ServerConnection] = set()

    def fail(self, method: str, fault: Fault) -> None:
        """From now on, this becomes of requests for the method; ``*`` is every method."""
        self._faults[method] = fault

    def rewrite(self, method: str, change: Rewrite) -> None:
        """From now on, results of the method are changed before they are passed on."""
        self._rewrites[method] = change

    def refuse_requests(self, method: str, refusal: Refusal) -> None:
        """From now on, requests for which the function answers an error object get that error."""
        self._refusals[method] = refusal

    def mend(self) -> None:
        """Pass everything through again."""
        self._faults.clear()
        self._rewrites.clear()
        self._refusals.clear()
        self.refuse = None
        self.muted = False

    async def cut(self) -> None:
        """Cut every connection without a word."""
        for client in tuple(self._clients):
            client.transport.abort()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[NodeProxy]:
        """Serve until the block ends."""
        async with serve(
            self._serve, "127.0.0.1", 0, max_size=None, compression=None, process_request=self._refuse
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}"
            yield self
            await self.cut()

    def _refuse(self, connection: ServerConnection, _request: Request) -> Response | None:
        if self.refuse is None:
            return None
        return connection.respond(self.refuse, "<html>no</html>")

    async def _serve(self, client: ServerConnection) -> None:
        self._clients.add(client)
        try:
            async with connect(self.upstream, max_size=None, compression=None) as node:
                asked: dict[Any, str] = {}
                async with asyncio.TaskGroup() as group:
                    down = group.create_task(self._down(client, node, asked))
                    with contextlib.suppress(ConnectionClosed):
                        async for message in client:
                            await self._up(client, node, asked, message)
                    down.cancel()
        except (ConnectionClosed, OSError):
            pass
        finally:
            self._clients.discard(client)

    async def _up(
        self, client: ServerConnection, node: ClientConnection, asked: dict[Any, str], message: str | bytes
    ) -> None:
        request = json.loads(message)
        method, number = request["method"], request["id"]
        self.requests.append(method)
        if method in self.unknown:
            error = {"code": -32601, "message": f"the method {method} does not exist/is not available"}
            await client.send(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}))
            return
        if method in self._refusals and (refused := self._refusals[method](request)) is not None:
            await client.send(json.dumps({"jsonrpc": "2.0", "id": number, "error": refused}))
            return
        match self._faults.get(method) or self._faults.get("*"):
            case Fault.ERROR:
                error = {"code": -32000, "message": "header not found"}
                await client.send(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}))
            case Fault.RATE_LIMIT:
                error = {"code": 429, "message": "Too Many Requests"}
                await client.send(json.dumps({"jsonrpc": "2.0", "id": None, "error": error}))
            case Fault.NULL:
                await client.send(json.dumps({"jsonrpc": "2.0", "id": number, "result": None}))
            case Fault.HTML:
                await client.send("<!DOCTYPE html><html><body>502 Bad Gateway</body></html>")
            case Fault.GARBAGE:
                await client.send(b"\x00\xff\xfe{{{")
            case Fault.SILENCE:
                pass
            case Fault.CUT:
                client.transport.abort()
            case Fault.HALF | None as fault:
                asked[number] = "half" if fault else method
                await node.send(json.dumps(request))

    async def _down(self, client: ServerConnection, node: ClientConnection, asked: dict[Any, str]) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in node:
                answer = json.loads(message)
                if "method" in answer:
                    if not self.muted:
                        await client.send(message)
                    continue
                method = asked.pop(answer["id"], "")
                if method == "half":
                    await client.send(message[: len(message) // 2])
                    client.transport.abort()
                    continue
                if method in self._rewrites and "result" in answer:
                    answer["result"] = self._rewrites[method](answer["result"])
                await client.send(json.dumps(answer))
        await client.close()
