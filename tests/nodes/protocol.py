"""What every test node offers, and what the nodes have in common: a process, and a wallet that pays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self

from astrapayd_evm.demo.wallet import DemoWallet, MinedAt

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "plugins" / "evm" / "astrapayd_evm" / "demo" / "contracts"
DEPLOYED_AT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
"""Where the first transaction of OWNER creates its contract, on any chain."""
SUPPLY_BASE = 10**15
CUSTOMER_BASE = 10**12
_START_SECS = 20


class TestNode(Protocol):
    """A node that a test can pay on, mine on, reorganise and stop."""

    __test__: ClassVar[bool] = False  # pytest must not take it for tests

    name: str
    """For the line at the end of a test run: what it is and its version."""
    url: str
    """ws://127.0.0.1:PORT, the same after a restart."""
    chain_id: int
    usdt: str
    """MockUSDT's address, EIP-55."""
    finality_depth: int
    """The most blocks that `finalized` is behind `latest`: see `finalized_at`."""
    wallet: DemoWallet
    """Connected while the node runs."""

    def finalized_at(self, head: int) -> int:
        """The number of the block that is `finalized` when `head` is the latest."""

    async def pay_token(self, to: str, amount_base: int, sender: str | None = None) -> str:
        """Send MockUSDT from a customer; the transaction's hash. Not mined yet."""

    async def pay_native(self, to: str, amount_wei: int, sender: str | None = None) -> str:
        """Send native coin; the transaction's hash."""

    async def pay_batch(self, payments: Sequence[tuple[str, int]], sender: str | None = None) -> str:
        """Send MockUSDT to several recipients in one transaction; its hash."""

    async def mine(self, blocks: int = 1) -> int:
        """Mine what waits, and more blocks on top if asked; the head's number."""

    async def mined_at(self, transaction: str) -> MinedAt | None:
        """Where a transaction is mined on the canonical chain, or None."""

    async def reorg_away(self, transaction: str) -> str:
        """Reorganise: the transaction is gone for good, another has its nonce. All else stays mined. Its hash."""

    async def reorg_move(self, transaction: str) -> MinedAt:
        """Reorganise: the transaction is mined one block later with another log index; where. All else stays mined."""

    async def start(self) -> None:
        """Start, or start again with the chain as it was, at the same url."""

    async def stop(self) -> None:
        """Stop in an orderly way (SIGTERM)."""

    async def kill(self) -> None:
        """kill -9."""


class Process:
    """A child process whose stdout is read until it says where it listens, and drained afterwards."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._drain: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, *command: str, **environment: str) -> Self:
        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **environment},
            )
        )

    async def line_with(self, pattern: str) -> re.Match[str]:
        """The first line that has the pattern. Raises RuntimeError with all output when the process ends before."""
        assert self._process.stdout is not None
        seen: list[str] = []
        async with asyncio.timeout(_START_SECS):
            while line := (await self._process.stdout.readline()).decode(errors="replace"):
                seen.append(line)
                if found := re.search(pattern, line):
                    # A full pipe would stop the node.
                    self._drain = asyncio.create_task(self._discard_output())
                    return found
        raise RuntimeError("the node ended at start:\n" + "".join(seen))

    async def end(self, number: signal.Signals) -> None:
        """Send the signal and wait until the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._drain:
            await self._drain
        if self._process.stdin:
            self._process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await self._process.stdin.wait_closed()

    async def _discard_output(self) -> None:
        assert self._process.stdout is not None
        while await self._process.stdout.read(65536):
            pass


class WalletNode:
    """What all nodes have in common: paying through the wallet."""

    def __init__(self, folder: Path, finality_depth: int) -> None:
        self.url = ""
        self.usdt = DEPLOYED_AT
        self.finality_depth = finality_depth
        self._folder = folder
        self._port = 0
        self._process: Process | None = None
        self.wallet: DemoWallet

    def finalized_at(self, head: int) -> int:
        return max(0, head - self.finality_depth)

    async def pay_token(self, to: str, amount_base: int, sender: str | None = None) -> str:
        return await self.wallet.pay_token(to, amount_base, sender)

    async def pay_native(self, to: str, amount_wei: int, sender: str | None = None) -> str:
        return await self.wallet.pay_native(to, amount_wei, sender)

    async def pay_batch(self, payments: Sequence[tuple[str, int]], sender: str | None = None) -> str:
        return await self.wallet.pay_token_batch(payments, sender)

    async def mine(self, blocks: int = 1) -> int:
        # Interval 0: else anvil lets block times run ahead of the clock by a second for each block.
        await self.wallet.request("anvil_mine", hex(blocks), "0x0")
        return int(await self.wallet.request("eth_blockNumber"), 16)

    async def mined_at(self, transaction: str) -> MinedAt | None:
        return await self.wallet.mined_at(transaction)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        await process.end(number)
        await self.wallet.__aexit__(None, None, None)

    async def _connect(self, url: str) -> None:
        self.url = url
        self._port = int(url.rpartition(":")[2])
        self.wallet = await DemoWallet(url, self.usdt).__aenter__()


@contextlib.asynccontextmanager
async def running(node: TestNode) -> AsyncIterator[TestNode]:
    """The node, started, and stopped afterwards whatever happens."""
    try:
        await node.start()
        yield node
    finally:
        await node.kill()


def keccak_hex(raw: str) -> str:
    from eth_hash.auto import keccak

    return "0x" + bytes(keccak(bytes.fromhex(raw[2:]))).hex()
