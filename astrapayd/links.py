"""Payment links: the rules that a draft must keep, and whether a link can be paid. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from urllib.parse import urlsplit

from astrapayd.money import MAX_AMOUNT_BASE, AmountError, Asset, format_amount, parse_price
from astrapayd.rates import CURRENCY, CURRENCY_DECIMALS

MAX_TITLE = 200
MAX_TEXT = 5_000
MAX_METADATA = 20
MAX_USES = 1_000_000_000
MAX_PRESETS = 6
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


class LinkStatus(StrEnum):
    """Whether a link is offered."""

    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class Unavailable(StrEnum):
    """Why a link cannot be paid now."""

    PAUSED = "paused"
    ARCHIVED = "archived"
    EXPIRED = "expired"
    SOLD_OUT = "sold out"


@dataclass(frozen=True, slots=True)
class AmountRules:
    """What a customer may choose where the amount is open: decimal texts in the link's currency.

    ``least`` and ``most`` empty: no bound; ``presets`` are offered, and any other amount may be typed.
    """

    least: str = ""
    most: str = ""
    presets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A sharable request for payment. ``price`` is decimal text in ``currency``; ``assets`` are the ids accepted.

    ``price`` empty: the customer chooses the amount, within ``amount_rules``.
    ``max_uses`` None: no limit; ``expires_at`` is Unix seconds, None: never.
    """

    id: str
    store: str
    slug: str
    source: str
    status: LinkStatus
    title: str
    description: str
    instructions: str
    price: str
    currency: str
    amount_rules: AmountRules
    assets: tuple[str, ...]
    max_uses: int | None
    expires_at: int | None
    back_url: str
    metadata: Mapping[str, str]
    revision: int
    created_at: int


@dataclass(frozen=True, slots=True)
class LinkDraft:
    """What a merchant asks for. ``assets`` empty: every asset of the store that carries the currency's symbol or,
    where there is none, that the currency can be converted to.

    ``price`` empty: an open amount. ``slug`` empty: one is made from the title.
    """

    store: str
    title: str
    price: str
    currency: str
    amount_rules: AmountRules = AmountRules()
    assets: tuple[str, ...] = ()
    description: str = ""
    instructions: str = ""
    slug: str = ""
    max_uses: int | None = None
    expires_at: int | None = None
    back_url: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong in a draft: the field's name and one sentence that says how to mend it."""

    field: str
    reason: str


