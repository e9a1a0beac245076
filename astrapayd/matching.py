"""Unique amounts, and which session a transfer pays. Pure: no I/O, no clock, no randomness of its own.

The rules stand in ``docs/explanation/matching.md``. Nothing is guessed: what no rule covers stays unmatched, with its
candidates ranked for a person.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from astrapayd.money import MAX_AMOUNT_BASE, Asset, format_amount, round_up

MAX_CANDIDATES = 5

_ENUMERATED_SPACE = 100_000  # up to five digits every free tail is looked at; beyond, tails are drawn
_DRAWS = 1_000
_AFTER_RESTORE = (8, 9)  # last digits kept back, of which one serves each epoch


class CreditReason(StrEnum):
    """Why a transfer was counted for a session."""

    ADDRESS = "address"
    AMOUNT = "amount"
    TAIL = "tail"
    PAYER = "payer"
    CLAIM = "claim"
    MANUAL = "manual"


class AmountSpaceFull(Exception):
    """Every tail of the address is taken, or the price leaves no room for one."""


# -- reserving ----------------------------------------------------------------------------------------------------


def due_amount(price_base: int, tail: int, asset: Asset) -> int:
    """What is to be paid: the price rounded up to the asset's price decimals, plus the tail (base units)."""
    return round_up(price_base, asset.price_step_base) + tail * asset.tail_unit_base


def rest_amount(missing_base: int, tail: int, asset: Asset) -> int:
    """What is to be paid for the rest of an underpaid session: the smallest amount that ends in the tail and covers
    what is missing. Less than one price step above it, so that a tail never looks like an overpayment."""
    return due_amount(max(missing_base - tail * asset.tail_unit_base, 0), tail, asset)


def tail_of(amount_base: int, asset: Asset) -> int | None:
    """The tail that an amount carries, or None where it carries digits beyond the tail's last one."""
    if amount_base % asset.tail_unit_base:
        return None
    return amount_base // asset.tail_unit_base % asset.tail_space


def choose_tail(
    price_base: int,
    asset: Asset,
    taken: AbstractSet[int],
    last_released: Callable[[int], int],
    pick: Callable[[int], int],
    restored_epoch: int | None = None,
) -> int:
    """A free tail, at random among the half of the free ones that has rested longest.

    Random, because a predictable tail lets a stranger aim at it and a skipped one tells who is buying; rested,
    because an old customer may still pay the amount that the tail meant before. The last digit is never zero, so
    that an amount cut or rounded to fewer decimals never equals a reservation: 9,000 tails of four digits.

    A backup that is restored knows nothing of the tails let after it was taken, and their customers may still pay. So
    tails that end in 8 or 9 are let only when there are no others, and after a restore only those that end in one of
    the two, for even and odd epochs in turn (a first restore may have been of the wrong backup).

    :param taken: tails that are reserved now on this address and asset, at any price.
    :param last_released: when a tail was last given back (Unix seconds; 0: never used).
    :param pick: ``pick(n)`` answers a random integer below ``n`` (``secrets.randbelow``).
    :param restored_epoch: the installation's, while what was lost with a restore may still be paid.
    :raises AmountSpaceFull: if none is free.
    """
    only = None if restored_epoch is None else _AFTER_RESTORE[restored_epoch % len(_AFTER_RESTORE)]
    if due_amount(price_base, asset.tail_space - 1, asset) > MAX_AMOUNT_BASE:
        raise AmountSpaceFull
    if asset.tail_space > _ENUMERATED_SPACE:
        return _draw_tail(asset, taken, last_released, pick, only)
    free = [tail for tail in range(1, asset.tail_space) if tail % 10 and tail not in taken]
    if only is None:
        free = [tail for tail in free if tail % 10 not in _AFTER_RESTORE] or free
    else:
        free = [tail for tail in free if tail % 10 == only]
    if not free:
        raise AmountSpaceFull
    free.sort(key=last_released)
    rested = (len(free) + 1) // 2
    # Tails that rested equally long (all those never used) are one class: the half must not cut through it.
    while rested < len(free) and last_released(free[rested]) == last_released(free[rested - 1]):
        rested += 1
    return free[pick(rested)]


def _draw_tail(
    asset: Asset,
    taken: AbstractSet[int],
    last_released: Callable[[int], int],
    pick: Callable[[int], int],
    only: int | None,
) -> int:
    """From a space too large to list: one never used before, of which there are always plenty."""
    for _ in range(_DRAWS):
        tail = pick(asset.tail_space)
        fits = 0 < tail % 10 < _AFTER_RESTORE[0] if only is None else tail % 10 == only
        if fits and tail not in taken and not last_released(tail):
            return tail
    raise AmountSpaceFull


