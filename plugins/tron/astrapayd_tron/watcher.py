"""Follows Tron through the merchant's own java-tron: a wake-up (its event queue, or a look every few seconds), then the
truth by HTTP, final when the solidity port says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

import structlog

from astrapayd.ancestry import Branch, OffBranch
from astrapayd.catching_up import CatchingUp
from astrapayd.chains import Depth
from astrapayd.money import Asset
from astrapayd.node_faults import HistoryPruned, MalformedAnswer, NodeFault, ShiftingView, WrongChain
from astrapayd.outage import Backoff, Outage
from astrapayd.transfers import (
    BlockRef,
    ChainMismatch,
    ChainUpdate,
    HistoryGone,
    NodeStatus,
    Transfer,
    WatcherError,
    WatcherHealth,
    WatchSet,
)
from astrapayd.wakeup import Silence, Wakeup
from astrapayd_tron import decode, signatures
from astrapayd_tron.checks import check_node, used_addresses
from astrapayd_tron.collector import no_collection
from astrapayd_tron.fetching import SPAN, Fetcher, RawBlock
from astrapayd_tron.networks import Network
from astrapayd_tron.notifications import Notifications
from astrapayd_tron.rpc import HttpLimits, NodeHttp

_SHIFTS = 5  # a chain may change while it is read; that often in a row it is no chain
_SHIFT_SECS = 0.1  # a block is sometimes told before its transaction infos are
_CHECK_SECS = 10.0
_LEVEL_WITHIN = 3  # blocks: what arrives while one is applied is no lag


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One java-tron. ``url`` and ``solidity`` are ``http://host:port``; ``events`` is None where its queue is off."""

    url: str
    solidity: str
    events: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a watcher needs of ``[chains.ID]``. ``genesis`` is the id of the network's block 0."""

    chain: str
    network: Network
    nodes: tuple[NodeSettings, ...]
    genesis: str
    assets: tuple[Asset, ...]
    confirmations: Depth
    final: Depth
    request_secs: float = 30.0
    poll_secs: float = 3.0


class _Node:
    """One java-tron: its two ports and its event queue, if it has one."""

    def __init__(self, settings: NodeSettings, limits: HttpLimits) -> None:
        self.full = NodeHttp(settings.url, limits)
        self.solidity = NodeHttp(settings.solidity, limits)
        self.fetcher = Fetcher(self.full, self.solidity)
        self.notifications = Notifications(settings.events) if settings.events is not None else None

    @property
    def label(self) -> str:
        return self.full.label

    async def close(self) -> None:
        if self.notifications is not None:
            await self.notifications.close()
        await self.full.close()
        await self.solidity.close()


