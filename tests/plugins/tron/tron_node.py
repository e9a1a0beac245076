"""A Tron node that tests pay on: what every such node offers, and the one that is always there, on the stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from tests.plugins.tron.ledger import GENESIS, USDT, Ledger, Pending
from tests.plugins.tron.standin import StandIn


class TronNode(Protocol):
    """A node on which a test can pay, mine, reorganise, and which it can stop. Addresses base58, amounts base units."""

    name: str
    url: str
    solidity: str
    events: str | None
    genesis: str
    usdt: str

    async def pay_token(self, to: str, amount_base: int) -> str:
        """Send the token; the transaction's id. Not mined yet."""

    async def pay_coin(self, to: str, amount_sun: int) -> str:
        """Send TRX; the transaction's id."""

    async def pay_batch(self, payments: Sequence[tuple[str, int]]) -> str:
        """Send the token to several recipients in one transaction; its id."""

    async def mine(self, blocks: int = 1) -> int:
        """What waits, and so many blocks in all; the head's height."""

    async def solidify(self) -> None:
        """As many blocks as it takes to make the head of now solidified."""

    async def reorg_away(self, tx: str) -> None:
        """A longer branch in which the transaction is not; all else stays mined."""

    async def reorg_move(self, tx: str) -> None:
        """A longer branch in which the transaction stands one block later; all else stays mined."""

    async def restart(self) -> None:
        """Stop it in an orderly way, and start it with its chain as it was."""


class StandInNode:
    """Implements :class:`TronNode`."""

    name = "java-tron stand-in"
    genesis = GENESIS
    usdt = USDT

    def __init__(self, solid_lag: int = 19) -> None:
        self.ledger = Ledger()
        self.standin = StandIn(self.ledger)
        self.standin.solid_lag = solid_lag

    @property
    def url(self) -> str:
        return self.standin.url

    @property
    def solidity(self) -> str:
        return self.standin.solidity

    @property
    def events(self) -> str | None:
        return self.standin.events

    async def pay_token(self, to: str, amount_base: int) -> str:
        return self.send(self.ledger.token([(to, amount_base)]))

    async def pay_coin(self, to: str, amount_sun: int) -> str:
        return self.send(self.ledger.trx(to, amount_sun))

    async def pay_batch(self, payments: Sequence[tuple[str, int]]) -> str:
        return self.send(self.ledger.token(payments))

    def send(self, pending: Pending) -> str:
        """Any transaction, into the next block."""
        self.ledger.waiting.append(pending)
        return pending.tx

    async def mine(self, blocks: int = 1) -> int:
        for block in self.ledger.mine(blocks):
            await self.standin.announce(block)
        return self.ledger.tip.height

    async def solidify(self) -> None:
        await self.mine(self.standin.solid_lag)

    async def reorg_away(self, tx: str) -> None:
        contents = self._contents_from(tx)
        await self.reorganise(len(contents), *[[p for p in one if p.tx != tx] for one in contents], [])

    async def reorg_move(self, tx: str) -> None:
        first, *others = self._contents_from(tx)
        (moved,) = (pending for pending in first if pending.tx == tx)
        second, *rest = others or [[]]
        stay = [pending for pending in first if pending.tx != tx]
        await self.reorganise(1 + len(others), stay, [moved, *second], *rest, [])

    async def reorganise(self, depth: int, *branch: Sequence[Pending]) -> None:
        """Take so many blocks off, and put these in their place."""
        for block in self.ledger.reorganise(depth, *branch):
            await self.standin.announce(block)

    async def restart(self) -> None:
        await self.standin.restart()

    def _contents_from(self, tx: str) -> list[list[Pending]]:
        block = self.ledger.block_of(tx)
        assert block is not None, "the transaction is mined"
        return [list(self.ledger.at(h).content) for h in range(block.height, self.ledger.tip.height + 1)]


@asynccontextmanager
async def running(node: StandInNode) -> AsyncIterator[StandInNode]:
    """The node, started, and stopped afterwards whatever happens."""
    await node.standin.start()
    try:
        yield node
    finally:
        await node.standin.stop()
