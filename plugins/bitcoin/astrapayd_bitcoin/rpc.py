"""Bitcoin Core's JSON-RPC, asynchronous: python-bitcoinrpc behind one worker thread for each node.

That library is synchronous, holds one connection that no two threads may share, fails on a connection that the node has
closed meanwhile, and takes a password only from a URL, undecoded. So one thread asks one question at a time (a node has
four threads for everybody), with a connection of ours underneath, which brings the credentials of the moment.
Numbers with a point come as Decimal, and none is ever sent.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import re
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from astrapayd.node_faults import GarbageAnswer, MalformedAnswer, NodeFault, NodeSilent, NodeUnreachable
from astrapayd_bitcoin.faults import NodeRefuses, NodeStarting, RpcError

_NO_JSON = -342  # python-bitcoinrpc's own codes
_NO_RESULT = -343
_HTTP_STATUS = re.compile(r"response with '(\d{3})")
_MAX_COOKIE_BYTES = 4096
_MOST_CONNECT_SECS = 10.0  # nothing can end a connect from outside, and the daemon's stop waits for the thread
_STALE = (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a node: user and password, or the cookie file that it writes anew at each of its starts."""

    user: str = ""
    password: str = field(default="", repr=False)
    cookie_file: Path | None = None

    def header(self) -> str:
        """The Authorization header of the moment.

        :raises NodeRefuses: if the cookie file cannot be read.
        """
        pair = f"{self.user}:{self.password}"
        if self.cookie_file is not None:
            try:
                with self.cookie_file.open("rb") as file:
                    pair = file.read(_MAX_COOKIE_BYTES).decode().strip()
            except FileNotFoundError:
                raise NodeRefuses("has no cookie file there: start it, or correct cookie_file") from None
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is no text"
                raise NodeRefuses(f"has a cookie file that cannot be read ({reason}): mend its permissions") from None
        return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(slots=True)
class _Question:
    """``abandoned``: nobody waits for the answer any more, so it is not asked again."""

    method: str
    params: tuple[str | int | bool, ...]
    abandoned: bool = False


class NodeRpc:
    """One node. Connects at the first question, and again whenever the connection is gone."""

    def __init__(self, url: str, credentials: Credentials, request_secs: float = 30.0) -> None:
        """:param url: ``http://host:port``, without user and password."""
        self.label = urlsplit(url).netloc
        self._credentials = credentials
        self._request_secs = request_secs
        self._line: _Line | None = None

    async def call(self, method: str, *params: str | int | bool) -> Any:
        """Ask, and wait for the answer.

        :raises RpcError: if the node answers with an error of the method.
        :raises NodeFault: for everything else that is wrong with it.
        """
        if self._line is None:
            self._line = _Line(self.label, self._credentials, self._request_secs)
        line, question = self._line, _Question(method, params)
        asking = asyncio.get_running_loop().run_in_executor(line.thread, line.ask, question)
        try:
            async with asyncio.timeout(self._request_secs):
                return await asking
        except TimeoutError:
            raise NodeSilent(f"has not answered {method} within {self._request_secs:g} s") from None
        finally:
            if not asking.done() or asking.cancelled():
                question.abandoned = True
                line.hang_up()

    async def close(self) -> None:
        """Hang up and let the thread go. Safe to call twice; asking again connects again."""
        line, self._line = self._line, None
        if line is not None:
            line.close()


class _Line:
    """A thread with its connection. After :meth:`close` nobody asks it any more, and the next one has its own."""

    def __init__(self, label: str, credentials: Credentials, request_secs: float) -> None:
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"rpc {label}")
        self._label = label
        self._credentials = credentials
        self._request_secs = request_secs
        self._connection: _Connection | None = None  # the thread's; only hung up on from outside

    def hang_up(self) -> None:
        """From outside of the thread: what waits there for an answer fails at once."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """From outside of the thread: it ends as soon as it can."""
        self.hang_up()
        self.thread.submit(self._drop)
        self.thread.shutdown(wait=False)

    # In the thread

    def ask(self, question: _Question) -> Any:
        """Once more where the node had closed the connection since the last question: every question only reads."""
        used_before = self._connection is not None
        try:
            return self._ask_once(question)
        except NodeUnreachable as fault:
            if not used_before or question.abandoned or not isinstance(fault.__cause__, _STALE):
                raise
        except NodeRefuses:
            if self._credentials.cookie_file is None:
                raise  # a node that is asked with a wrong password waits 250 ms each time
        return self._ask_once(question)

    def _ask_once(self, question: _Question) -> Any:
        from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException

        if self._connection is None:
            self._connection = _Connection(
                self._label, min(self._request_secs, _MOST_CONNECT_SECS), self._credentials.header
            )
        proxy = AuthServiceProxy(f"http://-:-@{self._label}/", timeout=self._request_secs, connection=self._connection)
        try:
            return getattr(proxy, question.method)(*question.params)
        except JSONRPCException as error:
            fault = _fault_of(error.error, self._credentials)
            if not isinstance(fault, RpcError | NodeStarting):
                self._drop()  # the rest of such an answer is not read, so the connection cannot go on
            raise fault from None
        except NodeFault:
            self._drop()
            raise
        except TimeoutError as error:
            self._drop()
            raise NodeSilent(f"has not answered {question.method} within {self._request_secs:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            what = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
            raise NodeUnreachable(f"cannot be reached ({what})") from error
        except Exception as error:
            # the library takes apart whatever came as if it were an answer
            self._drop()
            raise GarbageAnswer(f"sent something that is no answer to {question.method}") from error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """python-bitcoinrpc's connection, with the Authorization of the moment in place of what stands in a URL."""

    def __init__(self, host_and_port: str, timeout_secs: float, authorization: Callable[[], str]) -> None:
        super().__init__(host_and_port, timeout=timeout_secs)
        self._authorization = authorization

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        *,
        encode_chunked: bool = False,
    ) -> None:
        """As the base, with another header."""
        own = {**(headers or {}), "Authorization": self._authorization()}
        super().request(method, url, body, own, encode_chunked=encode_chunked)


def _fault_of(error: Any, credentials: Credentials) -> NodeFault:
    """What python-bitcoinrpc's error means. HTTP statuses stand in its text only."""
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)
    if not isinstance(code, int) or not isinstance(message, str):
        return GarbageAnswer("sent an error without code or message")
    if code == RpcError.IN_WARMUP:
        return NodeStarting("is starting: it loads and checks its blocks")
    if code == _NO_RESULT:
        return MalformedAnswer("sent an answer without a result")
    if code != _NO_JSON:
        return RpcError(code, message)
    found = _HTTP_STATUS.search(message)
    match found[1] if found else "":
        case "401":
            what = "the cookie" if credentials.cookie_file is not None else "user and password"
            return NodeRefuses(f"does not take {what}: correct them (rpcuser and rpcpassword, rpcauth, or its cookie)")
        case "403":
            return NodeRefuses("takes no questions from this machine: add its address to the node's rpcallowip")
        case "503":
            return NodeUnreachable("is too busy, or stopping")
        case status:
            return GarbageAnswer(f"answered with HTTP {status or 'nonsense'} and no JSON: is it a Bitcoin node?")
