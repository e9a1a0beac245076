"""Follows the chain of one node: from the committed tip to its tip, block by block, and then its mempool."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from astrapayd.ancestry import Branch
from astrapayd.node_faults import HistoryPruned, MalformedAnswer, NodeSilent, ShiftingView, WrongChain
from astrapayd.transfers import BlockRef, ChainUpdate, Transfer, WatchSet
from astrapayd.wakeup import Wakeup
from astrapayd_bitcoin.blocks import MalformedBlock, Payment, payments_in_block
from astrapayd_bitcoin.faults import NodeSyncing, RpcError
from astrapayd_bitcoin.mempool import Look, Mempool
from astrapayd_bitcoin.node import ChainInfo, CoreNode
from astrapayd_bitcoin.scripts import Scripts

MOST_BLOCKS = 20
"""Blocks in one update: a long gap is committed along the way."""

_SHIFTS = 5  # a chain may change while it is read; that often in a row it is no chain
_SILENT_HEADS = 3  # tips found by looking only, before a subscription counts as dead
_LEVEL_WITHIN = 3  # blocks: what arrives while one is applied is no lag
_PROGRESS_SECS = 10.0
_NOTICE_ADDRESSES_SECS = 0.5


class News(Protocol):
    """What wakes: :class:`astrapayd_bitcoin.notifications.Notifications` or
    :class:`astrapayd_bitcoin.btcd.BtcdConnection`."""

    lost: bool
    wakeup: Wakeup

    async def open(self) -> None:
        """Listen."""
        ...

    async def close(self) -> None:
        """Listen no more."""
        ...


class Following:
    """One node, its notifications and its mempool. ``level``: everything up to its tip was yielded."""

    def __init__(
        self,
        chain: str,
        node: CoreNode,
        notifications: News,
        scripts: Scripts,
        mempool: Mempool,
        *,
        node_chain: str,
        final_blocks: int,
        poll_secs: float,
        list_secs: float,
        log: FilteringBoundLogger,
        looked: Callable[[bool], None],
    ) -> None:
        """:param node_chain: what the node has to call its chain.
        :param poll_secs: between looks while no news comes.
        :param list_secs: between listings of the whole mempool while no frame seems to be lost.
        :param looked: told after each good answer whether the chain is level with the node.
        """
        self._chain = chain
        self._node = node
        self._notifications = notifications
        self._scripts = scripts
        self._mempool = mempool
        self._node_chain = node_chain
        self._final_blocks = final_blocks
        self._poll_secs = poll_secs
        self._list_secs = list_secs
        self._log = log
        self._looked = looked
        self._listed_at = -list_secs

    async def updates(self, branch: Branch, watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        """Look, catch up, wait for the next frame or the next regular look, around again until a fault.

        :raises NodeFault: for what is wrong with the node.
        """
        shifts = unheard = 0
        while True:
            frames, tip = self._notifications.wakeup.notifications, branch.tip
            if self._scripts.follow(watch.current):
                self._mempool.addresses_changed()
            if await self._node.follow(self._scripts.addresses, self._mempool.spent()):
                self._mempool.recheck()  # a moment ago nothing would have told of a replacement
            try:
                async with aclosing(self._catch_up(branch, watch)) as steps:
                    async for step in steps:
                        yield step
                self._looked(True)
                look = await self._look_at_mempool(branch)
                if look is not None:
                    told = False
                    try:
                        arrived = [transfer for p in look.arrived for transfer in self._scripts.transfers(p, None)]
                        if arrived or look.gone:
                            yield self._step(branch.tip, (), (), arrived, look.gone)
                        told = True
                    finally:  # closed at the yield, it was not committed
                        (self._mempool.told if told else self._mempool.not_told)(look)
                shifts = 0
            except ShiftingView as fault:
                shifts += 1
                if shifts >= _SHIFTS:
                    raise
                self._log.debug("chain changed while it was read", reason=str(fault))
                continue
            self._looked(True)
            if look is not None and (look.arrived or not look.complete):
                continue
            await self._wait(watch)
            # A subscription that died without a word: tips go on coming, and it tells of none.
            moved = tip is not None and branch.tip != tip
            unheard = unheard + 1 if moved and frames == self._notifications.wakeup.notifications else 0
            if unheard >= _SILENT_HEADS:
                raise NodeSilent("is connected, but its notifications have stopped")

    async def _wait(self, watch: WatchSet) -> None:
        """Until there is news, an address was added, or it is time for a regular look."""
        until = time.monotonic() + self._poll_secs
        while (left := until - time.monotonic()) > 0 and watch.current.version == self._scripts.version:
            if await self._notifications.wakeup.wait(min(left, _NOTICE_ADDRESSES_SECS)):
                return

    async def _catch_up(self, branch: Branch, watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        info = await self._info()
        tip = branch.tip
        if tip is not None and info.best == tip.hash:
            return
        head = await self._node.block(info.best)
        if tip is None:
            yield self._step(None, (), [head], [])
            branch.move(0, [head], self._kept_from(head))
            return
        ancestor = await branch.common_ancestor(head, self._node.block_at)
        if head.height - ancestor.height > _LEVEL_WITHIN:
            self._looked(False)  # no session is opened at a height that the chain has long left
        if ancestor.height + 1 < info.pruned_below:
            raise HistoryPruned(
                f"has deleted the blocks below {info.pruned_below} (pruning), but block {ancestor.height + 1} is needed"
            )
        said = time.monotonic()
        while ancestor.height < head.height:
            disconnected = branch.above(ancestor)
            if self._scripts.follow(watch.current):
                self._mempool.addresses_changed()
            # A competing branch disconnects only what it has blocks against: it comes whole, at least to our tip.
            up_to = min(head.height, ancestor.height + max(MOST_BLOCKS, len(disconnected)))
            refs, found = await self._fetch(ancestor, up_to)
            lost = await self._payments_of(disconnected)
            transfers = [
                t for ref, paid in zip(refs, found, strict=True) for p in paid for t in self._scripts.transfers(p, ref)
            ]
            yield self._step(branch.tip, disconnected, refs, transfers)
            ancestor = refs[-1]
            branch.move(len(disconnected), refs, self._kept_from(ancestor))
            mined = {payment.txid for paid in found for payment in paid}
            self._mempool.left_blocks(payment for payment in lost if payment.txid not in mined)
            self._mempool.mined(mined)
            if head.height > ancestor.height and time.monotonic() - said > _PROGRESS_SECS:
                said = time.monotonic()
                self._log.info("catching up", height=ancestor.height, blocks_left=head.height - ancestor.height)

    async def _look_at_mempool(self, branch: Branch) -> Look | None:
        """What it says counts only if the chain did not move meanwhile: what is mined is no longer in it, either."""
        everything = self._notifications.lost or time.monotonic() - self._listed_at >= self._list_secs
        if self._mempool.idle(everything=everything):
            return None
        tip = branch.tip
        assert tip is not None
        self._notifications.lost = False
        try:
            look = await self._mempool.look(self._node, everything=everything)
        except BaseException:
            self._notifications.lost |= everything
            raise
        if everything:
            self._listed_at = time.monotonic()
        if await self._best_after(look) != tip.hash:
            self._mempool.not_told(look)
            raise ShiftingView("moved on while its mempool was looked at")
        return look

    async def _best_after(self, look: Look) -> str:
        try:
            return await self._node.best()
        except BaseException:
            self._mempool.not_told(look)
            raise

    async def _info(self) -> ChainInfo:
        info = await self._node.info()
        if info.chain != self._node_chain:
            raise WrongChain(f"is of the chain {info.chain!r}, but {self._node_chain!r} is configured")
        if info.syncing:
            raise NodeSyncing(
                f"is still downloading the chain (at block {info.height}): nothing counts until it is done"
            )
        return info

    async def _fetch(self, ancestor: BlockRef, up_to: int) -> tuple[list[BlockRef], list[Sequence[Payment]]]:
        """The blocks above ``ancestor``, each linked to the one before it, and what is paid in them."""
        refs: list[BlockRef] = []
        found: list[Sequence[Payment]] = []
        before = ancestor
        for height in range(ancestor.height + 1, up_to + 1):
            block_hash = await self._node.hash_at(height)
            if block_hash is None:
                raise ShiftingView(f"has no block {height} any more")
            header, raw = await self._node.raw_block(block_hash)
            if header.parent != before.hash:
                raise ShiftingView(f"has a block {height} that does not follow the one before it")
            before = BlockRef(height, header.hash, header.parent, header.time)
            refs.append(before)
            try:
                found.append(payments_in_block(raw, self._scripts.by_script))
            except MalformedBlock as error:
                raise MalformedAnswer(f"sent a block {height} that {error}") from None
        return refs, found

    async def _payments_of(self, disconnected: Sequence[BlockRef]) -> list[Payment]:
        """What was paid in blocks that lost, as far as the node still has them."""
        lost: list[Payment] = []
        for block in disconnected:
            try:
                _, raw = await self._node.raw_block(block.hash)
                lost += payments_in_block(raw, self._scripts.by_script)
            except (ShiftingView, HistoryPruned, RpcError, MalformedBlock):
                continue  # lost in a crash, or never heard of by this node: the core takes its payments back by itself
        return lost

    def _step(
        self,
        base: BlockRef | None,
        disconnected: Sequence[BlockRef],
        connected: Sequence[BlockRef],
        transfers: Sequence[Transfer],
        replaced: Sequence[str] = (),
    ) -> ChainUpdate:
        head = connected[-1] if connected else base
        assert head is not None
        return ChainUpdate(
            chain=self._chain,
            base=base,
            head=head,
            final_height=-1,  # no node calls a block of Bitcoin final: depth does
            disconnected=tuple(disconnected),
            connected=tuple(connected),
            transfers=tuple(transfers),
            replaced=tuple(replaced),
            watch_version=self._scripts.version,
        )

    def _kept_from(self, head: BlockRef) -> int:
        """The height below which no block can be disconnected any more."""
        return head.height - self._final_blocks + 1
