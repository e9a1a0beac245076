"""go-ethereum as a test node: `geth --dev`, whose simulated beacon seals a block whenever a transaction arrives."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astrapayd_evm.demo.accounts import ALL, CUSTOMERS, OWNER
from astrapayd_evm.demo.surroundings import free_port
from astrapayd_evm.demo.wallet import DemoWallet, MinedAt, NodeRefused
from tests.nodes.harness import CUSTOMER_BASE, DEPLOYED_AT, ROOT, SUPPLY_BASE, Process, TestNode, WalletNode, keccak_hex

_SPARE = "0x" + "77" * 20
_TRIES = 40
_BUSY = 12
_FUNDS_WEI = 10**20


class HoldingWallet(DemoWallet):
    """Holds transactions back until the test mines: geth itself would seal them at once."""

    def __init__(self, url: str, usdt: str) -> None:
        super().__init__(url, usdt)
        self.held: list[str] = []
        self._nonces: dict[str, int] = {}

    async def request(self, method: str, *params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            self.held.append(params[0])
            return keccak_hex(params[0])
        if method == "eth_getTransactionCount" and params[1] == "pending":
            sender = params[0].lower()
            on_chain = int(await super().request(method, params[0], "latest"), 16)
            nonce = max(on_chain, self._nonces.get(sender, 0)) if self.held else on_chain
            self._nonces[sender] = nonce + 1
            return hex(nonce)
        return await super().request(method, *params)

    async def release(self, transactions: Sequence[str]) -> None:
        """Send them as one burst, so that geth seals as few blocks as it can, and wait until all are mined."""
        await asyncio.gather(*(self._send_raw(raw) for raw in transactions))
        for raw in transactions:
            async with asyncio.timeout(10):
                while await self.found(keccak_hex(raw)) is None:
                    await asyncio.sleep(0.002)

    async def _send_raw(self, raw: str) -> None:
        try:
            await super().request("eth_sendRawTransaction", raw)
        except NodeRefused as error:
            if "already known" not in str(error):  # put back into the pool by debug_setHead
                raise

    async def found(self, transaction: str) -> MinedAt | None:
        """Where it is mined; geth says for a moment that it is still indexing."""
        try:
            return await self.mined_at(transaction)
        except NodeRefused as error:
            if "indexing" not in str(error):
                raise
            return None


class GethNode(WalletNode, TestNode):
    """`geth --dev` with everything kept (archive), so that kill -9 loses nothing.

    Its quirks (1.16): no empty blocks, so the developer's account pays a spare address to make one; transactions sent
    together may be split over blocks, unless it is busy sealing when they come; `finalized` stays at the genesis block;
    after `debug_setHead` the simulated beacon goes on from there, and what was in removed blocks may be pooled again.
    """

    chain_id = 1337

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError without geth."""
        super().__init__(folder, finality_depth=0)
        self._binary = find_geth()
        self.name = "geth"
        self._authrpc_port = free_port()
        self.wallet: HoldingWallet

    async def start(self) -> None:
        first = self._port == 0
        port = self._port or free_port()
        self._process = await Process.start(
            *(str(self._binary), "--dev", "--dev.period", "0", "--datadir", str(self._folder / "geth")),
            *("--gcmode", "archive", "--state.scheme", "hash", "--ipcdisable", "--nodiscover", "--maxpeers", "0"),
            *("--ws", "--ws.addr", "127.0.0.1", "--ws.port", str(port), "--ws.api", "eth,net,web3,debug,txpool"),
            *("--authrpc.port", str(self._authrpc_port), "--port", "0", "--nat", "none"),
        )
        await self._process.line_with(r"WebSocket enabled")
        self.url, self._port = f"ws://127.0.0.1:{port}", port
        self.wallet = await HoldingWallet(self.url, DEPLOYED_AT).__aenter__()
        version = str(await self.wallet.request("web3_clientVersion"))
        self.name = f"geth {version.split('/')[1].lstrip('v').split('-')[0]}"
        if first:
            for account in ALL:
                await self._from_developer(account.address, _FUNDS_WEI)
            await self.wallet.deploy_token(SUPPLY_BASE)
            await self.mine()
            await self.wallet.pay_token_batch([(c.address, CUSTOMER_BASE) for c in CUSTOMERS], OWNER.address)
            await self.mine()

    async def mine(self, blocks: int = 1) -> int:
        before = await self._height()
        held, self.wallet.held = self.wallet.held, []
        if held:
            await self.wallet.release(held)
        while await self._height() < before + blocks:
            await self._from_developer(_SPARE, 1)
        return await self._height()

    async def mined_at(self, transaction: str) -> MinedAt | None:
        return await self.wallet.found(transaction)

    async def reorg_away(self, transaction: str) -> str:
        replacement = await self.wallet.sign_double_spend(transaction)
        branch, height = await self._rewound(transaction)
        await self.wallet.release([replacement if raw_hash == transaction else raw for raw_hash, raw in branch])
        await self._outgrow(height)
        return keccak_hex(replacement)

    async def reorg_move(self, transaction: str) -> MinedAt:
        preceding = await self.wallet.sign_preceding(transaction)
        before = await self.mined_at(transaction)
        assert before is not None
        branch, height = await self._rewound(transaction)
        for _ in range(_TRIES):
            busy = [asyncio.ensure_future(self._from_developer(_SPARE, 1)) for _ in range(_BUSY)]
            await self.wallet.release([preceding, *(raw for _, raw in branch)])
            await asyncio.gather(*busy)
            found = await self.mined_at(transaction)
            assert found is not None
            if found.log_index != before.log_index:
                await self._outgrow(height)
                return found
            await self.wallet.request("debug_setHead", hex(before.block_number - 1))  # geth split the two: again
        raise RuntimeError("geth never sealed the two transactions together")

    async def _rewound(self, transaction: str) -> tuple[list[tuple[str, str]], int]:
        """Take off every block from the transaction's on: (hash, raw) of what customers had in them, and the height."""
        found = await self.mined_at(transaction)
        assert found is not None, "not mined"
        height = await self._height()
        branch = []
        ours = {account.address.lower() for account in ALL}
        for number in range(found.block_number, height + 1):
            block = await self.wallet.request("eth_getBlockByNumber", hex(number), True)
            for tx in block["transactions"]:
                if tx["from"] in ours:
                    raw = await self.wallet.request("eth_getRawTransactionByHash", tx["hash"])
                    branch.append((tx["hash"], str(raw)))
        await self.wallet.request("debug_setHead", hex(found.block_number - 1))
        return branch, height

    async def _outgrow(self, height: int) -> None:
        """A reorganisation wins by being longer."""
        while await self._height() <= height:
            await self._from_developer(_SPARE, 1)

    async def _from_developer(self, to: str, amount_wei: int) -> None:
        developer = (await self.wallet.request("eth_accounts"))[0]
        call = {"from": developer, "to": to, "value": hex(amount_wei)}
        sent = await self.wallet.request("eth_sendTransaction", call)
        async with asyncio.timeout(10):
            while await self.wallet.found(sent) is None:
                await asyncio.sleep(0.001)

    async def _height(self) -> int:
        return int(await self.wallet.request("eth_blockNumber"), 16)


def find_geth() -> Path:
    """The binary: $GETH, or what tests/nodes/fetch.sh built, or on the PATH. Raises FileNotFoundError."""
    for candidate in (os.environ.get("GETH"), str(ROOT / "build" / "nodes" / "bin" / "geth"), shutil.which("geth")):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise FileNotFoundError("geth: run tests/nodes/fetch.sh (it needs Go)")
