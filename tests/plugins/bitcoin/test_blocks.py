"""Raw blocks: those of a node, every shape that can be made, and bytes that are none."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd_bitcoin.blocks import (
    MAX_SATOSHIS,
    MalformedBlock,
    Payment,
    parse_header,
    payment_in_transaction,
    payments_in_block,
    transaction_id,
)
from tests.plugins.bitcoin.raw_bytes import Tx, block, block_hash, coinbase, varint

RECORDED = json.loads((Path(__file__).parent / "blocks.json").read_text(), parse_float=Decimal)
PARENT = "ab" * 32
OURS = bytes.fromhex("0014") + bytes(range(20))
THEIRS = bytes.fromhex("0014") + bytes(20)


def _raw(recorded: dict[str, Any]) -> bytes:
    """The block's bytes, from what ``getblock 2`` tells of it."""
    return (
        recorded["version"].to_bytes(4, "little")
        + bytes.fromhex(recorded["previousblockhash"])[::-1]
        + bytes.fromhex(recorded["merkleroot"])[::-1]
        + recorded["time"].to_bytes(4, "little")
        + bytes.fromhex(recorded["bits"])[::-1]
        + recorded["nonce"].to_bytes(4, "little")
        + varint(len(recorded["tx"]))
        + b"".join(bytes.fromhex(tx["hex"]) for tx in recorded["tx"])
    )


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["scenario"])
def test_a_node_and_we_read_the_same(recorded: dict[str, Any]) -> None:
    raw = _raw(recorded)
    found = parse_header(raw)
    assert (found.hash, found.parent, found.time) == (
        recorded["hash"],
        recorded["previousblockhash"],
        recorded["time"],
    )
    expected = [
        (
            tx["txid"],
            [
                (n, bytes.fromhex(script), int(Decimal(value) * 10**8))
                for n, script, value in tx["vout"]
                if Decimal(value)
            ],
        )
        for tx in recorded["tx"]
    ]
    scripts = {script for _, outputs in expected for _, script, _ in outputs}
    assert [(p.txid, list(p.outputs)) for p in payments_in_block(raw, scripts)] == expected
    for tx in recorded["tx"]:
        single = payment_in_transaction(bytes.fromhex(tx["hex"]), scripts)
        assert single is not None
        assert single.txid == tx["txid"] == transaction_id(bytes.fromhex(tx["hex"]))
        if tx["vin"]:
            assert [(o[:32][::-1].hex(), int.from_bytes(o[32:], "little")) for o in single.inputs] == [
                tuple(outpoint) for outpoint in tx["vin"]
            ]


scripts = st.sampled_from([OURS, THEIRS, b"", b"\x6a" + b"x" * 300, OURS + b"\0", b"\x51" * 253])
transactions = st.builds(
    Tx,
    inputs=st.lists(
        st.tuples(st.binary(min_size=32, max_size=32).map(bytes.hex), st.integers(0, 2**32 - 1)), min_size=1, max_size=4
    ).map(tuple),
    outputs=st.lists(st.tuples(scripts, st.integers(0, MAX_SATOSHIS)), max_size=5).map(tuple),
    segwit=st.booleans(),
    lock_time=st.integers(0, 2**32 - 1),
    script_sig=st.sampled_from([b"", b"s" * 107, b"s" * 253, b"s" * 70_000]),
)


def _payment(tx: Tx) -> Payment | None:
    paid = tuple(
        (index, script, amount) for index, (script, amount) in enumerate(tx.outputs) if script == OURS and amount
    )
    inputs = tuple(bytes.fromhex(txid)[::-1] + index.to_bytes(4, "little") for txid, index in tx.inputs)
    return Payment(tx.txid, inputs, paid) if paid else None


@given(st.lists(transactions, max_size=5))
def test_every_payment_in_a_block_is_found_and_nothing_else(txs: list[Tx]) -> None:
    txs = [coinbase(1), *txs]
    raw = block(PARENT, 1_800_000_000, txs)
    assert parse_header(raw).hash == block_hash(raw)
    assert payments_in_block(raw, {OURS}) == tuple(p for p in map(_payment, txs) if p is not None)


@given(transactions)
def test_a_transaction_alone_reads_as_in_a_block(tx: Tx) -> None:
    assert payment_in_transaction(tx.raw, {OURS}) == _payment(tx)
    assert transaction_id(tx.raw) == tx.txid


def test_many_inputs_and_outputs() -> None:
    tx = Tx(tuple((f"{n:064x}", n) for n in range(300)), ((THEIRS, 1),) * 300 + ((OURS, 7),))
    assert payment_in_transaction(tx.raw, {OURS}) == _payment(tx)


@given(transactions, st.data())
def test_what_is_cut_off_or_goes_on_is_refused(tx: Tx, data: st.DataObject) -> None:
    raw = block(PARENT, 1, [coinbase(1), tx])
    cut = data.draw(st.integers(0, len(raw) - 1))
    for wrong in (raw[:cut], raw + b"\0"):
        with pytest.raises(MalformedBlock):
            payments_in_block(wrong, {OURS})
    with pytest.raises(MalformedBlock):
        payment_in_transaction(tx.raw + b"\0", {OURS})


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_with_our_own_error(raw: bytes) -> None:
    for read in (
        lambda: payments_in_block(raw, {OURS}),
        lambda: payment_in_transaction(raw, {OURS}),
        lambda: transaction_id(raw),
        lambda: parse_header(raw),
    ):
        with contextlib.suppress(MalformedBlock):
            read()


@given(st.lists(transactions, min_size=1, max_size=3), st.data())
def test_changed_bytes_are_read_or_refused_with_our_own_error(txs: list[Tx], data: st.DataObject) -> None:
    raw = bytearray(block(PARENT, 1, [coinbase(1), *txs]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(80, len(raw) - 1))] = data.draw(st.sampled_from([0, 1, 0xFC, 0xFD, 0xFE, 0xFF]))
    try:
        found = payments_in_block(bytes(raw), {OURS})
    except MalformedBlock:
        return
    assert all(0 < amount <= MAX_SATOSHIS for payment in found for _, _, amount in payment.outputs)


def test_more_coins_than_there_are_is_refused() -> None:
    with pytest.raises(MalformedBlock, match="more coins"):
        payment_in_transaction(Tx((("00" * 32, 0),), ((OURS, MAX_SATOSHIS + 1),)).raw, {OURS})
