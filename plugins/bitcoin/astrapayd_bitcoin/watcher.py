"""Follows Bitcoin through the merchant's own nodes: a wake-up (Bitcoin Core: ZeroMQ, btcd: its websocket), then the
truth by JSON-RPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from astrapayd.ancestry import Branch, OffBranch
from astrapayd.node_faults import HistoryPruned, NodeFault, WrongChain
from astrapayd.outage import Backoff, Outage
from astrapayd.transfers import (
    BlockRef,
    ChainMismatch,
    ChainUpdate,
    HistoryGone,
    NodeStatus,
    WatcherError,
    WatcherHealth,
    WatchSet,
)
from astrapayd_bitcoin.btcd import BtcdConnection, BtcdNode
from astrapayd_bitcoin.checks import check_node, identify
from astrapayd_bitcoin.following import Following, News
from astrapayd_bitcoin.mempool import Mempool
from astrapayd_bitcoin.networks import Network
from astrapayd_bitcoin.node import CoreNode
from astrapayd_bitcoin.notifications import Notifications
from astrapayd_bitcoin.rpc import Credentials, NodeRpc
from astrapayd_bitcoin.scripts import Scripts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One node: Bitcoin Core at ``http://host:port``, with the addresses that it publishes at by ZeroMQ; or btcd at
    ``wss://host:port``, with its certificate. ``credentials``: who we are to it."""

    url: str
    credentials: Credentials = field(repr=False)
    zmq: tuple[str, ...] = ()
    certificate: Path | None = None

    @property
    def is_btcd(self) -> bool:
        """By what its address begins with."""
        return self.url.startswith(("ws:", "wss:"))


@dataclass(frozen=True, slots=True)
class Settings:
    """What a watcher needs of ``[chains.ID]``. ``final_blocks``: so deep, a block is never disconnected;
    ``list_secs``: between listings of the whole mempool while no notification seems to be lost;
    ``first_pause_secs``: after all nodes have failed in a row, growing from there."""

    chain: str
    network: Network
    nodes: tuple[NodeSettings, ...]
    genesis: str
    final_blocks: int
    request_secs: float = 30.0
    poll_secs: float = 5.0
    list_secs: float = 60.0
    first_pause_secs: float = 0.5


