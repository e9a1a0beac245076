"""Rates: the one rounding, what a quote remembers, and answers of sources that are none."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.config import AssetSection, Config, ConfigError, ConfigRegistry, FixedRateSection, load
from astrapayd.money import MAX_AMOUNT_BASE, AmountError, Asset
from astrapayd.rate_sources import FixedSource, ParitySource
from astrapayd.rates import (
    MAX_TERM,
    Quote,
    QuoteTooOld,
    Rate,
    RateRegistry,
    checked_rate,
    convert,
    quote_of,
)
from astrapayd.testing import fake_assets

NOW = 1_800_000_000
USD, COIN, WIDE = fake_assets().values()
RATE = Rate("EUR", "usd", Fraction("0.92"), NOW)

terms = st.integers(min_value=1, max_value=MAX_TERM - 1)
fractions = st.builds(Fraction, terms, terms)
prices = st.from_regex(r"[0-9]{1,70}(\.[0-9]{1,18})?", fullmatch=True)


def quote(price: str | Fraction) -> Quote:
    return Quote(Fraction(price), "test", NOW)


# -- conversion ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "rate", "base"),
    [
        ("25.00", "1", 25_000_000),
        ("25", "0.92", 27_180_000),  # 27.1739… USD
        ("0.001", "1", 10_000),
        ("1", "3", 340_000),
        ("0.000000000000000001", "999999", 10_000),
    ],
)
def test_price_is_rounded_up_to_the_price_decimals(price: str, rate: str, base: int) -> None:
    assert convert(price, "EUR", quote(rate), USD).price_base == base


@given(price=prices, rate=fractions, asset=st.sampled_from([USD, COIN, WIDE]))
def test_conversion_is_never_below_and_less_than_a_step_above(price: str, rate: Fraction, asset: Asset) -> None:
    exact, step = Fraction(price) / rate * 10**asset.decimals, asset.price_step_base
    try:
        found = convert(price, "EUR", quote(rate), asset)
    except AmountError:
        assert exact == 0 or exact + 2 * step > MAX_AMOUNT_BASE or Fraction(price) * 10**18 > MAX_AMOUNT_BASE
        return
    assert found.exact_base == exact
    assert 0 <= found.rounding_base < step
    assert found.price_base == exact + found.rounding_base
    assert found.price_base % step == 0


def test_conversion_up_to_the_largest_amount() -> None:
    """One step of room is left for the tail."""
    whole = USD.price_step_base
    largest = (MAX_AMOUNT_BASE - whole) // whole * whole
    rate = Fraction(1, 10**20)
    price = Fraction(largest, 10**26)
    text = f"{int(price)}.{int((price % 1) * 10**18):018d}"
    assert convert(text, "EUR", quote(rate), USD).price_base <= largest
    with pytest.raises(AmountError, match="larger than usd can move"):
        convert(f"{int(price) + 1}", "EUR", quote(rate), USD)


def test_price_that_becomes_too_little_to_be_sent() -> None:
    with pytest.raises(AmountError, match=r"is 0\.11 USD now, below 0\.5, the least"):
        convert("0.10", "EUR", quote("0.92"), USD, 500_000)
    assert convert("0.46", "EUR", quote("0.92"), USD, 500_000).price_base == 500_000


@pytest.mark.parametrize("price", ["0", "-1", "1e3", "", "1,5", "0." + "0" * 18 + "1", "9" * 100])
def test_what_is_no_price_is_not_converted(price: str) -> None:
    with pytest.raises(AmountError):
        convert(price, "EUR", quote("1"), USD)


# -- quotes -------------------------------------------------------------------------------------------------------


@given(rate=fractions)
def test_text_of_a_quote_is_exact_and_fits_its_column(rate: Fraction) -> None:
    text = quote(rate).text
    assert len(text) <= 100
    assert Quote.parse(text, "test", NOW) == quote(rate)


@pytest.mark.parametrize(
    ("rate", "text"),
    [("0.92", "0.92"), ("1", "1"), ("2500", "2500"), ("10000/3", "10000/3"), ("1/8", "0.125"), ("1/1024", None)],
)
def test_text_of_a_quote_is_decimal_where_it_has_an_end(rate: str, text: str | None) -> None:
    assert quote(rate).text == (text or "0.0009765625")


def test_age_of_a_rate() -> None:
    assert quote_of(RATE, "x", USD, NOW + 300, 300) == Quote(Fraction("0.92"), "x", NOW)
    with pytest.raises(QuoteTooOld, match=r"in EUR cannot be converted to USD .* from 2027-01-15T08:00:00Z"):
        quote_of(RATE, "x", USD, NOW + 301, 300)
    longer = replace(RATE, max_age_secs=86400)
    assert quote_of(longer, "x", USD, NOW + 86400, 300).source == "x"
    with pytest.raises(QuoteTooOld):
        quote_of(longer, "x", USD, NOW + 86401, 300)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        1.0,
        "0.92",
        Fraction(1),
        replace(RATE, currency="USD"),
        replace(RATE, asset="coin"),
        replace(RATE, price=Fraction(0)),
        replace(RATE, price=Fraction(-1)),
        replace(RATE, price=0.92),
        replace(RATE, price=1),
        replace(RATE, price=Fraction(1, MAX_TERM)),
        replace(RATE, price=Fraction(MAX_TERM)),
        replace(RATE, taken_at=NOW + 61),
        replace(RATE, taken_at=-1),
        replace(RATE, taken_at=float(NOW)),
        replace(RATE, taken_at=None),
        replace(RATE, max_age_secs=-1),
        replace(RATE, max_age_secs="x"),
    ],
)
def test_nonsense_is_no_rate(answer: object) -> None:
    with pytest.raises(ValueError, match=r"^answered "):
        checked_rate(answer, "EUR", USD, NOW)


def test_what_is_a_rate_is_taken() -> None:
    ahead = replace(RATE, taken_at=NOW + 60, max_age_secs=0)
    assert checked_rate(ahead, "EUR", USD, NOW) is ahead


# -- sources ------------------------------------------------------------------------------------------------------


def test_a_name_is_registered_once() -> None:
    registry = RateRegistry()
    registry.add("fixed", FixedSource(()))
    with pytest.raises(ValueError, match="'fixed' is registered twice"):
        registry.add("fixed", FixedSource(()))
    for unusable in ("", "x" * 41):
        with pytest.raises(ValueError, match="no usable name"):
            registry.add(unusable, FixedSource(()))
    assert [name for name, _ in registry] == ["fixed"]


async def test_parity_is_one_for_the_assets_own_currency_only() -> None:
    plain = AssetSection(chain="fake", symbol="USD", decimals=6)
    source = ParitySource({"usd": plain.model_copy(update={"currency": "USD"}), "coin": plain}, lambda: NOW)
    assert await source.rate("USD", USD) == Rate("USD", "usd", Fraction(1), NOW)
    for currency, asset in (("EUR", USD), ("USD", COIN), ("USD", WIDE)):
        assert not source.covers(currency, asset)
        assert await source.rate(currency, asset) is None


async def test_fixed_is_as_it_was_written() -> None:
    taken_at = datetime(2027, 1, 15, 8, tzinfo=UTC)
    source = FixedSource((FixedRateSection(asset="usd", currency="EUR", price="0.9200", taken_at=taken_at),))
    assert await source.rate("EUR", USD) == replace(RATE, max_age_secs=86400)
    assert source.covers("EUR", USD)
    assert not source.covers("EUR", COIN)
    assert await source.rate("EUR", COIN) is None


FILE = """
[chains.ethereum]
plugin = "fake"
[assets.usd]
chain = "ethereum"
symbol = "USD"
decimals = 6
{currency}
[[rates.fixed]]
asset = "{asset}"
currency = "EUR"
price = {price}
taken_at = {taken_at}
"""


def written(path: Path, **changed: str) -> Config:
    from astrapayd.config import ChainSection

    values = {"asset": "usd", "price": '"0.92"', "taken_at": "2026-11-24T11:00:00+01:00", "currency": ""} | changed
    path.write_text(FILE.format(**values))
    registry = ConfigRegistry()
    registry.add_chain_section("fake", ChainSection)
    return load(path, registry)


def test_rates_in_the_file(tmp_path: Path) -> None:
    config = written(tmp_path / "a.toml", currency='currency = "USD"')
    assert config.rates.fixed[0].taken_at == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert config.rates.max_age_secs == 300
    assert config.assets["usd"].currency == "USD"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"asset": "usb"}, "rates.fixed[0].asset: names no asset of this file: did you mean usd?"),
        ({"price": '"0.00"'}, "rates.fixed[0].price: is not a price above zero"),
        ({"price": '"1e3"'}, "rates.fixed[0].price: is not a price above zero"),
        ({"price": "0.92"}, "rates.fixed[0].price: "),
        ({"taken_at": "2026-11-24T10:00:00"}, "rates.fixed[0].taken_at: has no time zone"),
        ({"taken_at": '"yesterday"'}, "rates.fixed[0].taken_at: "),
        ({"currency": 'currency = "usd"'}, "assets.usd.currency: is no currency"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        written(tmp_path / "a.toml", **changed)
    assert len(refused.value.problems) == 1


def test_a_pair_stands_once_in_the_file(tmp_path: Path) -> None:
    again = '"0.92"\ntaken_at = 2026-11-24T10:00:00Z\n[[rates.fixed]]\nasset="usd"\ncurrency="EUR"\nprice = "1"'
    with pytest.raises(ConfigError, match=r"rates.fixed\[1\]: is of the same pair as rates.fixed\[0\]"):
        written(tmp_path / "a.toml", price=again)
