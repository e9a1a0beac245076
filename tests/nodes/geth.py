"""go-ethereum as a test node: `geth --dev`, whose simulated beacon seals a block whenever a transaction arrives.

So that blocks come only when a test says so, transactions are held back here until `mine`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from astrapayd_evm.demo.accounts import ALL, CUSTOMERS, OWNER, DemoAccount
from astrapayd_evm.demo.wallet import DemoWallet, MinedAt, NodeRefused
from tests.nodes.protocol import CUSTOMER_BASE, ROOT, SUPPLY_BASE, Process, TestNode, WalletNode, keccak_hex

_EPOCH = 32
"""`devEpochLength` of geth's simulated beacon."""
_GAS_LIMIT = "60000000"
_FUNDS_WEI = 10**22
_TRIES = 20
_ANSWER_SECS = 10
_POLL_SECS = 0.001
_SETTLE_SECS = 0.05
"""How long after a block a second, empty one may come: see `_seal`."""


@dataclass(frozen=True, slots=True)
class RawTransaction:
    """A signed transaction, as 0x-hex, and what orders it in geth's pool."""

    raw: str
    sender: str
    nonce: int

    @property
    def hash(self) -> str:
        return keccak_hex(self.raw)


class HoldingWallet(DemoWallet):
    """Holds transactions back until they are taken to be mined. Counts of nonces include what is held."""

    def __init__(self, url: str, usdt: str) -> None:
        super().__init__(url, usdt)
        self._held: list[RawTransaction] = []

    def take(self) -> list[RawTransaction]:
        """What was held; from now on nothing is."""
        held, self._held = self._held, []
        return held

    async def request(self, method: str, *params: Any) -> Any:
        answer = await super().request(method, *params)
        if method == "eth_getTransactionCount" and params[1:] == ("pending",):
            return hex(int(answer, 16) + sum(tx.sender == params[0].lower() for tx in self._held))
        return answer

    async def _send(self, sender: str | None, to: str | None, value: int, data: bytes, gas: int) -> str:
        account: DemoAccount = self._account(sender or CUSTOMERS[0].address)
        async with self._sending:
            nonce = int(await self.request("eth_getTransactionCount", account.address, "pending"), 16)
            signed = self._sign(account, nonce, to, value, data, gas)
            self._held.append(RawTransaction(signed, account.address.lower(), nonce))
        return keccak_hex(signed)


