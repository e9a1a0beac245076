"""Fetches blocks with their transfers from one node, every answer tied to the hash that was asked about."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from astrapayd.transfers import BlockRef, Transfer, Watched
from astrapayd_evm import decode
from astrapayd_evm.faults import HistoryPruned, RpcError, ShiftingView
from astrapayd_evm.rpc import NodeRpc

_MOST_TOPICS = 500  # geth takes 1,000 per position, others fewer


@dataclass(frozen=True, slots=True)
class FetchedBlock:
    """A block and what it pays to watched addresses."""

    ref: BlockRef
    transfers: tuple[Transfer, ...]


class Fetcher:
    """Reads one node. Remembers what the node has shown not to offer."""

    def __init__(self, rpc: NodeRpc) -> None:
        self._rpc = rpc
        self._has_block_receipts = True

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
        found = await _all([self._transfers(b, r, watched) for b, r in zip(raw, refs, strict=True)])
        return [FetchedBlock(ref, transfers) for ref, transfers in zip(refs, found, strict=True)]

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
                return decode.transfers(block, receipts, watched)
        return await self._transfers_by_logs(block, ref, watched)

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
