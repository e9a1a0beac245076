"""Public test kit: a chain without a node, so that everything behind the watcher can be tested as it is.

:class:`ChainScript` is a chain in memory: blocks are mined and reorganised by hand, and each step answers the
:class:`~astrapayd.transfers.ChainUpdate` that a watcher would yield. :class:`FakeChain` and :class:`FakeWatcher` put it
behind the contracts that chain plugins implement. :data:`CHECKS` are what every watcher has to pass, and
:class:`NodeProxy` makes a real node fail. Nothing here needs a test framework.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from astrapayd.chains import AddressError, Depth, TransactionError
from astrapayd.money import Asset
from astrapayd.node_proxy import Fault, NodeProxy
from astrapayd.transfers import (
    Balance,
    BlockRef,
    ChainUpdate,
    NodeStatus,
    Transfer,
    TransferKind,
    Watched,
    WatcherError,
    WatcherHealth,
    WatchSet,
)
from astrapayd.watcher_contract import CHECKS, Check, Stage

__all__ = [
    "CHECKS",
    "ChainScript",
    "Check",
    "FakeChain",
    "FakeWatcher",
    "Fault",
    "NodeProxy",
    "Stage",
    "fake_assets",
    "fake_signature",
]

GENESIS_TIME = 1_800_000_000
"""When a scripted chain begins, Unix seconds."""

BLOCK_SECS = 12


# -- a chain in memory ------------------------------------------------------------------------------------------------


class ChainScript:
    """A chain that does what a test says.

    Every step answers the update that leads from the tip before it to the tip after it. ``watch_version`` goes into
    each update. Where ``final_lag`` is set, the node calls every block final that lies so deep below the tip.
    """

    def __init__(self, chain: str = "fake", *, final_lag: int | None = None, genesis_height: int = 0) -> None:
        self.chain = chain
        self.final_lag = final_lag
        self.watch_version = 0
        self.changed = asyncio.Event()
        """Set at each step; :class:`FakeWatcher` waits for it."""
        self._mined = 0
        self._blocks: dict[str, BlockRef] = {}
        self._transfers: dict[str, tuple[Transfer, ...]] = {}
        self._transactions = 0
        self.tip = self._add(None, GENESIS_TIME, (), genesis_height)

    # Steps

    def mine(self, *transfers: Transfer, secs: int = BLOCK_SECS) -> ChainUpdate:
        """One block on the tip, ``secs`` after it (negative: its header's clock is behind)."""
        before = self.tip
        self.tip = self._add(before, before.time + secs, transfers)
        return self._step(before)

    def reorg(self, depth: int, *branch: Sequence[Transfer], secs: int = BLOCK_SECS) -> ChainUpdate:
        """Take ``depth`` blocks off, and put one block in their place for each element of ``branch``: its transfers.

        A transfer that stood in a lost block keeps its identity and may stand in one of the new ones.
        """
        before = self.tip
        for _ in range(depth):
            self.tip = self._blocks[self.tip.parent]
        for transfers in branch:
            self.tip = self._add(self.tip, self.tip.time + secs, transfers)
        return self._step(before)

    def see(self, *transfers: Transfer) -> ChainUpdate:
        """These wait in the node's memory, in no block yet."""
        return replace(self._step(self.tip), transfers=tuple(replace(t, block=None) for t in transfers))

    def give_up(self, *txs: str) -> ChainUpdate:
        """These transactions can no longer be mined."""
        return replace(self._step(self.tip), replaced=txs)

    # What a watcher asks

    def since(self, base: BlockRef | None) -> ChainUpdate:
        """From ``base`` to the tip in one update, as after a downtime; None: the first update of a new chain."""
        disconnected: list[BlockRef] = []
        at = self._blocks[base.hash] if base is not None else None
        branch = {block.hash: block for block in self.branch()}
        while at is not None and at.hash not in branch:
            disconnected.append(at)
            at = self._blocks[at.parent]
        connected = [b for b in branch.values() if b.height > at.height] if at is not None else [self.tip]
        connected.reverse()
        return ChainUpdate(
            chain=self.chain,
            base=base,
            head=self.tip,
            final_height=max(self.tip.height - self.final_lag, -1) if self.final_lag is not None else -1,
            disconnected=tuple(disconnected),
            connected=tuple(connected),
            transfers=tuple(t for block in connected for t in self._transfers[block.hash]),
            replaced=(),
            watch_version=self.watch_version,
        )

    def hold(self, address: str, amount_base: int) -> ChainUpdate:
        """One empty block, after which the address holds so much of the coin."""
        return replace(self.mine(), balances=(Balance(address, amount_base),))

    def branch(self) -> tuple[BlockRef, ...]:
        """The winning branch, newest first."""
        found = [self.tip]
        while found[-1].parent:
            found.append(self._blocks[found[-1].parent])
        return tuple(found)

    def transfers_of(self, block: BlockRef) -> tuple[Transfer, ...]:
        """What was mined in the block."""
        return self._transfers[block.hash]

    # Making transfers

    def transfer(
        self,
        asset: Asset,
        recipient: str,
        amount_base: int,
        *,
        sender: str = "fake1customer",
        tx: str | None = None,
        ordinal: int = 0,
    ) -> Transfer:
        """A transfer that can be mined; with ``tx`` one of several in that transaction."""
        self._transactions += 1
        return Transfer(
            tx=tx or _hash("tx", self.chain, self._transactions),
            kind=TransferKind.NATIVE if asset.contract is None else TransferKind.TOKEN,
            ordinal=ordinal,
            contract=asset.contract,
            sender=sender,
            recipient=recipient,
            amount_base=amount_base,
            block=None,
        )

    def _add(
        self, parent: BlockRef | None, block_time: int, transfers: Sequence[Transfer], height: int = 0
    ) -> BlockRef:
        self._mined += 1
        block = BlockRef(
            height=parent.height + 1 if parent else height,
            hash=_hash("block", self.chain, self._mined),
            parent=parent.hash if parent else "",
            time=block_time,
        )
        self._blocks[block.hash] = block
        self._transfers[block.hash] = tuple(replace(t, block=block) for t in transfers)
        return block

    def _step(self, before: BlockRef) -> ChainUpdate:
        self.changed.set()
        return self.since(before)


def _hash(*parts: object) -> str:
    return "0x" + hashlib.sha256(repr(parts).encode()).hexdigest()


# -- behind the contracts ---------------------------------------------------------------------------------------------


def fake_assets(chain: str = "fake") -> dict[str, Asset]:
    """A token with 6 decimals, the native coin with 18, and a second token with 18 (as stablecoins on BSC have)."""
    token = Asset("usd", chain, "USD", 6, 2, 4, "0xusd", f"{chain}:1/erc20:0xusd")
    coin = Asset("coin", chain, "COIN", 18, 6, 4, None, f"{chain}:1/slip44:60")
    wide = Asset("eur", chain, "EUR", 18, 2, 4, "0xeur", f"{chain}:1/erc20:0xeur")
    return {asset.id: asset for asset in (token, coin, wide)}


@dataclass
class FakeChain:
    """Implements :class:`astrapayd.chains.Chain` over a script.

    Addresses are ``fake1`` and lower-case letters or digits; they are shown in capitals, so that a canonical address
    on a page, or a shown one in the database, is noticed.
    """

    script: ChainScript = field(default_factory=ChainScript)
    assets: Mapping[str, Asset] = field(default_factory=fake_assets)
    confirmations: Depth = field(default_factory=lambda: Depth(2, "2 blocks"))
    final: Depth = field(default_factory=lambda: Depth(6, "6 blocks"))
    signs_messages: bool = True
    title: str = "Fake Chain"
    token_standard: str = "FAKE-20"  # noqa: S105 - a name, not a secret
    network: str = "fake:1"

    @property
    def id(self) -> str:
        """The script's chain."""
        return self.script.chain

    def parse_xpub(self, text: str) -> str:
        """Any text that begins with ``fakepub``."""
        if not text.startswith("fakepub"):
            raise AddressError("is no fake key: write fakepub and anything")
        return text

    def derive(self, xpub: str, branch: int, index: int) -> str:
        """A readable address."""
        return f"fake1{xpub}x{branch}x{index}"

    def parse_address(self, text: str) -> str:
        """The canonical form: lower case."""
        address = text.lower()
        if not address.startswith("fake1") or not address.isalnum() or not address.isascii():
            raise AddressError(f"{text!r} is not an address of {self.title}: it begins with fake1")
        return address

    def display_address(self, address: str) -> str:
        """In capitals."""
        return address.upper()

    def parse_transaction(self, text: str) -> str:
        """The canonical form: lower case letters and digits."""
        tx = text.lower()
        if not tx.isalnum() or not tx.isascii() or len(tx) > 80:
            raise TransactionError(f"that is not a transaction id of {self.title}: it has letters and digits only")
        return tx

    def payment_uri(self, asset: Asset, address: str, amount_base: int) -> str:
        """``fake:ADDRESS?asset=…&amount=…``"""
        return f"fake:{address}?asset={asset.id}&amount={amount_base}"

    def watcher(self) -> FakeWatcher:
        """A watcher of the script."""
        return FakeWatcher(self.script)


class FakeWatcher:
    """Implements :class:`astrapayd.transfers.Watcher` over a script: one update for each change that it notices.

    Only watched transfers are passed on. Setting ``reachable`` to False silences it, as a node that is down does.
    """

    def __init__(self, script: ChainScript) -> None:
        self.script = script
        self.reachable = True
        self.closed = False
        self._level = False
        self._looked_at = 0

    @property
    def health(self) -> WatcherHealth:
        """Level as soon as the tip was yielded."""
        if not self.reachable:
            return WatcherHealth(level=False, looked_at=self._looked_at, problem="the node does not answer")
        return WatcherHealth(level=self._level, looked_at=self._looked_at, problem="")

    async def check(self) -> tuple[NodeStatus, ...]:
        """One node, at the script's tip."""
        genesis = self.script.branch()[-1].hash
        return (NodeStatus("script", self.reachable, "script/1", genesis, self.script.tip),)

    async def used(self, addresses: Sequence[str]) -> frozenset[str]:
        """Those that anything was ever sent to.

        :raises WatcherError: while the node is silenced.
        """
        if not self.reachable:
            raise WatcherError("the node does not answer")
        return frozenset(addresses) & {
            transfer.recipient for block in self.script.branch() for transfer in self.script.transfers_of(block)
        }

    async def signed_by(self, address: str, message: str, signature: str) -> bool:
        """Whether it is :func:`fake_signature` of the two.

        :raises WatcherError: while the node is silenced.
        """
        if not self.reachable:
            raise WatcherError("the node does not answer")
        return signature == fake_signature(address, message)

    async def updates(self, recent: Sequence[BlockRef], watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        """Follow the script until closed."""
        base = recent[0] if recent else None
        while not self.closed:
            self.script.changed.clear()
            while self.reachable and (base is None or base.hash != self.script.tip.hash):
                watched = watch.current
                step = self.script.since(base)
                seen = tuple(t for t in step.transfers if _is_watched(t, watched))
                yield replace(step, transfers=seen, watch_version=watched.version)
                base = step.head
            self._level = self.reachable
            self._looked_at = int(time.time()) if self.reachable else self._looked_at
            await self.script.changed.wait()

    async def close(self) -> None:
        """Ends :meth:`updates`."""
        self.closed = True
        self.script.changed.set()


def fake_signature(address: str, message: str) -> str:
    """What the holder of an address signs a text with, on a fake chain."""
    return _hash("signature", address, message)


def _is_watched(transfer: Transfer, watched: Watched) -> bool:
    wanted = watched.native if transfer.contract is None else transfer.contract in watched.contracts
    return wanted and transfer.recipient in watched.addresses