class GethNode(WalletNode, TestNode):
    """`geth --dev`, on disk and with all state kept.

    Its quirks (1.16.7):
    - It has no pool to wait in: what arrives is mined at once. What geth finds wrong with a payment, `mine` raises.
    - Block times are a second apart at least, so many blocks in a row run ahead of the clock.
    - `finalized` is the newest block whose number divides by 32, the head itself at such a number. A reorganisation
      behind it takes it away ("finalized block not found") until the next block.
    - Reorganised with `debug_setHead`: `newHeads` tells the rewound head and then each new block, no log is told as
      removed, and the abandoned blocks are gone.
    - With its default database, kill -9 loses what has come since some 32 KiB were full, which is a short chain as a
      whole; with LevelDB it loses nothing.
    - Every `geth --dev` has the same genesis block.
    """

    chain_id = 1337

    def __init__(self, folder: Path) -> None:
        """`folder` keeps the chain. Raises FileNotFoundError without geth."""
        super().__init__(folder, finality_depth=_EPOCH - 1)
        self._binary = find_geth()
        self._withdrawals = itertools.count(1)
        self.name = "geth"
        self.wallet: HoldingWallet

    def finalized_at(self, head: int) -> int:
        return head - head % _EPOCH

    async def start(self) -> None:
        first = self._port == 0
        self._process = await Process.start(
            *(str(self._binary), "--dev", "--dev.period", "0", "--datadir", str(self._folder / "geth")),
            *("--dev.gaslimit", _GAS_LIMIT, "--miner.gaslimit", _GAS_LIMIT, "--cache", "64"),
            # LevelDB writes to the file at once. The state goes there with every block, so that a rewind finds it.
            *("--db.engine", "leveldb"),
            *("--gcmode", "archive", "--state.scheme", "hash", "--snapshot=false", "--syncmode", "full"),
            *("--nodiscover", "--maxpeers", "0", "--nat", "none", "--ipcdisable"),
            *("--ws", "--ws.addr", "127.0.0.1", "--ws.port", str(self._port)),
            *("--ws.api", "eth,net,web3,debug,txpool,dev", "--authrpc.addr", "127.0.0.1", "--authrpc.port", "0"),
            # Without `nolocals` geth would send again, by itself, what a reorganisation took away. What waits for a
            # sender's first transaction (see `_seal`) must fit into the queue.
            *("--txpool.nolocals", "--txpool.accountqueue", "1000", "--txpool.globalqueue", "6000"),
        )
        await self._connect((await self._process.line_with(r"WebSocket enabled.*url=(ws://127\.0\.0\.1:\d+)"))[1])
        version = str(await self.wallet.request("web3_clientVersion"))
        self.name = f"geth {version.split('/')[1].removeprefix('v').partition('-')[0]}"
        if first:
            await self._fund()
            await self.wallet.deploy_token(SUPPLY_BASE)
            await self.mine()
            await self.wallet.pay_token_batch([(c.address, CUSTOMER_BASE) for c in CUSTOMERS], OWNER.address)
            await self.mine()

    async def mine(self, blocks: int = 1) -> int:
        head = await self._height()
        waiting = self.wallet.take()
        for _ in range(blocks):
            await self._seal(head, waiting)
            head, waiting = head + 1, []
        return head

    async def reorg_away(self, transaction: str) -> str:
        replacement = await self.wallet.sign_double_spend(transaction)
        branch, fork, height = await self._branch_from(transaction)
        branch = [
            [RawTransaction(replacement, tx.sender, tx.nonce) if tx.hash == transaction else tx for tx in block]
            for block in branch
        ]
        await self._replace(branch, fork, height)
        return keccak_hex(replacement)

    async def reorg_move(self, transaction: str) -> MinedAt:
        preceding = await self.wallet.sign_preceding(transaction)
        branch, fork, height = await self._branch_from(transaction)
        moved = next(tx for tx in branch[0] if tx.hash == transaction)
        # Later ones of the same sender cannot come before it.
        with_it = [tx for tx in branch[0] if tx.sender == moved.sender and tx.nonce >= moved.nonce]
        first = [tx for tx in branch[0] if tx not in with_it]
        second = [_decoded(preceding), *with_it, *(branch[1] if len(branch) > 1 else [])]
        await self._replace([first, second, *branch[2:]], fork, height)
        found = await self.mined_at(transaction)
        assert found is not None
        return found

    async def _connect(self, url: str) -> None:
        self.url = url
        self._port = int(url.rpartition(":")[2])
        self.wallet = await HoldingWallet(url, self.usdt).__aenter__()

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self.wallet.take()  # lost, as what waits in a node's pool is
        await super()._end(number)

    # -- Blocks

    async def _seal(self, base: int, transactions: Sequence[RawTransaction]) -> None:
        """Make exactly one block above `base`, the head, out of exactly these transactions; none makes an empty block.

        geth mines as soon as it can. A sender's transactions are therefore sent with the one of the lowest nonce last:
        until that arrives the others cannot be mined. Between senders the block has the order of these last ones.
        With several senders geth may split them over blocks, or mine an empty one for what it has mined already; then
        the chain is rewound and, if need be, they are sent again.
        """
        hashes = [tx.hash for tx in transactions]
        senders = len({tx.sender for tx in transactions})
        for _ in range(_TRIES):
            if transactions:
                await self._batch([("eth_sendRawTransaction", tx.raw) for tx in _lowest_nonces_last(transactions)])
            else:
                # A withdrawal makes a block without any transaction.
                withdrawal = {"validatorIndex": "0x0", "address": "0x" + "00" * 20, "amount": "0x0"}
                index = hex(next(self._withdrawals))
                await self.wallet.request("dev_addWithdrawal", {"index": index, **withdrawal})
            await self._until_mined(base, hashes)
            if senders > 1:
                await asyncio.sleep(_SETTLE_SECS)
            block = await self.wallet.request("eth_getBlockByNumber", hex(base + 1), False)
            if sorted(block["transactions"]) == sorted(hashes):
                await self._rewind(base + 1)
                return
            await self._rewind(base)
        raise AssertionError(f"geth has split {len(hashes)} transactions over several blocks {_TRIES} times")

    async def _until_mined(self, base: int, hashes: Sequence[str]) -> None:
        """Wait until there are blocks above `base`, with all these transactions in them."""
        missing, number = set(hashes), base + 1
        async with asyncio.timeout(_ANSWER_SECS):
            while missing or number == base + 1:
                if block := await self.wallet.request("eth_getBlockByNumber", hex(number), False):
                    missing -= set(block["transactions"])
                    number += 1
                else:
                    await asyncio.sleep(_POLL_SECS)

    async def _rewind(self, number: int) -> None:
        """Make block `number` the head, if it is not."""
        if await self._height() == number:
            return
        await self.wallet.request("debug_setHead", hex(number))
        # The pool follows in its own time. Until then it would refuse what is sent again for its nonce.
        async with asyncio.timeout(_ANSWER_SECS):
            for account in ALL:
                while await self._nonce(account, "pending") != await self._nonce(account, "latest"):
                    await asyncio.sleep(_POLL_SECS)

    async def _branch_from(self, transaction: str) -> tuple[list[list[RawTransaction]], int, int]:
        """What is in the blocks from the one with `transaction` up to the head; the number below them; the head's."""
        found = await self.mined_at(transaction)
        assert found is not None, "not mined"
        height = await self._height()
        branch = []
        for number in range(found.block_number, height + 1):
            block = await self.wallet.request("eth_getBlockByNumber", hex(number), False)
            raw = [await self.wallet.request("eth_getRawTransactionByHash", tx) for tx in block["transactions"]]
            branch.append([_decoded(one) for one in raw])
        return branch, found.block_number - 1, height

    async def _replace(self, branch: Sequence[Sequence[RawTransaction]], fork: int, height: int) -> None:
        """Rewind to block `fork` and mine the branch there, one block longer than the old one up to `height`."""
        await self._rewind(fork)
        for number in range(fork, height + 1):
            await self._seal(number, branch[number - fork] if number - fork < len(branch) else [])

    async def _fund(self) -> None:
        """Native coin for the demo's accounts, out of the developer's, in one block."""
        (developer,) = await self.wallet.request("eth_accounts")
        payments = [
            {"from": developer, "to": account.address, "value": hex(_FUNDS_WEI), "nonce": hex(nonce)}
            for nonce, account in enumerate(ALL)
        ]
        sent = await self._batch([("eth_sendTransaction", one) for one in (*payments[1:], payments[0])])
        await self._until_mined(0, sent)

    async def _height(self) -> int:
        return int(await self.wallet.request("eth_blockNumber"), 16)

    async def _nonce(self, account: DemoAccount, tag: str) -> int:
        # Not the wallet's count: that includes what is held.
        return int(await DemoWallet.request(self.wallet, "eth_getTransactionCount", account.address, tag), 16)

    async def _batch(self, calls: Sequence[tuple[str, Any]]) -> list[Any]:
        """The results of one JSON-RPC batch, which geth works off in its order. Raises NodeRefused."""
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": [parameter]}
            for number, (method, parameter) in enumerate(calls)
        ]
        async with connect(self.url, max_size=None, compression=None) as websocket:
            await websocket.send(json.dumps(body))
            answers = json.loads(await websocket.recv())
        for answer in answers:
            if error := answer.get("error"):
                raise NodeRefused(error["code"], error["message"])
        return [answer["result"] for answer in answers]


def _lowest_nonces_last(transactions: Sequence[RawTransaction]) -> list[RawTransaction]:
    first: dict[str, RawTransaction] = {}
    for tx in transactions:
        if tx.sender not in first or tx.nonce < first[tx.sender].nonce:
            first[tx.sender] = tx
    return [tx for tx in transactions if tx is not first[tx.sender]] + list(first.values())


def _decoded(raw: str) -> RawTransaction:
    """With its sender and nonce, as signed by DemoWallet or by geth itself (both EIP-1559)."""
    from eth_account import Account
    from eth_account.typed_transactions.typed_transaction import TypedTransaction
    from hexbytes import HexBytes

    nonce = int(TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["nonce"])
    return RawTransaction(raw, str(Account.recover_transaction(raw)).lower(), nonce)


def find_geth() -> Path:
    """The binary: $GETH, or what tests/nodes/fetch.sh built, or on the PATH. Raises FileNotFoundError."""
    candidates = (os.environ.get("GETH"), ROOT / "build" / "nodes" / "bin" / "geth", shutil.which("geth"))
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise FileNotFoundError("geth: run tests/nodes/fetch.sh (it needs Go)")
