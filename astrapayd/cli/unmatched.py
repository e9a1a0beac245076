"""`astrapayd unmatched`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrapayd.cli.common import emit_json, emit_lines, leaf, local_time, with_core
from astrapayd.cli.payment import payment_json

if TYPE_CHECKING:
    from astrapayd.db.sessions import SessionRow
    from astrapayd.services.core import Core
    from astrapayd.services.unmatched import Unsorted
    from astrapayd.sessions import Session


@click.group()
def unmatched() -> None:
    """Sort what came in and no rule could credit: assigned, dismissed, or your own money."""


@unmatched.command(
    "list",
    epilog="""\b
Examples:
  astrapayd unmatched list                          each with the likeliest sessions, and who claims it
  astrapayd unmatched list --standing dismissed     what was set aside, to undo it
""",
)
@click.option("--store", help="Only this store's.")
@click.option(
    "--standing",
    type=click.Choice(["unmatched", "dismissed", "own"]),
    default="unmatched",
    show_default=True,
    help="Those still to be sorted, or those set aside.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@leaf
def list_(config_path: Path, as_json: bool, store: str | None, standing: str, limit: int) -> None:
    """List payments that belong to no session, the newest first."""
    from astrapayd.services.unmatched import list_unmatched

    async def work(core: Core) -> None:
        if store is not None:
            core.store(store)
        found = await list_unmatched(core, store=store, standing=standing, limit=limit)
        if as_json:
            emit_json([_json(core, one) for one in found])
        elif not found:
            click.echo("nothing is unmatched" if standing == "unmatched" else f"nothing is {standing}")
        for one in found if not as_json else ():
            _show(core, one)

    with_core(config_path, work)


@unmatched.command(
    epilog="""\b
Examples:
  astrapayd unmatched assign pay_w2k4m6… 7KQ2-M9XD
  astrapayd unmatched assign pay_w2k4m6… ses_c4ebtx… --note "wrote to us from his account"
"""
)
@click.argument("payment_id", metavar="PAYMENT")
@click.argument("session_key", metavar="SESSION")
@click.option("--note", default="", help="Why; it stays in the session's story.")
@leaf
def assign(config_path: Path, as_json: bool, payment_id: str, session_key: str, note: str) -> None:
    """Count a payment for a session (by its id or verification code). The shop is told as of any payment."""
    from astrapayd.services.sessions import find_by_key
    from astrapayd.services.unmatched import assign

    async def work(core: Core) -> None:
        session = await assign(core, payment_id, await find_by_key(core, session_key), by="the merchant", note=note)
        if as_json:
            emit_json({"payment": payment_id, **session_json(session)})
        else:
            click.echo(f"{payment_id} is counted for {session_line(session)}")

    with_core(config_path, work)


@unmatched.command(
    epilog="""\b
Examples:
  astrapayd unmatched dismiss pay_w2k4m6… --note "a donation"
"""
)
@click.argument("payment_id", metavar="PAYMENT")
@click.option("--note", required=True, help="Why; it stays with the payment.")
@leaf
def dismiss(config_path: Path, as_json: bool, payment_id: str, note: str) -> None:
    """Set a payment aside that is no customer's. Claims on it are refused."""
    from astrapayd.services.unmatched import dismiss

    _set(config_path, as_json, payment_id, "dismissed", lambda core: dismiss(core, payment_id, note=note))


@unmatched.command(
    epilog="""\b
Examples:
  astrapayd unmatched own pay_w2k4m6… --note "swept from the old wallet"
"""
)
@click.argument("payment_id", metavar="PAYMENT")
@click.option("--note", default="", help="Why; it stays with the payment.")
@leaf
def own(config_path: Path, as_json: bool, payment_id: str, note: str) -> None:
    """Say that a payment is your own money: a sweep of other addresses, or change. Claims on it are refused."""
    from astrapayd.services.unmatched import mark_own

    _set(config_path, as_json, payment_id, "own", lambda core: mark_own(core, payment_id, note=note))


