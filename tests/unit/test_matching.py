"""Unique amounts, and the matching rules one by one."""

from __future__ import annotations

import random
import secrets
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.matching import (
    MAX_CANDIDATES,
    Allowance,
    AmountSpaceFull,
    Arrival,
    CreditReason,
    Matched,
    Reservation,
    Unmatched,
    choose_tail,
    due_amount,
    match,
    rest_amount,
    tail_of,
)
from astrapayd.money import MAX_AMOUNT_BASE, Asset
from astrapayd.testing import fake_assets

ASSETS = fake_assets()
USD, COIN, EUR = ASSETS["usd"], ASSETS["coin"], ASSETS["eur"]
WHOLE, CENT = 10**6, 10**4
NEVER = 2**62

assets = st.sampled_from([USD, COIN, EUR])
tails = st.integers(1, 9_999).filter(lambda tail: tail % 10)
ordinary_tails = tails.filter(lambda tail: tail % 10 < 8)  # the others are kept back for the time after a restore
prices = st.integers(1, 10**30)


def never_used(_tail: int) -> int:
    return 0


def held(session: str, price: int, tail: int | None, *, asset: Asset = USD, height: int = 10) -> Reservation:
    due = price if tail is None else due_amount(price, tail, asset)
    return Reservation(session, asset, tail, due, height, NEVER)


def arrives(amount: int, *, asset: Asset = USD, height: int | None = 11, seen: int = 11, at: int = 0) -> Arrival:
    return Arrival(asset, amount, height, seen, at)


# -- reserving ----------------------------------------------------------------------------------------------------


def test_a_due_is_the_price_with_the_tail_behind_it() -> None:
    assert due_amount(25 * WHOLE, 3417, USD) == 25_003_417
    assert due_amount(24_990_001, 3417, USD) == 25_003_417, "the price is rounded up to the cent"
    assert due_amount(10**18, 3417, COIN) == 10**18 + 3417 * 10**8
    assert due_amount(10**18, 3417, EUR) == 10**18 + 3417 * 10**12


@given(price=prices, tail=tails, asset=assets)
def test_a_tail_costs_less_than_a_price_step_and_is_read_back(price: int, tail: int, asset: Asset) -> None:
    due = due_amount(price, tail, asset)
    assert 0 < due - price < 2 * asset.price_step_base
    assert tail_of(due, asset) == tail
    assert tail_of(due + 1, asset) == ((tail + 1) % 10_000 if asset.tail_unit_base == 1 else None)


@given(first=st.tuples(prices, tails), second=st.tuples(prices, tails), asset=assets, digits=st.integers(1, 24))
def test_a_cut_or_rounded_amount_never_equals_a_reservation(
    first: tuple[int, int], second: tuple[int, int], asset: Asset, digits: int
) -> None:
    """Cut or rounded (to even, down, up) to any number of decimals that changes it, it is nobody's due."""
    amount, other = due_amount(*first, asset), due_amount(*second, asset)
    step = asset.tail_unit_base * int(10**digits)
    down = amount // step * step
    assert amount not in (down, down + step)
    assert other not in (down, down + step)


def test_a_space_is_filled_exactly_with_9000_tails_and_then_full() -> None:
    taken: set[int] = set()
    for _ in range(9_000):
        tail = choose_tail(25 * WHOLE, USD, taken, never_used, lambda n: n - 1)
        assert tail not in taken
        assert tail % 10
        assert 0 < tail < 10_000
        taken.add(tail)
    for price in (25 * WHOLE, 30 * WHOLE):  # at any price
        with pytest.raises(AmountSpaceFull):
            choose_tail(price, USD, taken, never_used, secrets.randbelow)


