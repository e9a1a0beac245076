"""Addresses from an xpub, against the wallet of the phrase that everybody knows ("abandon … about")."""

from __future__ import annotations

import pytest

from astrapayd.chains import AddressError
from astrapayd_evm import address, derivation

XPUB = "xpub6DCoCpSuQZB2jawqnGMEPS63ePKWkwWPH4TU45Q7LPXWuNd8TMtVxRrgjtEshuqpK3mdhaWHPFsBngh5GFZaM6si3yZdUsT8ddYM3PwnATt"


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, "0x9858EfFD232B4033E47d90003D41EC34EcaEda94"),
        (1, "0x6Fac4D18c912343BF86fa7049364Dd4E424Ab9C0"),
        (2, "0xb6716976A3ebe8D39aCEB04372f22Ff8e6802D7A"),
    ],
)
def test_addresses_are_those_that_wallets_show(index: int, expected: str) -> None:
    assert address.display(derivation.derive(XPUB, 0, index)) == expected


def test_key_is_kept_as_it_is() -> None:
    assert derivation.parse_xpub(XPUB) == XPUB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no extended public key"),
        (XPUB[:-1] + "u", "no extended public key"),
        (
            "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8",
            "depth 0",
        ),
    ],
)
def test_what_is_no_account_key_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        derivation.parse_xpub(text)
