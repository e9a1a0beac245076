"""The core's contract for watchers, on a stand-in for Bitcoin Core: real HTTP, real ZeroMQ, a chain in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from astrapayd.chains import Chain
from astrapayd.money import Asset
from astrapayd.testing import CHECKS, Check
from tests.plugins.bitcoin.following import bitcoin_chain
from tests.plugins.bitcoin.regtest import Regtest


class BitcoinStage:
    """Implements :class:`astrapayd.testing.Stage`."""

    address = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk"
    other_address = "bcrt1p8wpt9v4frpf3tkn0srd97pksgsxc5hs52lafxwru9kgeephvs7rqjeprhg"

    def __init__(self, regtest: Regtest, chain: Chain) -> None:
        self.regtest = regtest
        self.chain = chain

    async def pay(self, asset: Asset, address: str, amount_base: int) -> str:
        return await self.regtest.send(self.regtest.make(address, amount_base))

    async def mine(self, blocks: int = 1) -> None:
        await self.regtest.mine(blocks)

    async def reorganise_away(self, tx: str) -> None:
        """By a double spend."""
        depth = self._depth(tx)
        rival = self.regtest.make(self.other_address, 1, spends=self.regtest.txs[tx].inputs)
        await self.regtest.reorganise(depth, [rival], *([[]] * depth))

    async def reorganise_elsewhere(self, tx: str) -> None:
        depth = self._depth(tx)
        await self.regtest.reorganise(depth, [], [self.regtest.txs[tx]], *([[]] * (depth - 1)))

    async def restart_node(self) -> None:
        await self.regtest.restart()

    def _depth(self, tx: str) -> int:
        return self.regtest.tip.height - self.regtest.block_of(tx).height + 1


@pytest.fixture
async def stage() -> AsyncIterator[BitcoinStage]:
    regtest = Regtest()
    await regtest.node.start()
    yield BitcoinStage(regtest, bitcoin_chain(regtest.node))
    await regtest.node.stop()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_watcher_contract(check: Check, stage: BitcoinStage) -> None:
    await check(stage)
