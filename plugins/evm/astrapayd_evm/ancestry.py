"""Where a node's chain leaves the chain that was already told to the core.

The rule: **a block is taken back only for a competing block at its own height.** A node that is behind, that has lost
its tip in a crash, or that follows a shorter branch shows no competitor for some of our blocks: then we wait. Taking
payments back because a node was restored from a backup would be the costlier mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from astrapayd.transfers import BlockRef, ChainUpdate
from astrapayd_evm.faults import MalformedAnswer, ShiftingView
from astrapayd_evm.node import EvmNode

_KEPT_WITHOUT_FINALITY = 10_000  # blocks kept in memory where the node never calls one final


class KeptChain:
    """The blocks that the core has committed and keeps until final: a run without gaps, linked by parent hash."""

    def __init__(self, recent: Sequence[BlockRef] = ()) -> None:
        """:param recent: newest first, as :meth:`astrapayd.transfers.Watcher.updates` gets them."""
        self._by_height: dict[int, BlockRef] = {}
        self.tip: BlockRef | None = recent[0] if recent else None
        for ref in recent:
            newer = self._by_height.get(ref.height + 1)
            if newer is not None and newer.parent != ref.hash:
                break
            if newer is None and ref != self.tip:
                break  # a gap: what lies below it cannot be linked, so it is not relied on
            self._by_height[ref.height] = ref

    @property
    def lowest(self) -> BlockRef | None:
        """The oldest block kept."""
        return self._by_height[min(self._by_height)] if self._by_height else None

    def at(self, height: int) -> BlockRef | None:
        """Our block at a height, if it is kept."""
        return self._by_height.get(height)

    def above(self, height: int) -> tuple[BlockRef, ...]:
        """Our blocks above a height, newest first: what a reorg from there takes back."""
        if self.tip is None:
            return ()
        return tuple(self._by_height[h] for h in range(self.tip.height, max(height, min(self._by_height) - 1), -1))

    def apply(self, update: ChainUpdate) -> None:
        """What was yielded is committed."""
        for ref in update.disconnected:
            self._by_height.pop(ref.height, None)
        self.extend(update.connected)
        self.tip = update.head
        lowest_wanted = max(update.final_height, update.head.height - _KEPT_WITHOUT_FINALITY)
        for height in [h for h in self._by_height if h < lowest_wanted]:
            del self._by_height[height]

    def extend(self, refs: Iterable[BlockRef]) -> None:
        """Blocks on top."""
        for ref in refs:
            self._by_height[ref.height] = ref


@dataclass(frozen=True, slots=True)
class Fork:
    """The node's chain goes on above ``height``, from the block with ``block_hash``, which is also ours; it takes
    back ``disconnected``, newest first."""

    height: int
    block_hash: str
    disconnected: tuple[BlockRef, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be told yet; ``reason`` continues the sentence "the node …"."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unrelated:
    """The node's chain has other blocks at every height that is kept, down to the ``lowest``."""

    lowest: BlockRef


async def find_fork(node: EvmNode, head: BlockRef, kept: KeptChain) -> Fork | Wait | Unrelated:
    """Compare the node's chain, as seen from its ``head``, with ours.

    1. Below our tip's height there is no competitor for the tip: wait.
    2. On top of our tip, or with our tip at its height: nothing is taken back.
    3. Else walk the competitor's parents by hash down to a block that is ours. By hash, not by number: the branch
       under the walker's feet stays the same even if the node changes its mind meanwhile.

    :raises NodeFault: as the node's questions do.
    """
    tip = kept.tip
    assert tip is not None, "the caller begins a new chain itself"
    if head.height < tip.height:
        ours = kept.at(head.height)
        where = f"is at block {head.height}, and block {tip.height} was already seen"
        if ours is not None and ours.hash != head.hash:
            return Wait(f"{where}, on another branch")
        return Wait(where)
    nothing_lost = Fork(tip.height, tip.hash, ())
    if head.parent == tip.hash:
        return nothing_lost
    rival = head if head.height == tip.height else await node.ref_at(tip.height)
    if rival is None:
        raise ShiftingView("shows a head, but not the blocks below it")
    if rival.hash == tip.hash:
        return nothing_lost
    while True:
        ours = kept.at(rival.height)
        if ours is None:
            lowest = kept.lowest
            assert lowest is not None, "the tip is kept"
            return Unrelated(lowest)
        # also true of the lowest block kept, whose parent we know by its hash alone
        if ours.parent == rival.parent:
            return Fork(rival.height - 1, rival.parent, kept.above(rival.height - 1))
        if rival.height == 0:
            return Unrelated(ours)
        parent = await node.ref_of(rival.parent)
        if parent is None:
            raise ShiftingView("does not know the parent of a block that it has just shown")
        if parent.height != rival.height - 1:
            raise MalformedAnswer("sent a parent that is not one block lower")
        rival = parent
