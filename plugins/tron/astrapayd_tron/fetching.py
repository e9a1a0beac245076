"""Fetches blocks with their transaction infos from one java-tron: its full node port, and its solidity port.

Infos do not name their block's id, and are asked for by height. So every fetch ends with a second look at its highest
block: if that one is still the same, so were the blocks below it, and the infos are theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from astrapayd.node_faults import HistoryPruned, MalformedAnswer, ShiftingView, WrongChain
from astrapayd.transfers import BlockRef
from astrapayd_tron import decode
from astrapayd_tron.rpc import NodeHttp

T = TypeVar("T")

SPAN = 10
"""Blocks in one answer. java-tron gives up to 100, but each has some hundred KiB."""


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block's place, the block and its transaction infos as the node sent them."""

    ref: BlockRef
    block: Any
    infos: Any


class Fetcher:
    """Reads one node."""

    def __init__(self, full: NodeHttp, solidity: NodeHttp) -> None:
        self._full = full
        self._solidity = solidity

    async def identify(self, genesis: str) -> None:
        """See that both ports follow the right chain.

        :param genesis: the id of its block 0.
        :raises WrongChain: if one follows another.
        :raises NodeFault: as every method here, for what is wrong with the node.
        """
        answers = await together(
            self._full.ask("wallet/getblockbynum", num=0), self._solidity.ask("walletsolidity/getblockbynum", num=0)
        )
        for port, block in zip(("", "solidity port "), answers, strict=True):
            found = decode.block_ref(block).hash
            if found != genesis:
                raise WrongChain(f"{port}begins with block {found}, but the network begins with {genesis}")

    async def head(self) -> BlockRef:
        """The newest block."""
        return decode.block_ref(await self._full.ask("wallet/getnowblock"))

    async def solidified(self) -> BlockRef:
        """The newest block that the node calls solidified."""
        return decode.block_ref(await self._solidity.ask("walletsolidity/getnowblock"))

    async def solidified_at(self, height: int) -> BlockRef | None:
        """The solidified block at a height, or None where the solidity port has none."""
        block = await self._solidity.ask("walletsolidity/getblockbynum", num=height)
        return decode.block_ref(block) if block != {} else None

    async def block_at(self, height: int) -> BlockRef | None:
        """The block at a height of the node's present chain, or None where it has none."""
        block = await self._full.ask("wallet/getblockbynum", num=height)
        return decode.block_ref(block) if block != {} else None

    async def blocks(self, first: int, last: int) -> list[RawBlock]:
        """The blocks from one height to another with their infos, linked to each other by parent hash.

        :raises ShiftingView: if the chain changed while they were read: nothing of them is used.
        :raises HistoryPruned: if the node has deleted them, or keeps no infos.
        """
        spans = [(start, min(start + SPAN - 1, last)) for start in range(first, last + 1, SPAN)]
        answers = await together(
            *(self._span(*span) for span in spans),
            *(self._full.ask("wallet/gettransactioninfobyblocknum", num=height) for height in range(first, last + 1)),
        )
        blocks = [block for answer in answers[: len(spans)] for block in answer]
        refs = [decode.block_ref(block) for block in blocks]
        if [ref.height for ref in refs] != list(range(first, last + 1)):
            await self._explain_missing(first, last)
        for below, ref in pairwise(refs):
            if ref.parent != below.hash:
                raise ShiftingView(f"changed its chain at block {ref.height} while it was read")
        if await self.block_at(last) != refs[-1]:
            raise ShiftingView(f"changed its chain at block {last} while its transaction infos were read")
        return [
            RawBlock(ref, block, infos) for ref, block, infos in zip(refs, blocks, answers[len(spans) :], strict=True)
        ]

    async def _span(self, first: int, last: int) -> list[Any]:
        if first == last:
            block = await self._full.ask("wallet/getblockbynum", num=first)
            return [block] if block != {} else []
        answer = await self._full.ask("wallet/getblockbylimitnext", startNum=first, endNum=last + 1)
        found = answer.get("block", []) if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise MalformedAnswer("sent something else where a list of blocks belongs")
        return found

    async def _explain_missing(self, first: int, last: int) -> None:
        """:raises HistoryPruned: if the node has the highest of the blocks and not the lowest.
        :raises ShiftingView: otherwise."""
        if await self.block_at(last) is not None and await self.block_at(first) is None:
            raise HistoryPruned(f"no longer has block {first}")
        raise ShiftingView(f"did not send all blocks from {first} to {last}")


async def together(*questions: Coroutine[Any, Any, T]) -> list[T]:
    """All of them at once; the first fault cancels the others, so that none is left running."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(question) for question in questions]
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]
