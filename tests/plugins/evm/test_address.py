"""Addresses: EIP-55 as its text has it, and what is refused with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.chains import AddressError
from astrapayd_evm import address

EIP_55 = [  # the examples of the EIP
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("text", EIP_55)
def test_eip_55_examples_are_accepted_and_shown_as_they_are(text: str) -> None:
    assert address.parse(text) == text.lower()
    assert address.display(text.lower()) == text


@given(st.binary(min_size=20, max_size=20).filter(any))
def test_what_is_shown_is_read_again(raw: bytes) -> None:
    canonical = "0x" + raw.hex()
    assert address.parse(address.display(canonical)) == canonical
    assert address.parse(canonical) == canonical


@given(st.sampled_from(EIP_55[4:]), st.integers(2, 41))
def test_one_letter_in_the_wrong_case_is_refused(text: str, at: int) -> None:
    changed = text[:at] + text[at].swapcase() + text[at + 1 :]
    if changed != text and changed[2:] not in (changed[2:].lower(), changed[2:].upper()):
        with pytest.raises(AddressError, match="checksum"):
            address.parse(changed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "address"),
        ("0x" + "0" * 40, "zero"),
        ("0x" + "12" * 32, "private key"),
        ("0x" + "1" * 39, "40"),
        ("0x" + "g" * 40, "not an EVM address"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "not an EVM address"),
        ("TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "not an EVM address"),
        ("0x" + "１" * 40, "not an EVM address"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words) as error:
        address.parse(text)
    assert "12" * 32 not in str(error.value), "what may be a private key is not repeated"
