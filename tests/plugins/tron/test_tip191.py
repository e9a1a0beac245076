"""TIP-191 signatures: a published one, tronpy's, and whatever else a stranger sends."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from tronpy.keys import PrivateKey, hash_message

from astrapayd_tron.signatures import message_hash, parse_signature, signed_by, signer_of

# From the tests of the Dart package blockchain_utils: TIP-191 over "message" by a key of its own.
TEXT = "message"
SIGNATURE = (
    "fde00bc33d78109bc61de314c1c0526a047e22a2aaae473ca84b32d8aa35ed3e"
    "03720e05d614087e3d8c6fae63879755b32aa08818a2d4de66fee1a617a971671b"
)
SIGNER = "TCFvmqhxFrEdPbnQzKWaGNdXz7X3za7w5r"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_a_published_signature() -> None:
    assert signed_by(SIGNER, TEXT, SIGNATURE)
    assert signed_by(SIGNER, TEXT, f" 0x{SIGNATURE.upper()}\n".replace("0X", "0x"))
    assert not signed_by(SIGNER, TEXT + "!", SIGNATURE)
    assert not signed_by("TUEZSdKsoDHQMeZwihtdoBiN46zxhGWYdH", TEXT, SIGNATURE)


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(1, 2**64))
def test_what_tronpy_signs(text: str, number: int) -> None:
    key = PrivateKey(hashlib.sha256(str(number).encode()).digest())
    address = key.public_key.to_base58check_address()
    signature = key.sign_msg(text.encode())
    assert message_hash(text) == hash_message(text)
    assert signed_by(address, text, signature.hex())
    counted_from_27 = signature.hex()[:128] + f"{int(signature.hex()[128:], 16) % 27 + 27:02x}"
    assert signed_by(address, text, counted_from_27)
    assert not signed_by(address, text + " ", signature.hex())


def test_a_signature_for_an_evm_chain_is_none_here() -> None:
    from astrapayd_evm.signatures import personal_hash

    assert message_hash(TEXT) != personal_hash(TEXT)


def test_what_no_key_has_signed() -> None:
    digest, whole = message_hash(TEXT), bytes.fromhex(SIGNATURE)
    zero, order = bytes(32), ORDER.to_bytes(32, "big")
    for wrong in (
        b"",
        whole[:64],
        whole + b"\0",
        whole[:64] + b"\x02",
        whole[:64] + b"\x1d",
        zero + whole[32:],
        whole[:32] + zero + whole[64:],
        order + whole[32:],
        b"\xff" * 64 + b"\x1b",
    ):
        assert signer_of(digest, wrong) is None, wrong.hex()
    for text in ("", "0x", "0xabc", "signed", SIGNATURE[:-1], SIGNATURE + "00", SIGNATURE[:20] + " " + SIGNATURE[20:]):
        assert parse_signature(text) is None, text
        assert not signed_by(SIGNER, TEXT, text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.binary(min_size=65, max_size=65))
def test_whatever_is_sent_is_nobody_s_signature(text: str, signature: bytes) -> None:
    assert not signed_by(SIGNER, text, signature.hex())
