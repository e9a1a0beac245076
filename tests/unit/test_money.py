"""Amounts: text to base units and back, and the only rounding there is."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.money import MAX_AMOUNT_BASE, AmountError, format_amount, parse_amount, parse_price, round_up

amounts = st.integers(0, MAX_AMOUNT_BASE)
decimals = st.integers(0, 36)


@pytest.mark.parametrize(
    ("text", "places", "base"),
    [
        ("25", 6, 25_000_000),
        ("25.00", 6, 25_000_000),
        ("25.003417", 6, 25_003_417),
        ("0.000001", 6, 1),
        ("25.0000000000", 6, 25_000_000),  # zeros beyond the decimals are harmless
        ("007", 0, 7),
        ("7.0", 0, 7),
        ("0", 18, 0),
        (str(MAX_AMOUNT_BASE), 0, MAX_AMOUNT_BASE),
    ],
)
def test_parse(text: str, places: int, base: int) -> None:
    assert parse_amount(text, places) == base


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not an amount"),
        (".5", "is not an amount"),
        ("5.", "is not an amount"),
        ("1,234", "is not an amount"),
        ("1 000", "is not an amount"),
        ("+5", "is not an amount"),
        ("1e3", "is not an amount"),
        ("0x10", "is not an amount"),
        ("NaN", "is not an amount"),
        ("٢٥", "is not an amount"),  # digits, but not ASCII ones
        ("5\n", "is not an amount"),
        ("-5", "is negative"),
        ("-0.01", "is negative"),
        ("0.0000001", "has 7 decimals, but at most 6"),
        (str(MAX_AMOUNT_BASE), "is larger than any chain can move"),  # times 10^6
        ("9" * 10_000, "is not an amount"),
    ],
)
def test_parse_refuses(text: str, says: str) -> None:
    with pytest.raises(AmountError, match=says) as refused:
        parse_amount(text, 6, what="price")
    assert str(refused.value).startswith("price ")
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("text", ["0", "0.00", "0.0000000"])
def test_a_price_is_above_zero(text: str) -> None:
    with pytest.raises(AmountError, match="is zero"):
        parse_price(text, 6)


@pytest.mark.parametrize(
    ("base", "places", "at_least", "text"),
    [
        (25_000_000, 6, 0, "25"),
        (25_000_000, 6, 2, "25.00"),
        (25_003_417, 6, 2, "25.003417"),
        (25_100_000, 6, 2, "25.10"),
        (1, 6, 0, "0.000001"),
        (0, 6, 2, "0.00"),
        (7, 0, 2, "7"),
        (-10_000, 6, 2, "-0.01"),
    ],
)
def test_format(base: int, places: int, at_least: int, text: str) -> None:
    assert format_amount(base, places, at_least=at_least) == text


@given(base=amounts, places=decimals, at_least=st.integers(0, 40))
def test_format_then_parse_is_the_same_amount(base: int, places: int, at_least: int) -> None:
    assert parse_amount(format_amount(base, places, at_least=at_least), places) == base


@given(base=amounts, places=decimals)
def test_what_is_written_is_exactly_the_amount(base: int, places: int) -> None:
    assert Fraction(format_amount(base, places)) == Fraction(base, 10**places)


@given(text=st.text(st.characters(codec="utf-8"), max_size=300), places=decimals)
def test_no_text_does_anything_but_parse_or_be_refused(text: str, places: int) -> None:
    try:
        base = parse_amount(text, places)
    except AmountError:
        return
    assert Fraction(text) * 10**places == base


@given(base=amounts, step=st.integers(1, 10**40))
def test_rounding_is_upwards_to_the_next_step_and_no_further(base: int, step: int) -> None:
    rounded = round_up(base, step)
    assert rounded % step == 0
    assert 0 <= rounded - base < step
