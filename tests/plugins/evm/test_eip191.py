"""EIP-191 signatures: a published one, and whatever else a stranger sends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from astrapayd_evm.signatures import MAX_SIGNATURE_BYTES, parse_signature, personal_hash, signer_of

# From eth-account's documentation of recover_message.
TEXT = "I♥SF"
SIGNATURE = (
    "0xe6ca9bba58c88611fad66a6ce8f996908195593807c4b38bd528d2cff09d4eb3"
    "3e5bfbbf4d3e39b1a2fd816a7680c19ebebaf3a141b239934ad43cb33fcec8ce1c"
)
SIGNER = "0x5ce9454909639d2d17a3f753ce7d93fa0b9ab12e"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_a_published_signature() -> None:
    signature = parse_signature(SIGNATURE)
    assert signature is not None
    assert signer_of(personal_hash(TEXT), signature) == SIGNER
    assert signer_of(personal_hash(TEXT + "!"), signature) != SIGNER
    assert personal_hash(TEXT).hex() == "1476abb745d423bf09273f1afd887d951181d25adc66c4834a70491911b7f750"


def test_what_no_key_has_signed() -> None:
    digest = personal_hash(TEXT)
    whole = bytes.fromhex(SIGNATURE[2:])
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
        whole[:32] + order + whole[64:],
        b"\xff" * 64 + b"\x1b",
    ):
        assert signer_of(digest, wrong) is None, wrong.hex()


def test_the_text_of_a_signature() -> None:
    assert (
        parse_signature(SIGNATURE[2:].upper()) == parse_signature(f"\t{SIGNATURE} \n") == bytes.fromhex(SIGNATURE[2:])
    )
    longest = "ab" * MAX_SIGNATURE_BYTES
    assert parse_signature(longest) is not None
    for wrong in ("", "0x", "0xabc", "0xzz", "signed", SIGNATURE[:20] + " " + SIGNATURE[20:], longest + "ab", "٣٣"):
        assert parse_signature(wrong) is None, wrong


@given(st.text(), st.one_of(st.binary(max_size=80), st.binary(min_size=65, max_size=65)))
def test_whatever_is_sent_is_nobody_s_signature(text: str, signature: bytes) -> None:
    try:
        digest = personal_hash(text)
    except UnicodeEncodeError:
        return  # a lone surrogate; our own texts have none
    assert signer_of(digest, signature) != SIGNER
