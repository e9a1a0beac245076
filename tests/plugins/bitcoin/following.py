"""What tests of the watcher share: a chain on a stand-in node, and a follower that does what the core does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from astrapayd.chains import ChainRegistry
from astrapayd.config import AssetSection
from astrapayd.secret import Secret
from astrapayd.transfers import BlockRef, ChainUpdate, Transfer, Watched, WatchSet
from astrapayd_bitcoin.chain import BitcoinChain, read_assets
from astrapayd_bitcoin.config import BitcoinChainSection, NodeSection
from astrapayd_bitcoin.networks import REGTEST
from astrapayd_bitcoin.rpc import Credentials
from astrapayd_bitcoin.watcher import BitcoinWatcher, NodeSettings, Settings
from tests.plugins.bitcoin.standin import PASSWORD, USER, StandInNode

PATIENCE_SECS = 10.0


def bitcoin_chain(*nodes: StandInNode) -> BitcoinChain:
    """As from a configuration file."""
    section = BitcoinChainSection(
        plugin="bitcoin",
        network="regtest",
        nodes=tuple(
            NodeSection(url=node.url, user=USER, password=Secret(PASSWORD), zmq=(node.endpoint,)) for node in nodes
        ),
        poll_secs=0.5,
    )
    asset = AssetSection(chain="bitcoin", symbol="BTC", decimals=8, price_decimals=5, tail_digits=3)
    return BitcoinChain("bitcoin", section, read_assets("bitcoin", section, [("btc", asset)], ChainRegistry()))


def core_watcher(
    *nodes: StandInNode, list_secs: float = 60.0, poll_secs: float = 0.2, final: int = 100
) -> BitcoinWatcher:
    """A watcher with intervals that only tests want."""
    return BitcoinWatcher(
        Settings(
            chain="bitcoin",
            network=REGTEST,
            nodes=tuple(NodeSettings(node.url, Credentials(USER, PASSWORD), (node.endpoint,)) for node in nodes),
            genesis=REGTEST.genesis,
            final_blocks=final,
            request_secs=5,
            poll_secs=poll_secs,
            list_secs=list_secs,
            first_pause_secs=0.05,
        )
    )


def watch_set(*addresses: str, version: int = 1) -> WatchSet:
    """What the core gives a watcher."""
    return WatchSet(Watched(version, frozenset(addresses), frozenset(), native=True))


@dataclass
class Book:
    """Applies updates as ingest does. ``states``, by identity: mined, unconfirmed, replaced or orphaned."""

    branch: list[BlockRef] = field(default_factory=list)
    transfers: dict[tuple[str, str, int], Transfer] = field(default_factory=dict)
    states: dict[tuple[str, str, int], str] = field(default_factory=dict)

    def apply(self, step: ChainUpdate) -> None:
        assert step.base == (self.branch[-1] if self.branch else None)
        for block in step.disconnected:
            assert block == self.branch.pop()
        gone = {block.hash for block in step.disconnected}
        for identity, transfer in self.transfers.items():
            if transfer.block is not None and transfer.block.hash in gone and self.states[identity] == "mined":
                self.states[identity] = "orphaned"
            if transfer.tx in step.replaced and self.states[identity] in {"unconfirmed", "orphaned"}:
                self.states[identity] = "replaced"
        for block in step.connected:
            assert not self.branch or block.parent == self.branch[-1].hash
            self.branch.append(block)
        for transfer in step.transfers:
            identity = transfer.identity
            assert transfer.block is None or transfer.block in step.connected
            if transfer.block is None and self.states.get(identity) == "mined":
                continue  # heard of again, and nothing new
            self.transfers[identity] = transfer
            self.states[identity] = "mined" if transfer.block is not None else "unconfirmed"

    def state(self, txid: str) -> str:
        """Of a transaction's transfers; empty where none is known."""
        return " ".join(sorted({state for (tx, _, _), state in self.states.items() if tx == txid}))

    def live(self) -> dict[tuple[str, int], tuple[str, int, str]]:
        """What counts: (transaction, output) to recipient, satoshis, and the block's hash (empty: unconfirmed)."""
        return {
            (t.tx, t.ordinal): (t.recipient, t.amount_base, t.block.hash if t.block is not None else "")
            for identity, t in self.transfers.items()
            if self.states[identity] in {"mined", "unconfirmed"}
        }

    async def until(self, updates: AsyncGenerator[ChainUpdate], done: Callable[[], bool], what: str) -> None:
        """Pull and apply until something is so."""
        try:
            async with asyncio.timeout(PATIENCE_SECS):
                while not done():
                    self.apply(await anext(updates))
        except TimeoutError:
            raise AssertionError(f"within {PATIENCE_SECS:g} s, {what}: {self.states}") from None