@unmatched.command(
    epilog="""\b
Examples:
  astrapayd unmatched undo pay_w2k4m6…
"""
)
@click.argument("payment_id", metavar="PAYMENT")
@leaf
def undo(config_path: Path, as_json: bool, payment_id: str) -> None:
    """Take back that a payment was dismissed or called your own: it is unmatched again."""
    from astrapayd.services.unmatched import take_back

    _set(config_path, as_json, payment_id, "unmatched", lambda core: take_back(core, payment_id))


def session_json(session: Session) -> dict[str, Any]:
    """What became of a session that something was counted for."""
    return {"session": session.id, "status": session.status, "flags": sorted(session.flags)}


def session_line(session: Session) -> str:
    """The same for a person, with what is left to decide."""
    from astrapayd.sessions import Flag

    status = " ".join([session.status, *sorted(session.flags)])
    more = f": astrapayd session settle {session.id} calls it paid" if Flag.HELD in session.flags else ""
    return f"{session.id}, which is now {status}{more}"


def _set(
    config_path: Path, as_json: bool, payment_id: str, standing: str, change: Callable[[Core], Awaitable[None]]
) -> None:
    async def work(core: Core) -> None:
        await change(core)
        if as_json:
            emit_json({"payment": payment_id, "standing": standing})
        else:
            click.echo(f"{payment_id} is {'your own money' if standing == 'own' else standing}")

    with_core(config_path, work)


def _json(core: Core, one: Unsorted) -> dict[str, Any]:
    told = payment_json(core, one.payment)
    told["candidates"] = [
        {"session": c.session_id, "reason": c.reason, **_session_now(one.sessions.get(c.session_id))}
        for c in one.payment.transfer.candidates
    ]
    told["claims"] = [{"id": c.id, "session": c.session_id, "status": c.status} for c in one.claims]
    return told


def _session_now(row: SessionRow | None) -> dict[str, Any]:
    from astrapayd.event_data import amount_text

    if row is None:
        return {}
    due = amount_text(row.state.due_base, row.asset)
    return {"status": row.state.status, "due": due, "code": row.code, "order": row.order_ref}


def _show(core: Core, one: Unsorted) -> None:
    from astrapayd.event_data import amount_text

    transfer = one.payment.transfer
    asset, chain = core.registry.asset(transfer.asset), core.registry[transfer.chain]
    amount, address = amount_text(transfer.amount_base, asset), chain.display_address(one.payment.address)
    block = f"block {transfer.block_height}" if transfer.block_height is not None else transfer.state
    lines = [
        f"{amount} {asset.symbol}, {chain.title} {block}, {local_time(transfer.first_seen_at)}",
        f"to {address} of {one.payment.store}, from {chain.display_address(transfer.sender)}",
        f"transaction {transfer.tx}",
        f"why: {transfer.reason}",
    ]
    if transfer.note:
        lines.append(f"note: {transfer.note}")
    for place, candidate in enumerate(transfer.candidates, 1):
        lines.append(f"{place}. {_candidate(one.sessions.get(candidate.session_id), candidate.session_id)}")
        lines.append(f"   {candidate.reason}")
    waiting = [claim for claim in one.claims if claim.status == "open"]
    lines += [
        f"claimed{' (contested)' if len(waiting) > 1 else ''} by "
        f"{_candidate(one.sessions.get(claim.session_id), claim.session_id)}: {claim.id}"
        for claim in waiting
    ]
    emit_lines(transfer.id, lines)


def _candidate(row: SessionRow | None, session_id: str) -> str:
    from astrapayd.event_data import amount_text

    if row is None:
        return session_id
    order = f", order {row.order_ref}" if row.order_ref else ""
    due = f"{amount_text(row.state.due_base, row.asset)} {row.asset.symbol}"
    return f"{session_id} {row.state.status}, due {due}, code {row.code}{order}"
