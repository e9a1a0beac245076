"""What tests of the watcher share: a watcher on nodes, and a follower that does what the core does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from astrapayd.chains import Depth
from astrapayd.money import Asset
from astrapayd.transfers import BlockRef, ChainUpdate, Transfer, Watched, WatchSet
from astrapayd_tron.address import from_hex20
from astrapayd_tron.networks import PRIVATE
from astrapayd_tron.watcher import NodeSettings, Settings, TronWatcher
from tests.plugins.tron.ledger import GENESIS, USDT
from tests.plugins.tron.tron_node import StandInNode

OURS = from_hex20("5a" * 20)
TOKEN = Asset("usdt", "tron", "USDT", 6, 2, 4, USDT, f"tron:1/trc20:{USDT}")
COIN = Asset("trx", "tron", "TRX", 6, 2, 4, None, "tron:1/slip44:195")
FAST_SECS = 0.1
NEVER_SECS = 60.0


def watcher_on(
    *nodes: StandInNode,
    events: bool = False,
    poll_secs: float = FAST_SECS,
    request_secs: float = 5.0,
    genesis: str = GENESIS,
    token: Asset = TOKEN,
) -> TronWatcher:
    """A watcher of these nodes, in this order."""
    settings = tuple(NodeSettings(node.url, node.solidity, node.events if events else None) for node in nodes)
    return TronWatcher(
        Settings(
            chain="tron",
            network=PRIVATE,
            nodes=settings,
            genesis=genesis,
            assets=(token, COIN),
            confirmations=Depth.of_blocks(1),
            final=Depth(None, "solidified"),
            request_secs=request_secs,
            poll_secs=poll_secs,
        )
    )


def watch_set(version: int = 1) -> WatchSet:
    return WatchSet(Watched(version, frozenset({OURS}), frozenset({USDT}), native=True))


@dataclass
class Following:
    """Pulls updates and applies them, one after the other."""

    updates: AsyncGenerator[ChainUpdate]
    branch: list[BlockRef] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    final_height: int = -1
    steps: list[ChainUpdate] = field(default_factory=list)

    async def until(self, done: Callable[[], bool], within_secs: float = 10.0) -> None:
        async with asyncio.timeout(within_secs):
            while not done():
                self._apply(await anext(self.updates))

    async def to_height(self, height: int) -> None:
        await self.until(lambda: bool(self.branch) and self.branch[-1].height >= height)

    @property
    def amounts(self) -> list[int]:
        return [transfer.amount_base for transfer in self.transfers]

    def _apply(self, step: ChainUpdate) -> None:
        self.steps.append(step)
        gone = {block.hash for block in step.disconnected}
        assert [block.hash for block in step.disconnected] == [
            block.hash for block in reversed(self.branch[len(self.branch) - len(gone) :])
        ]
        del self.branch[len(self.branch) - len(gone) :]
        for block in step.connected:
            if self.branch:
                assert (block.parent, block.height) == (self.branch[-1].hash, self.branch[-1].height + 1)
            self.branch.append(block)
        self.transfers = [one for one in self.transfers if one.block is None or one.block.hash not in gone]
        self.transfers += step.transfers
        assert self.final_height <= step.final_height <= step.head.height
        self.final_height = step.final_height


def following(watcher: TronWatcher, recent: tuple[BlockRef, ...] = ()) -> aclosing[AsyncGenerator[ChainUpdate]]:
    """The watcher's updates, closed at the end."""
    return aclosing(watcher.updates(recent, watch_set()))
