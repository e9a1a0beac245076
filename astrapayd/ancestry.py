"""The branch that was committed, and where the node's chain parts from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from astrapayd.node_faults import NodeBehind, ShiftingView
from astrapayd.transfers import BlockRef

BlockAt = Callable[[int], Awaitable[BlockRef | None]]
"""Answers the node's block at a height, or None where it has none."""


class OffBranch(Exception):
    """The node's chain shares none of the kept blocks, nor what they stand on."""


class Branch:
    """The kept blocks of our branch, oldest first. Trimmed from below, so that a long run needs no more memory."""

    def __init__(self, recent: Sequence[BlockRef]) -> None:
        """:param recent: newest first, linked by parent hash."""
        self._blocks = list(reversed(recent))

    @property
    def oldest(self) -> BlockRef:
        """The lowest block kept; there must be one."""
        return self._blocks[0]

    @property
    def tip(self) -> BlockRef | None:
        """The newest block, or None before the first."""
        return self._blocks[-1] if self._blocks else None

    def above(self, ancestor: BlockRef) -> tuple[BlockRef, ...]:
        """The blocks above one of ours, newest first: what a competing branch disconnects."""
        return tuple(block for block in reversed(self._blocks) if block.height > ancestor.height)

    def move(self, disconnected: int, connected: Sequence[BlockRef], final_height: int) -> None:
        """Follow a committed update. Blocks below the final one are dropped; that one stays, as an anchor."""
        if disconnected:
            del self._blocks[-disconnected:]
        self._blocks += connected
        last = len(self._blocks) - 1
        del self._blocks[: next((i for i, block in enumerate(self._blocks) if block.height >= final_height), last)]

    async def common_ancestor(self, head: BlockRef, block_at: BlockAt) -> BlockRef:
        """The newest of our blocks that is on the node's chain, or the one right below them all.

        A block of ours is given up only for a *competing* block at its own height. A node whose head is below our tip
        has no such block yet: it is behind, whatever branch it is on, and means wait.

        :raises NodeBehind: if the node's head is below our tip.
        :raises OffBranch: if none of the kept blocks is on its chain.
        :raises ShiftingView: if its chain changed while it was asked.
        """
        tip = self._blocks[-1]
        if head.height < tip.height:
            raise NodeBehind(f"is at block {head.height}, behind block {tip.height} that was seen before")
        for block in reversed(self._blocks):
            theirs = head if block.height == head.height else await block_at(block.height)
            if theirs is None:
                raise ShiftingView(f"has no block {block.height} below its own head")
            if theirs.hash == block.hash:
                return block
        oldest = self._blocks[0]
        theirs = head if oldest.height == head.height else await block_at(oldest.height)
        if theirs is not None and theirs.parent == oldest.parent:
            # Everything kept is replaced (a chain followed for few blocks only), and they part right below it.
            return BlockRef(oldest.height - 1, oldest.parent, "", 0)
        raise OffBranch(f"has another block {oldest.height} than the one followed so far ({oldest.hash})")