class TronWatcher:
    """Implements :class:`astrapayd.transfers.Watcher`.

    One node at a time is followed. When it fails, the next one is asked, and around again with growing pauses; one that
    is behind or of another chain is noticed and never believed.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self._limits = HttpLimits(request_secs=settings.request_secs)
        self._nodes = [_Node(node, self._limits) for node in settings.nodes]
        self._using = 0
        self._log = structlog.get_logger("astrapayd.tron").bind(chain=settings.chain)
        self._outage = Outage(self._log, "node trouble", "node is back")
        self._troubles: dict[str, str] = {}  # by node, since the chain was last level
        self._level = False
        self._looked_at = 0
        self._final_height = -1

    @property
    def health(self) -> WatcherHealth:
        """How it goes."""
        return WatcherHealth(self._level, self._looked_at, self._outage.reason)

    async def check(self) -> tuple[NodeStatus, ...]:
        """Ask every node at once who it is and whether it can be followed."""
        settings = self._settings
        limits = HttpLimits(request_secs=min(settings.request_secs, _CHECK_SECS))
        checks = (
            check_node(
                NodeHttp(node.url, limits),
                NodeHttp(node.solidity, limits),
                node.events,
                chain=settings.chain,
                genesis=settings.genesis,
                assets=settings.assets,
                now=self._now(),
            )
            for node in settings.nodes
        )
        return tuple(await asyncio.gather(*checks))

    async def used(self, addresses: Sequence[str]) -> frozenset[str]:
        """Which of these addresses have an account or hold a listed token, by the first node that says."""
        faults = []
        for settings in self._settings.nodes:
            node = _Node(settings, self._limits)
            try:
                await node.fetcher.identify(self._settings.genesis)
                return await used_addresses(node.full, addresses, self._settings.assets)
            except NodeFault as fault:
                faults.append(f"{node.label} {fault}")
            finally:
                await node.close()
        raise WatcherError(f"chains.{self._settings.chain}.nodes: {'; '.join(faults)}")

    async def signed_by(self, address: str, message: str, signature: str) -> bool:
        """By the address's own key (TIP-191), without a node: no contract on Tron can be asked."""
        return signatures.signed_by(address, message, signature)

    async def updates(self, recent: Sequence[BlockRef], watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        """Follow the chain; see :meth:`astrapayd.transfers.Watcher.updates`."""
        branch = Branch(recent)
        backoff = Backoff(0.5, 20)
        wrong: set[int] = set()
        pruned: set[int] = set()
        where = f"chains.{self._settings.chain}.nodes"
        try:
            while True:
                node = self._nodes[self._using]
                try:
                    await node.fetcher.identify(self._settings.genesis)
                    wrong.discard(self._using)
                    if node.notifications is not None:
                        await node.notifications.open()
                    async for step in self._follow(node, branch, watch):
                        yield step
                        backoff.reset()
                except WrongChain as fault:
                    wrong.add(self._using)
                    self._trouble(node, fault)
                    if len(wrong) == len(self._nodes):
                        raise ChainMismatch(f"{where}: {node.label} {fault}") from fault
                except OffBranch as fault:
                    tip = branch.tip
                    assert tip is not None  # else there is nothing to part from
                    if branch.oldest.height < self._kept_from(tip, self._final_height):
                        raise ChainMismatch(f"{where}: {node.label} {fault}") from fault
                    self._trouble(node, NodeFault(f"{fault}; nothing of it is final, so it is waited for"))
                except HistoryPruned as fault:
                    pruned.add(self._using)
                    self._trouble(node, fault)
                    if len(pruned) == len(self._nodes):
                        raise HistoryGone(
                            f"{where}: {node.label} {fault}, and payments may be in it: add a node that still has it"
                        ) from fault
                except NodeFault as fault:
                    self._trouble(node, fault)
                # Another one is asked at once; when all have failed in a row, there is a pause.
                await node.close()
                self._using = (self._using + 1) % len(self._nodes)
                if self._using == 0:
                    await asyncio.sleep(backoff.next_secs())
        finally:
            self._level = False
            await self._nodes[self._using].close()

    async def close(self) -> None:
        """Release connections. Safe to call twice."""
        for node in self._nodes:
            await node.close()

    async def _follow(self, node: _Node, branch: Branch, watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        """Look, catch up, wait for the next wake-up or the next regular look, around again until a fault."""
        wakeup = node.notifications.wakeup if node.notifications is not None else Wakeup()
        silence = Silence(wakeup) if node.notifications is not None else None
        shifts = 0
        final_told: int | None = None
        while True:
            tip = branch.tip
            try:
                async for step in self._catch_up(node.fetcher, branch, watch, final_told):
                    final_told = step.final_height
                    shifts = 0
                    yield step
                shifts = 0
            except (ShiftingView, MalformedAnswer) as fault:
                # Infos that are not the block's are what a change between both answers looks like, too.
                shifts += 1
                if shifts >= _SHIFTS:
                    raise
                self._log.debug("chain changed while it was read", reason=str(fault))
                await asyncio.sleep(_SHIFT_SECS * shifts)
                continue
            self._looked_at = int(self._now())
            self._level = True
            self._troubles.clear()
            self._outage.up()
            if silence is not None and silence.is_dead(moved=branch.tip != tip):
                assert node.notifications is not None
                self._log.warning("event queue is silent: subscribing again", node=node.label)
                await node.notifications.close()
                await node.notifications.open()
            await wakeup.wait(self._settings.poll_secs)

    async def _catch_up(
        self, fetcher: Fetcher, branch: Branch, watch: WatchSet, final_told: int | None
    ) -> AsyncGenerator[ChainUpdate]:
        """From the committed tip to the node's head, in linked steps. While one is committed the next is fetched."""
        # The solidity port first: what it calls final is then never above the head.
        solidified = await fetcher.solidified()
        head = await fetcher.head()
        tip = branch.tip
        final_height = self._final_height = await _final_height(fetcher, branch, solidified, head)
        if tip is None:
            yield self._step(None, (), [head], final_height, [], watch.current.version)
            branch.move(0, [head], self._kept_from(head, final_height))
            return
        if head.hash == tip.hash:
            if final_told not in (None, final_height):
                yield self._step(tip, (), [], final_height, [], watch.current.version)
                branch.move(0, [], self._kept_from(tip, final_height))
            return
        ancestor = await branch.common_ancestor(head, fetcher.block_at)
        progress = CatchingUp(self._log, ancestor.height, self._now, long_blocks=SPAN)
        if head.height - ancestor.height > _LEVEL_WITHIN:
            self._level = False  # no session is opened at a height that the chain has long left
        fetching: asyncio.Task[list[RawBlock]] | None = None
        try:
            while ancestor.height < head.height:
                disconnected = branch.above(ancestor)
                # A competing branch disconnects only what it has blocks against: it comes whole, at least to our tip.
                up_to = min(head.height, ancestor.height + max(SPAN, len(disconnected)))
                if fetching is None:
                    fetching = asyncio.create_task(fetcher.blocks(ancestor.height + 1, up_to))
                fetched = await fetching
                fetching = None
                refs = [raw.ref for raw in fetched]
                if refs[0].parent != ancestor.hash:
                    raise ShiftingView(f"changed its chain at block {refs[0].height} while it was read")
                if refs[-1].height == head.height:
                    head = await fetcher.head()  # a long gap: the chain went on meanwhile
                    if head.height < refs[-1].height:
                        raise ShiftingView("went back while a gap was filled")
                if refs[-1].height < head.height:
                    following = min(head.height, refs[-1].height + SPAN)
                    fetching = asyncio.create_task(fetcher.blocks(refs[-1].height + 1, following))
                watched = watch.current
                with no_collection():
                    paid = [found for raw in fetched for found in decode.transfers(raw.block, raw.infos, watched)]
                    del fetched  # some hundred thousand objects: the collector shall not find them alive
                yield self._step(branch.tip, disconnected, refs, final_height, paid, watched.version)
                ancestor = refs[-1]
                branch.move(len(disconnected), refs, self._kept_from(ancestor, final_height))
                self._looked_at = int(self._now())
                progress.at(ancestor.height, head.height)
        finally:
            if fetching is not None:
                fetching.cancel()
                await asyncio.gather(fetching, return_exceptions=True)

    def _step(
        self,
        base: BlockRef | None,
        disconnected: Sequence[BlockRef],
        connected: Sequence[BlockRef],
        final_height: int,
        paid: Sequence[Transfer],
        version: int,
    ) -> ChainUpdate:
        head = connected[-1] if connected else base
        assert head is not None
        return ChainUpdate(
            chain=self._settings.chain,
            base=base,
            head=head,
            final_height=min(final_height, head.height),
            disconnected=tuple(disconnected),
            connected=tuple(connected),
            transfers=tuple(paid),
            replaced=(),
            watch_version=version,
        )

    def _kept_from(self, head: BlockRef, final_height: int) -> int:
        """The height below which no block can be disconnected any more."""
        blocks = self._settings.final.blocks
        return min(final_height, head.height) if blocks is None else head.height - blocks + 1

    def _trouble(self, node: _Node, fault: NodeFault) -> None:
        self._level = False
        self._troubles[node.label] = str(fault)
        self._outage.down("; ".join(f"{label} {what}" for label, what in self._troubles.items()))


async def _final_height(fetcher: Fetcher, branch: Branch, solidified: BlockRef, head: BlockRef) -> int:
    """The height up to which both ports agree that blocks are final.

    The two may be two machines: what the solidity port calls final counts only where the full node has that very block.

    :raises ShiftingView: if it has another one.
    """
    final: BlockRef | None = solidified
    if solidified.height > head.height:
        final = await fetcher.solidified_at(head.height)  # the full node is the slower one
    if final is None:
        raise ShiftingView(f"has a solidity port without block {head.height} below its own head")
    tip = branch.tip
    if tip is not None and branch.oldest.height <= final.height <= tip.height:
        ours = branch.above(BlockRef(final.height - 1, final.parent, "", 0))[-1]
        if ours.hash == final.hash:
            return final.height
    theirs = head if head.height == final.height else await fetcher.block_at(final.height)
    if theirs is None:
        return -1  # a lite node without it; whether what is needed is there shows when it is fetched
    if theirs.hash != final.hash:
        raise ShiftingView(f"has a solidity port that calls another block {final.height} final than it has itself")
    return final.height
