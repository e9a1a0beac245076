"""A customer's wallet for the demo chain and for tests: signs here, sends raw transactions over one websocket.

Works against any node for payments. `reorg_away` and `reorg_move` need the embedded chain (`server`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from . import token
from .accounts import ALL, CUSTOMERS, OWNER, DemoAccount

_TRANSFER_GAS = 120_000
_NATIVE_GAS = 100_000  # more than 21000: the recipient may be a contract
_TIP_WEI = 10**9
_MAX_FEE_WEI = 20 * 10**9
_MAX_MESSAGE_BYTES = 32 * 1024 * 1024


class NodeRefused(Exception):
    """The node answered with an error; `code` is JSON-RPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class MinedAt:
    """Where a transaction is mined. `log_index` is the block-wide index of its first log, None when it has none."""

    block_number: int
    block_hash: str
    log_index: int | None
    succeeded: bool

    @classmethod
    def from_receipt(cls, receipt: dict[str, Any]) -> MinedAt:
        """From a JSON-RPC receipt."""
        logs = receipt["logs"]
        return cls(
            int(receipt["blockNumber"], 16),
            receipt["blockHash"],
            int(logs[0]["logIndex"], 16) if logs else None,
            receipt["status"] == "0x1",
        )


class DemoWallet:
    """The demo's accounts behind one connection. Use as `async with DemoWallet(url, usdt) as wallet`.

    Amounts are integers in base units (USDT: millionths; native: wei). Senders are addresses out of `accounts.ALL`, by
    default the first customer.
    Every method raises NodeRefused for what the node refuses and ConnectionError when the connection is gone.
    """

    def __init__(self, url: str, usdt: str) -> None:
        self._url = url
        self._usdt = usdt
        self._accounts = {account.address.lower(): account for account in ALL}
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._head_arrived = asyncio.Event()  # replaced by a new one at every head
        self._websocket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self._chain_id = 0

    async def __aenter__(self) -> Self:
        # eth-account takes half a second to import: off the event loop, and only for those who pay.
        await asyncio.to_thread(_load_signer)
        try:
            self._websocket = await connect(self._url, max_size=_MAX_MESSAGE_BYTES, compression=None)
        except OSError as error:
            raise ConnectionError(f"no node at {self._url}: {error}") from error
        self._reader = asyncio.create_task(self._read(self._websocket))
        self._chain_id = int(await self.request("eth_chainId"), 16)
        await self.request("eth_subscribe", "newHeads")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._websocket:
            await self._websocket.close()
        if self._reader:
            await self._reader

    async def request(self, method: str, *params: Any) -> Any:
        """One JSON-RPC request; its result."""
        if self._websocket is None or self._reader is None or self._reader.done():
            raise ConnectionError("not connected")
        request_id = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
            await self._websocket.send(json.dumps(body))
            return await answer
        except ConnectionClosed as error:
            raise ConnectionError("the node closed the connection") from error
        finally:
            self._waiting.pop(request_id, None)

    # -- Paying

    async def pay_token(self, to: str, amount_base: int, sender: str | None = None) -> str:
        """Send MockUSDT; the transaction's hash. Not mined yet: see `wait_mined`."""
        return await self._send(sender, self._usdt, 0, token.transfer(to, amount_base), _TRANSFER_GAS)

    async def pay_token_batch(self, payments: Sequence[tuple[str, int]], sender: str | None = None) -> str:
        """Send MockUSDT to several recipients in one transaction, one Transfer log each; its hash."""
        data = token.batch_transfer(payments)
        return await self._send(sender, self._usdt, 0, data, 60_000 + 60_000 * len(payments))

    async def pay_native(self, to: str, amount_wei: int, sender: str | None = None) -> str:
        """Send native coin; the transaction's hash."""
        return await self._send(sender, to, amount_wei, b"", _NATIVE_GAS)

    async def send_raw(self, sender: str, to: str | None, amount_wei: int, data: bytes) -> str:
        """Any transaction, such as one to or for a contract (`to` None creates one); its hash."""
        return await self._send(sender, to, amount_wei, data, 500_000)

    async def mint(self, to: str, amount_base: int) -> str:
        """Make new MockUSDT as its owner (up to what makes a supply of 2^256-1); the transaction's hash."""
        return await self._send(OWNER.address, self._usdt, 0, token.mint(to, amount_base), _TRANSFER_GAS)

    async def token_balance(self, owner: str) -> int:
        """MockUSDT of an address, in base units."""
        call = {"to": self._usdt, "data": "0x" + token.balance_of(owner).hex()}
        return int(await self.request("eth_call", call, "latest"), 16)

    async def native_balance(self, owner: str) -> int:
        """Native coin of an address, in wei."""
        return int(await self.request("eth_getBalance", owner, "latest"), 16)

    async def deploy_token(self, initial_supply_base: int) -> str:
        """Deploy another MockUSDT as its owner; the transaction's hash (the address is in the receipt)."""
        return await self._send(OWNER.address, None, 0, token.creation_code(initial_supply_base), 2_000_000)

    async def mined_at(self, transaction: str) -> MinedAt | None:
        """Where the transaction is mined now, or None."""
        receipt = await self.request("eth_getTransactionReceipt", transaction)
        return MinedAt.from_receipt(receipt) if receipt else None

    async def wait_mined(self, transaction: str, timeout_secs: float = 30) -> MinedAt:
        """Wait until the transaction is mined. Raises TimeoutError."""
        async with asyncio.timeout(timeout_secs):
            while True:
                # Taken before asking, so a head that arrives while the question is under way is not missed.
                head_arrived = self._head_arrived
                if (found := await self.mined_at(transaction)) is not None:
                    return found
                await head_arrived.wait()

    # -- Staged reorganisations (embedded chain only)

    async def reorg_away(self, transaction: str) -> str:
        """Reorganise a mined transaction away for good; the hash of the one (sender to itself) that took its nonce."""
        replacement = await self.sign_double_spend(transaction)
        await self.request("demo_reorgAway", transaction, replacement)
        return _hash_of(replacement)

    async def reorg_move(self, transaction: str) -> MinedAt:
        """Reorganise so that a mined one is mined again one block later at another log index; where it is now."""
        preceding = await self.sign_preceding(transaction)
        await self.request("demo_reorgMove", transaction, preceding)
        found = await self.mined_at(transaction)
        assert found is not None
        return found

    async def sign_double_spend(self, transaction: str) -> str:
        """Raw transaction with the same sender and nonce that pays nobody."""
        old = await self.request("eth_getTransactionByHash", transaction)
        if old is None:
            raise NodeRefused(-32000, "transaction not found")
        return self._sign(self._account(old["from"]), int(old["nonce"], 16), old["from"], 0, b"", _NATIVE_GAS, fees=2)

    async def sign_preceding(self, transaction: str) -> str:
        """Raw token transfer that fits before `transaction` in a branch that forks below it, and moves its log index.

        It comes from another account, one that has sent nothing since the fork. Raises NodeRefused when there is none.
        """
        old = await self.request("eth_getTransactionByHash", transaction)
        if old is None or old["blockNumber"] is None:
            raise NodeRefused(-32000, "the transaction is not mined")
        for account in ALL:
            if account.address.lower() == old["from"]:
                continue
            before = hex(int(old["blockNumber"], 16) - 1)
            nonce = int(await self.request("eth_getTransactionCount", account.address, before), 16)
            if nonce == int(await self.request("eth_getTransactionCount", account.address, "pending"), 16):
                # The moved transaction comes right after this one: its first log's new index is the count of logs here.
                mined = await self.mined_at(transaction)
                logs = 2 if mined and mined.log_index == 1 else 1
                data = token.batch_transfer([(account.address, 1)] * logs)
                return self._sign(account, nonce, self._usdt, 0, data, 2 * _TRANSFER_GAS)
        raise NodeRefused(-32000, "every other account has sent something since; none can send the preceding transfer")

    # -- Inside

    async def _send(self, sender: str | None, to: str | None, value: int, data: bytes, gas: int) -> str:
        account = self._account(sender or CUSTOMERS[0].address)
        async with self._sending:  # two payments at once must not take the same nonce
            nonce = int(await self.request("eth_getTransactionCount", account.address, "pending"), 16)
            return str(await self.request("eth_sendRawTransaction", self._sign(account, nonce, to, value, data, gas)))

    def _account(self, address: str) -> DemoAccount:
        try:
            return self._accounts[address.lower()]
        except KeyError:
            raise ValueError(f"{address} is not one of the demo's accounts") from None

    def _sign(
        self, account: DemoAccount, nonce: int, to: str | None, value: int, data: bytes, gas: int, fees: int = 1
    ) -> str:
        """An EIP-1559 transaction as 0x-hex; `fees` multiplies what is offered (a replacement has to offer more)."""
        transaction: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "value": value,
            "data": data,
            "gas": gas,
            "maxFeePerGas": _MAX_FEE_WEI * fees,
            "maxPriorityFeePerGas": _TIP_WEI * fees,
        }
        if to is not None:
            transaction["to"] = bytes.fromhex(to.removeprefix("0x"))
        signed = _load_signer().sign_transaction(transaction, account.private_key)
        return "0x" + bytes(signed.raw_transaction).hex()

    async def _read(self, websocket: ClientConnection) -> None:
        try:
            async for message in websocket:
                answer = json.loads(message)
                if "method" in answer:
                    self._wake()
                elif (waiting := self._waiting.get(answer["id"])) and not waiting.done():
                    if "error" in answer:
                        waiting.set_exception(NodeRefused(answer["error"]["code"], answer["error"]["message"]))
                    else:
                        waiting.set_result(answer["result"])
        except ConnectionClosed:
            pass
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError("the node closed the connection"))
            self._wake()  # whoever waits for a head finds out with its next question

    def _wake(self) -> None:
        self._head_arrived.set()
        self._head_arrived = asyncio.Event()


def _load_signer() -> Any:
    from eth_account import Account

    return Account


def _hash_of(raw: str) -> str:
    from eth_hash.auto import keccak

    return "0x" + bytes(keccak(bytes.fromhex(raw[2:]))).hex()
