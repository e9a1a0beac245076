"""Blocks and infos in the shapes that java-tron's HTTP answers with, for the tests of the decoder.

Fields that are zero or empty are left out, as java-tron does. Shapes: ``wallet/getblockbynum`` and
``wallet/gettransactioninfobyblocknum`` as documented by java-tron.
"""

from __future__ import annotations

import hashlib
from typing import Any

from astrapayd_tron.address import to_hex20
from astrapayd_tron.decode import TRANSFER_TOPIC

USDT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
HEIGHT = 60_000_000
TIME_MS = 1_764_000_000_000


def block_id(height: int, seed: str = "") -> str:
    """The first 8 bytes are the height."""
    return f"{height:016x}" + hashlib.sha256(f"{height} {seed}".encode()).hexdigest()[16:]


def txid(number: int) -> str:
    return hashlib.sha256(f"tx {number}".encode()).hexdigest()


def block(transactions: list[dict[str, Any]], height: int = HEIGHT, time_ms: int = TIME_MS) -> dict[str, Any]:
    header = {
        "number": height,
        "txTrieRoot": "00" * 32,
        "witness_address": "41" + "77" * 20,
        "parentHash": block_id(height - 1),
        "version": 31,
        "timestamp": time_ms,
    }
    made: dict[str, Any] = {
        "blockID": block_id(height),
        "block_header": {"raw_data": header, "witness_signature": "00" * 65},
    }
    return made | {"transactions": transactions} if transactions else made


def transaction(tx: str, kind: str, value: dict[str, Any], result: str | None = "SUCCESS") -> dict[str, Any]:
    return {
        "ret": [{"contractRet": result}] if result else [{}],
        "signature": ["00" * 65],
        "txID": tx,
        "raw_data": {
            "contract": [
                {"parameter": {"value": value, "type_url": f"type.googleapis.com/protocol.{kind}"}, "type": kind}
            ],
            "ref_block_bytes": "0000",
            "ref_block_hash": "00" * 8,
            "expiration": TIME_MS + 60_000,
            "timestamp": TIME_MS - 1000,
        },
        "raw_data_hex": "",
    }


def trx(tx: str, sender: str, to: str, amount_sun: int, result: str | None = "SUCCESS") -> dict[str, Any]:
    value: dict[str, Any] = {"owner_address": "41" + to_hex20(sender), "to_address": "41" + to_hex20(to)}
    if amount_sun:
        value["amount"] = amount_sun
    return transaction(tx, "TransferContract", value, result)


def call(tx: str, sender: str, contract: str, result: str | None = "SUCCESS") -> dict[str, Any]:
    value = {
        "data": "a9059cbb",
        "owner_address": "41" + to_hex20(sender),
        "contract_address": "41" + to_hex20(contract),
    }
    return transaction(tx, "TriggerSmartContract", value, result)


def info(
    tx: str,
    *,
    result: str | None = None,
    log: list[dict[str, Any]] | None = None,
    internal: list[dict[str, Any]] | None = None,
    height: int = HEIGHT,
    time_ms: int = TIME_MS,
) -> dict[str, Any]:
    """:param result: of the contract's call; None for a transaction that calls none."""
    made: dict[str, Any] = {
        "id": tx,
        "blockNumber": height,
        "blockTimeStamp": time_ms,
        "contractResult": [""],
        "receipt": {"net_usage": 345},
    }
    if result is not None:
        made["receipt"] = {"energy_usage_total": 14650, "net_usage": 345, "result": result}
        if result != "SUCCESS":
            made |= {"result": "FAILED", "resMessage": "524556455254"}
    if log:
        made["log"] = log
    if internal:
        made["internal_transactions"] = internal
    return made


def word(address: str) -> str:
    """An address as it stands in a topic."""
    return "0" * 24 + to_hex20(address)


def transfer_log(contract: str, sender: str, to: str, amount_base: int) -> dict[str, Any]:
    return {
        "address": to_hex20(contract),
        "topics": [TRANSFER_TOPIC, word(sender), word(to)],
        "data": f"{amount_base:064x}",
    }


def internal(
    caller: str, to: str, amount_sun: int, *, note: str = "call", token: str | None = None, rejected: bool = False
) -> dict[str, Any]:
    value: dict[str, Any] = {"callValue": amount_sun} if amount_sun else {}
    made: dict[str, Any] = {
        "hash": hashlib.sha256(f"{caller}{to}{amount_sun}".encode()).hexdigest(),
        "caller_address": "41" + to_hex20(caller),
        "transferTo_address": "41" + to_hex20(to),
        "callValueInfo": [{}, value | {"tokenId": token}] if token else [value],
        "note": note.encode().hex(),
    }
    return made | {"rejected": True} if rejected else made
