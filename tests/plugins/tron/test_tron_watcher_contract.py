"""The core's contract for watchers, on a stand-in for java-tron: real HTTP, real ZeroMQ, a chain in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.app import assemble
from astrapayd.chains import Chain
from astrapayd.money import Asset
from astrapayd.testing import CHECKS, Check
from astrapayd_tron.address import from_hex20
from tests.plugins.tron.tron_node import StandInNode, TronNode, running


class TronStage:
    """Implements :class:`astrapayd.testing.Stage`."""

    address = from_hex20("5a" * 20)
    other_address = from_hex20("6b" * 20)

    def __init__(self, node: TronNode, folder: Path, *, events: bool) -> None:
        self._node = node
        config = folder / "astrapayd.toml"
        config.write_text(
            f"""\
[database]
url = "sqlite:///{folder / "unused.db"}"

[chains.tron]
plugin = "tron"
network = "private"
genesis = "{node.genesis}"
confirmations = 1
poll_secs = {60 if events else 0.2}

[[chains.tron.nodes]]
url = "{node.url}"
solidity = "{node.solidity}"
{f'events = "{node.events}"' if events else ""}

[assets.usdt]
chain = "tron"
symbol = "USDT"
contract = "{node.usdt}"
decimals = 6

[assets.trx]
chain = "tron"
symbol = "TRX"
decimals = 6
price_decimals = 2
"""
        )
        config.chmod(0o600)
        self.chain: Chain = assemble(config).core.registry["tron"]

    async def pay(self, asset: Asset, address: str, amount_base: int) -> str:
        send = self._node.pay_token if asset.contract else self._node.pay_coin
        return await send(address, amount_base)

    async def mine(self, blocks: int = 1) -> None:
        await self._node.mine(blocks)

    async def reorganise_away(self, tx: str) -> None:
        await self._node.reorg_away(tx)

    async def reorganise_elsewhere(self, tx: str) -> None:
        await self._node.reorg_move(tx)

    async def restart_node(self) -> None:
        await self._node.restart()


@pytest.fixture(params=["events", "polling"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TronStage]:
    """Once woken by the event queue alone (it is polled once a minute), once polled without it."""
    async with running(StandInNode()) as node:
        yield TronStage(node, tmp_path, events=request.param == "events")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_watcher_contract(check: Check, stage: TronStage) -> None:
    await check(stage)
