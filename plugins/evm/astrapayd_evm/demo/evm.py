"""Execution: the only module that drives py-evm.

py-evm is used directly and not through eth-tester: eth-tester keeps one pending transaction per sender, numbers logs
per transaction, runs the block clock ahead and forgets side branches. py-evm, which it is built on, does none of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.exceptions import UnrecognizedTransactionType, VMError
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey
from eth_utils.exceptions import ValidationError

from .blocks import Block, GenesisRecipe, Log, Receipt, SignedTransaction

GAS_LIMIT = 30_000_000
_FUNDS_WEI = 10_000 * 10**18
_ZERO_ADDRESS = bytes(20)


class CallFailed(Exception):
    """An eth_call or gas estimate failed. `data` is what the contract reverted with, if it did."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class Evm:
    """Executes blocks on any parent and answers state questions at any executed block (Prague rules)."""

    def __init__(self, chain_id: int, genesis: GenesisRecipe, funded: Sequence[bytes]) -> None:
        chain_class: Any = MiningChain.configure(  # type: ignore[no-untyped-call,unused-ignore]
            __name__="DemoChain", vm_configuration=((0, PragueVM),), chain_id=chain_id
        )
        self.chain_id = chain_id
        self._chain: Any = chain_class.from_genesis(
            AtomicDB(),
            {
                "coinbase": _ZERO_ADDRESS,
                "difficulty": 0,
                "extra_data": genesis.extra,
                "gas_limit": GAS_LIMIT,
                "mix_hash": bytes(32),
                "nonce": bytes(8),
                "timestamp": genesis.timestamp,
            },
            {address: {"balance": _FUNDS_WEI, "nonce": 0, "code": b"", "storage": {}} for address in funded},
        )
        head = self._chain.get_canonical_head()
        self.genesis = _as_block(self._chain.get_block_by_header(head), ())

    def decode(self, raw: bytes) -> SignedTransaction:
        """A signed transaction from its EIP-2718 bytes. Raises ValueError with geth's wording."""
        if raw and raw[0] < 0x80 and raw[0] not in (1, 2):
            raise ValueError("transaction type not supported")
        try:
            transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
            transaction.validate()
            _ = transaction.sender
        except UnrecognizedTransactionType:
            raise ValueError("transaction type not supported") from None
        except Exception as error:  # rlp, eth_keys and py-evm each raise their own kinds for bad bytes
            raise ValueError(f"invalid transaction: {error or type(error).__name__}") from None
        if transaction.chain_id is not None and transaction.chain_id != self.chain_id:
            raise ValueError("invalid sender: invalid chain id for signer")
        return transaction

    def sign_legacy(self, private_key: str, nonce: int, to: bytes, data: bytes, gas: int) -> SignedTransaction:
        """A legacy (EIP-155) transaction without value; `to` empty to create a contract. For the chain's own set-up."""
        unsigned = self._chain.get_vm().create_unsigned_transaction(
            nonce=nonce, gas_price=2 * 10**9, gas=gas, to=to, value=0, data=data
        )
        key = PrivateKey(bytes.fromhex(private_key.removeprefix("0x")))
        return unsigned.as_signed_transaction(key, chain_id=self.chain_id)

    def execute(
        self, parent: Block, timestamp: int, extra: bytes, candidates: Sequence[SignedTransaction]
    ) -> tuple[Block, tuple[SignedTransaction, ...]]:
        """Build a block on `parent` from those candidates that are valid in this order; also return the others.

        A transaction that reverts is in the block with status 0. Left out: wrong nonce, too little money, no room.
        """
        base = self._chain.create_header_from_parent(
            parent.header, timestamp=timestamp, gas_limit=GAS_LIMIT, extra_data=extra
        )
        vm = self._chain.get_vm(base)
        vm.block_preprocessing(vm.get_block())
        header, included, receipts, left_out = base, [], [], []
        for transaction in candidates:
            try:
                receipt, _ = vm.apply_transaction(header, transaction)
            except ValidationError:
                left_out.append(transaction)
                continue
            header = vm.add_receipt_to_header(header, receipt)
            included.append(transaction)
            receipts.append(receipt)
        filled = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, included, receipts)
        # Not vm.mine_block() and chain.persist_block(): they insist on a later time than the parent's. Blocks made in a
        # burst share a second here (as on Arbitrum): a clock that runs ahead would expire live sessions.
        block = vm.finalize_block(vm.block_postprocessing(filled)).block
        self._chain.chaindb.persist_block(block)
        return _as_block(block, receipts), tuple(left_out)

    def balance(self, at: Block, address: bytes) -> int:
        """Balance in wei after block `at`."""
        return int(self._state(at).get_balance(address))

    def nonce(self, at: Block, address: bytes) -> int:
        """Number of transactions sent, after block `at`."""
        return int(self._state(at).get_nonce(address))

    def code(self, at: Block, address: bytes) -> bytes:
        """Contract code after block `at`, empty for an ordinary account."""
        return bytes(self._state(at).get_code(address))

    def storage(self, at: Block, address: bytes, slot: int) -> int:
        """One 32-byte storage slot as a number, after block `at`."""
        return int(self._state(at).get_storage(address, slot))

    def call(self, at: Block, sender: bytes, to: bytes, data: bytes, gas: int = GAS_LIMIT) -> bytes:
        """Run a message call on the state after block `at` and forget its effects. Raises CallFailed."""
        vm = self._chain.get_vm(at.header)
        code = vm.state.get_code(to) if to else data
        computation = vm.execute_bytecode(
            origin=sender, gas_price=0, gas=gas, to=to or _ZERO_ADDRESS, sender=sender, value=0,
            data=data if to else b"", code=code, code_address=to or None,
        )  # fmt: skip
        if computation.is_error:
            raise _call_failed(computation.error)
        return bytes(computation.output)

    def estimate_gas(self, at: Block, sender: bytes, to: bytes, value: int, data: bytes) -> int:
        """Smallest gas limit (within a tolerance) that lets the transaction succeed. Raises CallFailed."""
        vm = self._chain.get_vm(at.header)
        unsigned = vm.create_unsigned_transaction(
            nonce=vm.state.get_nonce(sender), gas_price=0, gas=GAS_LIMIT, to=to, value=value, data=data
        )
        try:
            return int(self._chain.estimate_gas(SpoofTransaction(unsigned, from_=sender), at.header))
        except VMError as error:
            raise _call_failed(error) from None
        except ValidationError as error:
            raise CallFailed(str(error)) from None

    def _state(self, at: Block) -> Any:
        return self._chain.get_vm(at.header).state


