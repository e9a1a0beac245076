"""btcd's websocket: questions and notifications over one connection, TLS with the node's own certificate.

A transaction filter (``loadtxfilter``) lives as long as its connection. So every new connection loads it anew and is
taken for a gap: ``lost`` is set once the filter stands, and the mempool is then listed as a whole. btcd tells of what
enters its mempool, never of what leaves it: the outpoints that watched payments spend are in the filter too, so that
whatever replaces one of them is heard of.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from astrapayd.node_faults import (
    GarbageAnswer,
    MalformedAnswer,
    NodeFault,
    NodeSilent,
    NodeUnreachable,
    ShiftingView,
    excerpt,
)
from astrapayd.transfers import BlockRef
from astrapayd.wakeup import Wakeup
from astrapayd_bitcoin.faults import NodeRefuses, RpcError
from astrapayd_bitcoin.node import CoreNode, Outpoint
from astrapayd_bitcoin.rpc import Credentials

_MAX_MESSAGE_BYTES = 64 * 2**20  # a full block in hex has up to 8 MiB
_DAY_SECS = 86_400
_MOST_ANCESTORS = 25  # of an unconfirmed transaction: what nodes take into their mempools
_MOST_ADDRESSES = 10_000  # in one message
_ITS_NAMES = {"mainnet": "main", "testnet3": "test"}  # and the others are called as in Bitcoin Core


class BtcdConnection:
    """One node's websocket. Connects at the first question, and again whenever the connection is gone."""

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        certificate: Path | None,
        request_secs: float = 30.0,
        heard: Callable[[str, bytes], None] = lambda topic, body: None,
    ) -> None:
        """:param url: ``wss://host:port``.
        :param certificate: the node's ``rpc.cert``; None where an authority has signed it.
        :param heard: takes ``rawtx`` and each transaction that the filter lets through.
        """
        self.label = urlsplit(url).netloc
        self._url = f"{url}/ws"
        self._credentials = credentials
        self._certificate = certificate
        self._request_secs = request_secs
        self._heard = heard
        self._ids = itertools.count(1)
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._connecting = asyncio.Lock()
        self._addresses: frozenset[str] | None = None  # in the filter of this connection; None: it has none
        self._outpoints: frozenset[Outpoint] = frozenset()
        self.lost = True
        """Something may be missing. Set False by whoever looks at everything, before looking."""
        self.wakeup = Wakeup()
        """Set by each notification, and by the loss of the connection."""

    async def open(self) -> None:
        """Connects by itself at the first question."""

    async def call(self, method: str, *params: Any) -> Any:
        """Ask, and wait for the answer.

        :raises RpcError: if the node answers with an error of the method.
        :raises NodeFault: for everything else that is wrong with it.
        """
        try:
            async with asyncio.timeout(self._request_secs):
                async with self._connecting:
                    if self._socket is None:
                        self._socket = await self._connect()
                        self._reader = asyncio.create_task(self._read(self._socket))
                return await self._ask(self._socket, method, params)
        except TimeoutError:
            raise NodeSilent(f"has not answered {method} within {self._request_secs:g} s") from None

    async def follow(self, addresses: frozenset[str], outpoints: frozenset[Outpoint]) -> bool:
        """Have the node tell of these from now on; whether any are new, and what came before is to be looked for."""
        if self._addresses is not None and (addresses, outpoints) == (self._addresses, self._outpoints):
            return False
        fresh = self._addresses is None
        if fresh:
            await self.call("notifyblocks")
        added = addresses - (self._addresses or frozenset())
        new = outpoints - (frozenset() if fresh else self._outpoints)
        listed = sorted(added)
        reload = fresh
        for at in range(0, max(len(listed), 1), _MOST_ADDRESSES):
            spends = (
                [
                    {"hash": outpoint[:32][::-1].hex(), "index": int.from_bytes(outpoint[32:], "little")}
                    for outpoint in sorted(new)
                ]
                if at == 0
                else []
            )
            await self.call("loadtxfilter", reload, listed[at : at + _MOST_ADDRESSES], spends)
            reload = False
        self._addresses, self._outpoints = addresses, outpoints
        if fresh or added:
            self.lost = True
        return fresh or bool(added or new)

    async def close(self) -> None:
        """Hang up. Safe to call twice; asking again connects again."""
        socket, reader = self._socket, self._reader
        self._forget()
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if socket is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await socket.close()

    async def _connect(self) -> ClientConnection:
        tls = None
        if self._url.startswith("wss:"):
            try:
                tls = ssl.create_default_context(cafile=self._certificate)
            except (OSError, ssl.SSLError):
                raise NodeRefuses("has a certificate that cannot be read: correct certificate") from None
        try:
            return await connect(
                self._url,
                ssl=tls,
                additional_headers={"Authorization": self._credentials.header()},
                max_size=_MAX_MESSAGE_BYTES,
                compression=None,
                proxy=None,
                open_timeout=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status in {401, 403}:
                raise NodeRefuses("does not take user and password: correct them (rpcuser and rpcpass)") from None
            raise GarbageAnswer(f"answered with HTTP {status}: is it a btcd node?") from None
        except ssl.SSLCertVerificationError as error:
            raise NodeRefuses(f"shows another certificate than the configured one ({error.verify_message})") from None
        except (OSError, InvalidHandshake, EOFError) as error:
            what = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
            raise NodeUnreachable(f"cannot be reached ({what})") from None

    async def _ask(self, socket: ClientConnection, method: str, params: tuple[Any, ...]) -> Any:
        number = next(self._ids)
        answered = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            await socket.send(json.dumps({"jsonrpc": "1.0", "id": number, "method": method, "params": list(params)}))
            return await answered
        except WebSocketException:
            raise NodeUnreachable("has hung up") from None
        finally:
            self._waiting.pop(number, None)

    async def _read(self, socket: ClientConnection) -> None:
        fault: NodeFault = NodeUnreachable("has hung up")
        try:
            async for message in socket:
                self._take(message)
        except WebSocketException:
            pass
        except GarbageAnswer as garbage:
            fault = garbage
        waiting = list(self._waiting.values())
        self._forget()
        for answered in waiting:
            if not answered.done():
                answered.set_exception(fault)
        await socket.close()

    def _take(self, message: str | bytes) -> None:
        try:
            said = json.loads(message, parse_float=Decimal)
        except (ValueError, RecursionError):
            raise GarbageAnswer("sent something that is no JSON") from None
        if not isinstance(said, dict):
            raise GarbageAnswer("sent something that is no JSON-RPC")
        if isinstance(said.get("method"), str):
            self._notified(said["method"], said.get("params"))
            return
        number = said.get("id")
        answered = self._waiting.get(number) if isinstance(number, int) else None
        if answered is None or answered.done():
            return  # of a question that was given up
        error = said.get("error")
        if error is None:
            answered.set_result(said.get("result"))
        elif isinstance(error, dict) and isinstance(error.get("code"), int):
            answered.set_exception(RpcError(error["code"], str(error.get("message"))))
        else:
            answered.set_exception(GarbageAnswer("sent an error without a code"))

    def _notified(self, method: str, params: Any) -> None:
        if method == "relevanttxaccepted":
            try:
                self._heard("rawtx", bytes.fromhex(params[0]))
            except (TypeError, ValueError, IndexError, KeyError):
                self.lost = True
        self.wakeup.notify()

    def _forget(self) -> None:
        self._socket = self._reader = self._addresses = None
        self._outpoints = frozenset()
        self.lost = True
        self.wakeup.interrupt()


def _spends(transaction: dict[str, Any]) -> list[tuple[str, int]]:
    """Transaction and output of each input."""
    try:
        spends = [(vin["txid"], vin["vout"]) for vin in transaction["vin"]]
    except (KeyError, TypeError):
        raise MalformedAnswer("sent a transaction without its inputs") from None
    if not all(isinstance(txid, str) and isinstance(index, int) for txid, index in spends):
        raise MalformedAnswer("sent a transaction with other inputs than there are")
    return spends


class BtcdNode(CoreNode):
    """What is asked of btcd in another way than of Bitcoin Core."""

    rpc: BtcdConnection

    async def follow(self, addresses: frozenset[str], outpoints: frozenset[Outpoint]) -> bool:
        """Load them into the connection's filter; whether any are new."""
        return await self.rpc.follow(addresses, outpoints)

    async def hash_at(self, height: int) -> str | None:
        """The hash of the block at a height, or None above the tip."""
        try:
            return await super().hash_at(height)
        except RpcError as error:
            if error.code == RpcError.MISC and "out of range" in error.message.lower():
                return None
            raise

    async def block(self, block_hash: str) -> BlockRef:
        """A block of the winning branch; btcd knows no height of another."""
        try:
            return await super().block(block_hash)
        except RpcError as error:
            raise ShiftingView(f"has block {block_hash} on its branch no more ({error})") from None

    async def in_mempool(self, txid: str) -> bool:
        """Whether a transaction waits there now and can still be mined.

        After a reorganisation btcd keeps transactions in its mempool that the new branch holds already, or has
        double-spent. So what it spends has to be there too: unspent in the chain, or made by another that waits.
        With an index of transactions, mined ones are found as well.
        """
        return await self._can_be_mined(txid, _MOST_ANCESTORS)

    async def _can_be_mined(self, txid: str, ancestors: int) -> bool:
        try:
            answer = await self.rpc.call("getrawtransaction", txid, 1)
        except RpcError as error:
            if error.code == RpcError.NOT_FOUND:
                return False
            raise
        if not isinstance(answer, dict) or answer.get("txid") != txid:
            raise MalformedAnswer("sent another transaction than the one that was asked for")
        if answer.get("blockhash"):
            return False
        for parent, index in _spends(answer):
            if await self.rpc.call("gettxout", parent, index, False) is None and (
                not ancestors or not await self._can_be_mined(parent, ancestors - 1)
            ):
                return False
        return True

    async def client(self) -> str:
        """What the node calls itself."""
        answer = await self.rpc.call("getinfo")
        return f"btcd {excerpt(str(answer.get('version')))}" if isinstance(answer, dict) else "btcd"

    async def published(self) -> frozenset[str] | None:
        """None: notifications come over the same connection."""
        return None

    def _chain_name(self, said: str) -> str:
        return _ITS_NAMES.get(said, said)

    async def _is_syncing(self, answer: dict[str, Any], best: str) -> bool:
        """btcd does not tell. As in Bitcoin Core: its tip is older than a day."""
        if answer.get("chain") == "regtest":
            return False
        return self._now() - (await self.block(best)).time > _DAY_SECS
