"""Tron addresses: 20 bytes behind 0x41, canonical in base58check (``T…``).

Three other ways to write the same 20 bytes are about: ``41`` and 40 hex digits (java-tron's own), ``0x41`` before them,
and ``0x`` and 40 hex digits as on EVM chains. The last is refused, with the Tron form of the same key beside it:
whoever has it has copied it from another network, and must look whether the wallet has that key on Tron too.
"""

from __future__ import annotations

import hashlib
import re

from astrapayd.chains import AddressError
from astrapayd.private_keys import private_key_kind

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {char: value for value, char in enumerate(_ALPHABET)}
_BASE58 = re.compile(f"[{_ALPHABET}]{{25,36}}")
_HEX21 = re.compile(r"(?:0x)?41([0-9a-fA-F]{40})", re.ASCII)
_EVM = re.compile(r"0x([0-9a-fA-F]{40})", re.ASCII)
_VERSION = 0x41
_CHARS = 34
_FORM = "write T and 33 letters or digits, as the wallet shows it"


def parse(text: str) -> str:
    """The canonical form of an address, from base58check or from java-tron's hex with 41 in front.

    :raises AddressError: with one sentence that begins with a verb, and never repeats what could be a secret.
    """
    if kind := private_key_kind(text):
        raise AddressError(
            f"looks like {kind}, which astrapayd never holds: treat it as exposed, and write the address instead"
        )
    if found := _HEX21.fullmatch(text):
        return _own(found[1].lower())
    if found := _EVM.fullmatch(text):
        same = from_hex20(found[1].lower())
        raise AddressError(
            f"is an address of an EVM chain; the same key's address on Tron is {same}: write that one if your wallet "
            "shows it for Tron"
        )
    if not _BASE58.fullmatch(text):
        raise AddressError(f"is not a Tron address: {_FORM}")
    payload = _decode_check(text)
    if payload is None:
        if text.startswith("T") and len(text) == _CHARS:
            raise AddressError("has a wrong checksum, so a letter is mistyped: copy the address again")
        raise AddressError(f"is not a Tron address: {_FORM}")
    if len(payload) != 21 or payload[0] != _VERSION:
        raise AddressError(f"is an address of another network than Tron: {_FORM}")
    return _own(payload[1:].hex())


def from_hex20(digits: str) -> str:
    """The canonical form of 20 bytes, given as 40 hex digits without 41 or 0x in front."""
    return _encode_check(bytes.fromhex("41" + digits))


def to_hex20(address: str) -> str:
    """The 20 bytes of a canonical address, as 40 lower-case hex digits: what stands in logs and, behind 41, in
    transactions.

    :raises ValueError: if it is no canonical address.
    """
    payload = _decode_check(address)
    if payload is None or len(payload) != 21 or payload[0] != _VERSION:
        raise ValueError("not a canonical Tron address")
    return payload[1:].hex()


def to_hex21(address: str) -> str:
    """A canonical address as java-tron's HTTP takes and sends it: 41 and 40 lower-case hex digits."""
    return "41" + to_hex20(address)


def _own(hex20: str) -> str:
    if hex20 == "0" * 40:
        raise AddressError("is the zero address, where money is lost: write an address of your own")
    return from_hex20(hex20)


def _decode_check(text: str) -> bytes | None:
    """The payload with its version byte, or None if the checksum does not match it."""
    number = 0
    for char in text:
        number = number * 58 + _DIGITS[char]
    zeros = len(text) - len(text.lstrip("1"))
    raw = b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8)
    return raw[:-4] if len(raw) > 4 and _checksum(raw[:-4]) == raw[-4:] else None


def _encode_check(payload: bytes) -> str:
    """The base58check form of a payload whose version byte is not 0."""
    number, text = int.from_bytes(payload + _checksum(payload)), []
    while number:
        number, digit = divmod(number, 58)
        text.append(_ALPHABET[digit])
    return "".join(reversed(text))


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
