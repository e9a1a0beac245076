"""What of a transaction a session can claim, and the text that its sender signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from astrapayd.claims import Claimant, ClaimRefused, Found, challenge, claimable, payer_challenge

CLAIMANT = Claimant("ses_1", "shop", "usdt", "USDT", opened_height=100, place="0xAB on Ethereum")
GOOD = Found("pay_1", "shop", "usdt", "USDT", "0xpayer", "mined", 101, 101, "unmatched", None)


def test_what_is_in_a_block_after_the_opening_and_unmatched() -> None:
    assert claimable(CLAIMANT, [GOOD]) == (GOOD,)
    seen_first = replace(GOOD, first_seen_height=100)
    assert claimable(CLAIMANT, [seen_first]) == (seen_first,)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"store": "other"}, "pays to another address: compare yours with 0xAB on Ethereum"),
        ({"asset": "dai", "symbol": "DAI"}, "paid DAI, but this payment is in USDT"),
        ({"state": "unconfirmed", "height": None}, "in no block yet: ask again when"),
        ({"state": "orphaned", "height": None}, "in no block yet: ask again when"),
        ({"state": "replaced", "height": None}, "replaced by another one"),
        ({"height": 100}, "made before this payment was opened"),
        ({"first_seen_height": 99}, "made before this payment was opened"),
        ({"standing": "credited", "session_id": "ses_2"}, "counted for another payment already"),
        ({"standing": "credited", "session_id": "ses_1"}, "counted for this payment already"),
        ({"standing": "dismissed"}, "put it aside"),
        ({"standing": "own"}, "put it aside"),
    ],
)
def test_what_is_wrong_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    wrong = replace(GOOD, **change)
    with pytest.raises(ClaimRefused, match=sentence) as refused:
        claimable(CLAIMANT, [wrong])
    said = str(refused.value)
    assert not said.endswith(".")
    assert "ses_2" not in said
    assert claimable(CLAIMANT, [wrong, GOOD]) == (GOOD,), "another payment of the same transaction is not in the way"


def test_an_unknown_transaction_says_what_to_compare_and_when_to_ask_again() -> None:
    with pytest.raises(
        ClaimRefused, match=r"no payment .* reached 0xAB on Ethereum: .* ask again when it is in a block"
    ):
        claimable(CLAIMANT, [])


@pytest.mark.parametrize("text_of", [challenge, payer_challenge])
def test_the_text_to_sign_names_shop_host_session_address_and_code(text_of: Callable[..., str]) -> None:
    named = {
        "host": "https://pay.example",
        "store": "Käse",
        "session_id": "ses_1",
        "address": "0xAB",
        "code": "7KQ2-M9XD",
    }
    text = text_of(**named)
    assert all(value in text for value in named.values())
    assert "moves no money" in text
    for name in named:
        assert text_of(**{**named, name: "x"}) != text
    assert challenge(**named) != payer_challenge(**named), "neither stands for the other"
