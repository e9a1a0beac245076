"""JSON-RPC 2.0 over one websocket: requests find their answers, notifications wake whoever waits.

A notification is only a wake-up. Its content is dropped, so that a flood of them costs no memory and never holds up
the reader: geth cuts a client that reads too slowly, and web3.py's queue blocks when full.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from astrapayd.node_faults import GarbageAnswer, NodeFault, NodeSilent, NodeUnreachable
from astrapayd.wakeup import Wakeup
from astrapayd_evm.faults import RpcError

_MUTE = logging.getLogger("astrapayd_evm.frames")
_MUTE.disabled = True  # websockets logs whole requests at debug level, and a node's URL may hold its key
_TOO_BIG = 1009


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """How long and how large. ``max_message_bytes``: a full block's receipts exceed websockets' own 1 MiB by far, and
    a message beyond the limit ends the connection. ``silence_secs``: unanswered pings end it too."""

    max_message_bytes: int = 128 * 2**20
    connect_secs: float = 10.0
    request_secs: float = 30.0
    silence_secs: float = 30.0
    in_flight: int = 16


@dataclass(slots=True)
class _Pending:
    answer: asyncio.Future[Any]
    wakeup: Wakeup | None


class NodeRpc:
    """One node and the life of the connection to it: opened, used by many at once, lost, opened again.

    It mends nothing by itself: a lost connection fails what waits, and the next :meth:`open` makes a new one, on
    which subscriptions have to be made again. When to try again is for the caller, who knows other nodes.
    """

    def __init__(self, url: str, limits: RpcLimits | None = None) -> None:
        """:param url: ``ws://`` or ``wss://``, as a secret: only :attr:`label` is ever shown."""
        self._url = url
        self.label = label_of(url)
        """Host and port, for logs and sentences."""
        self._limits = limits or RpcLimits()
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._subscriptions: dict[str, Wakeup] = {}
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(self._limits.in_flight)
        self._lost = NodeUnreachable("is not connected")

    @property
    def is_open(self) -> bool:
        """Whether a connection is there, as far as known."""
        return self._connection is not None

    async def open(self) -> None:
        """Connect. Does nothing on an open connection.

        :raises NodeUnreachable: with the reason.
        """
        if self._connection is not None:
            return
        await self.close()  # what is left of an earlier connection
        limits = self._limits
        opening = _SameHostConnect(
            self._url,
            compression=None,  # the node is near; deflating megabytes of receipts costs more than sending them
            proxy=None,  # an environment variable must not send a merchant's questions elsewhere
            user_agent_header=None,
            open_timeout=limits.connect_secs,
            ping_interval=limits.silence_secs / 2,
            ping_timeout=limits.silence_secs,
            close_timeout=1,
            max_size=limits.max_message_bytes,
            logger=_MUTE,
        )
        try:
            self._connection = await opening
        except TimeoutError:
            raise NodeUnreachable(f"did not answer within {limits.connect_secs:g} s") from None
        except InvalidStatus as error:
            raise NodeUnreachable(f"refused the websocket with HTTP {error.response.status_code}") from None
        except (InvalidHandshake, WebSocketException):
            # their texts may quote the URL or what a stranger sent
            raise NodeUnreachable("does not speak websocket at this address") from None
        except OSError as error:
            raise NodeUnreachable(f"cannot be reached ({_reason(error)})") from None
        except ValueError:
            raise NodeUnreachable("has a URL that cannot be used") from None
        self._reader = asyncio.create_task(self._read(self._connection), name=f"reader of {self.label}")

    async def call(self, method: str, *params: Any, secs: float | None = None) -> Any:
        """Ask, and wait for the answer's ``result``.

        :param secs: instead of the limit for all requests.
        :raises NodeUnreachable: if there is no connection, or it is lost meanwhile.
        :raises NodeSilent: if no answer comes in time.
        :raises RpcError: if the node answers with an error.
        :raises GarbageAnswer: if what comes is not JSON-RPC.
        """
        return await self._request(method, params, None, secs)

    async def subscribe(self, *params: Any) -> Wakeup:
        """``eth_subscribe``; what it sends only wakes. Ends with the connection, after one last wake-up.

        :raises NodeFault: as :meth:`call`.
        """
        # registered by the reader itself: the first notification may follow the answer in the same packet
        wakeup = Wakeup()
        await self._request("eth_subscribe", params, wakeup, None)
        return wakeup

    async def close(self) -> None:
        """Close the connection; what waits fails. Safe to call twice, and :meth:`open` works afterwards."""
        connection, reader = self._connection, self._reader
        self._connection = self._reader = None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if connection is not None:
            await connection.close()
        self._fail_all(NodeUnreachable("was disconnected"))

    async def _request(self, method: str, params: Sequence[Any], wakeup: Wakeup | None, secs: float | None) -> Any:
        limit_secs = secs or self._limits.request_secs
        number = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            # The node's time begins when it is asked, not while we wait for our turn.
            async with self._slots, asyncio.timeout(limit_secs):
                connection = self._connection
                if connection is None:
                    raise _copy(self._lost)
                self._pending[number] = _Pending(answer, wakeup)
                request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                await connection.send(orjson.dumps(request), text=True)
                return await answer
        except TimeoutError:
            raise NodeSilent(f"did not answer {method} within {limit_secs:g} s") from None
        except ConnectionClosed as error:
            raise self._closed(error) from None
        finally:
            self._pending.pop(number, None)
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # also where nobody awaited it any more: else asyncio complains later

    async def _read(self, connection: ClientConnection) -> None:
        fault: NodeFault = NodeUnreachable("was disconnected")
        try:
            while True:
                # undecoded: orjson checks UTF-8 itself, and faster
                self._take(await connection.recv(decode=False))
        except ConnectionClosed as error:
            fault = self._closed(error)
        except GarbageAnswer as error:
            # nothing that follows on this connection can be trusted to be whole
            fault = error
        finally:
            if self._connection is connection:
                self._connection = None
            self._lost = NodeUnreachable(str(fault))
            self._fail_all(fault)
        await connection.close()

    def _take(self, raw: bytes) -> None:
        """One message. :raises GarbageAnswer: if it cannot be made sense of at all."""
        try:
            message = orjson.loads(raw)
        except orjson.JSONDecodeError:
            start = raw[:64].lstrip().lower()
            kind = "an HTML page" if start.startswith((b"<!", b"<html")) else "something that is not JSON"
            raise GarbageAnswer(f"sent {kind} instead of an answer") from None
        # a batch is answered with an array; none is ever sent, but proxies are known to wrap
        for one in message if isinstance(message, list) else (message,):
            self._take_one(one)

    def _take_one(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise GarbageAnswer("sent JSON that is not JSON-RPC")
        if "method" in message:
            params = message.get("params")
            subscription = params.get("subscription") if isinstance(params, dict) else None
            wakeup = self._subscriptions.get(subscription) if isinstance(subscription, str) else None
            if wakeup is not None:
                wakeup.notify()
            return
        number, error = message.get("id"), message.get("error")
        if number is None:
            # about no request in particular: a rate limiter, or a proxy that could not read it
            self._fail_requests(_error_of(error) if error is not None else GarbageAnswer("sent an answer without id"))
            return
        waiting = self._pending.get(number) if isinstance(number, int) else None
        if waiting is None or waiting.answer.done():
            return  # came after its time-out
        if error is not None:
            waiting.answer.set_exception(_error_of(error))
        elif "result" not in message:
            waiting.answer.set_exception(GarbageAnswer("sent an answer with neither result nor error"))
        else:
            result = message["result"]
            if waiting.wakeup is not None:
                if not isinstance(result, str):
                    waiting.answer.set_exception(GarbageAnswer("sent a subscription without id"))
                    return
                self._subscriptions[result] = waiting.wakeup
            waiting.answer.set_result(result)

    def _fail_all(self, fault: NodeFault) -> None:
        self._fail_requests(fault)
        subscriptions, self._subscriptions = self._subscriptions, {}
        for wakeup in subscriptions.values():
            wakeup.interrupt()

    def _fail_requests(self, fault: NodeFault) -> None:
        for waiting in self._pending.values():
            if not waiting.answer.done():
                # one object each: a traceback grows on what is raised
                waiting.answer.set_exception(_copy(fault))

    def _closed(self, error: ConnectionClosed) -> NodeFault:
        if error.sent is not None and error.sent.code == _TOO_BIG and not error.rcvd_then_sent:
            size_mib = self._limits.max_message_bytes // 2**20
            return NodeUnreachable(f"sent a message larger than {size_mib} MiB: raise max_message_mib for this chain")
        if error.sent is not None and error.sent.reason == "keepalive ping timeout":
            return NodeUnreachable("went silent: no pong came back")
        if error.rcvd is not None:
            return NodeUnreachable(f"closed the connection (code {error.rcvd.code})")
        return NodeUnreachable("lost the connection")


class _SameHostConnect(connect):
    """``connect`` that follows no redirect: the administrator named the node, and nobody else does."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


def label_of(url: str) -> str:
    """Host and port of a node's URL, without user name, password, path and query, which may be secrets."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "?"
    host = f"[{host}]" if host and ":" in host else host or "?"
    return f"{host}:{port or (443 if parts.scheme == 'wss' else 80)}"


def _error_of(error: Any) -> NodeFault:
    if isinstance(error, dict) and type(error.get("code")) is int:
        message = error.get("message")
        return RpcError(error["code"], message if isinstance(message, str) else "")
    return GarbageAnswer("sent an error that is not of JSON-RPC's form")


def _copy(fault: NodeFault) -> NodeFault:
    if isinstance(fault, RpcError):
        return RpcError(fault.code, fault.message)
    return type(fault)(*fault.args)


def _reason(error: OSError) -> str:
    """In few words; asyncio's own text repeats each address that was tried."""
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case socket.gaierror():
            return "its name is not known"
        case ssl.SSLCertVerificationError():
            return f"its TLS certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return "TLS failed"
    return os.strerror(error.errno).lower() if error.errno else "connection failed"