# -- matching -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is held for one session on one address: a tail, or (``tail`` None) the address itself.

    ``opened_height`` is the chain's height at the opening; ``due_base`` the exact amount expected; ``live_until`` the
    end of the late window, Unix seconds.
    """

    session_id: str
    asset: Asset
    tail: int | None
    due_base: int
    opened_height: int
    live_until: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """How far an amount with the right tail may be off and still be that session's: both bounds hold.

    ``units`` is decimal text in whole units of the asset, ``percent`` of the amount due. Meant for an exchange's fee.
    """

    units: str = "3"
    percent: int = 10

    def covers(self, difference_base: int, reservation: Reservation) -> bool:
        """Whether ``|difference|`` (base units) lies within both bounds."""
        off = abs(difference_base)
        most = Fraction(self.units) * 10**reservation.asset.decimals
        return off <= most and off * 100 <= reservation.due_base * self.percent


@dataclass(frozen=True, slots=True)
class Arrival:
    """A transfer as the matcher sees it. ``height`` is its block's, or None while unconfirmed; then
    ``seen_height`` is the chain's height when it was first seen. ``at``: when it was seen or mined, whichever came
    first, Unix seconds."""

    asset: Asset
    amount_base: int
    height: int | None
    seen_height: int
    at: int


@dataclass(frozen=True, slots=True)
class Matched:
    """The transfer pays this session."""

    session_id: str
    reason: CreditReason
    rule: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A session that an unmatched transfer may have been meant for, and why it comes to mind."""

    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unmatched:
    """No rule covers the transfer: it is kept for a person, with the likeliest sessions first."""

    reason: str
    candidates: tuple[Candidate, ...]


def match(
    arrival: Arrival,
    reservations: Sequence[Reservation],
    allowance: Allowance,
    released: Sequence[Reservation] = (),
    proved: Collection[str] = (),
) -> Matched | Unmatched:
    """Which session a transfer pays.

    1. The address belongs to one session: that session, if the asset is its own.
    2. Exactly the amount due of one reservation (also after expiry, also a second time).
    3. The tail of one reservation, and the amount off by whole price steps within the allowance. Neither 2 nor 3 where
       it is exactly what an earlier holder of the tail was asked for and may be paying now.
    4. The sender has proved to be the payer of exactly one of them: that session, whatever the amount.
    5. Otherwise unmatched.

    :param reservations: the live ones on the transfer's address, of every asset.
    :param released: those given back there that were for exactly this amount, whose customers may still pay; needed
        only where rule 2 or 3 holds.
    :param proved: the sessions whose payer the transfer's sender has proved to be, by signature. Whether they are paid
        does not matter: that may change with a reorganisation, and credits must not depend on it.
    """
    owners = [r for r in reservations if r.tail is None]
    if owners:
        return _match_own_address(arrival, owners[0])
    verdict = _match_amount(arrival, reservations, allowance, released)
    if isinstance(verdict, Matched) or not proved:
        return verdict
    theirs = _sessions(
        r
        for r in reservations
        if r.session_id in proved and r.asset.id == arrival.asset.id and _miss(arrival, r) is None
    )
    if len(theirs) == 1:
        return Matched(theirs[0], CreditReason.PAYER, "its sender has proved by signature to be this session's payer")
    first = [Candidate(session, "its payer, proved by signature, has sent it") for session in theirs]
    rest = [candidate for candidate in verdict.candidates if candidate.session_id not in theirs]
    return Unmatched(verdict.reason, tuple([*first, *rest][:MAX_CANDIDATES]))


