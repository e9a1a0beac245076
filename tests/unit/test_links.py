"""Links: what a draft must keep, and whether a link can be paid."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.links import (
    AmountRules,
    DraftError,
    Link,
    LinkDraft,
    LinkStatus,
    Unavailable,
    availability,
    check_draft,
    chosen_price,
    price_in,
    slug_stem,
)
from astrapayd.money import MAX_AMOUNT_BASE, AmountError
from astrapayd.testing import fake_assets

NOW = 1_800_000_000
OFFERED = tuple(fake_assets().values())
USD, COIN, EUR = OFFERED
DRAFT = LinkDraft(store="shop", title="Tea", price="25.00", currency="USD")
LINK = Link(
    id="lnk_1",
    store="shop",
    slug="tea",
    source="test",
    status=LinkStatus.ACTIVE,
    title="Tea",
    description="",
    instructions="",
    price="25.00",
    currency="USD",
    amount_rules=AmountRules(),
    assets=("usd",),
    max_uses=None,
    expires_at=None,
    back_url="",
    metadata={},
    revision=1,
    created_at=NOW,
)


def problems(draft: LinkDraft) -> list[str]:
    with pytest.raises(DraftError) as refused:
        check_draft(draft, OFFERED, NOW)
    assert all(p.reason and "\n" not in p.reason for p in refused.value.problems)
    return [p.field for p in refused.value.problems]


def test_assets_follow_from_the_currency() -> None:
    assert check_draft(DRAFT, OFFERED, NOW) == (USD,)
    twin = replace(USD, id="usd2", chain="other")
    assert check_draft(DRAFT, (*OFFERED, twin), NOW) == (USD, twin)
    assert check_draft(replace(DRAFT, assets=("usd2", "usd2")), (*OFFERED, twin), NOW) == (twin,)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"title": " "}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"description": "x" * 5001}, "description"),
        ({"instructions": "x" * 5001}, "instructions"),
        ({"slug": "-tea"}, "slug"),
        ({"slug": "Tea"}, "slug"),
        ({"slug": "tea/../x"}, "slug"),
        ({"slug": "tea\n"}, "slug"),
        ({"max_uses": 0}, "max_uses"),
        ({"max_uses": -1}, "max_uses"),
        ({"expires_at": NOW}, "expires_at"),
        ({"back_url": "shop.example"}, "back_url"),
        ({"back_url": "javascript:alert(1)"}, "back_url"),
        ({"back_url": "https://you@shop.example"}, "back_url"),
        ({"back_url": "https://shop.example/\r\nX: y"}, "back_url"),
        ({"back_url": "https://[::1"}, "back_url"),
        ({"metadata": {"k" * 41: ""}}, "metadata"),
        ({"metadata": {str(i): "" for i in range(21)}}, "metadata"),
        ({"currency": "XYZ"}, "currency"),
        ({"assets": ("none",)}, "assets"),
        ({"assets": ("eur",)}, "assets"),
        ({"price": "25.001"}, "amount"),
        ({"price": "0"}, "amount"),
        ({"price": "0.00"}, "amount"),
        ({"price": "-1"}, "amount"),
        ({"price": "1e3"}, "amount"),
        ({"price": "1" + "0" * 77}, "amount"),
    ],
)
def test_drafts_that_are_refused(changed: dict[str, object], field: str) -> None:
    assert problems(replace(DRAFT, **changed)) == [field]  # type: ignore[arg-type]


@pytest.mark.parametrize("price", ["1" + "0" * 60, "1" + "0" * 70, str(MAX_AMOUNT_BASE // 10**18 + 1)])
def test_a_price_too_large_for_its_asset_is_a_problem_of_the_draft(price: str) -> None:
    """Also where it fits into the price decimals but not into the asset's own."""
    assert problems(replace(DRAFT, price=price, currency="EUR")) == ["amount"]


def test_everything_wrong_is_told_at_once() -> None:
    draft = replace(DRAFT, title="", max_uses=0, price="x", back_url="x")
    assert problems(draft) == ["title", "max_uses", "back_url", "amount"]


def test_price_below_what_can_be_sent() -> None:
    least = {"usd": 500_000}
    with pytest.raises(DraftError, match=r"'0\.49' is below 0\.5, the least that usd can send"):
        check_draft(replace(DRAFT, price="0.49"), OFFERED, NOW, least)
    assert check_draft(replace(DRAFT, price="0.50"), OFFERED, NOW, least) == (USD,)


