"""EVM addresses: 20 bytes, canonical as ``0x`` and 40 lower-case hex digits, shown with EIP-55's checksum."""

from __future__ import annotations

import re

from astrapayd.chains import AddressError
from astrapayd.private_keys import private_key_kind

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_BARE = re.compile(r"(?:0X)?[0-9a-fA-F]{40}", re.ASCII)
_FORM = "write 0x and 40 hex digits"
_ZERO = "0x" + "0" * 40


def parse(text: str) -> str:
    """The canonical form of an address.

    All lower or all upper case carries no checksum and is taken; mixed case must match EIP-55, because one wrong
    letter is somebody else's address.

    :raises AddressError: with one sentence that begins with a verb, and never repeats what could be a secret.
    """
    if kind := private_key_kind(text):
        raise AddressError(
            f"looks like {kind}, which astrapayd never holds: treat it as exposed, and write the address instead"
        )
    if not _ADDRESS.fullmatch(text):
        if _BARE.fullmatch(text):
            raise AddressError(f"is not an EVM address, since 0x is missing in front: {_FORM}")
        if re.fullmatch(r"0x[0-9a-fA-F]*", text, re.ASCII):
            raise AddressError(f"is not an EVM address, since it has {len(text) - 2} hex digits: {_FORM}")
        raise AddressError(f"is not an EVM address: {_FORM}")
    canonical = text.lower()
    digits = text[2:]
    if digits not in {digits.lower(), digits.upper()} and text != display(canonical):
        raise AddressError("has a wrong EIP-55 checksum, so a letter is mistyped: copy the address again")
    if canonical == _ZERO:
        raise AddressError("is the zero address, where money is lost: write an address of your own")
    return canonical


def display(address: str) -> str:
    """A canonical address with EIP-55's checksum: a letter is upper case where the hash's nibble is 8 or more."""
    from eth_hash.auto import keccak  # loads its backend at first use, which a start without EVM chains spares

    digits = address[2:]
    nibbles = keccak(digits.encode("ascii")).hex()
    return "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit for digit, nibble in zip(digits, nibbles, strict=False)
    )
