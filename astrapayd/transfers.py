"""What a watcher says: blocks, transfers, and the updates that carry them. The seam between core and chains.

A watcher (plugin) talks to one chain's node and yields :class:`ChainUpdate` objects; ingest is the only one that
applies them. Nothing here does I/O. Hashes, transaction ids and addresses are strings in the chain's own canonical
form (EVM: lower-case hex with ``0x``), so that equality is identity.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class TransferKind(StrEnum):
    """What moved: the chain's own coin, a token, or the coin inside a contract's execution."""

    NATIVE = "native"
    TOKEN = "token"  # noqa: S105 - a kind of transfer, not a secret
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block's place in the chain. ``time`` is the header's own timestamp in Unix seconds."""

    height: int
    hash: str
    parent: str
    time: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """One movement on chain to a watched address.

    Identity is ``(chain, tx, kind, ordinal)`` with the ordinal counted *within the transaction*, because a
    transaction that is mined again gets other block-wide indices (EVM's ``logIndex``). ``contract`` is None for the
    native coin. ``block`` is None while unconfirmed. ``amount_base`` is above zero.
    """

    tx: str
    kind: TransferKind
    ordinal: int
    contract: str | None
    sender: str
    recipient: str
    amount_base: int
    block: BlockRef | None

    @property
    def identity(self) -> tuple[str, TransferKind, int]:
        """Unique within the chain, also after the transaction was mined again elsewhere."""
        return (self.tx, self.kind, self.ordinal)


@dataclass(frozen=True, slots=True)
class Balance:
    """What a watched address holds of the chain's own coin after some block, in base units."""

    address: str
    amount_base: int


@dataclass(frozen=True, slots=True)
class ChainUpdate:
    """One step of a chain, applied whole or not at all.

    ``base`` is the head before it (None only for the first update of a new chain), ``head`` the head after it;
    ``disconnected`` newest first, ``connected`` oldest first, each linked by parent hash; ``final_height`` the
    height of the newest block that the node calls final (-1: unknown). ``transfers`` lie in ``connected`` blocks or
    are unconfirmed; ``replaced`` are transactions that can no longer be mined. ``watch_version`` is the version of
    the watched set that it was made with.

    ``balances`` are of ``head``, of all or some watched addresses, from a watcher that cannot be sure to see every
    payment of the coin (EVM: contracts send it on): what they rose by without a transfer is told, never credited.
    """

    chain: str
    base: BlockRef | None
    head: BlockRef
    final_height: int
    disconnected: tuple[BlockRef, ...]
    connected: tuple[BlockRef, ...]
    transfers: tuple[Transfer, ...]
    replaced: tuple[str, ...]
    watch_version: int
    balances: tuple[Balance, ...] = ()


@dataclass(frozen=True, slots=True)
class Watched:
    """A snapshot of what is watched on one chain. ``contracts`` are the listed tokens; native coin is watched
    when ``native`` is true."""

    version: int
    addresses: frozenset[str]
    contracts: frozenset[str]
    native: bool


@dataclass(slots=True)
class WatchSet:
    """The live set of one chain, owned by the core; a watcher takes :attr:`current` anew for each fetch and puts
    its version into the update, so that an address added meanwhile is noticed by ingest."""

    current: Watched


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node said of itself. Times are Unix seconds; ``problems`` are whole sentences for an administrator."""

    node: str
    reachable: bool
    client: str = ""
    genesis: str = ""
    head: BlockRef | None = None
    final_height: int = -1
    syncing: bool = False
    pruned_below: int = 0
    problems: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class WatcherHealth:
    """How a running watcher sees its node. ``looked_at`` is Unix seconds of the node's last good answer (0: none yet);
    ``level``: connected, and everything up to the node's head was yielded; ``problem`` one sentence, or empty."""

    level: bool
    looked_at: int
    problem: str


class Watcher(Protocol):
    """One chain's eyes. Held to by the contract suite in ``astrapayd.testing``."""

    @property
    def health(self) -> WatcherHealth:
        """How it goes; read by the core about once a second while :meth:`updates` runs."""
        ...

    async def check(self) -> tuple[NodeStatus, ...]:
        """Ask every configured node who it is, and check chain id, genesis and assets.

        Never raises for a node's fault: what is wrong stands in ``problems``.
        """
        ...

    async def used(self, addresses: Sequence[str]) -> frozenset[str]:
        """Which of these addresses show a history (they hold something, or have sent), as far as a node can tell.

        Asked before a derived address becomes a session's own. Must not disturb :meth:`updates` of another watcher.

        :raises WatcherError: if no node answers.
        """
        ...

    async def signed_by(self, address: str, message: str, signature: str) -> bool:
        """Whether whoever holds the key of ``address`` (canonical) has signed exactly this text.

        ``signature`` is what a stranger sent: anything that is no signature is simply False. A contract's consent is
        asked of a node. Must not disturb :meth:`updates` of another watcher.

        :raises WatcherError: if only a node could tell, and none answers.
        """
        ...

    def updates(self, recent: Sequence[BlockRef], watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        """Follow the chain from the newest of ``recent`` (newest first; empty: begin at the node's head).

        Runs until closed; a lost connection is mended inside. The next update is pulled only after the last one is
        committed. If none of ``recent`` is on the node's chain, waits and says so; it never guesses.

        :raises ChainMismatch: if the node is of another chain than the one configured.
        :raises HistoryGone: if the blocks after ``recent`` can no longer be had from any node.
        """
        ...

    async def close(self) -> None:
        """Release connections. Safe to call twice."""
        ...


class WatcherError(Exception):
    """A watcher cannot go on. The message is one sentence for the administrator."""


class ChainMismatch(WatcherError):
    """The node follows another chain (id, genesis or ancestry) than the database and the configuration."""


class HistoryGone(WatcherError):
    """The node has pruned blocks that are needed to fill a gap."""