def effective_gas_price(transaction: SignedTransaction, base_fee: int) -> int:
    """What is paid per gas, in wei (EIP-1559)."""
    # py-evm gives legacy and access-list transactions both fee fields too, each equal to their gas price.
    return int(min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas + base_fee))


def encode(transaction: SignedTransaction) -> bytes:
    """The EIP-2718 bytes of a signed transaction."""
    return bytes(transaction.encode())


def _call_failed(error: BaseException) -> CallFailed:
    if type(error).__name__ == "Revert":
        data = error.args[0] if error.args and isinstance(error.args[0], bytes) else b""
        return CallFailed("execution reverted", data)
    return CallFailed(str(error) or type(error).__name__)


def _as_block(block: Any, receipts: Sequence[Any]) -> Block:
    outcomes: list[Receipt] = []
    cumulative = log_index = 0
    for transaction, receipt in zip(block.transactions, receipts, strict=True):
        logs = []
        for log in receipt.logs:
            topics = tuple(topic.to_bytes(32, "big") for topic in log.topics)
            logs.append(Log(bytes(log.address), topics, bytes(log.data), log_index))
            log_index += 1
        outcomes.append(
            Receipt(
                status=int.from_bytes(receipt.state_root, "big"),
                gas_used=receipt.gas_used - cumulative,
                cumulative_gas_used=receipt.gas_used,
                effective_gas_price=effective_gas_price(transaction, block.header.base_fee_per_gas),
                contract_address=None if transaction.to else _created(transaction),
                bloom=receipt.bloom,
                logs=tuple(logs),
            )
        )
        cumulative = receipt.gas_used
    return Block(
        number=block.number,
        hash=bytes(block.hash),
        parent_hash=bytes(block.header.parent_hash),
        timestamp=block.header.timestamp,
        header=block.header,
        size=len(rlp.encode(block)),
        transactions=tuple(block.transactions),
        receipts=tuple(outcomes),
    )


def _created(transaction: SignedTransaction) -> bytes:
    return bytes(keccak(rlp.encode([transaction.sender, transaction.nonce]))[-20:])
