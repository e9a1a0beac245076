"""Fetches blocks with their transfers from one node, every answer tied to the hash that was asked about."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from astrapayd.node_faults import HistoryPruned, MalformedAnswer, NodeSilent, ShiftingView
from astrapayd.transfers import Balance, BlockRef, Transfer, Watched
from astrapayd_evm import decode, traces
from astrapayd_evm.faults import RpcError
from astrapayd_evm.rpc import NodeRpc

_log = structlog.get_logger("astrapayd.evm")

_MOST_TOPICS = 500  # geth takes 1,000 per position, others fewer
_FEW_ADDRESSES = 100
_TRACE_TRIES = 3
_MOST_LEFT_OUT = 3
_MOST_BALANCES = 100
_BALANCE_SECS = 5.0
_SUSPICIOUS_LOGS = 5_000  # Nethermind may cut an answer at 20,000 without a word: far below that, ask for half


@dataclass(frozen=True, slots=True)
class FetchedBlock:
    """A block and what it pays to watched addresses."""

    ref: BlockRef
    transfers: tuple[Transfer, ...]


class Fetcher:
    """Reads one node. Remembers what the node has shown not to offer."""

    def __init__(self, rpc: NodeRpc, *, traces: bool = True) -> None:
        """:param traces: look for internal transfers, if the node offers traces."""
        self._rpc = rpc
        self._has_block_receipts = True
        self._tracers = ["debug_traceBlockByHash", "trace_block"] if traces else []
        self._untraced: dict[str, int] = {}  # how often a block's trace has failed
        self._balances_from = ""  # the address at which the next round of balances begins

    async def head(self) -> BlockRef:
        """:raises NodeFault: as every method here, for what is wrong with the node."""
        return decode.block_ref(await self._rpc.call("eth_getBlockByNumber", "latest", False))

    async def final_height(self) -> int:
        """Height of the newest block that the node calls final; -1 if it calls none so."""
        try:
            block = await self._rpc.call("eth_getBlockByNumber", "finalized", False)
        except RpcError:
            return -1  # geth: "finalized block not found", until the consensus client has named one
        return decode.block_ref(block).height if block is not None else -1

    async def block_at(self, height: int) -> BlockRef | None:
        """The block at a height of the node's present chain, or None above its head."""
        block = await self._rpc.call("eth_getBlockByNumber", hex(height), False)
        return decode.block_ref(block) if block is not None else None

    async def balances(self, addresses: frozenset[str], ref: BlockRef) -> tuple[Balance, ...]:
        """What watched addresses hold after a block: all of them, or where they are many some, in turn.

        Empty where the node does not say. Nothing depends on it but an alert, so that no payment waits for it.
        """
        in_order = sorted(addresses)
        start = next((i for i, address in enumerate(in_order) if address >= self._balances_from), 0)
        asked = (in_order[start:] + in_order[:start])[:_MOST_BALANCES]
        self._balances_from = asked[-1] + "+" if len(asked) < len(in_order) else ""
        at = {"blockHash": ref.hash}  # EIP-1898: not of another block that has come to this height
        try:
            answers = await _all([self._rpc.call("eth_getBalance", a, at, secs=_BALANCE_SECS) for a in asked])
            return tuple(Balance(a, decode.quantity(said)) for a, said in zip(asked, answers, strict=True))
        except (RpcError, MalformedAnswer, NodeSilent) as error:
            _log.debug("balances not compared", height=ref.height, reason=str(error))
            return ()

    async def blocks(self, base: BlockRef, up_to: int, watched: Watched) -> list[FetchedBlock]:
        """The blocks above ``base`` up to a height, linked to it by parent hash, with their transfers.

        :raises ShiftingView: if they do not link: the chain changed meanwhile, and nothing of them is used.
        :raises HistoryPruned: if the node has deleted what is needed.
        """
        heights = range(base.height + 1, up_to + 1)
        raw = await _all([self._rpc.call("eth_getBlockByNumber", hex(h), watched.native) for h in heights])
        parent = base
        refs = []
        for height, block in zip(heights, raw, strict=True):
            if block is None:
                raise ShiftingView(f"has no block {height} any more")
            ref = decode.block_ref(block)
            if ref.height != height or ref.parent != parent.hash:
                raise ShiftingView(f"changed its chain at block {height} while it was read")
            refs.append(ref)
            parent = ref
        # An empty list is no filter but a wildcard: it would ask for every transfer there is.
        few = 0 < len(watched.addresses) <= _FEW_ADDRESSES and bool(watched.contracts)
        if len(refs) > 1 and few and not watched.native:
            return await self._gap_by_logs(refs, watched)
        found = await _all([self._transfers(b, r, watched) for b, r in zip(raw, refs, strict=True)])
        return [FetchedBlock(ref, transfers) for ref, transfers in zip(refs, found, strict=True)]

    async def _gap_by_logs(self, refs: list[BlockRef], watched: Watched) -> list[FetchedBlock]:
        """Tokens to a few addresses over several blocks: one question for the logs of all of them is far less than the
        receipts of each. The newest block stays with its receipts: a node may announce a head before it has indexed it.
        """
        *older, newest = refs
        by_hash = {ref.hash: ref for ref in older}
        logs = await self._logs(older[0].height, older[-1].height, watched)
        found = decode.hits(logs, by_hash, watched)
        receipts = await _all([self._rpc.call("eth_getTransactionReceipt", hit.tx) for hit in found])
        paid: dict[str, list[Transfer]] = {ref.hash: [] for ref in older}
        for hit, receipt in zip(found, receipts, strict=True):
            if receipt is None:
                raise ShiftingView("has no receipt for a transaction whose log it sent")
            paid[hit.block_hash] += decode.token_transfers([receipt], by_hash[hit.block_hash], watched)
        # The logs are those of the node's chain at the moment of asking: it must still be the one of these blocks.
        if await self.block_at(older[-1].height) != older[-1]:
            raise ShiftingView("changed its chain while its logs were read")
        block = await self._rpc.call("eth_getBlockByHash", newest.hash, False)
        if block is None:
            raise ShiftingView(f"no longer knows block {newest.height} by its hash")
        blocks = [FetchedBlock(ref, tuple(paid[ref.hash])) for ref in older]
        return [*blocks, FetchedBlock(newest, await self._transfers(block, newest, watched))]

    async def _logs(self, first: int, last: int, watched: Watched) -> list[Any]:
        """Logs of transfers to watched addresses in a range of heights, halved as often as the node's limits ask."""
        query = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": sorted(watched.contracts),
            "topics": [decode.TRANSFER_TOPIC, None, [decode.recipient_topic(a) for a in sorted(watched.addresses)]],
        }
        try:
            logs = await self._rpc.call("eth_getLogs", query)
        except RpcError as error:
            if error.says_pruned:
                raise HistoryPruned(f"has deleted the logs of blocks {first} to {last}") from error
            if first == last:
                raise
            logs = None  # too many blocks, too many results: every node has its own limit and its own words for it
        except NodeSilent:
            if first == last:
                raise
            logs = None  # some nodes search for longer than anybody waits, instead of refusing
        if isinstance(logs, list) and (len(logs) < _SUSPICIOUS_LOGS or first == last):
            return logs
        if first == last:
            raise MalformedAnswer("sent something else where logs belong")
        middle = (first + last) // 2
        return await self._logs(first, middle, watched) + await self._logs(middle + 1, last, watched)

    async def _internal(self, block: Any, ref: BlockRef, watched: Watched) -> list[Transfer]:
        """What contracts send on, by the first kind of trace that the node offers; nothing where it offers none."""
        while self._tracers:
            method = self._tracers[0]
            by_call = method == "debug_traceBlockByHash"
            parameters = (ref.hash, {"tracer": "callTracer"}) if by_call else (hex(ref.height),)
            try:
                answer = await self._rpc.call(method, *parameters)
            except RpcError as error:
                if not error.says_unsupported:
                    return self._give_up_tracing(ref, error)
                if self._tracers[:1] == [method]:  # blocks are fetched side by side: another may have found out
                    del self._tracers[0]
                continue
            self._untraced.pop(ref.hash, None)
            read = traces.from_call_tracer if by_call else traces.from_trace_block
            return read(answer, decode.transaction_hashes(block), ref, watched.addresses)
        return []

    def _give_up_tracing(self, ref: BlockRef, error: RpcError) -> list[Transfer]:
        """A full node has the state of about its last hundred blocks only, and a block may be too heavy to trace. It is
        tried again a few times; then what else is in the block counts, since other payments must not wait for it.

        :raises RpcError: while it is tried again.
        """
        tries = self._untraced[ref.hash] = self._untraced.get(ref.hash, 0) + 1
        if tries < _TRACE_TRIES:
            raise error
        del self._untraced[ref.hash]
        _log.warning("block not traced: compare balances by hand", height=ref.height, reason=str(error))
        return []

    async def _transfers(self, block: Any, ref: BlockRef, watched: Watched) -> tuple[Transfer, ...]:
        # Most blocks of a quiet chain are empty, and there is nothing to pay with where nothing is watched.
        if not watched.addresses or not decode.transaction_hashes(block):
            return ()
        if self._has_block_receipts:
            try:
                receipts = await self._rpc.call("eth_getBlockReceipts", ref.hash)
            except RpcError as error:
                if error.says_pruned:
                    raise HistoryPruned(f"has deleted the receipts of block {ref.height}") from error
                if not error.says_unsupported:
                    raise
                self._has_block_receipts = False
            else:
                if receipts is None:
                    raise ShiftingView(f"no longer knows block {ref.height} by its hash")
                receipts = [*receipts, *await self._left_out(block, receipts)]
                found = decode.transfers(block, receipts, watched)
                return (*found, *await self._internal(block, ref, watched)) if watched.native else found
        found = await self._transfers_by_logs(block, ref, watched)
        return (*found, *await self._internal(block, ref, watched)) if watched.native else found

    async def _left_out(self, block: Any, receipts: Any) -> list[Any]:
        """Receipts of the transactions that a block's receipts leave out, asked for one by one.

        Bor (Polygon) lists a state-sync transaction in its block, but not always its receipt among the block's.
        """
        left_out = decode.without_receipt(block, receipts)
        if len(left_out) > _MOST_LEFT_OUT:
            return []  # an answer that was cut short: it is refused and asked for again
        found = await _all([self._rpc.call("eth_getTransactionReceipt", tx) for tx in left_out])
        return [receipt for receipt in found if receipt is not None]

    async def _transfers_by_logs(self, block: Any, ref: BlockRef, watched: Watched) -> tuple[Transfer, ...]:
        """Without ``eth_getBlockReceipts``: logs of the block by recipient, then the receipt of each hit, since only a
        receipt tells the ordinal."""
        wanted: dict[str, None] = {}
        if watched.contracts:
            topics = [decode.recipient_topic(address) for address in sorted(watched.addresses)]
            for start in range(0, len(topics), _MOST_TOPICS):
                query = {
                    "blockHash": ref.hash,
                    "address": sorted(watched.contracts),
                    "topics": [decode.TRANSFER_TOPIC, None, topics[start : start + _MOST_TOPICS]],
                }
                for hit in decode.hits(await self._rpc.call("eth_getLogs", query), {ref.hash: ref}, watched):
                    wanted[hit.tx] = None
        native = decode.native_candidates(block, watched) if watched.native else []
        wanted |= dict.fromkeys(native)
        receipts = await _all([self._rpc.call("eth_getTransactionReceipt", tx) for tx in wanted])
        if any(receipt is None for receipt in receipts):
            raise ShiftingView(f"has no receipt for a transaction of block {ref.height}")
        by_tx = dict(zip(wanted, receipts, strict=True))
        found = decode.token_transfers(receipts, ref, watched)
        if watched.native:
            found += decode.native_transfers(block, by_tx, ref, watched)
        return tuple(found)


async def _all(calls: list[Any]) -> list[Any]:
    """All of them at once; the first fault cancels the others, so that none is left running."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]
