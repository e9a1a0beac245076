"""What must always hold of payments: eight laws, over a book and the chain that it follows.

Law 3 (a step twice, a stop in the middle) and law 6 (the order of notifications) are about steps and stand in
``histories``; law 4 (a second book that saw only the winning branch) in ``second_book``.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from astrapayd.events import EventType
from astrapayd.matching import CreditReason, due_amount
from astrapayd.money import MAX_AMOUNT_BASE
from astrapayd.sessions import Flag, Status
from astrapayd.testing import ChainScript
from tests.property.book import Book, Held, Identity


def sums_agree_with_the_chain(book: Book, script: ChainScript) -> None:
    """1. Every live transfer is exactly one of credited and unmatched; per asset the sums agree with the chain."""
    on_chain = {t.identity: t for block in script.branch() for t in script.transfers_of(block)}
    ours = {i: t for i, t in on_chain.items() if t.recipient in book.addresses and t.contract in book.policy.assets}
    mined = {identity: row for identity, row in book.known.items() if row.state == "mined"}
    assert mined.keys() == ours.keys()
    by_asset: Counter[str] = Counter()
    received: defaultdict[str, int] = defaultdict(int)
    confirmed: defaultdict[str, int] = defaultdict(int)
    for identity, row in book.known.items():
        assert (identity in book.credits) == (row.standing == "credited"), identity
        assert (row.block is not None) == (row.state == "mined")
        if row.state == "mined":
            assert (row.amount_base, row.block) == (ours[identity].amount_base, ours[identity].block)
            by_asset[row.asset.id] += row.amount_base
        if identity in book.credits and row.live:
            session = book.credits[identity].session
            received[session] += row.amount_base
            confirmed[session] += row.amount_base if book.is_deep(row, book.policy.confirmations) else 0
    for transfer in ours.values():
        by_asset[book.policy.assets[transfer.contract].id] -= transfer.amount_base
    assert not any(by_asset.values())
    for state in book.sessions.values():
        assert (state.received_base, state.confirmed_base) == (received[state.id], confirmed[state.id]), state.id
        assert state.confirmed_base <= state.received_base


def reservations_are_apart(book: Book) -> None:
    """2. No two live reservations share (asset, address, tail) or an own address, nor does an amount that was cut or
    rounded equal another due; no own address is given twice."""
    live: defaultdict[tuple[str, str], list[Held]] = defaultdict(list)
    for held in book.held:
        if held.released_at is None:
            live[held.asset.id, held.address].append(held)
    for there in live.values():
        if there[0].tail is None:
            assert len(there) == 1
            continue
        asset = there[0].asset
        due = {h.due_base for h in there}
        assert len({h.tail for h in there}) == len(due) == len(there)
        for lost in range(asset.decimals - asset.price_decimals - asset.tail_digits + 1, asset.decimals + 1):
            step = 10**lost
            assert not due & ({d // step * step for d in due} | {-(-d // step) * step for d in due})
    own = [h.address for h in book.held if h.tail is None]
    assert len(own) == len(set(own))


def events_are_told_once(book: Book) -> None:
    """3. No two events that were decided have one id: the second would be told to nobody."""
    told = sum(isinstance(event.subject, str) for event in book.told.values())
    assert told == book.decided


def paid_is_told_once_and_only_with_enough(book: Book) -> None:
    """5. ``session.paid`` at most once; never with confirmed < due - tolerance unless by hand; one fulfilment per
    order; ``paid`` leaves only by a revert."""
    told = Counter((event.subject, event.type) for event in book.told.values())
    for state in book.sessions.values():
        is_paid, by_hand = state.status is Status.PAID, Flag.MANUAL in state.flags
        paid, reverted = told[state.id, EventType.SESSION_PAID], told[state.id, EventType.SESSION_REVERTED]
        assert paid == (1 if state.announced else 0)
        assert told[state.id, EventType.SESSION_FINAL] <= 1
        assert paid + told[state.id, EventType.SESSION_RESTORED] - reverted == (1 if is_paid else 0)
        assert (Flag.REVERTED in state.flags) == (state.announced and not is_paid)
        if is_paid and not by_hand:
            assert state.confirmed_base >= state.due_base - state.tolerance_base
            assert state.confirmed_base > 0
    paid_by_itself: Counter[str] = Counter()
    for state in book.sessions.values():
        order = book.opened[state.id].order_key
        if state.announced:
            assert order in book.fulfilled
            paid_by_itself[order] += Flag.MANUAL not in state.flags
    assert all(count <= 1 for count in paid_by_itself.values()), "an order is fulfilled once, unless by hand"
    for order, session in book.fulfilled.items():
        assert book.sessions[session].announced
        assert book.opened[session].order_key == order


def amounts_survive(book: Book) -> None:
    """7. Amounts up to 2^256-1 are whole, and the only rounding is to price decimals, upwards."""
    for held in book.held:
        assert held.due_base <= MAX_AMOUNT_BASE
        if held.purpose == "price":
            opened, state, asset = book.opened[held.session], book.sessions[held.session], held.asset
            own = held.tail is None
            assert state.due_base == held.due_base
            assert held.due_base == (opened.price_base if own else due_amount(opened.price_base, held.tail or 0, asset))
            extra = held.due_base - opened.price_base
            assert 0 <= extra < 2 * asset.price_step_base


def credits_postdate_their_openings(before: Book, after: Book) -> None:
    """8. What was credited just now was mined above its opening's height, or first seen at it or later."""
    for identity in after.credits.keys() - before.credits.keys():
        row, session = after.known[identity], after.credits[identity].session
        opened = after.opened[session].opened_height
        if row.block is not None:
            assert row.block.height > opened
        else:
            assert row.first_seen_height >= opened


def credits_follow_a_rule(before: Book, after: Book) -> None:
    """1 to 4 of the matching rules, said once more in the simplest words: what a credit is for is never guessed."""
    for identity in after.credits.keys() - before.credits.keys():
        row, credit = after.known[identity], after.credits[identity]
        own = [h for h in after.held if h.session == credit.session and h.asset == row.asset]
        assert all(h.address == row.address for h in own)
        match credit.reason:
            case CreditReason.ADDRESS:
                assert own[0].tail is None
            case CreditReason.AMOUNT:
                assert any(h.due_base == row.amount_base for h in own)
            case CreditReason.TAIL:
                assert any((h.due_base - row.amount_base) % h.asset.price_step_base == 0 for h in own)
            case _:
                raise AssertionError("nobody claimed or decided anything")


def credits_stay(before: Book, after: Book) -> None:
    """A transfer once credited stays with its session, whatever becomes of its block."""
    for identity, credit in before.credits.items():
        assert after.credits[identity].session == credit.session


def counted(book: Book) -> tuple[dict[Identity, str], dict[str, tuple[int, int]]]:
    """Credits and sums: what the order of notifications must not change (6)."""
    credits = {identity: credit.session for identity, credit in book.credits.items()}
    return credits, {s.id: (s.received_base, s.confirmed_base) for s in book.sessions.values()}
