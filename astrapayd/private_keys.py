"""Finds private keys in configuration text, so that a daemon which must never hold one refuses to start with one.

Pure: text in, findings out. A finding names where the key stands and of which kind it is, never its value, and
:func:`scrub` returns the table without it, so that no later message can print it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

HIDDEN = "[hidden]"
"""Stands where a key of the table was itself a private key."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {char: value for value, char in enumerate(_ALPHABET)}
_WORD = re.compile(r"[0-9A-Za-z]+")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0[xX])?(?:[0-9a-fA-F]{64}|[0-9a-fA-F]{128})(?![0-9A-Za-z])")
_SEPARATORS = re.compile(r"[\s:_-]+")
_XPRV = re.compile(r"(?<![0-9A-Za-z])(?:[xyztuvYZTUV]prv|Ltpv|Mtpv|ttpv|dgpv)[1-9A-HJ-NP-Za-km-z]{20,}")
_PEM = re.compile(r"BEGIN [A-Z0-9 ]*PRIVATE KEY")
_ASSIGNMENT = re.compile(r"\s*([0-9A-Za-z_-]+)\s*=")
_MNEMONIC_WORDS = 12  # the shortest; prose never has so many of the list's words in a row (no "the", "of", "and")
_KEY_BITS = 200  # an integer this long is a key written without quotes; amounts are texts


@dataclass(frozen=True, slots=True)
class Finding:
    """A private key at ``loc``, the path of table keys and array positions; ``kind`` names its form in words."""

    loc: tuple[str | int, ...]
    kind: str


def private_key_kind(text: str, *, hex_is_key: bool = True) -> str | None:
    """The form of private key that ``text`` holds somewhere, in words, or None.

    ``hex_is_key`` False lets 32-byte hex pass, for places where it is a hash.
    """
    if _PEM.search(text):
        return "a PEM private key"
    if '"ciphertext"' in text and '"kdf"' in text:
        return "an encrypted keystore"
    if _XPRV.search(text):
        return "an extended private key"
    for word in _WORD.findall(text):
        if kind := _base58_kind(word):
            return kind
    if _has_mnemonic(text):
        return "a recovery phrase"
    if hex_is_key and (_HEX.search(text) or _HEX.fullmatch(_SEPARATORS.sub("", text))):
        return "a private key in hex"
    return None


def scrub(table: Mapping[str, Any], hash_keys: Collection[str]) -> tuple[dict[str, Any], list[Finding]]:
    """The parsed table without its private keys (texts become empty), and where they were.

    ``hash_keys`` are names of settings whose 32-byte hex is a hash, such as ``genesis``.
    """
    findings: list[Finding] = []
    clean = _scrub(table, (), hash_keys, findings)
    assert isinstance(clean, dict)
    return clean, findings


def in_comments(toml: str, hash_keys: Collection[str]) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and kind of every private key in a comment: switched off is still in the file.

    Bare hex counts only where the comment is a setting switched off, since comments also quote transactions.
    """
    for number, line in enumerate(toml.splitlines(), 1):
        comment = line.rpartition("#")[2] if "#" in line else ""
        setting = _ASSIGNMENT.match(comment)
        if kind := private_key_kind(comment, hex_is_key=setting is not None and setting[1] not in hash_keys):
            yield number, kind


def _scrub(value: Any, loc: tuple[str | int, ...], hash_keys: Collection[str], findings: list[Finding]) -> Any:
    if isinstance(value, Mapping):
        clean: dict[str, Any] = {}
        for key, child in value.items():
            if kind := private_key_kind(key):
                findings.append(Finding((*loc, HIDDEN), kind))
                clean[HIDDEN] = {}
            else:
                clean[key] = _scrub(child, (*loc, key), hash_keys, findings)
        return clean
    if isinstance(value, list):
        # a key can be spread over an array: twelve words, or the 32 bytes as numbers
        kind = _array_kind(value)
        if kind is not None:
            findings.append(Finding(loc, kind))
            return []
        return [_scrub(child, (*loc, index), hash_keys, findings) for index, child in enumerate(value)]
    if isinstance(value, str):
        name = next((part for part in reversed(loc) if isinstance(part, str)), "")
        kind = private_key_kind(value, hex_is_key=name not in hash_keys)
        if kind is not None:
            findings.append(Finding(loc, kind))
            return ""
    elif isinstance(value, int) and value.bit_length() > _KEY_BITS:
        findings.append(Finding(loc, "a private key as a number"))
        return 0
    return value


def _array_kind(values: list[Any]) -> str | None:
    if len(values) in {32, 64} and all(type(item) is int and 0 <= item <= 255 for item in values):
        return "a private key as bytes"
    if all(isinstance(item, str) for item in values) and _has_mnemonic(" ".join(values)):
        # a phrase within one entry is told of that entry
        return None if any(map(_has_mnemonic, values)) else "a recovery phrase"
    return None


def _base58_kind(word: str) -> str | None:
    if 49 <= len(word) <= 59:
        payload = _base58check(word)
        if payload is None:
            return None
        # version byte, 32 bytes, and 01 where the public key is compressed; any coin's version
        if len(payload) == 33 or (len(payload) == 34 and payload[-1] == 1):
            return "a private key (WIF)"
        if len(payload) == 39 and payload[:2] in {b"\x01\x42", b"\x01\x43"}:
            return "an encrypted private key (BIP-38)"
    elif 100 <= len(word) <= 120:
        payload = _base58check(word)
        # version, depth, fingerprint, child, chain code; then the key: private ones begin with 00, public ones 02 or 03
        if payload is not None and len(payload) == 78 and payload[45] == 0:
            return "an extended private key"
    return None


def _base58check(word: str) -> bytes | None:
    """The payload (version included, checksum cut off) if the checksum holds."""
    number = 0
    for char in word:
        digit = _DIGITS.get(char)
        if digit is None:
            return None
        number = number * 58 + digit
    zeros = len(word) - len(word.lstrip("1"))
    raw = b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8)
    payload, checksum = raw[:-4], raw[-4:]
    return payload if hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4] == checksum else None


def _has_mnemonic(text: str) -> bool:
    """Whether twelve or more words of BIP-39's English list stand in a row, with whatever signs between them.

    Neither BIP-39's checksum nor its five lengths are asked for: a phrase with one word mistyped in its middle is as
    secret, and so is one of Electrum's, which uses the same list with another checksum.
    """
    words = re.findall(r"[a-z]+", unicodedata.normalize("NFKD", text).lower())
    if len(words) < _MNEMONIC_WORDS:
        return False
    run = 0
    known = _word_list()
    for word in words:
        run = run + 1 if word in known else 0
        if run >= _MNEMONIC_WORDS:
            return True
    return False


@cache
def _word_list() -> frozenset[str]:
    # read only when a text is long enough to be a phrase, so that no ordinary start pays for it
    return frozenset(resources.files(__package__).joinpath("bip39_english.txt").read_text("ascii").split())
