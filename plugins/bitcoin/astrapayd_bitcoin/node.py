"""What a node is asked, in Bitcoin Core's words, with answers that are checked before anybody builds on them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from astrapayd.node_faults import HistoryPruned, MalformedAnswer, ShiftingView
from astrapayd.transfers import BlockRef
from astrapayd_bitcoin.blocks import Header, MalformedBlock, parse_header
from astrapayd_bitcoin.faults import RpcError

Outpoint = bytes
"""Transaction id and output index as they stand in a transaction, 36 bytes."""

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """``getblockchaininfo``. ``pruned_below``: the lowest height whose block is still there; 0: none is deleted."""

    chain: str
    height: int
    best: str
    syncing: bool
    pruned_below: int


class Rpc(Protocol):
    """What answers: :class:`astrapayd_bitcoin.rpc.NodeRpc` or :class:`astrapayd_bitcoin.btcd.BtcdConnection`."""

    @property
    def label(self) -> str:
        """``host:port``."""
        ...

    async def call(self, method: str, *params: str | int | bool) -> Any:
        """Ask. :raises NodeFault: for what is wrong with the node."""
        ...

    async def close(self) -> None:
        """Hang up."""
        ...


class CoreNode:
    """Typed questions over :class:`Rpc`. Every method raises :class:`NodeFault` for what is wrong with the node."""

    def __init__(self, rpc: Rpc, now: Callable[[], float] = time.time) -> None:
        self.rpc = rpc
        self._now = now

    async def follow(self, addresses: frozenset[str], outpoints: frozenset[Outpoint]) -> bool:
        """Have the node tell of payments to these, and of what spends these; whether any are new to it. Bitcoin Core
        tells of everything."""
        return False

    async def info(self) -> ChainInfo:
        """Chain (by Bitcoin Core's name), tip and state."""
        answer = _table(await self.rpc.call("getblockchaininfo"))
        pruned = answer.get("pruned") is True
        best = _hash(answer.get("bestblockhash"))
        return ChainInfo(
            chain=self._chain_name(str(answer.get("chain"))),
            height=_height(answer.get("blocks")),
            best=best,
            syncing=await self._is_syncing(answer, best),
            pruned_below=_height(answer.get("pruneheight", 0)) if pruned else 0,
        )

    async def best(self) -> str:
        """The hash of the tip."""
        return _hash(await self.rpc.call("getbestblockhash"))

    async def hash_at(self, height: int) -> str | None:
        """The hash of the block at a height, or None above the tip."""
        try:
            return _hash(await self.rpc.call("getblockhash", height))
        except RpcError as error:
            if error.code == RpcError.INVALID_PARAMETER:
                return None
            raise

    async def block_at(self, height: int) -> BlockRef | None:
        """The block at a height, or None above the tip."""
        found = await self.hash_at(height)
        return None if found is None else await self.block(found)

    async def block(self, block_hash: str) -> BlockRef:
        """A block by its hash, of whatever branch."""
        answer = _table(await self.rpc.call("getblockheader", block_hash))
        if answer.get("hash") != block_hash:
            raise MalformedAnswer("sent the header of another block than the one that was asked for")
        parent, height = answer.get("previousblockhash", ""), _height(answer.get("height"))
        return BlockRef(height, block_hash, _hash(parent) if height else "", _height(answer.get("time")))

    async def raw_block(self, block_hash: str) -> tuple[Header, bytes]:
        """A whole block by its hash, which is computed anew from what came.

        :raises HistoryPruned: if it is deleted.
        :raises ShiftingView: if the node does not know it (any more).
        """
        try:
            raw = _bytes(await self.rpc.call("getblock", block_hash, 0))
        except RpcError as error:
            if error.says_pruned:
                raise HistoryPruned(f"has deleted block {block_hash}") from None
            if error.code in {RpcError.NOT_FOUND, RpcError.MISC}:
                raise ShiftingView(f"does not have block {block_hash}") from None
            raise
        try:
            header = parse_header(raw)
        except MalformedBlock as error:
            raise MalformedAnswer(f"sent a block that {error}") from None
        if header.hash != block_hash:
            raise MalformedAnswer("sent another block than the one that was asked for")
        return header, raw

    async def mempool(self) -> frozenset[str]:
        """The ids of all unconfirmed transactions."""
        answer = await self.rpc.call("getrawmempool")
        if not isinstance(answer, list) or not all(isinstance(txid, str) for txid in answer):
            raise MalformedAnswer("sent a mempool that is no list of transactions")
        return frozenset(answer)

    async def in_mempool(self, txid: str) -> bool:
        """Whether a transaction waits there now."""
        try:
            await self.rpc.call("getmempoolentry", txid)
        except RpcError as error:
            if error.code == RpcError.NOT_FOUND:
                return False
            raise
        return True

    async def raw_transaction(self, txid: str) -> bytes | None:
        """An unconfirmed transaction, or None where it is no more."""
        try:
            return _bytes(await self.rpc.call("getrawtransaction", txid))
        except RpcError as error:
            if error.code == RpcError.NOT_FOUND:
                return None
            raise

    async def client(self) -> str:
        """What the node calls itself."""
        said = _table(await self.rpc.call("getnetworkinfo")).get("subversion")
        return said if isinstance(said, str) else ""

    async def published(self) -> frozenset[str] | None:
        """The topics that it publishes by ZeroMQ, such as ``rawtx``; None: it needs none."""
        answer = await self.rpc.call("getzmqnotifications")
        if not isinstance(answer, list):
            raise MalformedAnswer("sent no list of notifications")
        return frozenset(str(_table(row).get("type", "")).removeprefix("pub") for row in answer)

    def _chain_name(self, said: str) -> str:
        return said

    async def _is_syncing(self, answer: dict[str, Any], best: str) -> bool:
        return answer.get("initialblockdownload") is not False


def _table(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise MalformedAnswer("sent something else than the method answers with")
    return answer


def _hash(answer: Any) -> str:
    if not isinstance(answer, str) or not _HASH.fullmatch(answer):
        raise MalformedAnswer("sent something that is no hash")
    return answer


def _height(answer: Any) -> int:
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < 2**53:
        raise MalformedAnswer("sent something that is no number")
    return answer


def _bytes(answer: Any) -> bytes:
    try:
        return bytes.fromhex(answer)
    except (TypeError, ValueError):
        raise MalformedAnswer("sent something that is no hex") from None
