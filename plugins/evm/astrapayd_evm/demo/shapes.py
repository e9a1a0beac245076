"""Answers in the JSON shapes of geth (execution-apis schemas; field names from geth's `internal/ethapi`)."""

from __future__ import annotations

from typing import Any

from eth_hash.auto import keccak

from .blocks import Block, Log, Receipt, SignedTransaction
from .evm import effective_gas_price


def data(value: bytes) -> str:
    """Bytes as 0x-hex of full length."""
    return "0x" + value.hex()


def address(value: bytes) -> str:
    """An address in lower case, as geth answers it."""
    return "0x" + value.hex()


def header(block: Block) -> dict[str, Any]:
    """A header as `newHeads` sends it: a block without transactions, uncles, withdrawals and size."""
    head = block.header
    return {
        "parentHash": data(block.parent_hash),
        "sha3Uncles": data(head.uncles_hash),
        "miner": address(head.coinbase),
        "stateRoot": data(head.state_root),
        "transactionsRoot": data(head.transaction_root),
        "receiptsRoot": data(head.receipt_root),
        "logsBloom": data(head.bloom.to_bytes(256, "big")),
        "difficulty": hex(head.difficulty),
        "number": hex(block.number),
        "gasLimit": hex(head.gas_limit),
        "gasUsed": hex(head.gas_used),
        "timestamp": hex(block.timestamp),
        "extraData": data(head.extra_data),
        "mixHash": data(head.mix_hash),
        "nonce": data(head.nonce),
        "baseFeePerGas": hex(head.base_fee_per_gas),
        "withdrawalsRoot": data(head.withdrawals_root),
        "blobGasUsed": hex(head.blob_gas_used),
        "excessBlobGas": hex(head.excess_blob_gas),
        "parentBeaconBlockRoot": data(head.parent_beacon_block_root),
        "requestsHash": data(head.requests_hash),
        "hash": data(block.hash),
    }


def block(value: Block, full_transactions: bool) -> dict[str, Any]:
    """A block with its transactions' hashes, or with the transactions themselves."""
    transactions: list[Any]
    if full_transactions:
        transactions = [transaction(tx, value, index) for index, tx in enumerate(value.transactions)]
    else:
        transactions = [data(tx.hash) for tx in value.transactions]
    return {
        **header(value),
        "size": hex(value.size),
        "transactions": transactions,
        "uncles": [],
        "withdrawals": [],
    }


def transaction(tx: SignedTransaction, where: Block | None, index: int = 0) -> dict[str, Any]:
    """A transaction at its place in a block, or, with `where` None, one that waits in the pool."""
    kind = getattr(tx, "type_id", None) or 0
    base_fee = where.header.base_fee_per_gas if where else None
    shape: dict[str, Any] = {
        "blockHash": data(where.hash) if where else None,
        "blockNumber": hex(where.number) if where else None,
        "from": address(tx.sender),
        "gas": hex(tx.gas),
        "gasPrice": hex(tx.max_fee_per_gas if base_fee is None else effective_gas_price(tx, base_fee)),
        "hash": data(tx.hash),
        "input": data(tx.data),
        "nonce": hex(tx.nonce),
        "to": address(tx.to) if tx.to else None,
        "transactionIndex": hex(index) if where else None,
        "value": hex(tx.value),
        "type": hex(kind),
        "r": hex(tx.r),
        "s": hex(tx.s),
    }
    if tx.chain_id is not None:
        shape["chainId"] = hex(tx.chain_id)
    if kind == 0:
        shape["v"] = hex(tx.v)
        return shape
    if kind == 2:
        shape["maxFeePerGas"] = hex(tx.max_fee_per_gas)
        shape["maxPriorityFeePerGas"] = hex(tx.max_priority_fee_per_gas)
    shape["accessList"] = [
        {"address": address(account), "storageKeys": [data(slot.to_bytes(32, "big")) for slot in slots]}
        for account, slots in tx.access_list
    ]
    shape["v"] = shape["yParity"] = hex(tx.y_parity)
    return shape


def log(value: Log, where: Block, index: int, removed: bool = False) -> dict[str, Any]:
    """A log of the transaction at `index` of block `where`."""
    return {
        "address": address(value.address),
        "topics": [data(topic) for topic in value.topics],
        "data": data(value.data),
        "blockNumber": hex(where.number),
        "transactionHash": data(where.transactions[index].hash),
        "transactionIndex": hex(index),
        "blockHash": data(where.hash),
        "blockTimestamp": hex(where.timestamp),
        "logIndex": hex(value.index),
        "removed": removed,
    }


def receipt(where: Block, index: int) -> dict[str, Any]:
    """The receipt of the transaction at `index` of block `where`."""
    tx: SignedTransaction = where.transactions[index]
    outcome: Receipt = where.receipts[index]
    return {
        "blockHash": data(where.hash),
        "blockNumber": hex(where.number),
        "contractAddress": address(outcome.contract_address) if outcome.contract_address else None,
        "cumulativeGasUsed": hex(outcome.cumulative_gas_used),
        "effectiveGasPrice": hex(outcome.effective_gas_price),
        "from": address(tx.sender),
        "gasUsed": hex(outcome.gas_used),
        "logs": [log(value, where, index) for value in outcome.logs],
        "logsBloom": data(outcome.bloom.to_bytes(256, "big")),
        "status": hex(outcome.status),
        "to": address(tx.to) if tx.to else None,
        "transactionHash": data(tx.hash),
        "transactionIndex": hex(index),
        "type": hex(getattr(tx, "type_id", None) or 0),
    }


def checksum_address(value: bytes) -> str:
    """The address with its EIP-55 checksum, as people see it."""
    plain = value.hex()
    digest = keccak(plain.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) >= 8 else c for c, d in zip(plain, digest, strict=False))