class DraftError(Exception):
    """The draft cannot become a link; ``problems`` holds everything found."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.reason}" for p in problems))
        self.problems = tuple(problems)


def check_draft(
    draft: LinkDraft,
    offered: Sequence[Asset],
    now: int,
    minimums: Mapping[str, int] = MappingProxyType({}),
    convertible: Collection[str] = (),
) -> tuple[Asset, ...]:
    """The assets that the link will accept.

    :param offered: what the store can be paid in.
    :param minimums: base units by asset, below which nothing can be sent.
    :param convertible: ids of assets that the draft's currency can be converted to.
    :raises DraftError: with everything that is wrong.
    """
    problems: list[FieldProblem] = []
    if not 1 <= len(draft.title.strip()) <= MAX_TITLE:
        problems.append(FieldProblem("title", f"write 1 to {MAX_TITLE} characters that say what is paid for"))
    texts = {"description": draft.description, "instructions": draft.instructions}
    problems.extend(
        FieldProblem(name, f"is longer than {MAX_TEXT} characters: shorten it")
        for name, text in texts.items()
        if len(text) > MAX_TEXT
    )
    if draft.slug and not _SLUG.fullmatch(draft.slug):
        problems.append(FieldProblem("slug", "use 1 to 64 of a-z, 0-9 and inner dashes"))
    if draft.max_uses is not None and not 1 <= draft.max_uses <= MAX_USES:
        problems.append(FieldProblem("max_uses", f"must be 1 to {MAX_USES:,}; leave it out for no limit"))
    if draft.expires_at is not None and draft.expires_at <= now:
        problems.append(FieldProblem("expires_at", "lies in the past: choose a later time"))
    if draft.back_url and not _is_web_url(draft.back_url):
        problems.append(FieldProblem("back_url", "must be a whole http:// or https:// address"))
    if len(draft.metadata) > MAX_METADATA or any(len(k) > 40 or len(v) > 500 for k, v in draft.metadata.items()):
        problems.append(FieldProblem("metadata", f"at most {MAX_METADATA} entries, names to 40 and values to 500 long"))
    assets = _accepted(draft, offered, convertible, problems)
    _check_price(draft, assets, minimums, problems)
    if problems:
        raise DraftError(problems)
    return assets


def _accepted(
    draft: LinkDraft, offered: Sequence[Asset], convertible: Collection[str], problems: list[FieldProblem]
) -> tuple[Asset, ...]:
    by_id = {asset.id: asset for asset in offered}
    if not CURRENCY.fullmatch(draft.currency):
        convertible = ()  # whatever a source says; a symbol may be anything
    if not draft.assets:
        assets = tuple(asset for asset in offered if is_direct(asset, draft.currency))
        assets = assets or tuple(asset for asset in offered if asset.id in convertible)
        if not assets:
            known = ", ".join(sorted({a.symbol for a in offered})) or "nothing: give it an account and assets first"
            problems.append(
                FieldProblem(
                    "currency", f"store {draft.store!r} cannot be paid in {draft.currency!r}; it takes {known}"
                )
            )
        return assets
    for asset_id in draft.assets:
        if asset_id not in by_id:
            known = ", ".join(by_id) or "none"
            problems.append(FieldProblem("assets", f"store {draft.store!r} has no asset {asset_id!r}; it has: {known}"))
        elif not is_direct(by_id[asset_id], draft.currency) and asset_id not in convertible:
            problems.append(
                FieldProblem(
                    "assets",
                    f"{asset_id!r} is {by_id[asset_id].symbol}, and no rate source converts {draft.currency} to it: "
                    "price the link in the asset's own currency, or configure a rate",
                )
            )
    return tuple(by_id[asset_id] for asset_id in dict.fromkeys(draft.assets) if asset_id in by_id)


def _check_price(
    draft: LinkDraft, assets: Sequence[Asset], minimums: Mapping[str, int], problems: list[FieldProblem]
) -> None:
    """A price is right in every asset; of an open amount, each of its rules is."""
    rules = draft.amount_rules
    if draft.price:
        typed = [("amount", draft.price)]
        if rules != AmountRules():
            problems.append(FieldProblem("amount", "is fixed and leaves nothing to choose: leave it or the rules out"))
    else:
        bounds = [("least", rules.least), ("most", rules.most)]
        typed = [(name, text) for name, text in bounds if text] + [("presets", preset) for preset in rules.presets]
        if len(rules.presets) > MAX_PRESETS:
            problems.append(FieldProblem("presets", f"are more than {MAX_PRESETS}: leave some out"))
    wrong = [(name, _why_no_price(text, draft.currency, assets, minimums)) for name, text in typed]
    problems.extend(FieldProblem(name, why) for name, why in wrong if why)
    if draft.price or any(why for _, why in wrong):
        return
    if rules.least and rules.most and _compared(rules.least) > _compared(rules.most):
        problems.append(FieldProblem("most", "is below the least that may be paid: write a larger amount"))
    problems.extend(
        FieldProblem("presets", f"{preset} is {why}: leave it out")
        for preset in rules.presets
        if (why := _out_of_bounds(preset, rules))
    )


def _why_no_price(text: str, currency: str, assets: Sequence[Asset], minimums: Mapping[str, int]) -> str:
    """What is wrong with an amount in one of the assets, or nothing. A typed one must be exact in every asset: only
    conversions are ever rounded."""
    assets = [asset for asset in assets if is_direct(asset, currency)]
    decimals = min((asset.price_decimals for asset in assets), default=CURRENCY_DECIMALS)
    try:
        parse_price(text, decimals, what=f"amount in {currency}")
        too_large = [a.id for a in assets if price_in(a, text) + a.price_step_base > MAX_AMOUNT_BASE]
    except AmountError as error:
        return str(error)
    if too_large:
        return f"is larger than {too_large[0]} can move: write a smaller one"
    for asset in assets:
        least_base = minimums.get(asset.id, 0)
        if price_in(asset, text) < least_base:
            least = format_amount(least_base, asset.decimals)
            return f"amount in {currency} {text!r} is below {least}, the least that {asset.id} can send: write more"
    return ""


def _compared(text: str) -> int:
    return parse_price(text, 36)


def _out_of_bounds(text: str, rules: AmountRules) -> str:
    if rules.least and _compared(text) < _compared(rules.least):
        return f"less than the least, {rules.least}"
    if rules.most and _compared(text) > _compared(rules.most):
        return f"more than the most, {rules.most}"
    return ""


def chosen_price(link: Link, asset: Asset, text: str, minimums: Mapping[str, int]) -> str:
    """What a session of the link costs: its price, or the amount that the customer typed where it is open.

    :raises astrapayd.money.AmountError: with one sentence for the customer.
    """
    if link.price:
        return link.price
    why = why_not_payable(link, [asset], text, minimums)
    if why:
        raise AmountError(why)
    return text


def why_not_payable(link: Link, assets: Sequence[Asset], text: str, minimums: Mapping[str, int]) -> str:
    """Why an amount cannot be chosen for a link with an open one, in some of the assets: one sentence, or nothing."""
    why = _why_no_price(text, link.currency, assets, minimums)
    if not why and (bound := _out_of_bounds(text, link.amount_rules)):
        why = f"amount in {link.currency} {text!r} is {bound}: choose another one"
    return why


def is_direct(asset: Asset, currency: str) -> bool:
    """Whether a price in the currency is one in the asset itself; any other is converted at the opening."""
    return asset.symbol == currency


def price_in(asset: Asset, price: str) -> int:
    """A link's price in base units of an asset that carries its currency.

    :raises astrapayd.money.AmountError: if it is not an amount of the asset.
    """
    return parse_price(price, asset.decimals)


def availability(link: Link, uses: int, now: int) -> Unavailable | None:
    """Why the link cannot be paid now, or None where it can. ``uses`` counts those taken."""
    if link.status is LinkStatus.ARCHIVED:
        return Unavailable.ARCHIVED
    if link.status is LinkStatus.PAUSED:
        return Unavailable.PAUSED
    if link.expires_at is not None and now >= link.expires_at:
        return Unavailable.EXPIRED
    if link.max_uses is not None and uses >= link.max_uses:
        return Unavailable.SOLD_OUT
    return None


def slug_stem(title: str) -> str:
    """The readable part of a slug: ASCII letters and digits of the title, at most 24 characters, or ``pay``."""
    words = re.findall(r"[a-z0-9]+", title.lower())
    return "-".join(words)[:24].strip("-") or "pay"


def _is_web_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    plain = text.isprintable() and " " not in text and len(text) <= 2000
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
