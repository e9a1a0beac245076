"""Native coin that a contract sends on: found only by tracing a block. Pure, as ``decode``.

Safe wallets, account abstraction and exchanges' batches pay like this: the transaction's own ``to`` is a contract. Two
forms of trace are read, geth's ``callTracer`` (``debug_traceBlockByHash``) and OpenEthereum's (``trace_block``: Erigon,
Nethermind, reth). Both list a transaction's calls in the order of execution; but they differ in which calls to built-in
contracts they list. The ordinal therefore counts only what moves coin and was not undone, the same from every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from astrapayd.node_faults import MalformedAnswer
from astrapayd.transfers import BlockRef, Transfer, TransferKind
from astrapayd_evm import decode

_MOVING = frozenset({"CALL", "CREATE", "CREATE2", "SELFDESTRUCT"})
"""Kinds of call that move coin: a DELEGATECALL or CALLCODE has a value that goes nowhere."""


def from_call_tracer(
    answer: Any, transactions: Sequence[str], ref: BlockRef, addresses: frozenset[str]
) -> list[Transfer]:
    """Internal transfers to watched addresses, from ``debug_traceBlockByHash(hash, {"tracer": "callTracer"})``.

    A call that failed moved nothing, and neither did anything that it called.

    :param transactions: the block's transaction hashes: the trace must be of each of them, in their order.
    :raises MalformedAnswer: if anything is missing or of another form.
    """
    found: list[Transfer] = []
    with decode.malformed("a block's traces"):
        if len(answer) != len(transactions):
            raise MalformedAnswer("sent traces of more or fewer transactions than the block has")
        for tx, traced in zip(transactions, answer, strict=True):
            if traced.get("txHash", tx) != tx:  # geth added it in 1.11
                raise MalformedAnswer("sent traces of other transactions than the block's")
            moves = (
                (call["from"], call.get("to"), call.get("value") or "0x0")
                for call in _in_order(traced["result"])
                if call["type"] in _MOVING
            )
            found += _transfers(tx, moves, ref, addresses)
    return found


def _in_order(root: Any) -> Iterator[Any]:
    """The calls inside a transaction in the order of execution, without those that were undone. Iterative: a contract
    decides how deep it goes."""
    waiting: list[Any] = [root]
    while waiting:
        call = waiting.pop()
        if call.get("error"):
            continue
        if call is not root:
            yield call
        waiting += reversed(call.get("calls") or ())


def from_trace_block(
    answer: Any, transactions: Sequence[str], ref: BlockRef, addresses: frozenset[str]
) -> list[Transfer]:
    """Internal transfers to watched addresses, from ``trace_block(number)``; as :func:`from_call_tracer`.

    :raises MalformedAnswer: if anything is missing, of another form, or of another block.
    """
    moves: dict[str, list[tuple[Any, Any, Any]]] = {tx: [] for tx in transactions}
    undone: dict[str, set[tuple[int, ...]]] = {}
    traced: set[str] = set()
    with decode.malformed("a block's traces"):
        for trace in answer:
            tx = trace.get("transactionHash")
            if tx is None:
                continue  # a block reward of proof of work
            if trace["blockHash"] != ref.hash:
                raise MalformedAnswer("sent traces of another block")
            traced.add(tx)
            path = tuple(trace["traceAddress"])
            failed = undone.setdefault(tx, set())
            if trace.get("error") or any(path[:depth] in failed for depth in range(len(path))):
                failed.add(path)
                continue
            action = trace["action"]
            match trace["type"]:
                case "call" if path and action.get("callType") == "call":
                    moves[tx].append((action["from"], action["to"], action["value"]))
                case "create" if path:
                    moves[tx].append((action["from"], None, action["value"]))
                case "suicide":
                    moves[tx].append((action["address"], action["refundAddress"], action["balance"]))
        if traced != set(transactions):
            raise MalformedAnswer("sent traces of other transactions than the block's")
        return [t for tx in transactions for t in _transfers(tx, moves[tx], ref, addresses)]


def _transfers(
    tx: str, moves: Iterable[tuple[Any, Any, Any]], ref: BlockRef, addresses: frozenset[str]
) -> Iterator[Transfer]:
    """:param moves: sender, recipient (None: a new contract) and value of everything that moves coin, in order."""
    ordinal = 0
    for sender, recipient, value in moves:
        amount_base = decode.quantity(value)
        if not amount_base:
            continue
        ordinal += 1
        to = decode.address(recipient) if recipient is not None else None
        if to in addresses:
            yield Transfer(tx, TransferKind.INTERNAL, ordinal, None, decode.address(sender), to, amount_base, ref)
