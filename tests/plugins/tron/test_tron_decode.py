"""From a java-tron node's JSON to transfers: what counts, what never does, and what no honest node would send."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrapayd.node_faults import MalformedAnswer
from astrapayd.transfers import BlockRef, Transfer, TransferKind, Watched
from astrapayd_tron.address import from_hex20, to_hex20
from astrapayd_tron.decode import TRANSFER_TOPIC, block_ref, prepare, transaction_ids, transfers
from tests.plugins.tron.tron_blocks import (
    HEIGHT,
    TIME_MS,
    USDT,
    block,
    block_id,
    call,
    info,
    internal,
    transaction,
    transfer_log,
    trx,
    txid,
    word,
)

EXAMPLES = int(os.environ.get("ASTRAPAYD_FUZZ_EXAMPLES", "300"))
OURS = [from_hex20(digit * 40) for digit in "ab"]
OTHERS = [from_hex20(digit * 40) for digit in "cd"]
ALIKE = from_hex20("a" * 39 + "b")  # begins as the first of ours does, in hex
TOKENS = [USDT, from_hex20("e" * 40)]
SCAM = from_hex20("f" * 40)
WATCHED = Watched(1, frozenset(OURS), frozenset(TOKENS), native=True)
REF = BlockRef(HEIGHT, block_id(HEIGHT), block_id(HEIGHT - 1), TIME_MS // 1000)
PAYER, SHOP = OTHERS[0], OURS[0]


def _of(tx: dict[str, Any], its_info: dict[str, Any], watched: Watched = WATCHED) -> list[Transfer]:
    return transfers(block([tx]), [its_info], watched)


def test_a_block_s_place() -> None:
    assert block_ref(block([])) == REF
    assert transfers(block([]), [], WATCHED) == transfers(block([]), {}, WATCHED) == []


def test_block_0_as_java_tron_sends_it_without_what_is_zero() -> None:
    genesis = block([])
    genesis["blockID"] = "00000000000000001ebf88508a03865c71d452e25f4d51194196a1d22b6653dc"
    header = genesis["block_header"]["raw_data"]
    del header["number"], header["timestamp"]
    header["parentHash"] = "957dc2d350daecc7bb6a38f3938ebde0a0c1cedafe15f0edae4256a2907449f6"
    assert block_ref(genesis) == BlockRef(0, genesis["blockID"], header["parentHash"], 0)


def test_trx() -> None:
    assert _of(trx(txid(1), PAYER, SHOP, 2**63 - 1), info(txid(1))) == [
        Transfer(txid(1), TransferKind.NATIVE, 0, None, PAYER, SHOP, 2**63 - 1, REF)
    ]


def test_trx_is_not_told_where_it_is_not_watched() -> None:
    tokens_only = Watched(1, WATCHED.addresses, WATCHED.contracts, native=False)
    assert _of(trx(txid(1), PAYER, SHOP, 5), info(txid(1)), tokens_only) == []
    inner = info(txid(1), result="SUCCESS", internal=[internal(SCAM, SHOP, 5)])
    assert _of(call(txid(1), PAYER, SCAM), inner, tokens_only) == []


def test_several_transfers_in_one_transaction_keep_their_places() -> None:
    logs = [
        transfer_log(USDT, PAYER, OTHERS[1], 1),
        transfer_log(USDT, PAYER, SHOP, 2**256 - 1),
        transfer_log(TOKENS[1], PAYER, OURS[1], 3),
        transfer_log(USDT, PAYER, SHOP, 4),
    ]
    inner = [internal(SCAM, OTHERS[1], 6), internal(SCAM, SHOP, 7)]
    told = _of(call(txid(1), PAYER, SCAM), info(txid(1), result="SUCCESS", log=logs, internal=inner))
    assert told == [
        Transfer(txid(1), TransferKind.TOKEN, 1, USDT, PAYER, SHOP, 2**256 - 1, REF),
        Transfer(txid(1), TransferKind.TOKEN, 2, TOKENS[1], PAYER, OURS[1], 3, REF),
        Transfer(txid(1), TransferKind.TOKEN, 3, USDT, PAYER, SHOP, 4, REF),
        Transfer(txid(1), TransferKind.INTERNAL, 1, None, SCAM, SHOP, 7, REF),
    ]


OWNER, RECEIVER = "41" + to_hex20(PAYER), "41" + to_hex20(SHOP)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TransferAssetContract", {"asset_name": "31303032303030", "to_address": RECEIVER, "amount": 5}),
        ("TransferAssetContract", {"asset_name": "747278", "to_address": RECEIVER, "amount": 5}),  # named "trx"
        ("ParticipateAssetIssueContract", {"asset_name": "31", "to_address": RECEIVER, "amount": 5}),
        ("FreezeBalanceContract", {"frozen_balance": 5, "receiver_address": RECEIVER, "amount": 5}),
        ("FreezeBalanceV2Contract", {"frozen_balance": 5, "to_address": RECEIVER, "amount": 5}),
        ("UnfreezeBalanceV2Contract", {"unfreeze_balance": 5, "to_address": RECEIVER, "amount": 5}),
        ("DelegateResourceContract", {"balance": 5, "receiver_address": RECEIVER}),
        ("DelegateResourceContract", {"balance": 5, "to_address": RECEIVER, "amount": 5}),
        ("UnDelegateResourceContract", {"balance": 5, "to_address": RECEIVER, "amount": 5}),
        ("VoteWitnessContract", {"votes": [{"vote_address": RECEIVER, "vote_count": 5}], "amount": 5}),
        ("TriggerSmartContract", {"contract_address": RECEIVER, "call_value": 5, "to_address": RECEIVER, "amount": 5}),
    ],
)
def test_trc_10_and_delegate_resource_posing_as_trx(kind: str, value: dict[str, Any]) -> None:
    assert _of(transaction(txid(1), kind, value | {"owner_address": OWNER}), info(txid(1))) == []


@pytest.mark.parametrize("note", ["delegateResourceOfEnergy", "freezeBalanceV2ForEnergy", "voteWitness", "create", ""])
def test_trc_10_and_delegate_resource_posing_as_trx_inside_a_contract(note: str) -> None:
    """They stand in the list of internal transactions, with an amount and a receiver, as calls do."""
    inner = [internal(SCAM, SHOP, 5, note=note), internal(SCAM, SHOP, 5, token="1002000")]
    last = internal(SCAM, SHOP, 8)
    told = _of(call(txid(1), PAYER, SCAM), info(txid(1), result="SUCCESS", internal=[*inner, last]))
    # the ordinal counts calls only: on another node the first entry may not be there
    assert told == [Transfer(txid(1), TransferKind.INTERNAL, 1, None, SCAM, SHOP, 8, REF)]


def test_an_internal_transfer_that_was_undone_or_goes_nowhere_is_none() -> None:
    inner = [internal(SCAM, SHOP, 5, rejected=True), internal(SHOP, SHOP, 5), internal(SCAM, SHOP, 0)]
    assert _of(call(txid(1), PAYER, SCAM), info(txid(1), result="SUCCESS", internal=inner)) == []


@pytest.mark.parametrize("result", ["REVERT", "OUT_OF_ENERGY", "OUT_OF_TIME", "DEFAULT", "FAILED", "success", None])
def test_what_failed_is_no_payment(result: str | None) -> None:
    assert _of(trx(txid(1), PAYER, SHOP, 5, result), info(txid(1))) == []
    if result is not None:
        failed = info(
            txid(1), result=result, log=[transfer_log(USDT, PAYER, SHOP, 5)], internal=[internal(SCAM, SHOP, 5)]
        )
        assert _of(call(txid(1), PAYER, USDT, result), failed) == []


def _log(**changed: Any) -> dict[str, Any]:
    return transfer_log(USDT, PAYER, SHOP, 5) | changed


@pytest.mark.parametrize(
    "log",
    [
        _log(address=to_hex20(SCAM)),
        _log(data="0" * 64),
        _log(data=""),
        _log(data=f"{5:0128x}"),
        _log(topics=[TRANSFER_TOPIC, word(PAYER)]),
        _log(topics=[TRANSFER_TOPIC, word(PAYER), word(SHOP), f"{5:064x}"]),
        _log(topics=["8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925", word(PAYER), word(SHOP)]),
        _log(topics=[TRANSFER_TOPIC, word(PAYER), word(OTHERS[1])]),
        _log(topics=[TRANSFER_TOPIC, word(PAYER), word(ALIKE)]),
        _log(topics=[TRANSFER_TOPIC, word(PAYER), "1" * 24 + to_hex20(SHOP)]),
        _log(topics=[TRANSFER_TOPIC, "1" * 24 + to_hex20(PAYER), word(SHOP)]),
        {"address": to_hex20(USDT)},
    ],
)
def test_a_log_that_is_no_payment_is_passed_by(log: dict[str, Any]) -> None:
    good = transfer_log(USDT, PAYER, SHOP, 7)
    told = _of(call(txid(1), PAYER, USDT), info(txid(1), result="SUCCESS", log=[log, good]))
    assert [(transfer.ordinal, transfer.amount_base) for transfer in told] == [(1, 7)]


Pair = tuple[dict[str, Any], list[dict[str, Any]]]


def _set(path: tuple[str | int, ...], value: Any) -> Callable[[Pair], Any]:
    def change(pair: Pair) -> Any:
        place: Any = pair
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


CONTRACT = (0, "transactions", 0, "raw_data", "contract")
VALUE = (*CONTRACT, 0, "parameter", "value")
HEADER = (0, "block_header", "raw_data")


@pytest.mark.parametrize(
    "change",
    [
        _set((0, "blockID"), "00" * 32),
        _set((0, "blockID"), block_id(HEIGHT).upper()),
        _set((0, "blockID"), "0x" + block_id(HEIGHT)),
        _set((*HEADER, "parentHash"), block_id(HEIGHT)),
        _set((*HEADER, "number"), str(HEIGHT)),
        _set((*HEADER, "number"), True),
        _set((*HEADER, "number"), -1),
        _set((*HEADER, "timestamp"), TIME_MS + 3000),
        _set((0, "transactions"), {}),
        _set((0, "transactions", 0, "txID"), "00"),
        _set((0, "transactions", 0, "txID"), txid(2)),
        _set(CONTRACT, []),
        _set((*VALUE, "to_address"), SHOP),
        _set((*VALUE, "to_address"), "42" + to_hex20(SHOP)),
        _set((*VALUE, "owner_address"), PAYER),
        _set((*VALUE, "amount"), "5"),
        _set((*VALUE, "amount"), -5),
        _set((*VALUE, "amount"), 5.0),
        _set((*VALUE, "amount"), 2**63),
        _set((*CONTRACT, 0, "parameter", "type_url"), "type.googleapis.com/protocol.TransferAssetContract"),
        lambda pair: pair[1].pop(),
        lambda pair: pair[1].append(copy.deepcopy(pair[1][0])),
        lambda pair: pair[1].append(info(txid(9))),
        _set((1, 0, "id"), txid(9)),
        _set((1, 0, "blockNumber"), HEIGHT - 1),
        _set((1, 0, "blockTimeStamp"), TIME_MS - 3000),
        _set((1, 1, "log", 0, "address"), "41" + to_hex20(USDT)),
        _set((1, 1, "log", 0, "topics"), None),
        _set((1, 1, "log", 0, "topics", 2), "0x" + word(SHOP)),
        _set((1, 1, "log", 0, "data"), "5"),
        _set((1, 1, "receipt", "result"), "REVERT"),
        _set((1, 1, "internal_transactions", 0, "caller_address"), SCAM),
        _set((1, 1, "internal_transactions", 0, "callValueInfo", 0, "callValue"), "5"),
    ],
)
def test_what_no_honest_node_sends_is_not_used_in_part(change: Callable[[Pair], Any]) -> None:
    called = info(
        txid(2), result="SUCCESS", log=[transfer_log(USDT, PAYER, SHOP, 5)], internal=[internal(SCAM, SHOP, 5)]
    )
    pair = (block([trx(txid(1), PAYER, SHOP, 5), call(txid(2), PAYER, USDT)]), [info(txid(1)), called])
    assert len(transfers(*pair, WATCHED)) == 3
    change(pair)
    with pytest.raises(MalformedAnswer):
        transfers(*pair, WATCHED)


def test_one_transaction_twice_in_a_block_is_not_used() -> None:
    once = trx(txid(1), PAYER, SHOP, 5)
    with pytest.raises(MalformedAnswer, match="not those of the block"):
        transfers(block([once, once]), [info(txid(1))], WATCHED)


def test_ids_of_a_block_s_transactions() -> None:
    assert transaction_ids(block([trx(txid(n), PAYER, SHOP, 1) for n in range(3)])) == [txid(n) for n in range(3)]
    with pytest.raises(MalformedAnswer, match="same transaction twice"):
        transaction_ids(block([trx(txid(1), PAYER, SHOP, 1)] * 2))


def test_a_watched_set_is_prepared_once() -> None:
    assert prepare(WATCHED) is prepare(WATCHED)
    later = Watched(2, WATCHED.addresses, WATCHED.contracts, native=False)
    assert prepare(later).by_hex21 == prepare(WATCHED).by_hex21
    assert prepare(later).by_hex21 == {"41" + to_hex20(address): address for address in OURS}
    assert prepare(later).native is False


# Generated blocks, read a second time in another way: by a list of questions asked of everything, slowly.

addresses = st.sampled_from([*OURS, *OTHERS, ALIKE])
contracts = st.sampled_from([*TOKENS, SCAM])
amounts = st.sampled_from([0, 1, 5_000_000, 2**63 - 1])
results = st.sampled_from(["SUCCESS", "SUCCESS", "SUCCESS", "REVERT", "OUT_OF_ENERGY"])


@st.composite
def logs(draw: st.DrawFn) -> dict[str, Any]:
    amount_base = draw(st.sampled_from([0, 1, 7_000_000, 2**255, 2**256 - 1]))
    log = transfer_log(draw(contracts), draw(addresses), draw(addresses), amount_base)
    match draw(st.sampled_from(["", "", "", "2 topics", "4 topics", "approval", "long", "empty", "padding"])):
        case "2 topics":
            log["topics"].pop()
        case "4 topics":
            log["topics"].append("0" * 64)
        case "approval":
            log["topics"][0] = "8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925"
        case "long":
            log["data"] += "0" * 64
        case "empty":
            del log["data"]
        case "padding":
            log["topics"][2] = "0" * 23 + "1" + log["topics"][2][24:]
    return log


@st.composite
def internals(draw: st.DrawFn) -> dict[str, Any]:
    return internal(
        draw(st.sampled_from([SCAM, *OURS])),
        draw(addresses),
        draw(amounts),
        note=draw(st.sampled_from(["call", "call", "call", "suicide", "delegateResourceOfEnergy"])),
        token=draw(st.sampled_from([None, None, "1002000"])),
        rejected=draw(st.booleans()),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    txs, infos = [], []
    for number in range(draw(st.integers(0, 8))):
        tx, result = txid(number), draw(results)
        match draw(st.sampled_from(["trx", "trx", "call", "call", "trc-10", "delegate"])):
            case "trx":
                txs.append(trx(tx, draw(addresses), draw(addresses), draw(amounts), result))
                infos.append(info(tx))
            case "call":
                txs.append(call(tx, draw(addresses), draw(contracts), result))
                inner = draw(st.lists(internals(), max_size=4))
                infos.append(info(tx, result=result, log=draw(st.lists(logs(), max_size=4)), internal=inner))
            case "trc-10":
                value = {"to_address": "41" + to_hex20(draw(addresses)), "amount": 5, "asset_name": "747278"}
                txs.append(transaction(tx, "TransferAssetContract", value, result))
                infos.append(info(tx))
            case "delegate":
                value = {"receiver_address": "41" + to_hex20(draw(addresses)), "balance": 5, "amount": 5}
                txs.append(transaction(tx, "DelegateResourceContract", value, result))
                infos.append(info(tx))
    # nothing promises that infos come in the block's order
    return block(txs), draw(st.permutations(infos))


def _slow(made: dict[str, Any], infos: list[dict[str, Any]], watched: Watched) -> list[tuple[Any, ...]]:
    """What is paid, as (tx, kind, ordinal, contract, sender, recipient, amount)."""
    paid: list[tuple[Any, ...]] = []
    for tx in made.get("transactions", []):
        (its,) = (each for each in infos if each["id"] == tx["txID"])
        contract = tx["raw_data"]["contract"][0]
        fields = contract["parameter"]["value"]
        good = tx["ret"][0]["contractRet"] == "SUCCESS"
        if good and contract["type"] == "TransferContract" and watched.native:
            pair = [from_hex20(fields[name].removeprefix("41")) for name in ("owner_address", "to_address")]
            paid.append((tx["txID"], "native", 0, None, *pair, fields.get("amount", 0)))
        for position, log in enumerate(its.get("log", [])):
            numbers = [int(topic, 16) for topic in log["topics"]]
            token = from_hex20(log["address"])
            fits = len(numbers) == 3 and log["topics"][0] == TRANSFER_TOPIC and max(numbers[1:]) < 2**160
            if good and its["receipt"].get("result") == "SUCCESS" and fits and token in watched.contracts:
                pair = [from_hex20(f"{number:040x}") for number in numbers[1:]]
                amount = int.from_bytes(bytes.fromhex(log.get("data", ""))) if len(log.get("data", "")) == 64 else 0
                paid.append((tx["txID"], "token", position, token, *pair, amount))
        calls = [
            each for each in its.get("internal_transactions", []) if bytes.fromhex(each["note"]).decode() == "call"
        ]
        for position, each in enumerate(calls):
            pair = [from_hex20(each[name].removeprefix("41")) for name in ("caller_address", "transferTo_address")]
            coin = sum(value.get("callValue", 0) for value in each["callValueInfo"] if value.get("tokenId") is None)
            if good and watched.native and not each.get("rejected") and pair[0] != pair[1]:
                paid.append((tx["txID"], "internal", position, None, *pair, coin))
    return [each for each in paid if each[5] in watched.addresses and each[6] > 0]


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories(), st.sampled_from([*TOKENS, None]), st.booleans())
def test_two_ways_of_reading_a_block_agree(made: Any, not_listed: str | None, native: bool) -> None:
    watched = Watched(1, WATCHED.addresses, WATCHED.contracts - {not_listed or ""}, native=native)
    told = transfers(*made, watched)
    flat = [(t.tx, str(t.kind), t.ordinal, t.contract, t.sender, t.recipient, t.amount_base) for t in told]
    assert flat == _slow(*made, watched)
    assert all(transfer.block == REF for transfer in told)
    assert len({transfer.identity for transfer in told}) == len(told)


json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=70), st.just(word(SHOP))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        inner = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [found for key, child in inner for found in [(*path, key), *_places(child, (*path, key))]]


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories(), st.data())
def test_anything_in_the_place_of_anything_is_malformed_at_worst(made: Any, data: st.DataObject) -> None:
    pair = copy.deepcopy(list(made))
    path = data.draw(st.sampled_from(_places(pair)))
    place = pair
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(json)
    try:
        told = transfers(pair[0], pair[1], WATCHED)
    except MalformedAnswer:
        return
    assert all(transfer.recipient in WATCHED.addresses and transfer.amount_base > 0 for transfer in told)
