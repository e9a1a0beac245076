"""Follows one EVM chain through the merchant's nodes: a wake-up, then the truth by hash, then one update."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from astrapayd.ancestry import Branch, OffBranch
from astrapayd.catching_up import CatchingUp
from astrapayd.chains import Depth
from astrapayd.money import Asset
from astrapayd.node_faults import HistoryPruned, NodeFault, NodeSilent, ShiftingView, WrongChain
from astrapayd.outage import Backoff, Outage
from astrapayd.transfers import (
    Balance,
    BlockRef,
    ChainMismatch,
    ChainUpdate,
    HistoryGone,
    NodeStatus,
    Transfer,
    Watched,
    WatcherError,
    WatcherHealth,
    WatchSet,
)
from astrapayd.wakeup import Silence, Wakeup
from astrapayd_evm import signatures
from astrapayd_evm.checks import check_node, identify, used_addresses
from astrapayd_evm.faults import RpcError
from astrapayd_evm.fetching import Fetcher
from astrapayd_evm.rpc import NodeRpc, RpcLimits

T = TypeVar("T")

MOST_BLOCKS = 50
"""Blocks in one update: a long gap is committed along the way."""

MOST_FULL_BLOCKS = 16
"""The same where blocks are fetched with their transactions, for the native coin: each takes megabytes."""

_SHIFTS = 5  # a chain may change while it is read; that often in a row it is no chain
_BALANCES_AT_LEAST_EVERY_SECS = 30  # where blocks come so fast that there is always something to do
_LEVEL_WITHIN = 3  # blocks: what arrives while one is applied is no lag


@dataclass(frozen=True, slots=True)
class Settings:
    """What a watcher needs of ``[chains.ID]``. ``node_urls`` are secrets; ``genesis`` None: hold to the first seen."""

    chain: str
    chain_id: int
    node_urls: tuple[str, ...]
    assets: tuple[Asset, ...]
    confirmations: Depth
    final: Depth
    genesis: str | None = None
    traces: bool = True
    balances: bool = True
    max_message_bytes: int = 128 * 2**20
    request_secs: float = 30.0
    poll_secs: float = 4.0


class EvmWatcher:
    """Implements :class:`astrapayd.transfers.Watcher`.

    One node at a time is followed. When it fails, the next one is asked, and around again with growing pauses; one that
    is behind or of another chain is noticed and never believed.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self._limits = RpcLimits(max_message_bytes=settings.max_message_bytes, request_secs=settings.request_secs)
        self._nodes = [NodeRpc(url, self._limits) for url in settings.node_urls]
        self._fetchers = [Fetcher(rpc, traces=settings.traces) for rpc in self._nodes]
        self._using = 0
        self._genesis = settings.genesis or ""
        self._log = structlog.get_logger("astrapayd.evm").bind(chain=settings.chain)
        self._outage = Outage(self._log, "node trouble", "node is back")
        self._troubles: dict[str, str] = {}  # by node, since the chain was last level
        self._level = False
        self._looked_at = 0
        self._final_height = -1
        self._balances_of = ""  # the block at which balances were looked at last …
        self._balances_at = 0.0  # … and when

    @property
    def health(self) -> WatcherHealth:
        """How it goes."""
        return WatcherHealth(self._level, self._looked_at, self._outage.reason)

    async def check(self) -> tuple[NodeStatus, ...]:
        """Ask every node at once who it is and whether it can be followed."""
        settings = self._settings
        needs_finality = settings.confirmations.blocks is None or settings.final.blocks is None
        limits = RpcLimits(max_message_bytes=settings.max_message_bytes, request_secs=min(settings.request_secs, 10))
        checks = (
            check_node(
                NodeRpc(url, limits),
                chain=settings.chain,
                chain_id=settings.chain_id,
                genesis=self._genesis,
                assets=settings.assets,
                needs_finality=needs_finality,
            )
            for url in settings.node_urls
        )
        return tuple(await asyncio.gather(*checks))

    async def used(self, addresses: Sequence[str]) -> frozenset[str]:
        """Which of these addresses hold coin or a listed token, or have sent anything, by the first node that says."""
        return await self._ask_any(lambda rpc: used_addresses(rpc, addresses, self._settings.assets))

    async def signed_by(self, address: str, message: str, signature: str) -> bool:
        """By the address's own key, without a node; else by the contract that stands there, asked of the first node
        that says."""
        parsed = signatures.parse_signature(signature)
        if parsed is None:
            return False
        digest = signatures.personal_hash(message)
        # The key comes first: an account that has lent itself a contract's code (EIP-7702) still has its key.
        if signatures.signer_of(digest, parsed) == address:
            return True
        return await self._ask_any(lambda rpc: signatures.contract_accepts(rpc, address, digest, parsed))

    async def _ask_any(self, question: Callable[[NodeRpc], Awaitable[T]]) -> T:
        """The answer of the first node that gives one. :raises WatcherError: if none does."""
        faults = []
        for rpc in (NodeRpc(url, self._limits) for url in self._settings.node_urls):
            try:
                await rpc.open()
                await identify(rpc, self._settings.chain_id, self._genesis)
                return await question(rpc)
            except NodeFault as fault:
                faults.append(f"{rpc.label} {fault}")
            finally:
                await rpc.close()
        raise WatcherError(f"chains.{self._settings.chain}.nodes: {'; '.join(faults)}")

    async def updates(self, recent: Sequence[BlockRef], watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        """Follow the chain; see :meth:`astrapayd.transfers.Watcher.updates`."""
        branch = Branch(recent)
        backoff = Backoff(0.5, 20)
        wrong: set[int] = set()
        pruned: set[int] = set()
        try:
            while True:
                rpc = self._nodes[self._using]
                try:
                    await rpc.open()
                    self._genesis = await identify(rpc, self._settings.chain_id, self._genesis)
                    wrong.discard(self._using)
                    wakeup = await self._subscribe(rpc)
                    async for step in self._follow(rpc, wakeup, branch, watch):
                        yield step
                        backoff.reset()
                except WrongChain as fault:
                    wrong.add(self._using)
                    self._trouble(rpc, fault)
                    if len(wrong) == len(self._nodes):
                        raise ChainMismatch(f"chains.{self._settings.chain}.nodes: {rpc.label} {fault}") from fault
                except OffBranch as fault:
                    tip = branch.tip
                    assert tip is not None  # else there is nothing to part from
                    if branch.oldest.height < self._kept_from(tip, self._final_height):
                        raise ChainMismatch(f"chains.{self._settings.chain}.nodes: {rpc.label} {fault}") from fault
                    self._trouble(rpc, NodeFault(f"{fault}; nothing of it is final, so it is waited for"))
                except HistoryPruned as fault:
                    pruned.add(self._using)
                    self._trouble(rpc, fault)
                    if len(pruned) == len(self._nodes):
                        raise HistoryGone(
                            f"chains.{self._settings.chain}.nodes: {rpc.label} {fault}, and payments may be in it: "
                            "add a node that still has it"
                        ) from fault
                except NodeFault as fault:
                    self._trouble(rpc, fault)
                # Another one is asked at once; when all have failed in a row, there is a pause.
                await rpc.close()
                self._using = (self._using + 1) % len(self._nodes)
                if self._using == 0:
                    await asyncio.sleep(backoff.next_secs())
        finally:
            self._level = False
            await self._nodes[self._using].close()

    async def close(self) -> None:
        """Release connections. Safe to call twice."""
        for rpc in self._nodes:
            await rpc.close()

    async def _subscribe(self, rpc: NodeRpc) -> Wakeup | None:
        """None where the node offers no subscriptions: then it is only looked at every few seconds."""
        try:
            return await rpc.subscribe("newHeads")
        except RpcError as error:
            if not error.says_unsupported:
                raise
            return None

    async def _follow(
        self, rpc: NodeRpc, wakeup: Wakeup | None, branch: Branch, watch: WatchSet
    ) -> AsyncGenerator[ChainUpdate]:
        """Look, catch up, wait for the next wake-up or the next regular look, around again until a fault."""
        fetcher = self._fetchers[self._using]
        silence = Silence(wakeup) if wakeup is not None else None
        shifts = 0
        final_told: int | None = None
        while True:
            tip = branch.tip
            try:
                async for step in self._catch_up(fetcher, branch, watch, final_told):
                    final_told = step.final_height
                    yield step
                shifts = 0
            except ShiftingView as fault:
                shifts += 1
                if shifts >= _SHIFTS:
                    raise
                self._log.debug("chain changed while it was read", reason=str(fault))
                continue
            self._looked_at = int(self._now())
            self._level = True
            self._troubles.clear()
            self._outage.up()
            if silence is not None and silence.is_dead(moved=branch.tip != tip):
                raise NodeSilent("is connected, but its newHeads subscription is dead")
            if wakeup is None:
                await asyncio.sleep(self._settings.poll_secs)
            else:
                await wakeup.wait(self._settings.poll_secs)

    async def _catch_up(
        self, fetcher: Fetcher, branch: Branch, watch: WatchSet, final_told: int | None
    ) -> AsyncGenerator[ChainUpdate]:
        """From the committed tip to the node's head, in linked steps."""
        head = await fetcher.head()
        final_height = self._final_height = min(await fetcher.final_height(), head.height)
        tip = branch.tip
        if tip is None:
            yield self._step(None, (), [head], final_height, [], watch.current.version)
            branch.move(0, [head], self._kept_from(head, final_height))
            return
        if head.hash == tip.hash:
            # Balances are looked at while nothing else is to be done: no payment waits for them.
            watched = watch.current
            held = await self._balances(fetcher, tip, watched)
            if held or final_told not in (None, final_height):
                yield self._step(tip, (), [], final_height, [], watched.version, held)
            return
        ancestor = await branch.common_ancestor(head, fetcher.block_at)
        progress = CatchingUp(self._log, ancestor.height, self._now, long_blocks=MOST_BLOCKS)
        if head.height - ancestor.height > _LEVEL_WITHIN:
            self._level = False  # no session is opened at a height that the chain has long left
        while ancestor.height < head.height:
            watched = watch.current
            disconnected = branch.above(ancestor)
            # A competing branch disconnects only what it has blocks against: it comes whole, at least to our tip.
            most = MOST_FULL_BLOCKS if watched.native else MOST_BLOCKS
            up_to = min(head.height, ancestor.height + max(most, len(disconnected)))
            fetched = await fetcher.blocks(ancestor, up_to, watched)
            refs = [block.ref for block in fetched]
            overdue = up_to == head.height and self._now() - self._balances_at >= _BALANCES_AT_LEAST_EVERY_SECS
            held = await self._balances(fetcher, refs[-1], watched) if overdue else ()
            paid = [transfer for block in fetched for transfer in block.transfers]
            base = branch.tip
            yield self._step(base, disconnected, refs, final_height, paid, watched.version, held)
            ancestor = refs[-1]
            branch.move(len(disconnected), refs, self._kept_from(ancestor, final_height))
            self._looked_at = int(self._now())
            progress.at(ancestor.height, head.height)
            if len(refs) < most:
                continue
            head = await fetcher.head()  # a long gap: the chain went on meanwhile
            if head.height < ancestor.height:
                raise ShiftingView("went back while a gap was filled")

    async def _balances(self, fetcher: Fetcher, ref: BlockRef, watched: Watched) -> tuple[Balance, ...]:
        """What watched addresses hold after a block, once for each block."""
        if not (self._settings.balances and watched.native) or self._balances_of == ref.hash:
            return ()
        self._balances_of, self._balances_at = ref.hash, self._now()
        return await fetcher.balances(watched.addresses, ref)

    def _step(
        self,
        base: BlockRef | None,
        disconnected: Sequence[BlockRef],
        connected: Sequence[BlockRef],
        final_height: int,
        paid: Sequence[Transfer],
        version: int,
        held: tuple[Balance, ...] = (),
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
            balances=held,
        )

    def _kept_from(self, head: BlockRef, final_height: int) -> int:
        """The height below which no block can be disconnected any more."""
        blocks = self._settings.final.blocks
        return min(final_height, head.height) if blocks is None else head.height - blocks + 1

    def _trouble(self, rpc: NodeRpc, fault: NodeFault) -> None:
        self._level = False
        self._troubles[rpc.label] = str(fault)
        self._outage.down("; ".join(f"{node} {what}" for node, what in self._troubles.items()))
