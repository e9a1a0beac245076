"""The decoder, on valid and malformed answers: no other exception than its own, and never a wrong credit.

`make fuzz` runs it on a million logs; here on some thousands.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astrapayd.node_faults import MalformedAnswer
from astrapayd.transfers import BlockRef, Transfer, TransferKind, Watched
from astrapayd_evm import decode

USDT, OTHER_TOKEN, OURS, STRANGER = ("0x" + two * 20 for two in ("a1", "b2", "c3", "d4"))
BLOCK_HASH, PARENT = "0x" + "ee" * 32, "0x" + "dd" * 32
REF = BlockRef(100, BLOCK_HASH, PARENT, 1_700_000_000)
WATCHED = Watched(1, frozenset({OURS}), frozenset({USDT}), native=True)
EXAMPLES = int(os.environ.get("ASTRAPAYD_FUZZ_EXAMPLES", "400"))
EXAMPLE_LOGS = 5
counted = {"logs": 0}


@pytest.fixture(scope="module", autouse=True)
def tell_how_many_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """`make fuzz` is about a number: say it."""
    yield
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    if capture is not None and EXAMPLES > 1_000:
        with capture.global_and_fixture_disabled():
            print(f"\n{counted['logs']:,} generated logs went through the decoder")


def tx_hash(number: int) -> str:
    return f"0x{number:064x}"


def topic(address: str) -> str:
    return "0x" + "0" * 24 + address[2:]


def log(tx: int, index: int, **changed: Any) -> dict[str, Any]:
    """A log that pays us one base unit, unless changed."""
    return {
        "address": USDT,
        "topics": [decode.TRANSFER_TOPIC, topic(STRANGER), topic(OURS)],
        "data": f"0x{1:064x}",
        "blockNumber": "0x64",
        "blockHash": BLOCK_HASH,
        "transactionHash": tx_hash(tx),
        "transactionIndex": "0x0",
        "logIndex": hex(index),
        "removed": False,
        **changed,
    }


def receipt(tx: int, logs: list[dict[str, Any]], status: str = "0x1") -> dict[str, Any]:
    return {"transactionHash": tx_hash(tx), "blockHash": BLOCK_HASH, "status": status, "logs": logs}


def block(transactions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "number": "0x64",
        "hash": BLOCK_HASH,
        "parentHash": PARENT,
        "timestamp": hex(REF.time),
        "transactions": transactions,
    }


def transaction(tx: int, to: str | None = USDT, value: int = 0) -> dict[str, Any]:
    return {"hash": tx_hash(tx), "blockHash": BLOCK_HASH, "from": STRANGER, "to": to, "value": hex(value)}


def decoded(*receipts: dict[str, Any], transactions: list[dict[str, Any]] | None = None) -> tuple[Transfer, ...]:
    """All transfers of a block with these receipts."""
    if transactions is None:
        transactions = [transaction(int(r["transactionHash"], 16)) for r in receipts]
    return decode.transfers(block(transactions), list(receipts), WATCHED)


def test_token_transfer() -> None:
    (found,) = decoded(receipt(7, [log(7, 0, data=f"0x{25_003_417:064x}")]))
    assert found == Transfer(tx_hash(7), TransferKind.TOKEN, 0, USDT, STRANGER, OURS, 25_003_417, REF)


def test_batch_transfer_with_several_logs_counts_from_its_own_receipt() -> None:
    """The ordinal is the place in the receipt, whatever stands before it in the block."""
    found = decoded(
        receipt(1, [log(1, 0), log(1, 1, address=OTHER_TOKEN)]),
        receipt(2, [log(2, 2, address=OTHER_TOKEN), log(2, 3), log(2, 4)]),
    )
    assert [(t.tx, t.ordinal) for t in found] == [(tx_hash(1), 0), (tx_hash(2), 1), (tx_hash(2), 2)]


def test_native_transfer_and_first_log_in_one_transaction() -> None:
    found = decoded(receipt(3, [log(3, 0)]), transactions=[transaction(3, OURS, 5)])
    assert [(t.kind, t.ordinal, t.amount_base) for t in found] == [
        (TransferKind.NATIVE, 0, 5),
        (TransferKind.TOKEN, 0, 1),
    ]
    assert len({t.identity for t in found}) == 2


def test_2_to_the_256_minus_1() -> None:
    (found,) = decoded(receipt(7, [log(7, 0, data="0x" + "f" * 64)]))
    assert found.amount_base == 2**256 - 1


@pytest.mark.parametrize(
    "changed",
    [
        {"address": OTHER_TOKEN},
        {"data": f"0x{0:064x}"},
        {"data": "0x"},
        {"data": f"0x{1:064x}{1:064x}"},
        {"topics": [decode.TRANSFER_TOPIC, topic(STRANGER), topic(STRANGER)]},
        {"topics": [decode.TRANSFER_TOPIC, topic(STRANGER), topic(OURS), topic(OURS)]},
        {"topics": [decode.TRANSFER_TOPIC, topic(STRANGER)]},
        {"topics": ["0x" + "99" * 32, topic(STRANGER), topic(OURS)]},
        {"topics": [decode.TRANSFER_TOPIC, "0x" + "11" * 32, topic(OURS)]},
        {"topics": []},
        {"removed": True},
    ],
)
def test_zero_value_and_look_alike_token_transfers_are_none(changed: dict[str, Any]) -> None:
    assert decoded(receipt(7, [log(7, 0, **changed)])) == ()


def test_failed_transaction_with_a_log_shaped_trace() -> None:
    assert decoded(receipt(7, [log(7, 0)], status="0x0"), transactions=[transaction(7, OURS, 5)]) == ()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda r: r.pop("blockHash"),
        lambda r: r.update(blockHash="0x" + "99" * 32),
        lambda r: r.update(logs=None),
        lambda r: r.update(transactionHash="0x12"),
        lambda r: r.pop("status"),
        lambda r: r.update(status="0x2"),
        lambda r: r["logs"][0].update(blockHash="0x" + "99" * 32),
        lambda r: r["logs"][0].update(transactionHash=tx_hash(8)),
        lambda r: r["logs"][0].update(data="0xzz"),
        lambda r: r["logs"].insert(0, log(7, 5)),
    ],
)
def test_what_only_a_broken_node_sends_is_asked_for_again(break_it: Any) -> None:
    broken = receipt(7, [log(7, 0)])
    break_it(broken)
    with pytest.raises(MalformedAnswer):
        decode.transfers(block([transaction(7)]), [broken], WATCHED)


def test_receipt_that_is_missing_is_noticed() -> None:
    with pytest.raises(MalformedAnswer, match="without that of one of its transactions"):
        decoded(receipt(1, []), transactions=[transaction(1), transaction(2)])


# -- generated answers --------------------------------------------------------------------------------------------

junk: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=70),
    st.sampled_from(["0x", "0x0", "-0x1", "0x1_0", " 0x1", "0x" + "f" * 65, BLOCK_HASH, OURS, topic(OURS)]),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
token = st.sampled_from([USDT, OTHER_TOKEN, USDT.upper().replace("0X", "0x")])
amount = st.one_of(st.integers(0, 3), st.integers(0, 2**256 - 1))
recipient = st.sampled_from([OURS, STRANGER])


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[str, int, int]]]:
    """Valid receipts, and what they pay us, worked out beside the decoder: (transaction, ordinal, amount)."""
    receipts, expected, index = [], [], 0
    for tx in range(1, draw(st.integers(1, 3)) + 1):
        logs = []
        ok = draw(st.booleans()) or draw(st.booleans())
        for ordinal in range(draw(st.integers(0, EXAMPLE_LOGS))):
            contract, to, value = draw(token), draw(recipient), draw(amount)
            logs.append(
                log(
                    tx,
                    index,
                    address=contract,
                    topics=[decode.TRANSFER_TOPIC, topic(STRANGER), topic(to)],
                    data=f"0x{value:064x}",
                )
            )
            if ok and contract.lower() == USDT and to == OURS and value:
                expected.append((tx_hash(tx), ordinal, value))
            index += 1
        receipts.append(receipt(tx, logs, "0x1" if ok else "0x0"))
    counted["logs"] += index
    return receipts, expected


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answers())
def test_valid_logs_are_credited_exactly(answer: tuple[list[dict[str, Any]], list[tuple[str, int, int]]]) -> None:
    receipts, expected = answer
    found = decode.token_transfers(receipts, REF, WATCHED)
    assert [(t.tx, t.ordinal, t.amount_base) for t in found] == expected
    assert all(t.recipient == OURS and t.contract == USDT for t in found)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answers(), st.data())
def test_malformed_logs_raise_one_error_or_credit_a_part_of_the_truth(
    answer: tuple[list[dict[str, Any]], list[tuple[str, int, int]]], data: st.DataObject
) -> None:
    """Some field of some log or receipt becomes junk. Whatever still comes out was really paid, or nothing does."""
    receipts, expected = answer
    broken = copy.deepcopy(receipts)
    whole = data.draw(st.sampled_from(broken))
    place = data.draw(st.sampled_from([whole, *whole["logs"]]))
    key = data.draw(st.sampled_from(sorted(place)))
    if key == "data":  # junk that happens to be an amount would be another true transfer
        place[key] = data.draw(junk.filter(lambda value: not (isinstance(value, str) and len(value) == 66)))
    elif data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(junk)
    try:
        found = decode.token_transfers(broken, REF, WATCHED)
    except MalformedAnswer:
        return
    truth = {(tx, value) for tx, _, value in expected}
    assert {(t.tx, t.amount_base) for t in found} <= truth


@settings(max_examples=EXAMPLES, deadline=None)
@given(junk, junk)
def test_junk_raises_one_error(some: Any, other: Any) -> None:
    for call in (
        lambda: decode.block_ref(some),
        lambda: decode.transfers(some, other, WATCHED),
        lambda: decode.token_transfers([some], REF, WATCHED),
        lambda: decode.hits([some], {BLOCK_HASH: REF}, WATCHED),
        lambda: decode.native_candidates(block([some]), WATCHED),
    ):
        try:
            call()
        except MalformedAnswer:
            continue
