"""What came in and no rule could credit: looked through by the merchant, who says what each payment is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db import claims as claim_queries
from astrapayd.db import sessions as session_queries
from astrapayd.db import transfers as transfer_queries
from astrapayd.db.claims import ClaimRow
from astrapayd.db.sessions import SessionRow
from astrapayd.db.transfers import TransferRow
from astrapayd.matching import CreditReason
from astrapayd.services.core import Core, NotFound
from astrapayd.services.crediting import Decision, close_claims, count_for, hold_chain
from astrapayd.services.payments import Payment, list_payments
from astrapayd.sessions import Session, Status

SORTED_BY_HAND = ("dismissed", "own")


class NotSortable(Exception):
    """The payment cannot be sorted so. The message is one sentence that says what can be done instead."""


@dataclass(frozen=True, slots=True)
class Unsorted:
    """A payment that no session has, with the sessions that it may be meant for as they are now, and its claims."""

    payment: Payment
    sessions: Mapping[str, SessionRow]
    claims: tuple[ClaimRow, ...]


async def list_unmatched(
    core: Core, *, store: str | None = None, standing: str = "unmatched", limit: int = 50
) -> list[Unsorted]:
    """The newest first. ``standing`` is ``unmatched``, ``dismissed`` or ``own``."""
    payments = await list_payments(core, store=store, standing=standing, limit=limit)
    found = []
    async with core.database.read() as connection:
        for payment in payments:
            transfer = payment.transfer
            claims = await claim_queries.claims_on(connection, transfer.chain, [transfer.tx])
            wanted = {c.session_id for c in transfer.candidates} | {c.session_id for c in claims}
            rows = await session_queries.load_sessions(connection, wanted, core.registry)
            found.append(Unsorted(payment, rows, tuple(claims)))
    return found


async def assign(core: Core, payment_id: str, session_id: str, *, by: str, note: str = "") -> Session:
    """Count an unmatched payment for a session, on the merchant's word; answers the session as it is then.

    :raises NotFound: if there is no such payment or session.
    :raises NotSortable: if it is credited or set aside already, gone from the chain, of another store or asset, or the
        session is a draft.
    """
    async with core.database.write() as tx:
        transfer, store = await _hold(tx, payment_id)
        rows = await session_queries.load_sessions(tx, [session_id], core.registry, lock=True)
        if session_id not in rows:
            raise NotFound(f"there is no session {session_id!r}")
        row = rows[session_id]
        await _refuse_sorted(tx, transfer)
        _refuse_unfit(core, transfer, store, row)
        rule = f"{payment_id} was assigned by hand" + (f": {note}" if note else "")
        return await count_for(core, tx, row, [transfer], Decision(CreditReason.MANUAL, f"assigned by {by}", rule))


async def dismiss(core: Core, payment_id: str, *, note: str) -> None:
    """Set an unmatched payment aside: it is no customer's. Its open claims are refused.

    :raises NotFound: if there is no such payment.
    :raises NotSortable: if it is credited or set aside already.
    """
    await _set_aside(core, payment_id, "dismissed", note)


async def mark_own(core: Core, payment_id: str, *, note: str = "") -> None:
    """Say that it is the merchant's own money: a sweep of other addresses, or the change of a payment.

    :raises NotFound: if there is no such payment.
    :raises NotSortable: if it is credited or set aside already.
    """
    await _set_aside(core, payment_id, "own", note)


async def take_back(core: Core, payment_id: str) -> None:
    """Take back a dismissal, or that it is the merchant's own: it is unmatched again.

    :raises NotFound: if there is no such payment.
    :raises NotSortable: if it was not set aside.
    """
    async with core.database.write() as tx:
        transfer, _ = await _hold(tx, payment_id)
        if transfer.standing not in SORTED_BY_HAND:
            raise NotSortable(f"{payment_id} is {transfer.standing}: only what was dismissed or called own is undone")
        await transfer_queries.sort_by_hand(tx, payment_id, "unmatched", "")


async def _set_aside(core: Core, payment_id: str, standing: str, note: str) -> None:
    async with core.database.write() as tx:
        transfer, _ = await _hold(tx, payment_id)
        await _refuse_sorted(tx, transfer)
        await transfer_queries.sort_by_hand(tx, payment_id, standing, note)
        why = f"the payment was set aside as {standing}"
        await close_claims(core, tx, transfer.chain, [transfer.tx], given_to=None, note=why)


async def _hold(tx: AsyncConnection, payment_id: str) -> tuple[TransferRow, str]:
    """The payment with its store, as it is while nothing else on its chain changes."""
    found = await transfer_queries.load_transfer(tx, payment_id)
    if found is not None:
        await hold_chain(tx, found[0].chain)
        found = await transfer_queries.load_transfer(tx, payment_id)
    if found is None:
        raise NotFound(f"there is no payment {payment_id!r}: astrapayd unmatched list shows their ids (pay_…)")
    return found


async def _refuse_sorted(tx: AsyncConnection, transfer: TransferRow) -> None:
    if transfer.standing == "unmatched":
        return
    credited = await transfer_queries.session_credited_with(tx, transfer.id)
    if credited is not None:
        raise NotSortable(f"{transfer.id} is counted for session {credited[0]} already (by {credited[1]})")
    what = "the merchant's own" if transfer.standing == "own" else "dismissed"
    because = f" ({transfer.note})" if transfer.note else ""
    raise NotSortable(f"{transfer.id} is {what}{because}: astrapayd unmatched undo {transfer.id} takes that back first")


def _refuse_unfit(core: Core, transfer: TransferRow, store: str, row: SessionRow) -> None:
    if row.store != store:
        raise NotSortable(f"{transfer.id} came to store {store!r}, but {row.id} is a session of store {row.store!r}")
    if row.asset.id != transfer.asset:
        came = core.registry.asset(transfer.asset)
        raise NotSortable(
            f"{came.symbol} on {came.chain} came, but {row.id} is in {row.asset.symbol} on {row.asset.chain}: if you "
            f"take it all the same, astrapayd session settle {row.id} calls that paid, and astrapayd unmatched dismiss "
            f"{transfer.id} puts this aside"
        )
    if row.state.status is Status.DRAFT:
        raise NotSortable(f"{row.id} is a draft: nothing is due for it before the customer has opened it")
    if not transfer.live:
        raise NotSortable(
            f"{transfer.id} is not on the chain at the moment ({transfer.state}): assign it when it is mined again"
        )
