"""Prices in another currency than the asset: rates, and the one rounding that there is. Pure.

A rate says what one whole unit of an asset costs in a currency, as an exact fraction; a quote is a rate that a session
was opened with, frozen with it. A price is converted into base units of the asset and rounded up to the asset's price
decimals, so that the shop never gets less than it asked for, and less than one step more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Protocol

from astrapayd.events import iso_time
from astrapayd.money import MAX_AMOUNT_BASE, AmountError, Asset, format_amount, parse_price, round_up

CURRENCY_DECIMALS = 18
"""A price in a currency has at most so many."""

CURRENCY = re.compile(r"[A-Z0-9]{2,12}", re.ASCII)
"""What a currency that is converted from may be called: ``EUR``."""

MAX_TERM = 10**48
"""Numerator and denominator of a rate are below it, so that the exact text fits its column."""

_AHEAD_SECS = 60  # a source's clock may be so far ahead of ours


class NoQuote(Exception):
    """A price cannot be converted now. The message is one sentence for the customer, the page and the CLI."""


class QuoteTooOld(NoQuote):
    """There are rates, but none that is recent enough."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a source answers: one whole unit of the asset (by its id) costs ``price`` units of the currency.

    ``taken_at`` is when it was true, in Unix seconds. It counts for ``max_age_secs`` from then; None: as long as
    ``rates.max_age_secs`` in the configuration says.
    """

    currency: str
    asset: str
    price: Fraction
    taken_at: int
    max_age_secs: int | None = None


class RateSource(Protocol):
    """Something that knows what assets cost. ``covers`` does no I/O and says what it is for, so that a link can be
    made while ``rate`` has no answer."""

    def covers(self, currency: str, asset: Asset) -> bool:
        """Whether rates of this pair can come from here at all."""
        ...

    async def rate(self, currency: str, asset: Asset) -> Rate | None:
        """The latest rate, however old, or None where there is none; asked at openings, for a few seconds at most."""
        ...


class RateRegistry:
    """Collects sources of rates; given to ``astrapayd_register_rate_sources``. They are asked in this order."""

    def __init__(self) -> None:
        self._sources: dict[str, RateSource] = {}

    def add(self, name: str, source: RateSource) -> None:
        """Register a source under the name that quotes are recorded with, of 1 to 40 characters.

        :raises ValueError: if the name is taken or cannot be used.
        """
        if not 1 <= len(name) <= 40:
            raise ValueError(f"rate source {name[:40]!r} has no usable name: give it 1 to 40 characters")
        if name in self._sources:
            raise ValueError(f"rate source {name!r} is registered twice")
        self._sources[name] = source

    def __iter__(self) -> Iterator[tuple[str, RateSource]]:
        return iter(self._sources.items())


@dataclass(frozen=True, slots=True)
class Quote:
    """The rate of one session: what one whole unit of its asset costs in the price's currency, from which source."""

    price: Fraction
    source: str
    taken_at: int

    @property
    def text(self) -> str:
        """The price exactly, as decimal text, or as ``10000/3`` where that has no end; :meth:`parse` reads it."""
        denominator, decimals = self.price.denominator, 0
        while denominator > 1 and decimals <= 40:
            factor = 10 // (10 if denominator % 10 == 0 else 5 if denominator % 5 == 0 else 2)
            if (denominator * factor) % 10:
                break
            denominator, decimals = denominator * factor // 10, decimals + 1
        if denominator > 1:
            return str(self.price)
        return format_amount(int(self.price * 10**decimals), decimals)

    @classmethod
    def parse(cls, text: str, source: str, taken_at: int) -> Quote:
        """A quote as it was stored."""
        return cls(Fraction(text), source, taken_at)

    def rate_sentence(self, currency: str, asset: Asset) -> str:
        """``1 USDT = 0.92 EUR``."""
        return f"1 {asset.symbol} = {self.text} {currency}"

    def sentence(self, currency: str, asset: Asset) -> str:
        """``1 USDT = 0.92 EUR (fixed, 2026-11-24T10:00:00Z)``."""
        return f"{self.rate_sentence(currency, asset)} ({self.source}, {iso_time(self.taken_at)})"


@dataclass(frozen=True, slots=True)
class Conversion:
    """A price in base units of the asset: ``exact_base``, and rounded up to what can be asked for."""

    exact_base: Fraction
    price_base: int

    @property
    def rounding_base(self) -> Fraction:
        """What the rounding added: at least 0, and less than one step of the asset's price decimals."""
        return self.price_base - self.exact_base


def checked_rate(answer: object, currency: str, asset: Asset, now: int) -> Rate:
    """A source's answer, if it is a rate of that pair in every part.

    :param now: Unix seconds.
    :raises ValueError: with what is wrong with it.
    """
    if not isinstance(answer, Rate):
        raise ValueError(f"answered {type(answer).__name__} instead of a Rate")
    if (answer.currency, answer.asset) != (currency, asset.id):
        raise ValueError("answered with the rate of another pair")
    price: object = answer.price
    if not isinstance(price, Fraction) or not 0 < price.numerator < MAX_TERM or price.denominator >= MAX_TERM:
        raise ValueError("answered with a price that is no fraction above zero with terms below 10^48")
    times: tuple[object, ...] = (answer.taken_at, answer.max_age_secs or 0)
    if any(type(time) is not int or time < 0 for time in times):
        raise ValueError("answered with a time that is no whole number of seconds")
    if answer.taken_at > now + _AHEAD_SECS:
        raise ValueError("answered with a rate from the future")
    return answer


def quote_of(rate: Rate, source: str, asset: Asset, now: int, max_age_secs: int) -> Quote:
    """The rate as a quote, if it is recent enough.

    :param max_age_secs: how old it may be where the rate does not say so itself.
    :raises QuoteTooOld: if it is older.
    """
    allowed_secs = max_age_secs if rate.max_age_secs is None else rate.max_age_secs
    if now - rate.taken_at > allowed_secs:
        raise QuoteTooOld(
            f"the price in {rate.currency} cannot be converted to {asset.symbol} at the moment: the latest rate is "
            f"from {iso_time(rate.taken_at)}, which is too long ago"
        )
    return Quote(rate.price, source, rate.taken_at)


def convert(price: str, currency: str, quote: Quote, asset: Asset, minimum_base: int = 0) -> Conversion:
    """What a price in a currency is in base units of the asset, rounded up to the asset's price decimals.

    :param price: decimal text in the currency.
    :param minimum_base: less than this cannot be sent.
    :raises astrapayd.money.AmountError: if it is no price, or more or less than the asset can move.
    """
    typed = Fraction(parse_price(price, CURRENCY_DECIMALS, what=f"amount in {currency}"), 10**CURRENCY_DECIMALS)
    exact_base = typed / quote.price * 10**asset.decimals
    price_base = round_up(ceil(exact_base), asset.price_step_base)
    if price_base + asset.price_step_base > MAX_AMOUNT_BASE:
        raise AmountError(f"amount in {currency} {price!r} is larger than {asset.id} can move: write a smaller one")
    if price_base < minimum_base:
        least = format_amount(minimum_base, asset.decimals)
        raise AmountError(
            f"amount in {currency} {price!r} is {format_amount(price_base, asset.decimals)} {asset.symbol} now, below "
            f"{least}, the least that can be sent"
        )
    return Conversion(exact_base, price_base)
