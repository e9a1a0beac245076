"""Whether the owner of an address has signed a text: TIP-191, as TronLink and others do by ``signMessageV2``.

Only keys sign: TIP-191 has no way to ask a contract, and the older ``signMessage`` signs something else.
"""

from __future__ import annotations

import re

from astrapayd_tron.address import from_hex20

_SIGNATURE = re.compile(r"(?:0x)?([0-9a-fA-F]{130})", re.ASCII)


def parse_signature(text: str) -> bytes | None:
    """The 65 bytes of a signature in hex, or None where it is none."""
    found = _SIGNATURE.fullmatch(text.strip())
    return bytes.fromhex(found[1]) if found else None


def message_hash(message: str) -> bytes:
    """What a wallet signs for ``signMessageV2``: never a transaction, nor a message of an EVM chain."""
    from eth_hash.auto import keccak

    text = message.encode()
    return keccak(b"\x19TRON Signed Message:\n%d" % len(text) + text)


def signed_by(address: str, message: str, signature: str) -> bool:
    """Whether the key of a canonical address has signed exactly this text. Whatever a stranger sends is no error."""
    parsed = parse_signature(signature)
    if parsed is None:
        return False
    return signer_of(message_hash(message), parsed) == address


def signer_of(digest: bytes, signature: bytes) -> str | None:
    """The canonical address whose key gave this signature of a hash, or None where no key can have.

    Some key answers to nearly every signature: only one that is the expected address proves anything.
    """
    from embit.util import secp256k1  # at the first claim that is signed
    from eth_hash.auto import keccak

    if len(signature) != 65:
        return None
    recovery = signature[64] - 27 if signature[64] >= 27 else signature[64]  # some wallets count from 0
    if recovery not in (0, 1):
        return None
    try:
        parsed = secp256k1.ecdsa_recoverable_signature_parse_compact(signature[:64], recovery)
        public = secp256k1.ecdsa_recover(parsed, digest)
        whole = secp256k1.ec_pubkey_serialize(public, secp256k1.EC_UNCOMPRESSED)
    except Exception:  # embit raises whatever its parts raise; what it cannot read is no signature
        return None
    return from_hex20(keccak(whole[1:])[-20:].hex())
