"""Applies changes to sessions inside a transaction that somebody else began: the one place that writes them.

For each session: lock the row, see what its credits are on the chain now, let the state machine decide, and write the
new state, its line of the story, its events with their deliveries, and what follows (the order's fulfilment, a
reservation for the rest of an underpaid amount). Nothing here calls a plugin or the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.chains import Chain, ChainRegistry, Depth, Tier
from astrapayd.db import chains as chain_queries
from astrapayd.db import outbox
from astrapayd.db import reservations as reservation_queries
from astrapayd.db import sessions as session_queries
from astrapayd.db import transfers as transfer_queries
from astrapayd.db.epoch import load_epoch
from astrapayd.db.outbox import NewEvent
from astrapayd.db.sessions import SessionRow
from astrapayd.db.transfers import CreditRow
from astrapayd.event_data import amount_text, session_data
from astrapayd.events import EventType
from astrapayd.matching import AmountSpaceFull, CreditReason, choose_tail, due_amount, rest_amount
from astrapayd.money import Asset, format_amount
from astrapayd.rates import convert
from astrapayd.sessions import (
    Cancelled,
    Credit,
    Flag,
    Looked,
    Session,
    SessionEvent,
    Settled,
    Status,
    transition,
)

_TAIL_TRIES = 20
_BY_A_PERSON = (CreditReason.MANUAL, CreditReason.CLAIM)  # who accepts a payment knows how late it is
_REST_SECS = 30 * 86_400  # a tail that has rested so long is as good as new

RE_LET_SECS = 7 * 86_400
"""So long after its late window the amount of a session that nobody paid is not given to another one, if any other is
free; and a payment of that amount is not taken for another's."""


class NoSuchSession(Exception):
    """There is no session with that id."""


@dataclass(frozen=True, slots=True)
class ChainView:
    """The chain as the transaction leaves it. ``time`` is the chain's time in Unix seconds: the head's own, but never
    ahead of the clock."""

    head_height: int
    final_height: int
    time: int


