"""The session state machine: each status and flag, and what holds over every history."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.events import EventType
from astrapayd.sessions import (
    Cancelled,
    Change,
    Credit,
    Flag,
    LatePolicy,
    Looked,
    NotPossible,
    Session,
    SessionEvent,
    Settled,
    Status,
    transition,
)

DUE, STEP = 25_003_417, 10_000
EXPIRES, LATE_UNTIL, HELD_UNTIL = 1_000, 2_000, 3_000


def pending(**more: object) -> Session:
    blank = Session(
        id="ses_1",
        status=Status.PENDING,
        flags=frozenset(),
        revision=1,
        due_base=DUE,
        tolerance_base=0,
        overpaid_from_base=STEP,
        received_base=0,
        confirmed_base=0,
        expires_at=EXPIRES,
        late_until=LATE_UNTIL,
        held_until=HELD_UNTIL,
        late_policy=LatePolicy.ACCEPT,
        minimum_base=0,
        announced=False,
        open=True,
    )
    return replace(blank, **more)  # type: ignore[arg-type]


def credit(amount: int = DUE, name: str = "pay_1", **more: object) -> Credit:
    blank = Credit(
        transfer_id=name,
        amount_base=amount,
        on_time=True,
        too_late=False,
        live=True,
        confirmed=True,
        final=False,
        was_live=False,
        was_confirmed=False,
        turns=0,
    )
    return replace(blank, **more)  # type: ignore[arg-type]


def looked(*credits_now: Credit, at: int = 500, order_taken: bool = False, sold_out: bool = False) -> Looked:
    return Looked(credits_now, at, order_taken, sold_out)


def types(events: tuple[SessionEvent, ...]) -> list[str]:
    return [event.type.value for event in events]


# -- status -------------------------------------------------------------------------------------------------------


def test_nothing_new_changes_nothing() -> None:
    assert transition(pending(), looked()) == (pending(), ())
    assert transition(pending(), looked(at=EXPIRES)) == (pending(), ()), "the last second still counts"


def test_seen_confirmed_paid_final() -> None:
    session, events = transition(pending(), looked(credit(confirmed=False)))
    assert (session.status, session.received_base, session.confirmed_base) == (Status.PROCESSING, DUE, 0)
    assert types(events) == ["payment.seen", "session.processing"]
    session, events = transition(session, looked(credit(was_live=True)))
    assert (session.status, session.confirmed_base, session.announced) == (Status.PAID, DUE, True)
    assert types(events) == ["payment.confirmed", "session.paid"]
    session, events = transition(session, looked(credit(was_live=True, was_confirmed=True, final=True)))
    assert (session.status, session.flags) == (Status.PAID, {Flag.FINAL})
    assert types(events) == ["session.final"]
    assert session.revision == 4


def test_everything_at_once_after_a_downtime() -> None:
    session, events = transition(pending(), looked(credit(final=True), at=5_000))
    assert (session.status, session.flags, session.open) == (Status.PAID, {Flag.FINAL}, False)
    assert types(events) == ["payment.seen", "payment.confirmed", "session.paid", "session.final"]


def test_one_base_unit_too_little_is_underpaid() -> None:
    session, events = transition(pending(), looked(credit(DUE - 1)))
    assert (session.status, session.flags, session.missing_base) == (Status.PENDING, {Flag.UNDERPAID}, 1)
    assert types(events) == ["payment.seen", "payment.confirmed", "session.underpaid"]


@pytest.mark.parametrize(("received", "enough"), [(DUE - 100, True), (DUE - 101, False)])
def test_tolerance(received: int, enough: bool) -> None:
    session, _ = transition(pending(tolerance_base=100), looked(credit(received)))
    assert (session.status is Status.PAID) == enough
    assert (session.missing_base == 0) == enough
    assert (Flag.UNDERPAID in session.flags) != enough


def test_a_tolerance_as_large_as_the_price_does_not_pay_with_nothing() -> None:
    session, _ = transition(pending(tolerance_base=2 * DUE), looked())
    assert session.status is Status.PENDING


@pytest.mark.parametrize(("excess", "overpaid"), [(STEP - 1, False), (STEP, True)])
def test_less_than_a_price_step_too_much_is_a_tail(excess: int, overpaid: bool) -> None:
    session, events = transition(pending(), looked(credit(DUE + excess)))
    assert session.status is Status.PAID
    assert (Flag.OVERPAID in session.flags) == ("session.overpaid" in types(events)) == overpaid


def test_expiry() -> None:
    session, events = transition(pending(), looked(at=EXPIRES + 1))
    assert (session.status, session.open) == (Status.EXPIRED, True)
    assert types(events) == ["session.expired"]
    session, events = transition(session, looked(at=LATE_UNTIL + 1))
    assert (session.status, session.open) == (Status.EXPIRED, False)


def test_what_was_paid_does_not_expire() -> None:
    session, _ = transition(pending(), looked(credit(confirmed=False), at=EXPIRES + 1))
    assert session.status is Status.PROCESSING


def test_late_and_accepted() -> None:
    session, events = transition(pending(status=Status.EXPIRED), looked(credit(on_time=False), at=1_500))
    assert (session.status, session.flags) == (Status.PAID, {Flag.LATE})
    assert types(events)[-1] == "session.paid"


def test_late_and_held() -> None:
    expired = pending(status=Status.EXPIRED, late_policy=LatePolicy.HOLD)
    session, events = transition(expired, looked(credit(on_time=False), at=1_500))
    assert (session.status, session.flags) == (Status.EXPIRED, {Flag.LATE, Flag.HELD})
    assert types(events) == ["payment.seen", "payment.confirmed", "session.held"]


def test_an_on_time_payment_is_not_held_because_of_a_late_extra_one() -> None:
    both = looked(credit(), credit(name="pay_2", on_time=False), at=1_500)
    session, _ = transition(pending(late_policy=LatePolicy.HOLD), both)
    assert (session.status, session.flags) == (Status.PAID, {Flag.LATE, Flag.OVERPAID})


def test_late_money_that_is_held_makes_nothing_final() -> None:
    """Under ``hold`` an extra late payment is final before the one that counts."""
    counts, late = credit(DUE, "pay_1", confirmed=True), credit(DUE, "pay_2", on_time=False, confirmed=True, final=True)
    after, events = transition(pending(late_policy=LatePolicy.HOLD), looked(counts, late, at=EXPIRES + 1))
    assert after.status is Status.PAID
    assert Flag.FINAL not in after.flags
    assert EventType.SESSION_FINAL not in [event.type for event in events]


def test_a_late_rest_is_held_too() -> None:
    both = looked(credit(DUE - STEP), credit(STEP, "pay_2", on_time=False), at=1_500)
    session, _ = transition(pending(late_policy=LatePolicy.HOLD), both)
    assert (session.status, session.flags) == (Status.EXPIRED, {Flag.LATE, Flag.HELD})


def test_duplicate_of_an_order_is_held() -> None:
    session, events = transition(pending(), looked(credit(), order_taken=True))
    assert (session.status, session.flags) == (Status.PROCESSING, {Flag.HELD, Flag.DUPLICATE})
    assert "session.paid" not in types(events)


def test_an_order_taken_before_anything_came_in_is_no_matter() -> None:
    assert transition(pending(), looked(order_taken=True)) == (pending(), ())


def test_beyond_a_links_limit_is_held() -> None:
    session, _ = transition(pending(status=Status.EXPIRED), looked(credit(on_time=False), sold_out=True, at=1_500))
    assert (session.status, session.flags) == (Status.PROCESSING, {Flag.HELD, Flag.LATE})
    freed, events = transition(session, looked(credit(on_time=False, was_live=True, was_confirmed=True), at=1_500))
    assert (freed.status, freed.flags) == (Status.PAID, {Flag.LATE})
    assert types(events) == ["session.paid"]


def test_what_is_paid_does_not_become_a_duplicate_or_sold_out() -> None:
    told = credit(was_live=True, was_confirmed=True)
    paid, _ = transition(pending(), looked(credit()))
    assert transition(paid, looked(told, order_taken=True, sold_out=True)) == (paid, ())


# -- reverts ------------------------------------------------------------------------------------------------------


def test_reverted_restored() -> None:
    session, _ = transition(pending(), looked(credit()))
    gone = credit(was_live=True, was_confirmed=True, live=False, confirmed=False)
    session, events = transition(session, looked(gone))
    assert (session.status, session.flags, session.received_base) == (Status.PENDING, {Flag.REVERTED}, 0)
    assert types(events) == ["payment.reverted", "session.reverted", "session.pending"]
    back = replace(gone.told(), live=True, confirmed=True)
    assert back.turns == 1
    session, events = transition(session, looked(back))
    assert (session.status, session.flags) == (Status.PAID, frozenset())
    assert types(events) == ["payment.seen", "payment.confirmed", "session.restored"]
    assert [e.ordinal for e in events[:2]] == [1, 1], "the second turn's events have ids of their own"


def test_confirmations_lost_and_found_are_told_with_a_new_id() -> None:
    first = credit()
    lost = replace(first.told(), confirmed=False)
    again = replace(lost.told(), confirmed=True)
    assert (first.told().turns, lost.told().turns, again.turns) == (0, 1, 1)
    assert lost.told().told() == lost.told()


def test_what_reverts_after_the_window_leaves_it_expired() -> None:
    session, _ = transition(pending(), looked(credit()))
    gone = credit(was_live=True, was_confirmed=True, live=False, confirmed=False)
    session, events = transition(session, looked(gone, at=EXPIRES + 1))
    assert (session.status, session.flags) == (Status.EXPIRED, {Flag.REVERTED})
    assert types(events)[-2:] == ["session.reverted", "session.expired"]


def test_final_stays_final_while_a_second_payment_comes_and_goes() -> None:
    session, _ = transition(pending(), looked(credit(final=True)))
    told = credit(final=True, was_live=True, was_confirmed=True)
    session, _ = transition(session, looked(told, credit(name="pay_2", confirmed=False)))
    assert session.flags == {Flag.FINAL, Flag.OVERPAID}
    session, events = transition(session, looked(told, credit(name="pay_2", was_live=True, live=False)))
    assert session.flags == {Flag.FINAL}
    assert "session.final" not in types(events)


# -- what people decide -------------------------------------------------------------------------------------------


def test_cancel() -> None:
    session, events = transition(pending(), Cancelled("customer"))
    assert session.status is Status.CANCELLED
    assert types(events) == ["session.cancelled"]


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.PAID, Status.EXPIRED, Status.CANCELLED])
def test_cancel_is_refused(status: Status) -> None:
    with pytest.raises(NotPossible):
        transition(pending(status=status), Cancelled("customer"))


def test_cancel_is_refused_once_anything_was_seen() -> None:
    with pytest.raises(NotPossible, match="a payment for it was seen"):
        transition(pending(received_base=1), Cancelled("customer"))


def test_a_cancelled_session_stays_cancelled_and_money_is_held() -> None:
    session, events = transition(pending(status=Status.CANCELLED), looked(credit(), at=5_000))
    assert (session.status, session.flags) == (Status.CANCELLED, {Flag.HELD})
    assert types(events)[-1] == "session.held"


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.EXPIRED, Status.CANCELLED])
def test_settle(status: Status) -> None:
    before = pending(status=status, flags=frozenset({Flag.HELD, Flag.DUPLICATE, Flag.LATE}))
    session, events = transition(before, Settled("merchant", ""))
    assert (session.status, session.flags, session.announced) == (Status.PAID, {Flag.MANUAL, Flag.LATE}, True)
    assert types(events) == ["session.paid"]


@pytest.mark.parametrize("status", [Status.DRAFT, Status.PAID])
def test_settle_is_refused(status: Status) -> None:
    with pytest.raises(NotPossible):
        transition(pending(status=status), Settled("merchant", ""))


def test_settle_after_a_revert_restores() -> None:
    reverted = pending(flags=frozenset({Flag.REVERTED}), announced=True)
    session, events = transition(reverted, Settled("merchant", ""))
    assert (session.flags, types(events)) == ({Flag.MANUAL}, ["session.restored"])


def test_the_merchants_word_outlasts_a_revert_and_expiry() -> None:
    settled, _ = transition(pending(), Settled("merchant", ""))
    session, _ = transition(settled, looked(at=5_000))
    assert (session.status, session.flags) == (Status.PAID, {Flag.MANUAL})


# -- over every history -------------------------------------------------------------------------------------------

amounts = st.sampled_from([1, STEP, DUE - STEP, DUE, DUE + STEP, 2**256 - 1])


@st.composite
def histories(draw: st.DrawFn) -> tuple[Session, list[Change]]:
    """A session, and what happens to it: credits that come, confirm, go and come back, at any times."""
    session = pending(
        tolerance_base=draw(st.sampled_from([0, 0, 100])),
        late_policy=draw(st.sampled_from(LatePolicy)),
    )
    kinds = [(f"pay_{i}", draw(amounts), draw(st.booleans())) for i in range(draw(st.integers(0, 4)))]
    changes: list[Change] = []
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 9)) == 0:
            changes.append(Cancelled("x") if draw(st.booleans()) else Settled("x", ""))
            continue
        seen = []
        for name, amount, on_time in kinds:
            depth = draw(st.integers(0, 4))  # absent, gone, seen, confirmed, final
            if depth:
                seen.append(credit(amount, name, on_time=on_time, live=depth > 1, confirmed=depth > 2, final=depth > 3))
        at = draw(st.integers(0, 3_000))
        changes.append(looked(*seen, at=at, order_taken=draw(st.integers(0, 5)) == 0, sold_out=draw(st.booleans())))
    return session, changes


@given(histories())
def test_what_holds_over_every_history(history: tuple[Session, list[Change]]) -> None:
    session, changes = history
    told: Counter[tuple[EventType, int, str | None]] = Counter()
    as_told: dict[str, Credit] = {}
    for given_change in changes:
        change = given_change
        if isinstance(change, Looked):
            known = {c.transfer_id: c for c in change.credits}
            # A credit does not vanish: one that is not mentioned again is gone from the chain.
            for name, old in as_told.items():
                known.setdefault(name, replace(old, live=False, confirmed=False, final=False))
            now = [
                replace(c, was_live=o.was_live, was_confirmed=o.was_confirmed, turns=o.turns)
                if (o := as_told.get(c.transfer_id))
                else c
                for c in known.values()
            ]
            change = replace(change, credits=tuple(now))
        try:
            after, events = transition(session, change)
        except NotPossible:
            continue
        told.update((e.type, e.ordinal, e.transfer_id) for e in events)
        assert after.revision == session.revision + (replace(after, open=session.open) != session)
        assert not events or after.revision > session.revision, "nothing is told of what did not change"
        if isinstance(change, Looked):
            _check_look(session, after, change)
            as_told = {c.transfer_id: c.told() for c in change.credits}
            again = replace(change, credits=tuple(as_told.values()))
            assert transition(after, again) == (after, ()), "the same look twice changes nothing"
        session = after
    assert all(count == 1 for count in told.values()), "no event id twice"
    assert sum(count for (kind, _, _), count in told.items() if kind is EventType.SESSION_PAID) <= 1


def _check_look(before: Session, after: Session, change: Looked) -> None:
    live = [c for c in change.credits if c.live]
    assert after.received_base == sum(c.amount_base for c in live)
    assert after.confirmed_base == sum(c.amount_base for c in live if c.confirmed)
    if after.status is Status.PAID and Flag.MANUAL not in after.flags:
        stays = Flag.FINAL in before.flags and after.received_base >= DUE - after.tolerance_base
        assert after.confirmed_base >= DUE - after.tolerance_base or stays
        assert before.announced or not (change.order_taken or change.sold_out)
    if after.status is Status.EXPIRED:
        assert change.chain_time > EXPIRES
    if Flag.MANUAL in before.flags:
        assert after.status is Status.PAID
    if before.status is Status.PAID and after.status is not Status.PAID:
        assert after.confirmed_base < DUE - after.tolerance_base or after.late_policy is LatePolicy.HOLD
        assert Flag.REVERTED in after.flags
    assert after.announced >= before.announced


# -- held open, and rests too small to be sent ---------------------------------------------------------------------


@pytest.mark.parametrize("policy", LatePolicy)
def test_held_open_by_a_seen_payment_for_a_bounded_time(policy: LatePolicy) -> None:
    """Seen in time and long in coming: the session waits, then it expires; what comes after is held for a person."""
    seen = credit(confirmed=False)
    session, _ = transition(pending(late_policy=policy), looked(seen))
    session, events = transition(session, looked(seen.told(), at=HELD_UNTIL))
    assert (session.status, types(events)) == (Status.PROCESSING, [])
    too_late = replace(seen.told(), too_late=True)
    session, events = transition(session, looked(too_late, at=HELD_UNTIL + 1))
    assert (session.status, session.flags) == (Status.EXPIRED, {Flag.LATE, Flag.HELD})
    assert types(events) == ["session.held", "session.expired"]
    mined = replace(too_late, confirmed=True)
    session, events = transition(session, looked(mined, at=HELD_UNTIL + 50))
    assert (session.status, types(events)) == (Status.EXPIRED, ["payment.confirmed"])
    session, events = transition(session, Settled("the merchant", "it came after all"))
    assert (session.status, types(events)) == (Status.PAID, ["session.paid"])


@pytest.mark.parametrize(
    ("missing", "held"), [(1, True), (STEP - 1, True), (STEP, False), (STEP + 1, False), (DUE, False)]
)
def test_rest_below_dust_is_held(missing: int, held: bool) -> None:
    credits_now = [credit(DUE - missing)] if missing < DUE else []
    session, _ = transition(pending(minimum_base=STEP), looked(*credits_now))
    assert session.status is Status.PENDING
    assert (Flag.HELD in session.flags, session.rest_is_dust) == (held, held)


def test_rest_below_dust_that_is_sent_all_the_same_is_no_longer_held() -> None:
    session, _ = transition(pending(minimum_base=STEP), looked(credit(DUE - 1)))
    rest = credit(1, "pay_2")
    session, events = transition(session, looked(credit(DUE - 1).told(), rest))
    assert (session.status, session.flags) == (Status.PAID, frozenset())
    assert types(events)[-1] == "session.paid"
