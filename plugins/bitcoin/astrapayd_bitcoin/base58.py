"""Base58 with its checksum, as addresses and extended keys are written (Bitcoin's ``base58check``)."""

from __future__ import annotations

import hashlib

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {char: value for value, char in enumerate(ALPHABET)}
_LONGEST = 200  # an extended key has 111; keeps hostile input cheap


class Base58Error(ValueError):
    """Not base58check. ``wrong_checksum``: the letters are base58's, and one of them is mistyped."""

    def __init__(self, *, wrong_checksum: bool) -> None:
        super().__init__("has a wrong checksum" if wrong_checksum else "is not base58")
        self.wrong_checksum = wrong_checksum


def decode_check(text: str) -> bytes:
    """The payload, with its version and without the checksum.

    :raises Base58Error: if it is none.
    """
    if not 5 <= len(text) <= _LONGEST:
        raise Base58Error(wrong_checksum=False)
    number = 0
    for char in text:
        digit = _DIGITS.get(char)
        if digit is None:
            raise Base58Error(wrong_checksum=False)
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    raw = b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8)
    payload, checksum = raw[:-4], raw[-4:]
    if _checksum(payload) != checksum:
        raise Base58Error(wrong_checksum=True)
    return payload


def encode_check(payload: bytes) -> str:
    """The text of a payload that begins with its version."""
    raw = payload + _checksum(payload)
    number, text = int.from_bytes(raw), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