class Bookkeeping:
    """Writes sessions. ``now`` answers Unix seconds; it dates what is written and decides nothing. ``pick(n)`` answers
    a random integer below ``n``: which of the free tails is taken."""

    def __init__(
        self,
        registry: ChainRegistry,
        tiers: Mapping[str, Sequence[Tier]],
        now: Callable[[], int],
        pick: Callable[[int], int],
    ) -> None:
        self._registry = registry
        self._tiers = tiers
        self._now = now
        self._pick = pick

    async def look(
        self,
        tx: AsyncConnection,
        session_ids: Iterable[str],
        view: ChainView,
        cause: str,
        rules: Mapping[str, Sequence[str]] | None = None,
    ) -> set[str]:
        """Compute these sessions anew from the chain; answers those that changed.

        :param cause: what happened, for the story, such as ``ethereum block 123``.
        :param rules: why new credits were given, by session.
        """
        rows = await session_queries.load_sessions(tx, session_ids, self._registry, lock=True)
        credit_rows = await transfer_queries.load_credits(tx, list(rows))
        await session_queries.lock_what_is_shared(tx, (row for row in rows.values() if credit_rows[row.id]))
        fulfilled = await session_queries.fulfilled_by(tx, rows.values())
        changed: set[str] = set()
        told: list[tuple[SessionRow, Sequence[SessionEvent]]] = []
        # The oldest first: where two sessions of one order become payable in one block, it is the one fulfilled.
        for row in sorted(rows.values(), key=lambda r: (r.opened_at, r.id)):
            chain = self._registry[row.chain]
            order = (row.store, row.order_key)
            deep_enough = self.confirmed_from(row, credit_rows[row.id])
            seen = tuple(_credit(row.state, c, chain, deep_enough, view) for c in credit_rows[row.id])
            look = Looked(
                seen,
                view.time,
                order_taken=fulfilled.get(order, row.id) != row.id,
                sold_out=bool(seen) and await _is_beyond_limit(tx, row),
            )
            after, events = transition(row.state, look)
            if after.revision == row.state.revision:
                if after.open is not row.state.open:
                    await session_queries.save_session(tx, after, paid_at=None)
                continue
            changed.add(row.id)
            for credit in seen:
                await _save_told(tx, credit)
            why = "; ".join((rules or {}).get(row.id, [])) or _rule(row.state, after)
            told.append((await self._save(tx, row, after, events, cause, why), events))
            if after.announced and not row.state.announced:
                fulfilled[order] = row.id
            await self._reserve_rest(tx, replace(row, state=after), view)
        # Last, when nothing else is waited for: the numbers of events are everybody's (docs/adr/0006).
        for saved, told_of in told:
            await self._tell(tx, saved, told_of, credit_rows[saved.id], view)
        return changed

    def confirmed_from(self, row: SessionRow, credit_rows: Iterable[CreditRow]) -> Depth:
        """How deep the session's payments must lie to count: the tier of what is due or received, the larger of both,
        so that many small transfers do not slip below it."""
        received_base = sum(c.transfer.amount_base for c in credit_rows if c.transfer.live)
        amount_base = max(row.state.due_base, received_base)
        depth = self._registry[row.chain].confirmations
        for tier in self._tiers.get(row.asset.id, ()):
            if amount_base >= tier.from_base:
                depth = tier.depth
        return depth

    async def decide(self, tx: AsyncConnection, session_id: str, change: Cancelled | Settled) -> Session:
        """Apply what a person decided.

        :raises NoSuchSession: if there is none with that id.
        :raises astrapayd.sessions.NotPossible: if its status does not allow it.
        """
        rows = await session_queries.load_sessions(tx, [session_id], self._registry, lock=True)
        if session_id not in rows:
            raise NoSuchSession(session_id)
        row = rows[session_id]
        credit_rows = await transfer_queries.load_credits(tx, [session_id])
        after, events = transition(row.state, change)
        view = await self.committed_view(tx, row.chain)
        cause, rule = _why(change)
        saved = await self._save(tx, row, after, events, cause, rule)
        await self._tell(tx, saved, events, credit_rows[session_id], view)
        return after

    async def opened(self, tx: AsyncConnection, row: SessionRow, view: ChainView, source: str) -> None:
        """Tell of a session that was just inserted at revision 1, and begin its story."""
        events = (
            SessionEvent(EventType.SESSION_CREATED, 0),
            SessionEvent(EventType.SESSION_PENDING, row.state.revision),
        )
        await self._tell(tx, row, events, [], view)
        await session_queries.insert_change(
            tx,
            row.id,
            revision=row.state.revision,
            at=self._now(),
            cause=f"opened by {source}",
            rule=f"only transfers above block {row.opened_height} can pay it{_conversion(row)}",
            result=_result(row.state, row, events),
        )

    async def committed_view(self, tx: AsyncConnection, chain_id: str) -> ChainView:
        """The chain as last committed; before its first block, height and time are 0."""
        chain = await chain_queries.load_chain(tx, chain_id)
        head = await chain_queries.head_block(tx, chain_id)
        if chain is None or head is None:
            return ChainView(0, -1, 0)
        return ChainView(head.height, chain.final_height, min(head.time, self._now()))

    async def _save(
        self,
        tx: AsyncConnection,
        row: SessionRow,
        after: Session,
        events: Sequence[SessionEvent],
        cause: str,
        rule: str,
    ) -> SessionRow:
        """Write what a transition led to, and answer the new row. The caller tells of it, last of all."""
        first_paid = after.announced and not row.state.announced
        paid_at = self._now() if first_paid else None
        await session_queries.save_session(tx, after, paid_at=paid_at)
        # The merchant's word outranks the rule of one fulfilment per order: then the first fulfilment stands.
        if first_paid and (row.store, row.order_key) not in await session_queries.fulfilled_by(tx, [row]):
            await session_queries.fulfil_order(tx, row, self._now())
        await session_queries.insert_change(
            tx,
            row.id,
            revision=after.revision,
            at=self._now(),
            cause=cause,
            rule=rule,
            result=_result(after, row, events),
        )
        return replace(row, state=after, paid_at=paid_at if first_paid else row.paid_at)

    async def _tell(
        self,
        tx: AsyncConnection,
        row: SessionRow,
        events: Sequence[SessionEvent],
        credit_rows: Sequence[CreditRow],
        view: ChainView,
    ) -> None:
        chain = self._registry[row.chain]
        data = session_data(row, credit_rows, chain, view.head_height, row.paid_at)
        new = []
        for event in events:
            body = data
            if event.transfer_id is not None:
                body = {**data, "payment": next(p for p in data["payments"] if p["id"] == event.transfer_id)}
            new.append(NewEvent(event.type, row.id, event.ordinal, body, about=event.transfer_id or ""))
        await outbox.append_events(tx, new, store=row.store, created_at=self._now())

    async def _reserve_rest(self, tx: AsyncConnection, row: SessionRow, view: ChainView) -> None:
        """An underpaid session on a shared address gets an exact amount for the rest, with a tail of its own."""
        state, asset = row.state, row.asset
        if state.status is not Status.PENDING or not 0 < state.received_base < state.enough_base:
            return
        if state.rest_is_dust:
            return  # held for the merchant
        held = await reservation_queries.reservations_of(tx, row.id)
        if held[0].tail is None:
            return  # an address of its own: whatever comes there is this session's
        if any(r.is_rest_of(state.missing_base, asset) for r in held):
            return
        try:
            await self.reserve_tail(tx, row, state.missing_base, purpose="rest", view=view)
        except AmountSpaceFull:
            return  # the page then asks to complete the amount with the merchant's help; nothing is lost

    async def reserve_tail(
        self, tx: AsyncConnection, row: SessionRow, price_base: int, *, purpose: str, view: ChainView
    ) -> int:
        """Reserve a free tail on the session's address and answer the amount due with it (base units).

        ``price_base`` is the price, or what is missing of it where ``purpose`` is ``rest``. The database refuses a tail
        that somebody else took meanwhile; then another is tried.

        :raises AmountSpaceFull: if none is free.
        """
        now = self._now()
        for _ in range(_TAIL_TRIES):
            taken, released = await reservation_queries.taken_tails(tx, row.address_id, row.asset.id, now - _REST_SECS)
            amount = due_amount if purpose == "price" else rest_amount
            dues = await reservation_queries.unpaid_dues(tx, row.address_id, row.asset, price_base, now - RE_LET_SECS)
            ambiguous = {tail for tail, due in dues if amount(price_base, tail, row.asset) == due}
            restored_epoch = await self._restored_epoch(tx, row, now)
            tail = self._choose(price_base, row.asset, taken, ambiguous, released, restored_epoch)
            due_base = amount(price_base, tail, row.asset)
            try:
                async with tx.begin_nested():
                    await reservation_queries.insert_reservation(
                        tx, row, purpose=purpose, tail=tail, due_base=due_base, opened_at=now, height=view.head_height
                    )
            except IntegrityError:
                continue
            return due_base
        raise AmountSpaceFull

    async def _restored_epoch(self, tx: AsyncConnection, row: SessionRow, now: int) -> int | None:
        """The epoch, while a customer of a session that was lost with a restore may still pay its amount."""
        epoch = await load_epoch(tx)
        if epoch.restored_at is None:
            return None
        lived_secs = row.state.late_until - row.opened_at
        return epoch.number if now <= epoch.restored_at + lived_secs + RE_LET_SECS else None

    def _choose(
        self,
        price_base: int,
        asset: Asset,
        taken: set[int],
        ambiguous: set[int],
        released: Mapping[int, int],
        restored_epoch: int | None,
    ) -> int:
        """A free tail; an ambiguous one only where there is no other."""

        def last_released(tail: int) -> int:
            return released.get(tail, 0)

        try:
            return choose_tail(price_base, asset, taken | ambiguous, last_released, self._pick, restored_epoch)
        except AmountSpaceFull:
            return choose_tail(price_base, asset, taken, last_released, self._pick, restored_epoch)