def _match_amount(
    arrival: Arrival, reservations: Sequence[Reservation], allowance: Allowance, released: Sequence[Reservation]
) -> Matched | Unmatched:
    # A stranger's earlier transfer of exactly the new session's amount must not pay it; nor does one pay that was
    # made after the late window, in an update that reaches further than the window's end.
    same_asset = [r for r in reservations if r.asset.id == arrival.asset.id and _miss(arrival, r) is None]
    earlier = [r for r in released if r.asset.id == arrival.asset.id and r.due_base == arrival.amount_base]
    exact = _sessions(r for r in same_asset if r.due_base == arrival.amount_base)
    if len(exact) == 1 and not earlier:
        return Matched(exact[0], CreditReason.AMOUNT, "the amount is exactly what was due")

    tail = tail_of(arrival.amount_base, arrival.asset)
    by_tail = [r for r in same_asset if r.tail == tail and r.tail is not None]
    near = [r for r in by_tail if allowance.covers(arrival.amount_base - r.due_base, r)]
    if earlier and (exact or near):
        which = "the amount is" if exact else "the last digits are"
        old = [Candidate(s, "exactly what it expected, but its late window is over") for s in _sessions(earlier)]
        now_held = _rank(arrival, reservations)
        return Unmatched(
            f"{which} one session's, but an earlier session that nobody paid was asked for exactly this amount too",
            tuple([*now_held, *old] if exact else [*old, *now_held])[:MAX_CANDIDATES],
        )
    if len(_sessions(near)) == 1:
        off = arrival.amount_base - near[0].due_base
        shown = format_amount(abs(off), arrival.asset.decimals, at_least=arrival.asset.price_decimals)
        return Matched(
            near[0].session_id,
            CreditReason.TAIL,
            f"the last digits are this session's, and the amount is {shown} {'below' if off < 0 else 'above'} "
            "what was due",
        )
    return Unmatched(_why_unmatched(arrival, reservations, by_tail), _rank(arrival, reservations))


def _match_own_address(arrival: Arrival, owner: Reservation) -> Matched | Unmatched:
    if owner.asset.id != arrival.asset.id:
        return Unmatched(
            f"{arrival.asset.symbol} came to an address that expects {owner.asset.symbol}",
            (Candidate(owner.session_id, "the address is this session's, but the asset is another"),),
        )
    if miss := _miss(arrival, owner):
        return Unmatched(
            f"the address is one session's, but the transfer was {miss}",
            (Candidate(owner.session_id, f"the address is this session's, but the transfer was {miss}"),),
        )
    return Matched(owner.session_id, CreditReason.ADDRESS, "the address is this session's own")


def _miss(arrival: Arrival, reservation: Reservation) -> str | None:
    """Why the transfer's time alone keeps it from paying the session, or None."""
    if arrival.height is None:
        before = arrival.seen_height < reservation.opened_height
    else:
        before = arrival.height <= reservation.opened_height
    if before:
        return "made before the session was opened"
    return "made after the session's late window" if arrival.at > reservation.live_until else None


def _sessions(reservations: Iterable[Reservation]) -> list[str]:
    return list(dict.fromkeys(r.session_id for r in reservations))


def _why_unmatched(arrival: Arrival, reservations: Sequence[Reservation], by_tail: Sequence[Reservation]) -> str:
    for reservation in reservations:
        if reservation.asset.id == arrival.asset.id and reservation.due_base == arrival.amount_base:
            return f"the amount is exactly one session's, but the transfer was {_miss(arrival, reservation)}"
    if by_tail:
        return "the last digits are one session's, but the amount is too far from what was due"
    if not reservations:
        return "nobody was expected to pay to this address"
    return "the amount is not that of any session"


def _rank(arrival: Arrival, reservations: Sequence[Reservation]) -> tuple[Candidate, ...]:
    """The likeliest first: same tail, then the nearest amount, then another asset of the same address."""
    tail = tail_of(arrival.amount_base, arrival.asset)

    def rank(reservation: Reservation) -> tuple[int, int, str]:
        same_asset = reservation.asset.id == arrival.asset.id
        same_tail = same_asset and reservation.tail == tail
        return (
            0 if same_tail else 1 if same_asset else 2,
            abs(reservation.due_base - arrival.amount_base),
            reservation.session_id,
        )

    best: dict[str, Candidate] = {}
    for reservation in sorted(reservations, key=rank):
        if reservation.session_id not in best:
            best[reservation.session_id] = Candidate(reservation.session_id, _likeness(arrival, reservation, tail))
    return tuple(best.values())[:MAX_CANDIDATES]


def _likeness(arrival: Arrival, reservation: Reservation, tail: int | None) -> str:
    if reservation.asset.id != arrival.asset.id:
        return f"it expects {reservation.asset.symbol} at the same address"
    off = arrival.amount_base - reservation.due_base
    shown = format_amount(abs(off), arrival.asset.decimals)
    apart = f"{shown} {arrival.asset.symbol} {'less' if off < 0 else 'more'} than it expects"
    if off == 0:
        return "exactly what it expects"
    return f"the same last digits, {apart}" if reservation.tail == tail else apart
