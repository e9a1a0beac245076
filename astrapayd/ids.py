"""Public ids: a prefix and 128 random bits in lower-case base32, so that none can be guessed or counted."""

from __future__ import annotations

import base64
import secrets

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O, U: cannot be misread


def new_id(prefix: str) -> str:
    """A new id such as ``ses_k5ql2…``: ``prefix``, ``_``, and 26 characters of base32 (RFC 4648)."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(16)).decode().rstrip('=').lower()}"


def new_code() -> str:
    """A verification code such as ``7KQ2-M9XD``: seven random Crockford characters and a check character.

    35 random bits: enough to compare two screens, not a secret. It proves that receipt and session belong
    together and opens nothing.
    """
    body = "".join(secrets.choice(_CROCKFORD) for _ in range(7))
    whole = body + _check_character(body)
    return f"{whole[:4]}-{whole[4:]}"


def normal_code(text: str) -> str | None:
    """The code in its written form, or None where it cannot be one (wrong length, character or check).

    Case, blanks and dashes do not matter, and letters that are easily misread are taken for what was meant
    (Crockford: I and L are 1, O is 0).
    """
    plain = text[:40].upper().replace("-", "").replace(" ", "").translate(str.maketrans("ILO", "110"))
    if len(plain) != 8 or any(character not in _CROCKFORD for character in plain):
        return None
    if _check_character(plain[:7]) != plain[7]:
        return None
    return f"{plain[:4]}-{plain[4:]}"


def _check_character(body: str) -> str:
    """A check over GF(32) with x^5 + x^2 + 1: every wrong character and every swap of neighbours is noticed."""
    check = 0
    for character in body:
        check = _times_x(check ^ _CROCKFORD.index(character))
    return _CROCKFORD[check]


def _times_x(element: int) -> int:
    doubled = element << 1
    return doubled ^ 0b100101 if doubled & 32 else doubled
