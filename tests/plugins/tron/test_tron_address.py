"""Tron addresses: read in each of their forms, shown in one, and what is refused with which words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tronpy import keys as tronpy_keys

from astrapayd.chains import AddressError
from astrapayd_tron import address

USDT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
USDT_HEX = "a614f803b6fd780986a42c78ec9c7f77e6ded13c"
raw = st.binary(min_size=20, max_size=20).filter(any)


@pytest.mark.parametrize("text", [USDT, "41" + USDT_HEX, "0x41" + USDT_HEX, "41" + USDT_HEX.upper()])
def test_each_form_is_one_address(text: str) -> None:
    assert address.parse(text) == USDT


@given(raw)
def test_forms_are_those_of_tronpy(raw: bytes) -> None:
    canonical = address.from_hex20(raw.hex())
    assert canonical == tronpy_keys.to_base58check_address("41" + raw.hex())
    assert address.to_hex21(canonical) == tronpy_keys.to_hex_address(canonical) == "41" + address.to_hex20(canonical)
    assert address.parse(canonical) == address.parse("41" + raw.hex()) == canonical
    assert len(canonical) == 34
    assert canonical.startswith("T")


@settings(max_examples=300)
@given(raw, st.integers(0, 33), st.sampled_from("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"))
def test_one_wrong_letter_is_refused(raw: bytes, at: int, letter: str) -> None:
    canonical = address.from_hex20(raw.hex())
    changed = canonical[:at] + letter + canonical[at + 1 :]
    if changed != canonical:
        with pytest.raises(AddressError):
            address.parse(changed)


@given(raw)
def test_an_address_of_an_evm_chain_is_refused_with_the_same_key_s(raw: bytes) -> None:
    with pytest.raises(AddressError, match=rf"EVM chain.* on Tron is {address.from_hex20(raw.hex())}:"):
        address.parse("0x" + raw.hex())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a Tron address"),
        (USDT[:-1] + "u", "wrong checksum"),
        (USDT[:-1], "not a Tron address"),
        (USDT + "t", "not a Tron address"),
        (" " + USDT, "not a Tron address"),
        (USDT.lower(), "not a Tron address"),
        ("T" + "٣" * 33, "not a Tron address"),
        ("41" + "0" * 40, "zero address"),
        (address.from_hex20("0" * 40), "zero address"),
        (USDT_HEX, "not a Tron address"),
        ("41" + USDT_HEX[:-1], "not a Tron address"),
        ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "another network"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "not a Tron address"),
        ("0x" + "12" * 32, "private key"),
        ("1" * 5000, "not a Tron address"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words) as error:
        address.parse(text)
    assert "12" * 32 not in str(error.value), "what may be a private key is not repeated"


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        canonical = address.parse(text)
    except AddressError:
        return
    assert address.parse(canonical) == canonical


def test_only_canonical_addresses_have_bytes() -> None:
    assert address.to_hex20(USDT) == USDT_HEX
    with pytest.raises(ValueError, match="canonical"):
        address.to_hex20(USDT[:-1] + "u")
    with pytest.raises(ValueError, match="canonical"):
        address.to_hex20("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2")
