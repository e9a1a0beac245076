"""Coin that contracts send on, from both kinds of trace: the same transfers with the same identities."""

from __future__ import annotations

from typing import Any

import pytest

from astrapayd.node_faults import MalformedAnswer
from astrapayd.transfers import BlockRef, TransferKind
from astrapayd_evm import traces

PAYER, SAFE, OURS, OTHER, PRECOMPILE = ("0x" + two * 20 for two in ("a1", "b2", "c3", "d4", "04"))
REF = BlockRef(100, "0x" + "ee" * 32, "0x" + "dd" * 32, 1_700_000_000)
TX = "0x" + "77" * 32
ADDRESSES = frozenset({OURS})


def call(to: str, value: int, *calls: dict[str, Any], kind: str = "CALL", **more: Any) -> dict[str, Any]:
    """A frame of geth's callTracer."""
    frame: dict[str, Any] = {"type": kind, "from": SAFE, "to": to, "value": hex(value), **more}
    if calls:
        frame["calls"] = list(calls)
    return frame


def flat(frame: dict[str, Any], path: tuple[int, ...] = (), *, builtins: bool = False) -> list[dict[str, Any]]:
    """The same as ``trace_block`` lists it: flat, and without calls to built-in contracts."""
    if frame["to"] == PRECOMPILE and not builtins:
        return []
    action = {"callType": frame["type"].lower(), "from": frame["from"], "to": frame["to"], "value": frame["value"]}
    if frame["type"] == "SELFDESTRUCT":
        action = {"address": frame["from"], "refundAddress": frame["to"], "balance": frame["value"]}
    kind = "suicide" if frame["type"] == "SELFDESTRUCT" else "call"
    trace = {"transactionHash": TX, "blockHash": REF.hash, "traceAddress": list(path), "type": kind, "action": action}
    if "error" in frame:
        trace["error"] = frame["error"]
    return [trace, *(t for i, c in enumerate(frame.get("calls", [])) for t in flat(c, (*path, i), builtins=builtins))]


def both(root: dict[str, Any]) -> list[tuple[int, int]]:
    """(ordinal, amount) of what came to us; the two kinds of trace must agree."""
    geth = traces.from_call_tracer([{"txHash": TX, "result": root}], [TX], REF, ADDRESSES)
    assert traces.from_trace_block(flat(root), [TX], REF, ADDRESSES) == geth
    assert all(t.kind is TransferKind.INTERNAL and t.recipient == OURS and t.block == REF for t in geth)
    return [(t.ordinal, t.amount_base) for t in geth]


def test_contract_payer() -> None:
    assert both(call(SAFE, 5, call(OURS, 5))) == [(1, 5)]


def test_the_transaction_itself_is_no_internal_transfer() -> None:
    assert both(call(OURS, 5)) == []


def test_batch_of_an_exchange_counts_every_movement() -> None:
    assert both(call(SAFE, 0, call(OTHER, 1), call(OURS, 2), call(OTHER, 0), call(OURS, 3))) == [(2, 2), (3, 3)]


def test_calls_to_built_in_contracts_move_no_ordinal() -> None:
    assert both(call(SAFE, 0, call(PRECOMPILE, 0), call(OURS, 7))) == [(1, 7)]


def test_what_failed_moved_nothing_and_neither_did_what_it_called() -> None:
    failed = call(SAFE, 0, call(OURS, 4), error="execution reverted")
    assert both(call(SAFE, 0, failed, call(OURS, 6))) == [(1, 6)]
    assert both(call(SAFE, 0, call(OURS, 4), error="execution reverted")) == []


@pytest.mark.parametrize("kind", ["DELEGATECALL", "CALLCODE", "STATICCALL"])
def test_calls_whose_value_goes_nowhere(kind: str) -> None:
    assert both(call(SAFE, 0, call(OURS, 4, kind=kind))) == []


def test_selfdestruct_pays() -> None:
    assert both(call(SAFE, 0, call(OURS, 9, kind="SELFDESTRUCT"))) == [(1, 9)]


def test_deep_calls_are_read() -> None:
    frame = call(OURS, 1)
    for _ in range(5_000):
        frame = call(SAFE, 0, frame)
    geth = traces.from_call_tracer([{"txHash": TX, "result": frame}], [TX], REF, ADDRESSES)
    assert [(t.ordinal, t.amount_base) for t in geth] == [(1, 1)]


@pytest.mark.parametrize(
    "answer",
    [None, [], [{}], [{"txHash": TX, "result": None}], [{"txHash": "0x" + "88" * 32, "result": call(SAFE, 0)}], "x"],
)
def test_malformed_traces_raise_one_error(answer: Any) -> None:
    with pytest.raises(MalformedAnswer):
        traces.from_call_tracer(answer, [TX], REF, ADDRESSES)
    with pytest.raises(MalformedAnswer):
        traces.from_trace_block(answer, [TX], REF, ADDRESSES)


def test_traces_of_another_block_are_refused() -> None:
    other = flat(call(SAFE, 0, call(OURS, 5)))
    other[0]["blockHash"] = "0x" + "99" * 32
    with pytest.raises(MalformedAnswer, match="another block"):
        traces.from_trace_block(other, [TX], REF, ADDRESSES)