class BitcoinWatcher:
    """Implements :class:`astrapayd.transfers.Watcher`.

    One node at a time is followed. When it fails, the next one is asked, and around again with growing pauses; one that
    is behind, of another chain, or still downloading is noticed and never believed.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self._scripts = Scripts(settings.network)
        self._mempools = [Mempool(self._scripts) for _ in settings.nodes]
        self._nodes: list[CoreNode] = []
        self._notifications: list[News] = []
        for node, mempool in zip(settings.nodes, self._mempools, strict=True):
            if node.is_btcd:
                connection = self._btcd(node, heard=mempool.heard_of_relevant)
                self._nodes.append(BtcdNode(connection))
                self._notifications.append(connection)
            else:
                self._nodes.append(CoreNode(self._rpc(node)))
                self._notifications.append(Notifications(node.zmq, mempool.heard))
        self._using = 0
        self._log = structlog.get_logger("astrapayd.bitcoin").bind(chain=settings.chain)
        self._outage = Outage(self._log, "node trouble", "node is back")
        self._troubles: dict[str, str] = {}  # by node, since the chain was last level
        self._level = False
        self._looked_at = 0

    @property
    def health(self) -> WatcherHealth:
        """How it goes."""
        return WatcherHealth(self._level, self._looked_at, self._outage.reason)

    async def check(self) -> tuple[NodeStatus, ...]:
        """Ask every node at once who it is and whether it can be followed."""
        settings = self._settings
        checks = (
            check_node(
                self._alone(node, most_secs=10),
                chain=settings.chain,
                network=settings.network,
                genesis=settings.genesis,
                endpoints=node.zmq,
            )
            for node in settings.nodes
        )
        return tuple(await asyncio.gather(*checks))

    async def used(self, addresses: Sequence[str]) -> frozenset[str]:
        """None of them: without a wallet a node keeps no index of addresses, and searching the unspent outputs of
        mainnet (``scantxoutset``) takes minutes. So an account belongs to astrapayd alone, which
        never gives out an index twice. A node has to answer all the same.

        :raises WatcherError: if none does.
        """
        await self._ask_any(lambda node: node.best())
        return frozenset()

    async def signed_by(self, address: str, message: str, signature: str) -> bool:
        """False: the sender of a payment is not known here, so no signature proves it, and claims wait for the
        merchant."""
        return False

    async def updates(self, recent: Sequence[BlockRef], watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        """Follow the chain; see :meth:`astrapayd.transfers.Watcher.updates`."""
        branch = Branch(recent)
        backoff = Backoff(self._settings.first_pause_secs, 20)
        wrong: set[int] = set()
        pruned: set[int] = set()
        place = f"chains.{self._settings.chain}.nodes"
        for mempool in self._mempools:
            mempool.begin_again()
        try:
            while True:
                node, label = self._nodes[self._using], self._nodes[self._using].rpc.label
                try:
                    # Before anything is asked: what happens from now on is heard.
                    await self._notifications[self._using].open()
                    await identify(node, self._settings.network, self._settings.genesis)
                    wrong.discard(self._using)
                    async with aclosing(self._following().updates(branch, watch)) as steps:
                        async for step in steps:
                            yield step
                            backoff.reset()
                except WrongChain as fault:
                    wrong.add(self._using)
                    self._trouble(label, fault)
                    if len(wrong) == len(self._nodes):
                        raise ChainMismatch(f"{place}: {label} {fault}") from fault
                except OffBranch as fault:
                    tip = branch.tip
                    assert tip is not None  # else there is nothing to part from
                    if tip.height - branch.oldest.height + 1 >= self._settings.final_blocks:
                        raise ChainMismatch(f"{place}: {label} {fault}") from fault
                    self._trouble(label, NodeFault(f"{fault}; nothing of it is final, so it is waited for"))
                except HistoryPruned as fault:
                    pruned.add(self._using)
                    self._trouble(label, fault)
                    if len(pruned) == len(self._nodes):
                        raise HistoryGone(
                            f"{place}: {label} {fault}, and payments may be in it: add a node that still has it"
                        ) from fault
                except NodeFault as fault:
                    self._trouble(label, fault)
                # Another one is asked at once; when all have failed in a row, there is a pause.
                await self._leave()
                self._using = (self._using + 1) % len(self._nodes)
                if self._using == 0:
                    await asyncio.sleep(backoff.next_secs())
        finally:
            self._level = False
            await self._leave()

    async def close(self) -> None:
        """Release connections. Safe to call twice."""
        for node, notifications in zip(self._nodes, self._notifications, strict=True):
            await notifications.close()
            await node.rpc.close()

    def _following(self) -> Following:
        settings = self._settings
        return Following(
            settings.chain,
            self._nodes[self._using],
            self._notifications[self._using],
            self._scripts,
            self._mempools[self._using],
            node_chain=settings.network.node_name,
            final_blocks=settings.final_blocks,
            poll_secs=settings.poll_secs,
            list_secs=settings.list_secs,
            log=self._log,
            looked=self._looked,
        )

    def _rpc(self, node: NodeSettings, most_secs: float = 3600) -> NodeRpc:
        return NodeRpc(node.url, node.credentials, min(self._settings.request_secs, most_secs))

    def _btcd(
        self,
        node: NodeSettings,
        most_secs: float = 3600,
        heard: Callable[[str, bytes], None] = lambda topic, body: None,
    ) -> BtcdConnection:
        secs = min(self._settings.request_secs, most_secs)
        return BtcdConnection(node.url, node.credentials, node.certificate, secs, heard)

    def _alone(self, node: NodeSettings, most_secs: float = 3600) -> CoreNode:
        """A node with a connection of its own, for questions beside :meth:`updates`."""
        return BtcdNode(self._btcd(node, most_secs)) if node.is_btcd else CoreNode(self._rpc(node, most_secs))

    async def _ask_any(self, question: Callable[[CoreNode], Awaitable[T]]) -> T:
        """The answer of the first node that gives one. :raises WatcherError: if none does."""
        faults = []
        for node in map(self._alone, self._settings.nodes):
            try:
                await identify(node, self._settings.network, self._settings.genesis)
                return await question(node)
            except NodeFault as fault:
                faults.append(f"{node.rpc.label} {fault}")
            finally:
                await node.rpc.close()
        raise WatcherError(f"chains.{self._settings.chain}.nodes: {'; '.join(faults)}")

    async def _leave(self) -> None:
        await self._notifications[self._using].close()
        await self._nodes[self._using].rpc.close()

    def _looked(self, level: bool) -> None:
        self._looked_at = int(self._now())
        self._level = level
        if level:
            self._troubles.clear()
            self._outage.up()

    def _trouble(self, label: str, fault: NodeFault) -> None:
        self._level = False
        self._troubles[label] = str(fault)
        self._outage.down("; ".join(f"{node} {what}" for node, what in self._troubles.items()))
