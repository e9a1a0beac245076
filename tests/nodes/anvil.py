"""Foundry's anvil as a test node."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astrapayd_evm.demo.accounts import CUSTOMERS, OWNER
from astrapayd_evm.demo.wallet import MinedAt
from tests.nodes.protocol import CUSTOMER_BASE, ROOT, SUPPLY_BASE, Process, TestNode, WalletNode, keccak_hex


class AnvilNode(WalletNode, TestNode):
    """Foundry's anvil.

    Its quirks (1.7.1): no `removed` logs; a restart keeps the state file's chain, but a reorg cannot reach behind the
    restart; `kill` loses what came in the last second; an unknown method is -32602.
    """

    chain_id = 31337

    def __init__(self, folder: Path, finality_depth: int = 64) -> None:
        """`finality_depth` is even: anvil's `finalized` is two epochs back. Raises FileNotFoundError without anvil."""
        super().__init__(folder, finality_depth)
        self._binary = find_anvil()
        self.name = "anvil"

    async def start(self) -> None:
        first = self._port == 0
        self._process = await Process.start(
            *(str(self._binary), "--host", "127.0.0.1", "--port", str(self._port), "--chain-id", str(self.chain_id)),
            *("--no-mining", "--order", "fifo", "--slots-in-an-epoch", str(self.finality_depth // 2)),
            *("--state", str(self._folder / "anvil.json"), "--state-interval", "1", "--preserve-historical-states"),
        )
        address = (await self._process.line_with(r"Listening on (127\.0\.0\.1:\d+)"))[1]
        await self._connect(f"ws://{address}")
        version = await self.wallet.request("web3_clientVersion")
        self.name = str(version).replace("/v", " ")
        if first:
            await self.wallet.deploy_token(SUPPLY_BASE)
            await self.mine()
            await self.wallet.pay_token_batch([(c.address, CUSTOMER_BASE) for c in CUSTOMERS], OWNER.address)
            await self.mine()

    async def reorg_away(self, transaction: str) -> str:
        replacement = await self.wallet.sign_double_spend(transaction)
        branch = await self._branch_from(transaction)
        for block in branch:
            block[:] = [replacement if tx["hash"] == transaction else await self._raw(tx) for tx in block]
        await self._replace(branch)
        head = await self.wallet.request("eth_getTransactionByHash", transaction)
        assert head is None, "anvil kept the transaction"
        return keccak_hex(replacement)

    async def reorg_move(self, transaction: str) -> MinedAt:
        preceding = await self.wallet.sign_preceding(transaction)
        branch = await self._branch_from(transaction)
        if len(branch) == 1:
            # anvil's new branch is as long as the old one; there has to be a later block to move to.
            await self.mine()
            branch.append([])
        moved = next(tx for tx in branch[0] if tx["hash"] == transaction)
        # Later ones of the same sender cannot come before it.
        with_it = [
            tx for tx in branch[0] if tx["from"] == moved["from"] and int(tx["nonce"], 16) >= int(moved["nonce"], 16)
        ]
        branch[0] = [tx for tx in branch[0] if tx not in with_it]
        branch[1] = [*with_it, *branch[1]]
        raw = [[await self._raw(tx) for tx in block] for block in branch]
        raw[1].insert(0, preceding)
        await self._replace(raw)
        found = await self.mined_at(transaction)
        assert found is not None
        return found

    async def _branch_from(self, transaction: str) -> list[list[Any]]:
        """The transactions of all blocks from the one with `transaction` up to the head."""
        found = await self.mined_at(transaction)
        assert found is not None, "not mined"
        head = int(await self.wallet.request("eth_blockNumber"), 16)
        return [
            (await self.wallet.request("eth_getBlockByNumber", hex(number), True))["transactions"]
            for number in range(found.block_number, head + 1)
        ]

    async def _raw(self, transaction: dict[str, Any]) -> str:
        return str(await self.wallet.request("eth_getRawTransactionByHash", transaction["hash"]))

    async def _replace(self, branch: Sequence[Sequence[str]]) -> None:
        """anvil drops what a reorg removes, so everything that stays is passed again with its block's position."""
        pairs = [[raw, position] for position, block in enumerate(branch) for raw in block]
        await self.wallet.request("anvil_reorg", len(branch), pairs)
        # Its branch has the old length; a real reorganisation wins by being longer.
        await self.mine()


def find_anvil() -> Path:
    """The binary: $ANVIL, or what tests/nodes/fetch.sh installed, or on the PATH. Raises FileNotFoundError."""
    candidates: list[Path] = []
    if named := os.environ.get("ANVIL"):
        candidates.append(Path(named))
    # Not node_modules/.bin/anvil: that is a node script which would have to be killed as well as its child.
    candidates += sorted((ROOT / "build" / "nodes" / "node_modules" / "@foundry-rs").glob("anvil-*/bin/anvil"))
    if on_path := shutil.which("anvil"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError("anvil: run tests/nodes/fetch.sh")
