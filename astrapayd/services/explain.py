"""Why a session stands where it stands, in plain words: for whoever has the customer on the phone."""

from __future__ import annotations

from astrapayd.event_data import amount_text, confirmations
from astrapayd.events import iso_time
from astrapayd.services.core import Core
from astrapayd.services.sessions import SessionDetails
from astrapayd.sessions import Flag, Session, Status


def standing(core: Core, details: SessionDetails) -> str:
    """One or two sentences: what has come, what is waited for, and what a person can do."""
    row, state = details.row, details.row.state
    symbol = row.asset.symbol
    received, due = amount_text(state.received_base, row.asset), amount_text(state.due_base, row.asset)
    if Flag.HELD in state.flags:
        return f"{_why_held(state)}: astrapayd session settle {row.id} calls it paid."
    match state.status:
        case Status.PAID if Flag.MANUAL in state.flags:
            return f"It was settled by hand; {received} of {due} {symbol} had come."
        case Status.PAID if Flag.FINAL in state.flags:
            return f"It is paid, and the payment can no longer be taken back: {received} {symbol} came, {due} was due."
        case Status.PAID:
            return f"It is paid: {received} {symbol} came, {due} was due. It is watched until the payment is final."
        case Status.PROCESSING:
            return f"Enough has come ({received} of {due} {symbol}), and {_waits_for(core, details)}."
        case Status.PENDING if state.received_base:
            missing = amount_text(state.missing_base, row.asset)
            return f"{missing} {symbol} is missing: {received} of {due} has come. {_until(state)}"
        case Status.PENDING if not details.level:
            return f"Nothing has been seen, but the node lags behind its chain: see astrapayd doctor. {_until(state)}"
        case Status.PENDING:
            reverted = "What had come was taken back by the chain. " if Flag.REVERTED in state.flags else ""
            seen_to = f"Nothing of {due} {symbol} has come up to block {details.head_height}."
            return f"{reverted}{seen_to} {_until(state)}"
        case Status.EXPIRED:
            late = "still finds it" if details.head_height and core.now() <= state.late_until else "no longer finds it"
            return (
                f"The time was over at {iso_time(state.expires_at)} with {received} of {due} {symbol}. "
                f"A payment of exactly what was due {late} (late window until {iso_time(state.late_until)})."
            )
        case Status.CANCELLED:
            return "It was given up before anything was seen; a payment that comes all the same is held for you."
        case Status.DRAFT:
            return "The customer has not asked for an amount yet."


def _why_held(state: Session) -> str:
    if Flag.DUPLICATE in state.flags:
        return "It is held: another session of the same order was paid already"
    if Flag.LATE in state.flags:
        return "It is held: the payment came late"
    if state.rest_is_dust:
        return "It is held: what is missing is too little to be sent"
    if state.status is Status.CANCELLED:
        return "It is held: it was paid after it had been cancelled"
    return "It is held: the link's last use went to others"


def _waits_for(core: Core, details: SessionDetails) -> str:
    needed = core.ingest.books.confirmed_from(details.row, details.credits)
    live = [c.transfer for c in details.credits if c.transfer.live]
    if any(transfer.block_height is None for transfer in live):
        return "it waits for a block"
    if needed.blocks is None:
        return f"it waits until the chain calls its block final (final is block {details.final_height} now)"
    lowest = min((confirmations(transfer, details.head_height) for transfer in live), default=0)
    return f"it waits for confirmations: {lowest} of {needed.blocks}"


def _until(state: Session) -> str:
    return f"It can be paid until {iso_time(state.expires_at)}."
