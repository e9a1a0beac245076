"""Transactions and blocks made byte by byte, for tests and measurements."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

Outpoint = tuple[str, int]
"""Transaction id as RPC writes it, and output index."""


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction: ``outputs`` are (script, satoshis). Its witness is filling; nothing here is signed."""

    inputs: tuple[Outpoint, ...]
    outputs: tuple[tuple[bytes, int], ...]
    segwit: bool = True
    lock_time: int = 0
    script_sig: bytes = b""

    @property
    def raw(self) -> bytes:
        """As the P2P protocol has it."""
        witness = b"".join(varint(2) + varint(71) + bytes(71) + varint(33) + bytes(33) for _ in self.inputs)
        body = self._body
        return b"\2\0\0\0" + (b"\0\1" + body + witness if self.segwit else body) + self.lock_time.to_bytes(4, "little")

    @property
    def txid(self) -> str:
        """As RPC writes it."""
        return hash256(b"\2\0\0\0" + self._body + self.lock_time.to_bytes(4, "little"))[::-1].hex()

    @property
    def _body(self) -> bytes:
        ins = b"".join(
            bytes.fromhex(txid)[::-1]
            + index.to_bytes(4, "little")
            + varint(len(self.script_sig))
            + self.script_sig
            + b"\xfd\xff\xff\xff"
            for txid, index in self.inputs
        )
        outs = b"".join(amount.to_bytes(8, "little") + varint(len(s)) + s for s, amount in self.outputs)
        return varint(len(self.inputs)) + ins + varint(len(self.outputs)) + outs


def coinbase(height: int, extra: int = 0) -> Tx:
    """The first transaction of a block; ``extra`` tells blocks of one height apart."""
    script_sig = b"\x03" + height.to_bytes(3, "little") + extra.to_bytes(4, "little")
    return Tx((("00" * 32, 0xFFFFFFFF),), ((b"\x51", 50 * 10**8),), segwit=False, script_sig=script_sig)


def header(parent: str, time: int, txids: Sequence[str], nonce: int = 0) -> bytes:
    """80 bytes; no work is done for them."""
    level = [bytes.fromhex(txid)[::-1] for txid in txids]
    while len(level) > 1:
        level += level[-1:] * (len(level) % 2)
        level = [hash256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return (
        b"\0\0\0\x20"
        + bytes.fromhex(parent)[::-1]
        + level[0]
        + time.to_bytes(4, "little")
        + bytes.fromhex("ffff7f20")
        + nonce.to_bytes(4, "little")
    )


def block(parent: str, time: int, txs: Sequence[Tx]) -> bytes:
    """A whole block."""
    return header(parent, time, [tx.txid for tx in txs]) + varint(len(txs)) + b"".join(tx.raw for tx in txs)


def block_hash(raw: bytes) -> str:
    """As RPC writes it."""
    return hash256(raw[:80])[::-1].hex()


def varint(number: int) -> bytes:
    """The shortest form."""
    if number < 0xFD:
        return bytes((number,))
    if number <= 0xFFFF:
        return b"\xfd" + number.to_bytes(2, "little")
    return b"\xfe" + number.to_bytes(4, "little")


def hash256(data: bytes) -> bytes:
    """SHA-256 of SHA-256."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