async def _is_beyond_limit(tx: AsyncConnection, row: SessionRow) -> bool:
    """Whether the limited link's uses all went to others: an expired session has given its own back."""
    state = row.state
    holds_a_use = state.status in session_queries.USING_A_LINK and Flag.HELD not in state.flags
    if holds_a_use or state.announced:
        return False
    limit = await session_queries.max_uses_of(tx, row.link_id)
    return limit is not None and await session_queries.uses_of_link(tx, row.link_id, but=row.id) >= limit


def _credit(session: Session, row: CreditRow, chain: Chain, deep_enough: Depth, view: ChainView) -> Credit:
    transfer = row.transfer
    height = transfer.block_height
    mined = transfer.live and height is not None
    # What was confirmed stays so while its block is there: a further payment that lifts the session into another tier
    # must not take back what was delivered upon.
    depth = chain.confirmations if row.confirmed else deep_enough
    confirmed = mined and depth.reached(height or 0, view.head_height, view.final_height)
    return Credit(
        transfer_id=transfer.id,
        amount_base=transfer.amount_base,
        on_time=min(transfer.first_seen_at, transfer.block_time or transfer.first_seen_at) <= session.expires_at,
        too_late=_is_too_late(session, row, view),
        live=transfer.live,
        confirmed=confirmed,
        final=mined and chain.final.reached(height or 0, view.head_height, view.final_height),
        was_live=row.live,
        was_confirmed=row.confirmed,
        turns=row.turns,
    )


