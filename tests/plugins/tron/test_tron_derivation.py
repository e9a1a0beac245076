"""Addresses from an xpub, against the wallet of the phrase that everybody knows ("abandon … about")."""

from __future__ import annotations

import pytest

from astrapayd.chains import AddressError
from astrapayd_tron import derivation

XPUB = "xpub6D1AabNHCupeiLM65ZR9UStMhJ1vCpyV4XbZdyhMZBiJXALQtmn9p42VTQckoHVn8WNqS7dqnJokZHAHcHGoaQgmv8D45oNUKx6DZMNZBCd"
WHOLE_WALLET = (
    "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8"
)
ADDRESSES = [
    "TUEZSdKsoDHQMeZwihtdoBiN46zxhGWYdH",
    "TSeJkUh4Qv67VNFwY8LaAxERygNdy6NQZK",
    "TYJPRrdB5APNeRs4R7fYZSwW3TcrTKw2gx",
]


@pytest.mark.parametrize(("index", "expected"), list(enumerate(ADDRESSES)))
def test_addresses_are_those_that_wallets_show(index: int, expected: str) -> None:
    assert derivation.derive(XPUB, 0, index) == expected


def test_branches_are_apart() -> None:
    assert derivation.derive(XPUB, 1, 0) not in ADDRESSES


def test_key_is_kept_as_it_is() -> None:
    assert derivation.parse_xpub(XPUB) == XPUB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no extended public key"),
        (XPUB[:-1] + "e", "no extended public key"),
        (ADDRESSES[0], "no extended public key"),
        (WHOLE_WALLET, "depth 0"),
    ],
)
def test_what_is_no_account_key_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        derivation.parse_xpub(text)
