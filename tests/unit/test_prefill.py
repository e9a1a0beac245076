"""What a shop signs of a payment in a link's address: which bytes, and that nothing else counts."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from astrapayd.prefill import (
    MAX_AMOUNT,
    MAX_EMAIL,
    MAX_ORDER,
    PrefillRefused,
    Terms,
    Why,
    canonical,
    given_query,
    sign,
    signed_query,
    verify,
)

NOW = 1_800_000_000
KEY = bytes(range(32))
SECRET = "lnksec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER_SECRET = "lnksec_" + "A" * 43 + "="
TERMS = Terms("25.00", "R&D 7/8 ü", "a+b@example.org", NOW + 1)


def pairs_of(terms: Terms, secret: str = SECRET, slug: str = "tea") -> list[tuple[str, str]]:
    named = (
        ("amount", terms.amount),
        ("email", terms.email),
        ("order", terms.order),
        ("until", "" if terms.until is None else str(terms.until)),
    )
    return [*((name, value) for name, value in named if value), ("signature", sign(secret, slug, terms))]


def why(
    given: list[tuple[str, str]], *, secrets: tuple[str, ...] = (SECRET,), slug: str = "tea", now: int = NOW
) -> Why:
    with pytest.raises(PrefillRefused) as refused:
        verify(secrets, slug, given, now)
    assert "\n" not in str(refused.value)
    return refused.value.why


plain = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and text == text.strip()
)
some_terms = st.builds(
    Terms,
    amount=plain,
    order=st.just("") | plain,
    email=st.just("") | plain,
    until=st.none() | st.integers(NOW + 1, 10**10),
)


def test_the_signed_bytes_are_these() -> None:
    signed = (
        b"astrapay-prefill-v1:tea?amount=25.00&email=a%2Bb%40example.org&order=R%26D%207%2F8%20%C3%BC&until=1800000001"
    )
    assert canonical("tea", pairs_of(TERMS)) == signed
    assert sign(SECRET, "tea", TERMS) == hmac.new(KEY, signed, hashlib.sha256).hexdigest()
    assert (
        signed_query(SECRET, "tea", TERMS)
        == f"{signed.decode().partition('?')[2]}&signature={sign(SECRET, 'tea', TERMS)}"
    )


@given(some_terms, st.randoms(use_true_random=False))
def test_the_order_of_parameters_does_not_matter(terms: Terms, random: object) -> None:
    given = [*pairs_of(terms), ("utm_source", "mail")]
    random.shuffle(given)  # type: ignore[attr-defined]
    assert verify([OTHER_SECRET, SECRET], "tea", given, NOW) == terms
    assert "utm_source" not in given_query(given)


@given(some_terms, st.data())
def test_any_change_of_any_character_is_refused(terms: Terms, data: st.DataObject) -> None:
    given = pairs_of(terms)
    at = data.draw(st.integers(0, len(given) - 1))
    name, value = given[at]
    place = data.draw(st.integers(0, len(value) - 1))
    instead = data.draw(st.text(max_size=2))
    changed = value[:place] + instead + value[place + 1 :]
    assume(changed != value)
    given[at] = (name, changed)
    assert why(given) is Why.EDITED


@given(some_terms, st.data())
def test_a_parameter_added_taken_away_or_renamed_is_refused(terms: Terms, data: st.DataObject) -> None:
    given = pairs_of(terms)
    at = data.draw(st.integers(0, len(given) - 1))
    name, value = given[at]
    rest = given[:at] + given[at + 1 :]
    missing = {"amount", "email", "order", "until"} - {name for name, _ in given}
    assert why([*given, (name, value)]) is Why.GIVEN_TWICE
    if name == "signature":
        assert why(rest) is Why.NOT_SIGNED
    else:
        assert why(rest) is Why.EDITED
        for other in missing:
            assert why([*rest, (other, value)]) is Why.EDITED
    for other in missing:
        assert why([*given, (other, "")]) is Why.EDITED


@given(some_terms)
def test_another_link_and_another_secret_are_refused(terms: Terms) -> None:
    given = pairs_of(terms)
    assert why(given, slug="tea-2") is Why.EDITED
    assert why(given, secrets=(OTHER_SECRET,)) is Why.EDITED
    assert why(given, secrets=()) is Why.EDITED


@given(plain, plain)
def test_values_do_not_run_into_each_other(amount: str, order: str) -> None:
    """``amount=1&order=2`` as one value and as two are different bytes."""
    assert sign(SECRET, "tea", Terms(amount, order)) != sign(SECRET, "tea", Terms(f"{amount}&order={order}"))


def test_until_is_the_first_second_in_which_it_counts_no_more() -> None:
    given = pairs_of(TERMS)
    assert verify([SECRET], "tea", given, NOW) == TERMS
    assert why(given, now=NOW + 1) is Why.EXPIRED
    edited = [(name, str(NOW + 9) if name == "until" else value) for name, value in given]
    assert why(edited, now=NOW + 1) is Why.EDITED


def test_nothing_said_and_an_email_alone_need_no_signature() -> None:
    assert verify([], "tea", [], NOW) is None
    assert verify([], "tea", [("utm_source", "mail"), ("Amount", "1")], NOW) is None
    assert verify([], "tea", [("email", "a@example.org")], NOW) == Terms(email="a@example.org")
    for useless in ("", "a" * (MAX_EMAIL + 1), "a\nb", " a"):
        assert verify([], "tea", [("email", useless)], NOW) == Terms()


@pytest.mark.parametrize("name", ["amount", "order", "until"])
def test_what_decides_something_is_refused_without_a_signature(name: str) -> None:
    for value in ("25", ""):
        assert why([(name, value)]) is Why.NOT_SIGNED
        assert why([(name, value), ("email", "a@example.org")]) is Why.NOT_SIGNED
        assert why([(name, value), ("signature", "")]) is Why.EDITED


def test_a_signature_of_any_text_is_no_bug() -> None:
    right = dict(pairs_of(TERMS))["signature"]
    for signature in ("", "é", "\ud800", "\0", right.upper(), f" {right}", f"{right}\n", right[:-1], "0" * 64):
        assert why([*pairs_of(TERMS)[:-1], ("signature", signature)]) is Why.EDITED
    assert why([("amount", "\ud800"), ("signature", right)]) is Why.EDITED


@pytest.mark.parametrize(
    "terms",
    [
        Terms(),
        Terms(email="a@example.org"),
        Terms("1" * (MAX_AMOUNT + 1)),
        Terms("25", "1" * (MAX_ORDER + 1)),
        Terms("25", "a\nb"),
        Terms("25", "a\u202eb"),
        Terms("25", " 7"),
        Terms("25", "7", "a" * (MAX_EMAIL + 1)),
        Terms("25", until=0),
        Terms("25", until=10**11),
    ],
)
def test_useless_terms_are_signed_by_nobody_and_refused_though_signed(terms: Terms) -> None:
    with pytest.raises(PrefillRefused) as refused:
        sign(SECRET, "tea", terms)
    assert refused.value.why is Why.UNUSABLE
    given = pairs_of_unchecked(terms)
    assert why(given) is Why.UNUSABLE


@pytest.mark.parametrize("until", ["", "soon", "-1", "1e9", "१८००००००००", "18000000000000"])
def test_an_until_that_is_no_time_is_refused_though_signed(until: str) -> None:
    assert why(signed([("amount", "25"), ("until", until)])) is Why.UNUSABLE


def test_a_secret_that_is_none_is_said_and_not_shown() -> None:
    for secret in ("", "whsec_AAEC", "lnksec_A", "lnksec_é"):
        with pytest.raises(PrefillRefused, match="secret") as refused:
            sign(secret, "tea", replace(TERMS))
        assert "AAEC" not in str(refused.value)


def pairs_of_unchecked(terms: Terms) -> list[tuple[str, str]]:
    named = (("amount", terms.amount), ("email", terms.email), ("order", terms.order))
    given = [(name, value) for name, value in named if value]
    return signed(given if terms.until is None else [*given, ("until", str(terms.until))])


def signed(given: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """As a shop's own code may sign, which checks nothing."""
    return [*given, ("signature", hmac.new(KEY, canonical("tea", given), hashlib.sha256).hexdigest())]
