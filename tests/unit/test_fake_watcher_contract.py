"""The fake watcher under the same contract as the real ones: a test that uses it is worth something."""

from __future__ import annotations

import pytest

from astrapayd.money import Asset
from astrapayd.testing import CHECKS, ChainScript, Check, FakeChain
from astrapayd.transfers import Transfer


class ScriptStage:
    """The scripted chain as a stage."""

    def __init__(self) -> None:
        self._script = ChainScript()
        self._script.mine()
        self._waiting: list[Transfer] = []
        self.chain = FakeChain(self._script)
        self.address = "fake1shop"
        self.other_address = "fake1other"

    async def pay(self, asset: Asset, address: str, amount_base: int) -> str:
        self._waiting.append(self._script.transfer(asset, address, amount_base))
        return self._waiting[-1].tx

    async def mine(self, blocks: int = 1) -> None:
        waiting, self._waiting = self._waiting, []
        self._script.mine(*waiting)
        for _ in range(blocks - 1):
            self._script.mine()

    async def reorganise_away(self, tx: str) -> None:
        kept = [t for t in self._script.transfers_of(self._script.tip) if t.tx != tx]
        self._script.reorg(1, kept, [])

    async def reorganise_elsewhere(self, tx: str) -> None:
        moved = self._script.transfers_of(self._script.tip)
        self._script.reorg(1, [], moved)

    async def restart_node(self) -> None:
        pass


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_watcher_contract(check: Check) -> None:
    await check(ScriptStage())
