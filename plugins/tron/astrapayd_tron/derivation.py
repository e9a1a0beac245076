"""Watch-only derivation: from an account's xpub (BIP-44, ``m/44'/195'/account'``) to the addresses of its wallet."""

from __future__ import annotations

from typing import Any

from astrapayd.chains import AddressError
from astrapayd_tron.address import from_hex20

_ACCOUNT_DEPTH = 3  # m / 44' / 195' / account'
_WANTED = "export the account's public key (xpub, of m/44'/195'/0') from the wallet"


def parse_xpub(text: str) -> str:
    """The account key as it is kept.

    :raises AddressError: with one sentence that begins with a verb.
    """
    key = _key(text)
    if key.is_private:
        raise AddressError(f"is a private key, which astrapayd never holds: treat it as exposed, and {_WANTED}")
    if key.depth != _ACCOUNT_DEPTH:
        raise AddressError(
            f"is of depth {key.depth} instead of {_ACCOUNT_DEPTH}, so no wallet would find it: {_WANTED}"
        )
    canonical: str = key.to_base58()
    return canonical


def derive(xpub: str, branch: int, index: int) -> str:
    """The canonical address of ``m/44'/195'/account'/branch/index``: 0x41 before the last 20 bytes of the public key's
    hash."""
    from eth_hash.auto import keccak  # loads its backend at first use, which a start without such chains spares

    public = _key(xpub).derive([branch, index]).key
    public.compressed = False
    return from_hex20(keccak(public.sec()[1:])[-20:].hex())


def _key(text: str) -> Any:
    from embit import bip32

    try:
        return bip32.HDKey.from_string(text)
    except Exception:  # embit raises whatever its parts raise
        raise AddressError(f"is no extended public key: {_WANTED}") from None
