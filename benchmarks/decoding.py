"""Logs decoded per second, beside web3.py's ``process_log`` on the same logs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from astrapayd.transfers import BlockRef, Watched
from astrapayd_evm.decode import TRANSFER_TOPIC, token_transfers
from benchmarks.figures import Figure, median

RECEIPTS = 300
LOGS_EACH = 4
ROUNDS = 7
_CONTRACT = "0x" + "11" * 20
_OURS = "0x" + "22" * 20
_BLOCK = "0x" + "33" * 32


def measure() -> list[Figure]:
    """Once where every log pays us (the worst block there can be), once where one in a hundred does."""
    rows = []
    for name, share in (("every log pays us", 1.0), ("one log in 100 pays us", 0.01)):
        receipts = _receipts(share)
        logs = [log for receipt in receipts for log in receipt["logs"]]
        ref = BlockRef(1, _BLOCK, "0x" + "44" * 32, 0)
        watched = Watched(1, frozenset({_OURS}), frozenset({_CONTRACT}), native=False)
        found = len(token_transfers(receipts, ref, watched))
        assert found == sum(log["topics"][2].endswith(_OURS[2:]) for log in logs)
        ours = _rate(len(logs), partial(token_transfers, receipts, ref, watched))
        theirs = _rate(len(logs), _web3(logs))
        rows.append(Figure(f"logs decoded, {name}", ours, "/s", theirs, "web3.py process_log"))
    return rows


def _rate(logs: int, work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return logs / median(seconds)


def _web3(logs: list[dict[str, Any]]) -> Callable[[], Any]:
    """web3.py given what its own formatters make of the answer, which is not counted."""
    from web3 import Web3
    from web3._utils.method_formatters import log_entry_formatter
    from web3.datastructures import AttributeDict

    event = {
        "anonymous": False,
        "inputs": [
            {"indexed": True, "name": "from", "type": "address"},
            {"indexed": True, "name": "to", "type": "address"},
            {"indexed": False, "name": "value", "type": "uint256"},
        ],
        "name": "Transfer",
        "type": "event",
    }
    transfer = Web3().eth.contract(abi=[event]).events.Transfer()
    formatted = [AttributeDict.recursive(log_entry_formatter(log)) for log in logs]
    return lambda: [transfer.process_log(log) for log in formatted]


def _receipts(share: float) -> list[dict[str, Any]]:
    """As a node sends them, through JSON and back, so that nothing is shared between them."""
    rng = random.Random(1)
    receipts = []
    index = 0
    for r in range(RECEIPTS):
        tx = f"0x{rng.getrandbits(256):064x}"
        logs = []
        for _ in range(LOGS_EACH):
            recipient = _OURS[2:] if rng.random() < share else f"{rng.getrandbits(160):040x}"
            logs.append(
                {
                    "address": _CONTRACT,
                    "topics": [TRANSFER_TOPIC, f"0x{rng.getrandbits(160):064x}", f"0x{recipient:0>64}"],
                    "data": f"0x{rng.getrandbits(60) + 1:064x}",
                    "blockNumber": "0x1",
                    "blockHash": _BLOCK,
                    "transactionHash": tx,
                    "transactionIndex": hex(r),
                    "logIndex": hex(index),
                    "removed": False,
                }
            )
            index += 1
        receipts.append({"transactionHash": tx, "blockHash": _BLOCK, "status": "0x1", "logs": logs})
    answer: list[dict[str, Any]] = orjson.loads(orjson.dumps(receipts))
    return answer
