"""Assets and amounts: integers in base units, decimal strings only at the edges, no float anywhere.

An amount is always ``(base units, Asset)``; 25 USDT with 6 decimals is ``25_000_000``. The largest amount that
a chain can move is ``2**256 - 1`` (EVM's ``uint256``), and every layer carries it unharmed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_AMOUNT_BASE = 2**256 - 1
"""The largest amount in base units: an EVM ``uint256`` (78 decimal digits)."""

_DECIMAL = re.compile(r"(?P<whole>[0-9]+)(?:\.(?P<fraction>[0-9]+))?", re.ASCII)
_MAX_TEXT = 200  # longer than any amount can be; keeps int() away from hostile input


class AmountError(ValueError):
    """A text that is not an amount of the asset. The message is one sentence for the person who typed it."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A native coin or a token on one chain, as the administrator configured it.

    ``id`` is the key under ``[assets]``; ``chain`` the key under ``[chains]``; ``contract`` the canonical
    address of the token or None for the native coin; ``caip19`` the public id (CAIP-19). ``price_decimals`` and
    ``tail_digits`` together are at most ``decimals``; a price is rounded up to the first, the second make a
    shared address' amount unique.
    """

    id: str
    chain: str
    symbol: str
    decimals: int
    price_decimals: int
    tail_digits: int
    contract: str | None
    caip19: str
    testnet: bool = False

    @property
    def takes_tails(self) -> bool:
        """Whether amounts can be made unique; without tail digits only addresses of one session are used."""
        return self.tail_digits > 0

    @property
    def tail_space(self) -> int:
        """Number of base units that the tail digits span: tails are below it, prices are multiples of it
        (times :attr:`tail_unit_base`)."""
        return int(10**self.tail_digits)

    @property
    def tail_unit_base(self) -> int:
        """Base units of one step of the last tail digit; above 1 where the asset has decimals to spare."""
        return int(10 ** (self.decimals - self.price_decimals - self.tail_digits))

    @property
    def price_step_base(self) -> int:
        """Base units of one step of the last price decimal: what a price is rounded up to."""
        return int(10 ** (self.decimals - self.price_decimals))


def parse_amount(text: str, decimals: int, *, what: str = "amount") -> int:
    """Read a plain decimal text such as ``25`` or ``25.003417`` as base units.

    Accepts ASCII digits and one point; no sign, exponent, blanks or separators, since ``1,234`` means two things.
    Trailing zeros beyond ``decimals`` are harmless and accepted.

    :raises AmountError: with one sentence that begins with ``what`` and says how to mend it.
    """
    found = _DECIMAL.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if found is None:
        shown = text if len(text) <= 40 else text[:37] + "..."
        if re.fullmatch(r"-[0-9.]+", text[:_MAX_TEXT]):
            raise AmountError(f"{what} {shown!r} is negative: write an amount above zero, such as 25.00")
        raise AmountError(f"{what} {shown!r} is not an amount: write digits with a point, such as 25.00")
    fraction = (found["fraction"] or "").rstrip("0")
    if len(fraction) > decimals:
        raise AmountError(
            f"{what} {text!r} has {len(fraction)} decimals, but at most {decimals} are possible here: shorten it"
        )
    base = int(found["whole"]) * int(10**decimals) + int(fraction.ljust(decimals, "0") or "0")
    if base > MAX_AMOUNT_BASE:
        raise AmountError(f"{what} {text[:37]!r} is larger than any chain can move (2^256-1): write a smaller one")
    return base


def parse_price(text: str, decimals: int, *, what: str = "amount") -> int:
    """As :func:`parse_amount`, for something to be paid: zero is refused too.

    :raises AmountError: with one sentence that begins with ``what``.
    """
    base = parse_amount(text, decimals, what=what)
    if base == 0:
        raise AmountError(f"{what} {text!r} is zero: write an amount above zero, such as 25.00")
    return base


def format_amount(base: int, decimals: int, *, at_least: int = 0) -> str:
    """Write base units as a plain decimal string, without trailing zeros beyond ``at_least`` decimals.

    ``format_amount(25_000_000, 6, at_least=2) == "25.00"``; the inverse of :func:`parse_amount`.
    """
    sign, digits = ("-", str(-base)) if base < 0 else ("", str(base))
    digits = digits.rjust(decimals + 1, "0")
    whole, fraction = (digits[:-decimals], digits[-decimals:]) if decimals else (digits, "")
    kept = fraction.rstrip("0")
    kept = fraction[: max(len(kept), min(at_least, decimals))]
    return f"{sign}{whole}.{kept}" if kept else f"{sign}{whole}"


def round_up(base: int, step: int) -> int:
    """The smallest multiple of ``step`` that is not below ``base``: the only rounding there is."""
    return -(-base // step) * step
