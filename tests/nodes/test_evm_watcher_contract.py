"""The EVM watcher under the public contract, on every real node."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrapayd.app import assemble
from astrapayd.chains import Chain
from astrapayd.money import Asset
from astrapayd.testing import CHECKS, Check
from tests.nodes.harness import TestNode

OURS, OTHER = "0x" + "5a" * 20, "0x" + "6b" * 20


class EvmStage:
    """A real node, paid on by the demo's customers."""

    def __init__(self, node: TestNode, folder: Path, url: str = "") -> None:
        self._node = node
        config = folder / "astrapayd.toml"
        config.write_text(
            f"""\
[database]
url = "sqlite:///{folder / "unused.db"}"

[chains.evm]
plugin = "evm"
chain_id = {node.chain_id}
nodes = ["{url or node.url}"]
confirmations = 1
poll_secs = 0.5

[assets.usdt]
chain = "evm"
symbol = "USDT"
contract = "{node.usdt}"
decimals = 6

[assets.coin]
chain = "evm"
symbol = "ETH"
decimals = 18
price_decimals = 6
"""
        )
        config.chmod(0o600)
        self.chain: Chain = assemble(config).core.registry["evm"]
        self.address = OURS
        self.other_address = OTHER

    async def pay(self, asset: Asset, address: str, amount_base: int) -> str:
        send = self._node.pay_token if asset.contract else self._node.pay_native
        return await send(address, amount_base)

    async def mine(self, blocks: int = 1) -> None:
        await self._node.mine(blocks)

    async def reorganise_away(self, tx: str) -> None:
        await self._node.reorg_away(tx)

    async def reorganise_elsewhere(self, tx: str) -> None:
        await self._node.reorg_move(tx)

    async def restart_node(self) -> None:
        await self._node.stop()
        await self._node.start()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_watcher_contract(check: Check, node: TestNode, tmp_path: Path) -> None:
    await check(EvmStage(node, tmp_path))
