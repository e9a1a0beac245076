"""The demo chain as a process: `python -m astrapayd_evm.demo.server`.

Prints exactly one line on stdout once it serves, a JSON object:
    {"url": "ws://127.0.0.1:PORT", "chain_id": 1337, "genesis": "0x…", "usdt": "0x…",
     "accounts": [{"address": "0x…", "private_key": "0x…"}, …]}       # well-known test keys, see `accounts`
and ends on SIGTERM, on SIGINT, and when its stdin is closed: a child started with a pipe never outlives its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import secrets
import signal
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from . import shapes
from .accounts import ALL
from .blocks import BranchChange
from .chain import DEFAULT_CHAIN_ID, DEFAULT_FINALITY_DEPTH, DemoChain
from .filters import LogFilter
from .methods import Methods
from .rpc_errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    SERVER_ERROR,
    RpcError,
)

_log = logging.getLogger(__name__)
_QUEUE_LIMIT = 20_000  # messages a reader may be behind before it is cut; geth has the same number for a client
_MAX_MESSAGE_BYTES = 32 * 1024 * 1024


class Connection:
    """One websocket client: its subscriptions and what is queued for it.

    All that is sent goes through the queue, so an answer to eth_subscribe is always before the first notification.
    """

    def __init__(self, websocket: ServerConnection, methods: Methods) -> None:
        self._websocket = websocket
        self._methods = methods
        self._queue: asyncio.Queue[str] = asyncio.Queue(_QUEUE_LIMIT)
        self._heads: set[str] = set()
        self._logs: dict[str, LogFilter] = {}

    async def run(self) -> None:
        """Serve the client until it goes away."""
        sender = asyncio.create_task(self._send_queued())
        try:
            async for message in self._websocket:
                if (answer := self._answer(message)) is not None:
                    self._put(answer)
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()

    def announce(self, change: BranchChange) -> None:
        """Tell subscribers: removed logs oldest first, new logs, the final head only (as geth)."""
        for subscription, wanted in self._logs.items():
            for blocks, removed in ((change.removed, True), (change.added, False)):
                for block in blocks:
                    for index, log in wanted.select(block):
                        self._notify(subscription, shapes.log(log, block, index, removed))
        for subscription in self._heads:
            self._notify(subscription, shapes.header(change.added[-1]))

    def _notify(self, subscription: str, result: Any) -> None:
        params = {"subscription": subscription, "result": result}
        self._put({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})

    def _put(self, message: Any) -> None:
        try:
            self._queue.put_nowait(json.dumps(message, separators=(",", ":")))
        except asyncio.QueueFull:
            self._websocket.transport.abort()

    async def _send_queued(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._websocket.send(await self._queue.get())

    def _answer(self, message: str | bytes) -> Any:
        """The answer to one message: an object, a list for a batch, None when only notifications came."""
        try:
            request = json.loads(message)
        except (ValueError, RecursionError):
            return _failure(None, RpcError(PARSE_ERROR, "parse error"))
        if not isinstance(request, list):
            return self._answer_one(request)
        if not request:
            return _failure(None, RpcError(INVALID_REQUEST, "empty batch"))
        answers = [answer for one in request if (answer := self._answer_one(one)) is not None]
        return answers or None

    def _answer_one(self, request: Any) -> dict[str, Any] | None:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            request_id = request.get("id") if isinstance(request, dict) else None
            return _failure(request_id, RpcError(INVALID_REQUEST, "invalid request"))
        request_id = request.get("id")
        try:
            result = self._dispatch(request["method"], request.get("params") or [])
        except RpcError as error:
            answer = _failure(request_id, error)
        except Exception as error:  # a bug here must not look like a lost connection to the client
            _log.exception("%s failed", request["method"])
            answer = _failure(request_id, RpcError(INTERNAL_ERROR, f"internal error: {error!r}"))
        else:
            answer = {"jsonrpc": "2.0", "id": request_id, "result": result}
        return answer if "id" in request else None

    def _dispatch(self, method: str, params: Any) -> Any:
        match method, params:
            case "eth_subscribe", []:
                raise RpcError(INVALID_PARAMS, "missing value for required argument 0")
            case "eth_subscribe", ["newHeads"]:
                subscription = _subscription_id()
                self._heads.add(subscription)
                return subscription
            case "eth_subscribe", ["logs", *rest]:
                subscription = _subscription_id()
                self._logs[subscription] = LogFilter.parse(rest[0] if rest else {})
                return subscription
            case "eth_subscribe", [name, *_]:
                raise RpcError(METHOD_NOT_FOUND, f'no "{name}" subscription in eth namespace')
            case "eth_unsubscribe", [subscription]:
                if subscription in self._heads:
                    self._heads.discard(subscription)
                elif self._logs.pop(subscription, None) is None:
                    raise RpcError(SERVER_ERROR, "subscription not found")
                return True
            case _:
                return self._methods.call(method, params)


class DemoServer:
    """Serves one chain on a loopback port and mines on a period."""

    def __init__(self, chain: DemoChain, period_secs: float) -> None:
        """`period_secs` 0: blocks only by `evm_mine`. Otherwise at least 1: block times have whole seconds."""
        if period_secs and period_secs < 1:
            raise ValueError("at most one block a second, or block times would run ahead of the clock")
        self._chain = chain
        self._methods = Methods(chain)
        self._period_secs = period_secs
        self._connections: set[Connection] = set()
        chain.listener = self._announce

    async def serve(self, host: str, port: int, stop: asyncio.Event) -> None:
        """Print the ready line and serve until `stop` is set. Raises ValueError when `host` is not loopback."""
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address; the demo chain has no protection at all")
        async with serve(self._client, host, port, max_size=_MAX_MESSAGE_BYTES, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            sys.stdout.write(json.dumps(self._ready(host, port)) + "\n")
            sys.stdout.flush()
            mining = asyncio.create_task(self._mine())
            stopped = asyncio.create_task(stop.wait())
            try:
                # Whichever ends first: a dead miner must end the process, not leave a chain that silently stands still.
                done, _ = await asyncio.wait({mining, stopped}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                mining.cancel()
                stopped.cancel()

    async def _client(self, websocket: ServerConnection) -> None:
        connection = Connection(websocket, self._methods)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _announce(self, change: BranchChange) -> None:
        for connection in self._connections:
            connection.announce(change)

    async def _mine(self) -> None:
        if not self._period_secs:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # From the last due time: no drift by the time that mining takes. A late block is not caught up.
            due = max(due + self._period_secs, loop.time())
            await asyncio.sleep(due - loop.time())
            self._chain.mine()

    def _ready(self, host: str, port: int) -> dict[str, Any]:
        return {
            "url": f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}",
            "chain_id": self._chain.chain_id,
            "genesis": shapes.data(self._chain.genesis.hash),
            "usdt": shapes.checksum_address(self._chain.usdt),
            "accounts": [asdict(account) for account in ALL],
        }


def _failure(request_id: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": error.as_json()}


def _subscription_id() -> str:
    return "0x" + secrets.token_hex(16)


@contextlib.contextmanager
def _set_when_told_to_stop(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM, SIGINT and when stdin ends, if stdin is a pipe or a socket.

    At a terminal or from /dev/null the end of stdin says nothing about the parent.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError):
            mode = os.fstat(0).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):

                def readable() -> None:
                    if not os.read(0, 4096):
                        loop.remove_reader(0)
                        stop.set()

                loop.add_reader(0, readable)
                stack.callback(loop.remove_reader, 0)
        yield


async def _main(options: argparse.Namespace) -> None:
    chain = DemoChain(
        chain_id=options.chain_id,
        finality_depth=options.finality_depth,
        state_file=options.state,
        keep_side_branches=not options.forget_side_branches,
    )
    stop = asyncio.Event()
    try:
        with _set_when_told_to_stop(stop):
            await DemoServer(chain, options.period).serve(options.host, options.port, stop)
    finally:
        chain.close()


def main() -> None:
    """Command line of the demo chain."""
    parser = argparse.ArgumentParser(
        "python -m astrapayd_evm.demo.server", description="A local EVM chain, worth nothing"
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 (default) lets the system choose")
    parser.add_argument("--chain-id", type=int, default=DEFAULT_CHAIN_ID, help="default: %(default)s")
    parser.add_argument("--period", type=float, default=1.0, help="seconds between blocks, >= 1; 0: only evm_mine")
    parser.add_argument("--finality-depth", type=int, default=DEFAULT_FINALITY_DEPTH, help="default: %(default)s")
    parser.add_argument("--state", type=Path, help="file that keeps the chain over restarts (default: fresh each time)")
    parser.add_argument("--forget-side-branches", action="store_true", help="abandoned blocks are unknown, as on anvil")
    options = parser.parse_args()
    try:
        asyncio.run(_main(options))
    except (OSError, ValueError) as error:
        sys.exit(f"demo chain: {error}")


if __name__ == "__main__":
    main()
