"""Segwit addresses: bech32 for witness version 0 (BIP-173), bech32m for 1 and above (BIP-350)."""

from __future__ import annotations

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {char: value for value, char in enumerate(CHARSET)}
_BASE32 = str.maketrans(CHARSET, "0123456789abcdefghijklmnopqrstuv")  # the digits that int(text, 32) reads
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32, _BECH32M = 1, 0x2BC830A3
_CHECKSUM_CHARS = 6
_LONGEST = 90


class Bech32Error(ValueError):
    """Not a segwit address. The message ends a sentence that begins with the address."""


def decode(text: str) -> tuple[str, int, bytes]:
    """Human-readable part (lower case), witness version and program.

    :raises Bech32Error: with what is wrong; ``text`` must be ASCII.
    """
    if text not in {text.lower(), text.upper()}:
        raise Bech32Error("mixes capital and small letters, which bech32 does not allow: copy the address again")
    text = text.lower()
    hrp, one, data = text.rpartition("1")
    if not one or not hrp or len(text) > _LONGEST or len(data) < _CHECKSUM_CHARS + 1:
        raise Bech32Error("is cut off or too long for an address: copy the address again")
    if strange := next((char for char in data if char not in _VALUES), None):
        raise Bech32Error(f"has the character {strange!r}, which no bech32 address has: copy the address again")
    values = [_VALUES[char] for char in data]
    version = values[0]
    remainder = _polymod([*_expanded(hrp), *values])
    if remainder not in {_BECH32, _BECH32M}:
        raise Bech32Error("has a wrong checksum, so a character is mistyped: copy the address again")
    if (remainder == _BECH32) != (version == 0):
        form, wanted = ("bech32", "bech32m") if remainder == _BECH32 else ("bech32m", "bech32")
        raise Bech32Error(
            f"is written in {form}, but witness version {version} is written in {wanted}: do not pay there, and ask "
            "the wallet for another address"
        )
    if version > 16:
        raise Bech32Error(f"is of witness version {version}, which there is none of: copy the address again")
    program = _program(data[1:-_CHECKSUM_CHARS])
    if not 2 <= len(program) <= 40 or (version == 0 and len(program) not in {20, 32}):
        raise Bech32Error(f"has {len(program)} bytes, which witness version {version} does not: copy the address again")
    return hrp, version, program


def program_of(address: str) -> tuple[int, bytes]:
    """Version and program of an address that was checked before, without checking it again."""
    data = address[address.rindex("1") + 1 :]
    return _VALUES[data[0]], _program(data[1:-_CHECKSUM_CHARS])


def encode(hrp: str, version: int, program: bytes) -> str:
    """The address of a witness program, in lower case."""
    bits = len(program) * 8
    padding = -bits % 5
    number = int.from_bytes(program) << padding
    count = (bits + padding) // 5
    values = [version, *((number >> (5 * (count - 1 - at))) & 31 for at in range(count))]
    constant = _BECH32 if version == 0 else _BECH32M
    remainder = _polymod([*_expanded(hrp), *values, *(0,) * _CHECKSUM_CHARS]) ^ constant
    values += [(remainder >> (5 * (_CHECKSUM_CHARS - 1 - at))) & 31 for at in range(_CHECKSUM_CHARS)]
    return f"{hrp}1{''.join(CHARSET[value] for value in values)}"


def _program(data: str) -> bytes:
    """The bytes that groups of five bits hold. :raises Bech32Error: if what is left over is not four zeros at most."""
    padding = len(data) * 5 % 8
    number = int(data.translate(_BASE32), 32) if data else 0
    if padding >= 5 or number & ((1 << padding) - 1):
        raise Bech32Error("has a wrong length or filling: copy the address again")
    return (number >> padding).to_bytes(len(data) * 5 // 8)


def _expanded(hrp: str) -> list[int]:
    return [*(ord(char) >> 5 for char in hrp), 0, *(ord(char) & 31 for char in hrp)]


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                checksum ^= generator
    return checksum
