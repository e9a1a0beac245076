"""Real nodes for tests: each a process of its own, with the same accounts and MockUSDT at the same address.

Blocks are mined only when a test says so. A payment is sent by `pay_*` and is on chain after the next `mine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from astrapayd_evm.demo.accounts import CUSTOMERS, OWNER
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
    """How many blocks `finalized` is behind `latest`."""
    wallet: DemoWallet
    """Connected while the node runs."""

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
