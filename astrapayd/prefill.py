"""Pre-filled checkout: what a shop may say of a payment in a link's address, and how it signs that. Pure.

``/l/SLUG?amount=25&order=1042&until=1800000000&signature=…``: amount and order decide what is paid and what for, so
they count only as the shop has signed them. ``email`` alone decides nothing and needs no signature.

What is signed are these UTF-8 bytes, without a line break::

    astrapay-prefill-v1:SLUG?NAME=VALUE&NAME=VALUE…

with every one of ``amount``, ``email``, ``order`` and ``until`` that stands in the address, in the alphabetical order
of their names, and the values percent-encoded as RFC 3986 has it: all bytes but ``A-Z a-z 0-9 - . _ ~`` as ``%XX`` in
capitals. The signature is the HMAC-SHA256 of that in 64 lower-case hexadecimal digits; the key is what stands behind
``lnksec_`` in the store's secret, decoded from base64. Other parameters are neither signed nor read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote

KEY_PREFIX: Final = "lnksec_"
MAX_AMOUNT = 60
MAX_ORDER = 100
MAX_EMAIL = 254
"""Characters; of the e-mail address by RFC 5321."""

_VERSION: Final = "astrapay-prefill-v1"
_SIGNED: Final = ("amount", "email", "order", "until")
_NAMES: Final = frozenset((*_SIGNED, "signature"))
_MAX_UNTIL: Final = 10**11
_AGAIN: Final = "go back to the shop and start the payment there again"


class Why(StrEnum):
    """Why what an address says is refused."""

    GIVEN_TWICE = "given twice"
    NOT_SIGNED = "not signed"
    EDITED = "edited"
    EXPIRED = "expired"
    UNUSABLE = "unusable"


class PrefillRefused(ValueError):
    """Nothing of what the address says counts. The message is one sentence for the customer (or who signs)."""

    def __init__(self, why: Why, sentence: str) -> None:
        super().__init__(sentence)
        self.why = why


@dataclass(frozen=True, slots=True)
class Terms:
    """What a shop says of a payment. ``amount`` is decimal text in the link's currency, ``until`` Unix seconds.

    Empty or None: not said. ``email`` may come unsigned; the others never do.
    """

    amount: str = ""
    order: str = ""
    email: str = ""
    until: int | None = None


def canonical(slug: str, pairs: Iterable[tuple[str, str]]) -> bytes:
    """The bytes that are signed, of the signed names among ``pairs``; each name is there once at most."""
    signed = sorted((name, value) for name, value in pairs if name in _SIGNED)
    # A lone surrogate cannot be signed by anybody; it must be refused as edited, not end in a traceback.
    values = "&".join(f"{name}={quote(value, safe='', errors='surrogatepass')}" for name, value in signed)
    return f"{_VERSION}:{slug}?{values}".encode()


def sign(secret: str, slug: str, terms: Terms) -> str:
    """The signature of the terms for one link.

    :param secret: ``lnksec_…``.
    :raises PrefillRefused: if the terms are none that would count, or the secret is none.
    """
    _check(terms)
    return _signature(secret, canonical(slug, _pairs(terms)))


def signed_query(secret: str, slug: str, terms: Terms) -> str:
    """What stands behind the question mark of the link's address.

    :raises PrefillRefused: as :func:`sign`.
    """
    return _query([*_pairs(terms), ("signature", sign(secret, slug, terms))])


def given_query(given: Iterable[tuple[str, str]]) -> str:
    """The parameters that mean something here, as they came, for the form that carries them on."""
    return _query([(name, value) for name, value in given if name in _NAMES])


def verify(secrets: Sequence[str], slug: str, given: Sequence[tuple[str, str]], now: int) -> Terms | None:
    """What the parameters of a link's address say, or None where they say nothing.

    :param secrets: the store's; one while nothing is rotated, none where it has never signed.
    :param given: every parameter, decoded, in any order; unknown names are passed by.
    :param now: Unix seconds.
    :raises PrefillRefused: if they are given twice, not signed, edited, expired, or signed but unusable.
    """
    ours = [(name, value) for name, value in given if name in _NAMES]
    for name, times in Counter(name for name, _ in ours).items():
        if times > 1:
            raise PrefillRefused(Why.GIVEN_TWICE, f"this address gives {name!r} twice: {_AGAIN}")
    values = dict(ours)
    if not values:
        return None
    if "signature" not in values:
        if values.keys() != {"email"}:
            raise PrefillRefused(Why.NOT_SIGNED, f"this address lacks the shop's signature: {_AGAIN}")
        # It decides nothing, so a useless one is no reason to stop a customer.
        return Terms(email=values["email"] if _fits(values["email"], MAX_EMAIL) else "")
    text = canonical(slug, ours)
    signature = values["signature"].encode(errors="surrogatepass")  # a text beyond ASCII cannot be compared
    # Every secret is tried, so that the time taken does not tell which one fits.
    fits = [hmac.compare_digest(_signature(secret, text).encode(), signature) for secret in secrets]
    if not any(fits):
        raise PrefillRefused(Why.EDITED, f"this address was changed after the shop signed it: {_AGAIN}")
    terms = Terms(values.get("amount", ""), values.get("order", ""), values.get("email", ""), _until(values))
    if any(not value for value in values.values()):
        raise PrefillRefused(Why.UNUSABLE, "the shop has signed an empty value: it must be left out instead")
    _check(terms)
    if terms.until is not None and now >= terms.until:
        raise PrefillRefused(Why.EXPIRED, f"the time for this payment has passed: {_AGAIN}")
    return terms


def _check(terms: Terms) -> None:
    if not terms.amount and not terms.order:
        raise PrefillRefused(Why.UNUSABLE, "neither an amount nor an order is signed: there is nothing to hold to")
    texts = (("amount", terms.amount, MAX_AMOUNT), ("order", terms.order, MAX_ORDER), ("email", terms.email, MAX_EMAIL))
    for name, value, most in texts:
        if value and not _fits(value, most):
            raise PrefillRefused(Why.UNUSABLE, f"the {name} is longer than {most} characters or not plain text")
    if terms.until is not None and not 0 < terms.until < _MAX_UNTIL:
        raise PrefillRefused(Why.UNUSABLE, "'until' is no time in Unix seconds")


def _fits(value: str, most: int) -> bool:
    """Plain text: no control character, none that turns the reading direction, no space around it."""
    return 0 < len(value) <= most and value.isprintable() and value == value.strip()


def _until(values: dict[str, str]) -> int | None:
    text = values.get("until")
    if not text:
        return None
    plain = text.isascii() and text.isdecimal() and len(text) <= 11
    return int(text) if plain else -1  # refused by the check


def _pairs(terms: Terms) -> list[tuple[str, str]]:
    until = "" if terms.until is None else str(terms.until)
    named = (("amount", terms.amount), ("email", terms.email), ("order", terms.order), ("until", until))
    return [(name, value) for name, value in named if value]


def _query(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{name}={quote(value, safe='', errors='surrogatepass')}" for name, value in pairs)


def _signature(secret: str, text: bytes) -> str:
    if not secret.startswith(KEY_PREFIX):
        raise PrefillRefused(Why.UNUSABLE, f"the secret does not begin with {KEY_PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(KEY_PREFIX), validate=True)
    except ValueError:
        raise PrefillRefused(Why.UNUSABLE, "the secret is not whole: its part after lnksec_ is no base64") from None
    return hmac.new(key, text, hashlib.sha256).hexdigest()
