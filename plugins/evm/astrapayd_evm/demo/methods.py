"""The JSON-RPC methods of the demo node (execution-apis; at the edges as geth), and controls as only a test chain has.

Controls: `evm_mine []` and `anvil_mine [count]` as on anvil; `demo_setFinalityDepth [n]`; `demo_reorg [depth]`;
`demo_reorgAway [txHash, rawReplacement]`; `demo_reorgMove [txHash, rawPreceding]`. The reorg methods answer
{"removed": [block hashes], "added": [block hashes]}, oldest first. Depths are plain JSON numbers or hex quantities.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from . import shapes
from .blocks import Block, BranchChange
from .chain import DemoChain, ReorgRefused
from .evm import GAS_LIMIT, CallFailed
from .filters import LogFilter, hex_bytes, quantity
from .pool import TransactionRefused
from .rpc_errors import EXECUTION_REVERTED, INVALID_PARAMS, METHOD_NOT_FOUND, SERVER_ERROR, RpcError

CLIENT_VERSION = "astrapayd-demo/1.0/py-evm"
_MIN_TIP_WEI = 10**9
_MAX_BLOCKS_AT_ONCE = 5000


class Methods:
    """Answers requests about one chain. Subscriptions are not here: they belong to a connection (`server`)."""

    def __init__(self, chain: DemoChain) -> None:
        self._chain = chain
        self._handlers: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: CLIENT_VERSION,
            "net_version": lambda: str(chain.chain_id),
            "net_listening": lambda: True,
            "net_peerCount": lambda: "0x0",
            "eth_chainId": lambda: hex(chain.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": self._accounts,
            "eth_blockNumber": lambda: hex(chain.head.number),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockTransactionCountByNumber": self._transaction_count_by_number,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getTransactionByHash": self._transaction_by_hash,
            "eth_getTransactionReceipt": self._transaction_receipt,
            "eth_getLogs": self._logs,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate_gas,
            "eth_getBalance": lambda who, at="latest": hex(chain.evm.balance(self._state(at), hex_bytes(who, 20))),
            "eth_getCode": lambda who, at="latest": shapes.data(chain.evm.code(self._state(at), hex_bytes(who, 20))),
            "eth_getStorageAt": self._storage_at,
            "eth_getTransactionCount": self._transaction_count,
            "eth_gasPrice": lambda: hex(chain.head.header.base_fee_per_gas + _MIN_TIP_WEI),
            "eth_maxPriorityFeePerGas": lambda: hex(_MIN_TIP_WEI),
            "eth_feeHistory": self._fee_history,
            "eth_sendRawTransaction": self._send_raw_transaction,
            "evm_mine": lambda: self._mine(1),
            "anvil_mine": self._mine,
            "demo_setFinalityDepth": self._set_finality_depth,
            "demo_reorg": lambda depth: _branches(chain.reorg(_number(depth))),
            "demo_reorgAway": lambda tx, raw: _branches(chain.reorg_away(hex_bytes(tx, 32), hex_bytes(raw))),
            "demo_reorgMove": lambda tx, raw: _branches(chain.reorg_move(hex_bytes(tx, 32), hex_bytes(raw))),
        }

    def call(self, method: str, params: Any) -> Any:
        """The result of a request. Raises RpcError."""
        handler = self._handlers.get(method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, f"the method {method} does not exist/is not available")
        if not isinstance(params, list):
            raise RpcError(INVALID_PARAMS, "non-array args")
        check_arguments(handler, params)
        try:
            return handler(*params)
        except CallFailed as error:
            if error.data or str(error) == "execution reverted":
                raise RpcError(EXECUTION_REVERTED, str(error), shapes.data(error.data)) from None
            raise RpcError(SERVER_ERROR, str(error)) from None
        except (ReorgRefused, TransactionRefused, ValueError) as error:
            raise RpcError(SERVER_ERROR, str(error)) from None

    def _accounts(self) -> list[str]:
        return []  # like geth since 1.14: a node holds no keys

    # -- Blocks

    def _tagged(self, tag: Any) -> Block | None:
        """The block of a number or a tag; None above the head. `pending` is the head: nothing is built in advance."""
        match tag:
            case "latest" | "pending":
                return self._chain.head
            case "finalized":
                return self._chain.finalized
            case "safe":
                return self._chain.safe
            case "earliest":
                return self._chain.genesis
            case _:
                return self._chain.block_at(quantity(tag))

    def _number_or_hash(self, at: Any) -> Block | None:
        """The block of a number, a tag, a hash or an EIP-1898 object."""
        require_canonical = False
        if isinstance(at, Mapping):
            require_canonical = bool(at.get("requireCanonical"))
            at = at.get("blockHash") or at.get("blockNumber")
        if isinstance(at, str) and len(at) == 66:
            block = self._chain.block_by_hash(hex_bytes(at, 32))
            if block and require_canonical and not self._chain.is_canonical(block):
                raise RpcError(SERVER_ERROR, "hash is not currently canonical")
            return block
        return self._tagged(at)

    def _state(self, at: Any) -> Block:
        block = self._number_or_hash(at)
        if block is None:
            raise RpcError(SERVER_ERROR, "header not found")
        return block

    def _block_by_number(self, number: Any, full: bool) -> Any:
        block = self._tagged(number)
        return shapes.block(block, full) if block else None

    def _block_by_hash(self, block_hash: Any, full: bool) -> Any:
        block = self._chain.block_by_hash(hex_bytes(block_hash, 32))
        return shapes.block(block, full) if block else None

    def _transaction_count_by_number(self, number: Any) -> Any:
        block = self._tagged(number)
        return hex(len(block.transactions)) if block else None

    def _block_receipts(self, at: Any) -> Any:
        block = self._number_or_hash(at)
        return [shapes.receipt(block, index) for index in range(len(block.transactions))] if block else None

    # -- Transactions and logs

    def _transaction_by_hash(self, transaction_hash: Any) -> Any:
        wanted = hex_bytes(transaction_hash, 32)
        if location := self._chain.locate(wanted):
            return shapes.transaction(location.block.transactions[location.index], location.block, location.index)
        waiting = self._chain.pool.get(wanted)
        return shapes.transaction(waiting, None) if waiting else None

    def _transaction_receipt(self, transaction_hash: Any) -> Any:
        location = self._chain.locate(hex_bytes(transaction_hash, 32))
        return shapes.receipt(location.block, location.index) if location else None

    def _logs(self, criteria: Any) -> list[Any]:
        wanted = LogFilter.parse(criteria)
        blocks: list[Block | None]
        if (block_hash := criteria.get("blockHash")) is not None:
            if criteria.get("fromBlock") is not None or criteria.get("toBlock") is not None:
                raise RpcError(
                    INVALID_PARAMS, "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other"
                )
            block = self._chain.block_by_hash(hex_bytes(block_hash, 32))
            if block is None:
                raise RpcError(SERVER_ERROR, "unknown block")
            blocks = [block]
        else:
            first = self._height(criteria.get("fromBlock") or "latest")
            last = self._height(criteria.get("toBlock") or "latest")
            if first > last:
                raise RpcError(INVALID_PARAMS, "invalid block range params")
            blocks = [self._chain.block_at(number) for number in range(first, min(last, self._chain.head.number) + 1)]
        return [shapes.log(log, block, index) for block in blocks if block for index, log in wanted.select(block)]

    def _height(self, tag: Any) -> int:
        block = self._tagged(tag)
        return block.number if block else quantity(tag)

    # -- State and execution

    def _call(self, message: Any, at: Any = "latest", overrides: Any = None) -> str:
        sender, to, _, data = _message(message)
        gas = min(quantity(message["gas"]), GAS_LIMIT) if "gas" in message else GAS_LIMIT
        return shapes.data(self._chain.evm.call(self._state(at), sender, to, data, gas))

    def _estimate_gas(self, message: Any, at: Any = "latest") -> str:
        sender, to, value, data = _message(message)
        return hex(self._chain.evm.estimate_gas(self._state(at), sender, to, value, data))

    def _storage_at(self, who: Any, slot: Any, at: Any = "latest") -> str:
        value = self._chain.evm.storage(self._state(at), hex_bytes(who, 20), quantity(slot))
        return shapes.data(value.to_bytes(32, "big"))

    def _transaction_count(self, who: Any, at: Any = "latest") -> str:
        address = hex_bytes(who, 20)
        if at == "pending":
            return hex(self._chain.pending_nonce(address))
        return hex(self._chain.evm.nonce(self._state(at), address))

    def _fee_history(self, count: Any, newest: Any, percentiles: Any = None) -> dict[str, Any]:
        last = self._state(newest).number
        first = max(0, last - min(_number(count), 1024) + 1)
        blocks = [block for number in range(first, last + 1) if (block := self._chain.block_at(number))]
        history: dict[str, Any] = {
            "oldestBlock": hex(first),
            # One more than asked, the next block's; unchanged is near enough where blocks are almost empty.
            "baseFeePerGas": [hex(b.header.base_fee_per_gas) for b in [*blocks, blocks[-1]]],
            "gasUsedRatio": [b.header.gas_used / b.header.gas_limit for b in blocks],
        }
        if percentiles:
            history["reward"] = [[hex(_MIN_TIP_WEI) for _ in percentiles] for _ in blocks]
        return history

    def _send_raw_transaction(self, raw: Any) -> str:
        return shapes.data(self._chain.send(hex_bytes(raw)))

    # -- Controls

    def _mine(self, blocks: Any = 1, interval: Any = 0) -> str:
        """`interval` (anvil's seconds between block times) means nothing here: times follow the clock."""
        count = _number(blocks)
        if not 1 <= count <= _MAX_BLOCKS_AT_ONCE:
            raise RpcError(INVALID_PARAMS, f"from 1 to {_MAX_BLOCKS_AT_ONCE} blocks at once")
        for _ in range(count):
            self._chain.mine()
        return "0x0"

    def _set_finality_depth(self, depth: Any) -> bool:
        self._chain.set_finality_depth(_number(depth))
        return True


def check_arguments(handler: Callable[..., Any], params: list[Any]) -> None:
    """Raises RpcError(-32602) in geth's words when there are too few or too many parameters."""
    parameters = inspect.signature(handler).parameters.values()
    required = sum(parameter.default is parameter.empty for parameter in parameters)
    if len(params) < required:
        raise RpcError(INVALID_PARAMS, f"missing value for required argument {len(params)}")
    if len(params) > len(parameters):
        raise RpcError(INVALID_PARAMS, f"too many arguments, want at most {len(parameters)}")


def _message(message: Any) -> tuple[bytes, bytes, int, bytes]:
    """(from, to, value in wei, data) of a call object; `to` empty to create a contract."""
    if not isinstance(message, Mapping):
        raise RpcError(INVALID_PARAMS, "invalid argument 0: not an object")
    sender = hex_bytes(message["from"], 20) if message.get("from") else bytes(20)
    to = hex_bytes(message["to"], 20) if message.get("to") else b""
    data = message.get("input") or message.get("data") or "0x"
    return sender, to, quantity(message.get("value") or "0x0"), hex_bytes(data)


def _number(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return quantity(value)


def _branches(change: BranchChange) -> dict[str, list[str]]:
    return {
        "removed": [shapes.data(block.hash) for block in change.removed],
        "added": [shapes.data(block.hash) for block in change.added],
    }