def _is_too_late(session: Session, row: CreditRow, view: ChainView) -> bool:
    """In no block by the end of what a session is held open for. Not where it was accepted before: by a person, or as
    paid, when a reorganisation has only put it into a later block."""
    if row.credited_by in _BY_A_PERSON or session.announced:
        return False
    return (row.transfer.block_time or view.time) > session.held_until


async def _save_told(tx: AsyncConnection, credit: Credit) -> None:
    told = credit.told()
    if told != credit:
        await transfer_queries.save_told(
            tx, credit.transfer_id, live=told.was_live, confirmed=told.was_confirmed, turns=told.turns
        )


def _why(change: Cancelled | Settled) -> tuple[str, str]:
    """Cause and rule, for the story, of what a person decided."""
    match change:
        case Cancelled(by):
            return f"cancelled by {by}", "nothing had been received"
        case Settled(by, note):
            return f"settled by {by}", f"settled by hand: {note}" if note else "settled by hand"
        case _:
            assert_never(change)


def _rule(before: Session, after: Session) -> str:
    """Why a look at the chain led to the status, in one sentence for the story."""
    if after.status is before.status:
        if after.received_base != before.received_base:
            return "the chain's payments for it changed"
        return "its flags or confirmations changed"
    match after.status:
        case Status.PAID:
            return "what is confirmed covers what was due"
        case Status.PROCESSING:
            return "what was received covers what was due; it waits for confirmations"
        case Status.EXPIRED:
            return "the chain has passed the end of the payment window, and less than what was due had come"
        case Status.PENDING:
            return "what is left on the chain no longer covers what was due"
        case Status.CANCELLED | Status.DRAFT:
            raise AssertionError("the chain leads to no such status")
        case _:
            assert_never(after.status)


def _conversion(row: SessionRow) -> str:
    """For the story: the rate, and what the rounding added. Empty for a price in the asset itself."""
    if row.quote is None:
        return ""
    found = convert(row.price, row.currency, row.quote, row.asset)
    whole_base = int(found.rounding_base)
    added = format_amount(whole_base, row.asset.decimals) + ("…" if whole_base < found.rounding_base else "")
    rounded = f"rounded up by {added}" if found.rounding_base else "without rounding"
    price = amount_text(row.price_base, row.asset)
    rate = row.quote.sentence(row.currency, row.asset)
    return f"; {row.price} {row.currency} at {rate} is {price} {row.asset.symbol}, {rounded}"


def _result(after: Session, row: SessionRow, events: Sequence[SessionEvent]) -> dict[str, object]:
    return {
        "status": after.status,
        "flags": sorted(after.flags),
        "due": amount_text(after.due_base, row.asset),
        "received": amount_text(after.received_base, row.asset),
        "confirmed": amount_text(after.confirmed_base, row.asset),
        "events": [event.type for event in events],
    }