@pytest.mark.parametrize(
    ("price", "rules", "fields"),
    [
        ("", AmountRules(), []),
        ("", AmountRules("1", "100.00", ("5", "20")), []),
        ("", AmountRules(presets=("5",) * 7), ["presets"]),
        ("", AmountRules("1.001"), ["least"]),
        ("", AmountRules("0"), ["least"]),
        ("", AmountRules("1", "x"), ["most"]),
        ("", AmountRules("10", "9.99"), ["most"]),
        ("", AmountRules("10", "10.00"), []),
        ("", AmountRules("1", "100", ("0.99", "100.01")), ["presets", "presets"]),
        ("25.00", AmountRules("1"), ["amount"]),
    ],
)
def test_rules_of_an_open_amount(price: str, rules: AmountRules, fields: list[str]) -> None:
    draft = replace(DRAFT, price=price, amount_rules=rules)
    if fields:
        assert problems(draft) == fields
    else:
        assert check_draft(draft, OFFERED, NOW) == (USD,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no"),
        ("1,5", "is no"),
        ("-5", "is negative"),
        ("5.001", "decimals"),
        ("0", "is zero"),
        ("100.01", "more than the most, 100"),
        ("1" * 70, "larger than any chain"),
        ("1.2", "below 1.5, the least that usd can send"),
    ],
)
def test_open_amount_that_cannot_be_paid(text: str, why: str) -> None:
    link = replace(LINK, price="", amount_rules=AmountRules("1", "100"))
    with pytest.raises(AmountError, match=why):
        chosen_price(link, USD, text, {"usd": 1_500_000})
    with pytest.raises(AmountError, match="less than the least, 1"):
        chosen_price(link, USD, "0.99", {})


def test_open_amount_is_taken_as_typed_and_a_price_as_it_stands() -> None:
    link = replace(LINK, price="", amount_rules=AmountRules("1", "100"))
    assert chosen_price(link, USD, "33.33", {}) == "33.33"
    assert chosen_price(LINK, USD, "0.01", {}) == "25.00", "what an edited page sends does not count"


def test_price_in_base_units() -> None:
    assert price_in(USD, "25.00") == 25_000_000
    assert price_in(EUR, "25.00") == 25 * 10**18


@given(price=st.from_regex(r"[0-9]{1,70}(\.[0-9]{1,3})?", fullmatch=True), currency=st.sampled_from(["USD", "COIN"]))
def test_a_price_that_is_accepted_can_be_asked_for(price: str, currency: str) -> None:
    try:
        assets = check_draft(replace(DRAFT, price=price, currency=currency), OFFERED, NOW)
    except DraftError:
        return
    for asset in assets:
        base = price_in(asset, price)
        assert 0 < base <= MAX_AMOUNT_BASE - asset.price_step_base
        assert base % asset.price_step_base == 0, "nothing is rounded"


@pytest.mark.parametrize(
    ("changed", "uses", "why"),
    [
        ({}, 1_000, None),
        ({"max_uses": 2}, 1, None),
        ({"max_uses": 2}, 2, Unavailable.SOLD_OUT),
        ({"max_uses": 2}, 3, Unavailable.SOLD_OUT),
        ({"expires_at": NOW + 1}, 0, None),
        ({"expires_at": NOW}, 0, Unavailable.EXPIRED),
        ({"status": LinkStatus.PAUSED}, 0, Unavailable.PAUSED),
        ({"status": LinkStatus.ARCHIVED, "expires_at": NOW}, 0, Unavailable.ARCHIVED),
    ],
)
def test_availability(changed: dict[str, object], uses: int, why: Unavailable | None) -> None:
    assert availability(replace(LINK, **changed), uses, NOW) is why  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("title", "stem"),
    [("Green Tea, 100 g", "green-tea-100-g"), ("茶", "pay"), ("", "pay"), ("a" * 30, "a" * 24), ("--x--", "x")],
)
def test_slug_stem(title: str, stem: str) -> None:
    assert slug_stem(title) == stem


@given(st.text(max_size=300))
def test_a_slug_stem_is_part_of_a_slug(title: str) -> None:
    assert check_draft(replace(DRAFT, slug=f"{slug_stem(title)}-abc234"), OFFERED, NOW) == (USD,)