def test_tails_are_chosen_among_all_that_were_never_used() -> None:
    picks = {choose_tail(WHOLE, USD, set(), never_used, lambda n, i=i: i * (n - 1) // 49) for i in range(50)}
    assert len(picks) == 50
    assert min(picks) < 10
    assert max(picks) > 9_990


@given(st.dictionaries(ordinary_tails, st.integers(1, 100), min_size=2, max_size=40), st.integers(0, 2**32))
def test_the_longest_rested_half_is_let_first(released: dict[int, int], seed: int) -> None:
    taken = {tail for tail in range(10_000) if tail % 10 and tail not in released}
    tail = choose_tail(WHOLE, USD, taken, released.__getitem__, random.Random(seed).randrange)
    ranked = sorted(released.values())
    assert released[tail] <= ranked[(len(ranked) - 1) // 2]


@pytest.mark.parametrize("digits", [1, 4, 9])
def test_tails_for_the_time_after_a_restore_are_kept_back(digits: int) -> None:
    wide = replace(EUR, tail_digits=digits)

    def endings(restored_epoch: int | None) -> set[int]:
        drawn = (
            choose_tail(10**18, wide, set(), never_used, secrets.randbelow, restored_epoch)
            for _ in range(20 if digits == 4 else 200)
        )
        return {tail % 10 for tail in drawn}

    assert endings(None) <= set(range(1, 8))
    assert endings(2) == {8}
    assert endings(3) == {9}, "the restore before may have been of the wrong backup"


def test_tails_kept_back_are_let_when_there_are_no_others_and_never_the_other_way() -> None:
    ordinary = {tail for tail in range(10_000) if tail % 10 < 8}
    assert choose_tail(WHOLE, USD, ordinary, never_used, lambda n: 0) == 8
    kept_back = {tail for tail in range(10_000) if tail % 10 == 8}
    with pytest.raises(AmountSpaceFull):
        choose_tail(WHOLE, USD, kept_back, never_used, secrets.randbelow, 2)


def test_a_price_that_leaves_no_room_for_a_tail() -> None:
    with pytest.raises(AmountSpaceFull):
        choose_tail(MAX_AMOUNT_BASE - 1, USD, set(), never_used, secrets.randbelow)
    tailless = replace(USD, tail_digits=0)
    with pytest.raises(AmountSpaceFull):
        choose_tail(WHOLE, tailless, set(), never_used, secrets.randbelow)


@pytest.mark.parametrize("digits", [1, 6, 9])
def test_spaces_of_other_sizes(digits: int) -> None:
    """Nine digits are too many to list: the tail is drawn."""
    wide = replace(EUR, tail_digits=digits)
    for _ in range(20):
        tail = choose_tail(10**18, wide, {1, 2}, never_used, secrets.randbelow)
        assert tail % 10
        assert 2 < tail < 10**digits


@given(missing=st.integers(1, 10**24), tail=tails, asset=assets)
def test_a_rest_covers_what_is_missing_and_less_than_a_step_more(missing: int, tail: int, asset: Asset) -> None:
    rest = rest_amount(missing, tail, asset)
    assert 0 <= rest - missing < asset.price_step_base
    assert tail_of(rest, asset) == tail


# -- matching: the rules in their order -------------------------------------------------------------------------


def test_exactly_the_amount_due() -> None:
    held_now = [held("a", 25 * WHOLE, 3417), held("b", 25 * WHOLE, 1111)]
    verdict = match(arrives(25_003_417), held_now, Allowance())
    assert isinstance(verdict, Matched)
    assert (verdict.session_id, verdict.reason) == ("a", CreditReason.AMOUNT)


def test_exact_goes_before_near() -> None:
    """Tails are unique, so this cannot be; if it were, the exact amount would decide."""
    held_now = [held("near", 25 * WHOLE, 3417), held("exact", 24 * WHOLE, 3417)]
    verdict = match(arrives(24_003_417), held_now, Allowance())
    assert isinstance(verdict, Matched)
    assert verdict.session_id == "exact"


@pytest.mark.parametrize(
    ("off", "matched"),
    [(-CENT, True), (-250 * CENT, True), (-251 * CENT, False), (CENT, True), (250 * CENT, True), (251 * CENT, False)],
)
def test_the_tail_with_whole_cents_off_within_ten_percent(off: int, matched: bool) -> None:
    verdict = match(arrives(25_003_417 + off), [held("a", 25 * WHOLE, 3417)], Allowance())
    assert isinstance(verdict, Matched if matched else Unmatched)
    if isinstance(verdict, Matched):
        assert verdict.reason is CreditReason.TAIL
        assert ("below" if off < 0 else "above") in verdict.rule


@pytest.mark.parametrize(("off", "matched"), [(-3 * WHOLE, True), (-3 * WHOLE - CENT, False)])
def test_the_tail_with_whole_cents_off_within_three_units(off: int, matched: bool) -> None:
    verdict = match(arrives(1_000_003_417 + off), [held("a", 1000 * WHOLE, 3417)], Allowance())
    assert isinstance(verdict, Matched) == matched


def test_near_one_session_but_exactly_what_the_tails_earlier_holder_was_asked_for() -> None:
    old, new = held("old", 24 * WHOLE, 3417), held("new", 25 * WHOLE, 3417)
    verdict = match(arrives(24_003_417), [new], ALLOW, [old])
    assert isinstance(verdict, Unmatched)
    assert [c.session_id for c in verdict.candidates] == ["old", "new"]
    exact = match(arrives(25_003_417), [new], ALLOW, [held("older", 25 * WHOLE, 3417)])
    assert isinstance(exact, Unmatched), "it could mean two sessions"
    assert [c.session_id for c in exact.candidates] == ["new", "older"]


def test_no_allowance_leaves_only_exact_amounts() -> None:
    verdict = match(arrives(25_003_417 - CENT), [held("a", 25 * WHOLE, 3417)], Allowance("0", 0))
    assert isinstance(verdict, Unmatched)


def test_an_amount_off_by_less_than_a_cent_has_another_tail() -> None:
    for off in (-1, 1, 10, -3417, CENT - 3417):
        verdict = match(arrives(25_003_417 + off), [held("a", 25 * WHOLE, 3417)], Allowance())
        assert isinstance(verdict, Unmatched), off
        assert [c.session_id for c in verdict.candidates] == ["a"]


def test_an_amount_with_digits_beyond_the_tail_carries_none() -> None:
    verdict = match(arrives(due_amount(10**18, 3417, EUR) + 1, asset=EUR), [held("a", 10**18, 3417, asset=EUR)], ALLOW)
    assert isinstance(verdict, Unmatched)


ALLOW = Allowance()


@pytest.mark.parametrize(("height", "matched"), [(9, False), (10, False), (11, True)])
def test_only_what_is_mined_above_the_opening(height: int, matched: bool) -> None:
    for reservation in (held("a", 25 * WHOLE, 3417), held("a", 25_003_417, None)):
        verdict = match(arrives(25_003_417, height=height), [reservation], ALLOW)
        assert isinstance(verdict, Matched) == matched
        if isinstance(verdict, Unmatched):
            assert "before the session was opened" in verdict.reason


@pytest.mark.parametrize(("seen", "matched"), [(9, False), (10, True), (11, True)])
def test_unconfirmed_only_if_first_seen_after_the_opening(seen: int, matched: bool) -> None:
    verdict = match(arrives(25_003_417, height=None, seen=seen), [held("a", 25 * WHOLE, 3417)], ALLOW)
    assert isinstance(verdict, Matched) == matched


@pytest.mark.parametrize(("at", "matched"), [(100, True), (101, False)])
def test_only_until_the_late_window_ends(at: int, matched: bool) -> None:
    for reservation in (held("a", 25 * WHOLE, 3417), held("a", 25_003_417, None)):
        verdict = match(arrives(25_003_417, at=at), [replace(reservation, live_until=100)], ALLOW)
        assert isinstance(verdict, Matched) == matched
        if isinstance(verdict, Unmatched):
            assert "after the session's late window" in verdict.reason


def test_an_address_of_its_own_takes_any_amount() -> None:
    for amount in (1, 25_000_000, MAX_AMOUNT_BASE):
        verdict = match(arrives(amount), [held("a", 25 * WHOLE, None)], ALLOW)
        assert isinstance(verdict, Matched)
        assert verdict.reason is CreditReason.ADDRESS


def test_another_asset_on_an_address_of_its_own_is_unmatched_with_the_session_named() -> None:
    verdict = match(arrives(25_000_000, asset=EUR), [held("a", 25 * WHOLE, None)], ALLOW)
    assert isinstance(verdict, Unmatched)
    assert [c.session_id for c in verdict.candidates] == ["a"]
    assert "USD" in verdict.reason


def test_another_asset_with_the_same_digits_is_not_the_sessions() -> None:
    verdict = match(arrives(25_003_417, asset=EUR), [held("a", 25 * WHOLE, 3417)], ALLOW)
    assert isinstance(verdict, Unmatched)
    assert verdict.reason == "the amount is not that of any session"


def test_nobody_was_expected() -> None:
    assert match(arrives(1), [], ALLOW) == Unmatched("nobody was expected to pay to this address", ())


def test_candidates_are_ranked_tail_first_then_by_amount_then_other_assets() -> None:
    held_now = [
        held("other asset", 25 * WHOLE, 3417, asset=EUR),
        held("far", 90 * WHOLE, 1),
        held("near", 30 * WHOLE, 2),
        held("tail", 70 * WHOLE, 3417),
    ]
    verdict = match(arrives(31_003_417), held_now, ALLOW)
    assert isinstance(verdict, Unmatched)
    assert [c.session_id for c in verdict.candidates] == ["tail", "near", "far", "other asset"]
    assert "the last digits are one session's" in verdict.reason


def test_no_more_candidates_than_a_person_can_look_at_and_each_session_once() -> None:
    held_now = [held(f"s{i // 2}", (30 + i) * WHOLE, 10 * i + 1) for i in range(40)]
    verdict = match(arrives(29 * WHOLE), held_now, ALLOW)
    assert isinstance(verdict, Unmatched)
    assert [c.session_id for c in verdict.candidates] == [f"s{i}" for i in range(MAX_CANDIDATES)]


@st.composite
def shared_address(draw: st.DrawFn) -> list[Reservation]:
    """What may be held on one shared address: tails unique per asset."""
    found = []
    for asset in (USD, EUR):
        unit = 10 ** (asset.decimals - 2)
        for tail in draw(st.sets(tails, max_size=6)):
            price = draw(st.integers(1, 10_000)) * unit
            height = draw(st.integers(0, 20))
            found.append(held(f"{asset.id}{tail}", price, tail, asset=asset, height=height))
    return found


@given(reservations=shared_address(), data=st.data())
def test_whatever_arrives_is_credited_only_by_a_rule(reservations: list[Reservation], data: st.DataObject) -> None:
    asset = data.draw(st.sampled_from([USD, EUR]))
    step = asset.price_step_base
    due = st.sampled_from([r.due_base for r in reservations] or [1])
    near = st.tuples(due, st.integers(-400, 400)).map(lambda d: max(d[0] + d[1] * step, 1))
    amount = data.draw(st.one_of(due, near, st.integers(1, 10**24)))
    arrival = arrives(amount, asset=asset, height=data.draw(st.integers(0, 25)))
    verdict = match(arrival, reservations, ALLOW)
    shuffled = data.draw(st.permutations(reservations))
    assert match(arrival, shuffled, ALLOW) == verdict, "the order in which they are held does not matter"
    if isinstance(verdict, Matched):
        reservation = next(r for r in reservations if r.session_id == verdict.session_id)
        assert reservation.asset == asset
        assert arrival.height is not None
        assert arrival.height > reservation.opened_height
        off = abs(amount - reservation.due_base)
        assert off % step == 0
        assert off <= 3 * 10**asset.decimals
        assert off * 10 <= reservation.due_base
    else:
        mine = [r for r in reservations if r.asset == asset and (arrival.height or 0) > r.opened_height]
        assert all(r.due_base != amount for r in mine)


# -- who pays, proved before -----------------------------------------------------------------------------------------


def test_any_amount_of_the_proved_payer_is_the_sessions() -> None:
    mine, other = held("mine", 25 * WHOLE, 3417), held("other", 24 * WHOLE, 42)
    for amount in (1, 10 * WHOLE, 24 * WHOLE, 40 * WHOLE + 42, 25 * WHOLE):
        verdict = match(arrives(amount), [mine, other], Allowance(), proved={"mine"})
        assert isinstance(verdict, Matched)
        assert (verdict.session_id, verdict.reason) == ("mine", CreditReason.PAYER), amount
        assert isinstance(match(arrives(amount), [mine, other], Allowance()), Unmatched)


def test_an_exact_amount_outranks_the_payer() -> None:
    """Who pays for a friend from a wallet proved for another purchase means the amount."""
    mine, other = held("mine", 25 * WHOLE, 3417), held("other", 24 * WHOLE, 42)
    verdict = match(arrives(other.due_base), [mine, other], Allowance(), proved={"mine"})
    assert isinstance(verdict, Matched)
    assert (verdict.session_id, verdict.reason) == ("other", CreditReason.AMOUNT)
    by_tail = match(arrives(other.due_base - WHOLE), [mine, other], Allowance(), proved={"mine"})
    assert isinstance(by_tail, Matched)
    assert (by_tail.session_id, by_tail.reason) == ("other", CreditReason.TAIL)


def test_the_payer_of_two_open_sessions_is_not_guessed_at() -> None:
    first, second, other = (held(s, 25 * WHOLE, tail) for s, tail in (("a", 3417), ("b", 42), ("c", 7)))
    verdict = match(arrives(24 * WHOLE), [other, first, second], Allowance(), proved={"a", "b"})
    assert isinstance(verdict, Unmatched)
    assert [c.session_id for c in verdict.candidates] == ["a", "b", "c"]
    assert verdict.candidates[0].reason == "its payer, proved by signature, has sent it"


def test_the_payer_counts_only_in_time_and_in_the_sessions_asset() -> None:
    mine = held("mine", 25 * WHOLE, 3417)
    for arrival in (
        arrives(24 * WHOLE, height=10),
        arrives(24 * WHOLE, height=None, seen=9),
        arrives(24 * WHOLE, at=NEVER + 1),
        arrives(24 * WHOLE, asset=COIN),
    ):
        assert isinstance(match(arrival, [mine], Allowance(), proved={"mine"}), Unmatched)


def test_the_payer_settles_what_an_earlier_session_was_asked_for_too() -> None:
    """The amount could be another's who forgot to pay; the key says that it is not."""
    mine, forgotten = held("mine", 25 * WHOLE, 3417), held("forgotten", 25 * WHOLE, 3417)
    arrival = arrives(mine.due_base)
    assert isinstance(match(arrival, [mine], Allowance(), [forgotten]), Unmatched)
    verdict = match(arrival, [mine], Allowance(), [forgotten], {"mine"})
    assert isinstance(verdict, Matched)
    assert verdict.reason == CreditReason.PAYER
