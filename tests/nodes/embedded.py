"""The chain of `astrapayd demo` as a test node."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from astrapayd_evm.demo.wallet import MinedAt
from tests.nodes.protocol import ROOT, Process, TestNode, WalletNode


class EmbeddedNode(WalletNode, TestNode):
    """The chain of `astrapayd demo` (py-evm). Survives `stop` and `kill` with all its blocks; its pool is lost."""

    chain_id = 1337

    def __init__(self, folder: Path, finality_depth: int = 64, *options: str) -> None:
        """`folder` keeps the chain; `options` go to the server's command line."""
        super().__init__(folder, finality_depth)
        from importlib.metadata import version

        self.name = f"embedded py-evm {version('py-evm')}"
        self._options = options

    async def start(self) -> None:
        command = (
            *("--port", str(self._port), "--period", "0", "--state", str(self._folder / "embedded.jsonl")),
            *("--chain-id", str(self.chain_id), "--finality-depth", str(self.finality_depth)),
        )
        package_root = str(ROOT / "plugins" / "evm")
        self._process = await Process.start(
            sys.executable, "-m", "astrapayd_evm.demo.server", *command, *self._options, PYTHONPATH=package_root
        )
        ready = json.loads((await self._process.line_with(r"^\{.*\}$"))[0])
        self.usdt = ready["usdt"]
        await self._connect(ready["url"])

    async def reorg_away(self, transaction: str) -> str:
        return await self.wallet.reorg_away(transaction)

    async def reorg_move(self, transaction: str) -> MinedAt:
        return await self.wallet.reorg_move(transaction)
