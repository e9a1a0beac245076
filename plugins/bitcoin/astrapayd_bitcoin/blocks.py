"""Raw blocks and transactions as nodes send them: from bytes to the outputs that pay watched scripts. Pure.

The format is that of Bitcoin's P2P protocol, with BIP-144's witnesses. Only what is asked for is taken out: a block of
4,000 transactions is searched for 100,000 scripts within milliseconds, and only transactions that are ours get an id.
Hashes are hex in the byte order of RPC. Amounts are integers, in satoshis.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

MAX_SATOSHIS = 21_000_000 * 100_000_000
"""More than this cannot be in an output (``MAX_MONEY``)."""

_HEADER_BYTES = 80
_LEAST_INPUT_BYTES = 41
_U16, _U32 = 0xFD, 0xFE  # first bytes of longer variable integers; above them stands one of 8 bytes


class MalformedBlock(ValueError):
    """Bytes that are no block or transaction, or one that is cut off."""


@dataclass(frozen=True, slots=True)
class Header:
    """A block's header; ``time`` in Unix seconds, as its miner says."""

    hash: str
    parent: str
    time: int


@dataclass(frozen=True, slots=True)
class Payment:
    """A transaction with outputs to watched scripts: ``outputs`` are (index, script, satoshis), none of them zero;
    ``inputs`` the outpoints that it spends, 36 bytes each as they stand in it (transaction id and index)."""

    txid: str
    inputs: tuple[bytes, ...]
    outputs: tuple[tuple[int, bytes, int], ...]


def parse_header(raw: bytes) -> Header:
    """The header that a block begins with.

    :raises MalformedBlock: if it is cut off.
    """
    if len(raw) < _HEADER_BYTES:
        raise MalformedBlock("is shorter than a block's header")
    return Header(
        hash=_hash256(raw[:_HEADER_BYTES])[::-1].hex(),
        parent=raw[4:36][::-1].hex(),
        time=int.from_bytes(raw[68:72], "little"),
    )


def payments_in_block(raw: bytes, scripts: Collection[bytes]) -> tuple[Payment, ...]:
    """The transactions of a block that pay any of ``scripts`` (a set or dict), in the block's order.

    :raises MalformedBlock: if anything in it is out of place; nothing of such a block is used.
    """
    if len(raw) < _HEADER_BYTES:
        raise MalformedBlock("is shorter than a block's header")
    try:
        count, at = _varint(raw, _HEADER_BYTES)
        found, at = _search(raw, at, count, scripts)
    except IndexError:
        raise MalformedBlock("is cut off") from None
    if at != len(raw):
        raise MalformedBlock("does not end with its last transaction")
    return tuple(found)


def payment_in_transaction(raw: bytes, scripts: Collection[bytes]) -> Payment | None:
    """The same for one transaction; None where it pays none of them.

    :raises MalformedBlock: if anything in it is out of place.
    """
    try:
        found, at = _search(raw, 0, 1, scripts)
    except IndexError:
        raise MalformedBlock("is cut off") from None
    if at != len(raw):
        raise MalformedBlock("does not end where a transaction does")
    return found[0] if found else None


def transaction_id(raw: bytes) -> str:
    """The id of a raw transaction.

    :raises MalformedBlock: if anything in it is out of place.
    """
    try:
        found, at = _search(raw, 0, 1, None)
    except IndexError:
        raise MalformedBlock("is cut off") from None
    if at != len(raw):
        raise MalformedBlock("does not end where a transaction does")
    return found[0].txid


def _search(raw: bytes, at: int, count: int, scripts: Collection[bytes] | None) -> tuple[list[Payment], int]:
    """``count`` transactions from ``at`` on: those that pay ``scripts`` (None: all, no outputs), and where they end.

    A slice never raises, so a length beyond the end is noticed by the next byte that is read, or by the caller, which
    compares the end. Variable integers are read in place: a call for each would double the time.

    :raises IndexError: where the bytes end too early.
    :raises MalformedBlock: for what no transaction has.
    """
    found: list[Payment] = []
    for _ in range(count):
        start = at
        at += 4  # version
        segwit = raw[at] == 0
        if segwit:
            if raw[at + 1] != 1:
                raise MalformedBlock("has a transaction without inputs, or with an unknown flag")
            at += 2
        inputs_at = at
        inputs = raw[at]
        at += 1
        if inputs >= _U16:
            inputs, at = _varint(raw, at - 1)
        for _ in range(inputs):
            length = raw[at + 36]
            if length < _U16:
                at += length + _LEAST_INPUT_BYTES
            else:
                length, at = _varint(raw, at + 36)
                at += length + 4
        outputs = raw[at]
        at += 1
        if outputs >= _U16:
            outputs, at = _varint(raw, at - 1)
        paid: list[tuple[int, bytes, int]] | None = None
        for index in range(outputs):
            length = raw[at + 8]
            begin = at + 9
            if length >= _U16:
                length, begin = _varint(raw, at + 8)
            end = begin + length
            if scripts is not None:
                script = raw[begin:end]
                if script in scripts:
                    satoshis = int.from_bytes(raw[at : at + 8], "little")
                    if satoshis > MAX_SATOSHIS:
                        raise MalformedBlock("has an output of more coins than there are")
                    if satoshis:
                        paid = paid or []
                        paid.append((index, script, satoshis))
            at = end
        witness_at = at
        if segwit:
            for _ in range(inputs):
                items = raw[at]
                at += 1
                if items >= _U16:
                    items, at = _varint(raw, at - 1)
                for _ in range(items):
                    length = raw[at]
                    at += 1
                    if length >= _U16:
                        length, at = _varint(raw, at - 1)
                    at += length
        at += 4  # lock time
        if at > len(raw):
            raise MalformedBlock("is cut off")
        if paid or scripts is None:
            body = raw[start : start + 4] + raw[inputs_at:witness_at] + raw[at - 4 : at] if segwit else raw[start:at]
            found.append(Payment(_hash256(body)[::-1].hex(), _outpoints(raw, inputs_at), tuple(paid or ())))
    return found, at


def _outpoints(raw: bytes, at: int) -> tuple[bytes, ...]:
    """What the inputs that begin at ``at`` spend; only for transactions that were walked through before."""
    count, at = _varint(raw, at)
    found = []
    for _ in range(count):
        found.append(raw[at : at + 36])
        length, at = _varint(raw, at + 36)
        at += length + 4
    return tuple(found)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A variable integer and where it ends. :raises IndexError: where the bytes end too early."""
    first = raw[at]
    if first < _U16:
        return first, at + 1
    width = 2 if first == _U16 else 4 if first == _U32 else 8
    value = raw[at + 1 : at + 1 + width]
    if len(value) < width:
        raise IndexError
    return int.from_bytes(value, "little"), at + 1 + width


def _hash256(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
