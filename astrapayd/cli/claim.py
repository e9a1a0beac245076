"""`astrapayd claim`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrapayd.cli.common import emit_json, emit_lines, leaf, local_time, with_core
from astrapayd.cli.unmatched import session_json, session_line

if TYPE_CHECKING:
    from astrapayd.services.claims import ListedClaim
    from astrapayd.services.core import Core


@click.group()
def claim() -> None:
    """Decide about claims: customers who paid without matching, and say which transaction it was."""


@claim.command(
    "list",
    epilog="""\b
Examples:
  astrapayd claim list
  astrapayd claim list --status all --json
""",
)
@click.option("--store", help="Only this store's.")
@click.option(
    "--status",
    type=click.Choice(["open", "approved", "refused", "all"]),
    default="open",
    show_default=True,
    help="Only those with this status.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@leaf
def list_(config_path: Path, as_json: bool, store: str | None, status: str, limit: int) -> None:
    """List claims, the newest first. Contested: several sessions claim one transaction."""
    from astrapayd.claims import ClaimStatus
    from astrapayd.services.claims import list_claims

    async def work(core: Core) -> None:
        if store is not None:
            core.store(store)
        wanted = ClaimStatus(status) if status != "all" else None
        found = await list_claims(core, store=store, status=wanted, limit=limit)
        if as_json:
            emit_json([_json(core, one) for one in found])
        elif not found:
            click.echo("there is no such claim" if wanted is not ClaimStatus.OPEN else "no claim waits")
        for one in found if not as_json else ():
            _show(core, one)

    with_core(config_path, work)


@claim.command(
    epilog="""\b
Examples:
  astrapayd claim approve clm_t5r7u2…
  astrapayd claim approve clm_t5r7u2… --payment pay_w2k4m6… --note "sent us a screenshot of the withdrawal"
"""
)
@click.argument("claim_id", metavar="CLAIM")
@click.option("--payment", "payments", multiple=True, help="Which one, where the transaction holds several.")
@click.option("--note", default="", help="Why; it stays in the session's story.")
@leaf
def approve(config_path: Path, as_json: bool, claim_id: str, payments: tuple[str, ...], note: str) -> None:
    """Count the claimed payment for the session. Other claims on it are refused. The shop is told as of any payment."""
    from astrapayd.services.claims import approve

    async def work(core: Core) -> None:
        _, session = await approve(core, claim_id, by="the merchant", payments=payments, note=note)
        if as_json:
            emit_json({"claim": claim_id, "claim_status": "approved", **session_json(session)})
        else:
            click.echo(f"{claim_id} is approved, and its payment counted for {session_line(session)}")

    with_core(config_path, work)


@claim.command(
    epilog="""\b
Examples:
  astrapayd claim refuse clm_t5r7u2… --note "the payment is another customer's"
"""
)
@click.argument("claim_id", metavar="CLAIM")
@click.option("--note", required=True, help="Why; it stays with the claim.")
@leaf
def refuse(config_path: Path, as_json: bool, claim_id: str, note: str) -> None:
    """Refuse a claim. The payment stays unmatched; the customer can still prove it by a signature."""
    from astrapayd.services.claims import refuse

    async def work(core: Core) -> None:
        await refuse(core, claim_id, note=note)
        if as_json:
            emit_json({"claim": claim_id, "claim_status": "refused"})
        else:
            click.echo(f"{claim_id} is refused")

    with_core(config_path, work)


def _json(core: Core, one: ListedClaim) -> dict[str, Any]:
    from astrapayd.event_data import amount_text
    from astrapayd.events import iso_time

    claim, row = one.claim, one.session
    return {
        "id": claim.id,
        "status": claim.status,
        "store": claim.store,
        "tx": claim.tx,
        "contested": bool(one.rivals),
        "rivals": [{"id": c.id, "session": c.session_id, "status": c.status} for c in one.rivals],
        "session": row.id,
        "session_status": row.state.status,
        "code": row.code,
        "order": row.order_ref,
        "due": amount_text(row.state.due_base, row.asset),
        "received": amount_text(row.state.received_base, row.asset),
        "asset": row.asset.id,
        "payments": [
            {
                "id": t.id,
                "amount": amount_text(t.amount_base, core.registry.asset(t.asset)),
                "asset": t.asset,
                "from": core.registry[t.chain].display_address(t.sender),
                "standing": t.standing,
                "reason": t.reason,
            }
            for t in one.transfers
        ],
        "signed": bool(claim.proof),
        "note": claim.note,
        "created_at": iso_time(claim.created_at),
        "decided_at": iso_time(claim.decided_at) if claim.decided_at is not None else None,
    }


def _show(core: Core, one: ListedClaim) -> None:
    from astrapayd.event_data import amount_text

    claim, row = one.claim, one.session
    order = f", order {row.order_ref}" if row.order_ref else ""
    due = amount_text(row.state.due_base, row.asset)
    lines = [
        f"{claim.status}{', contested' if one.rivals else ''}, made {local_time(claim.created_at)}",
        f"for {row.id} {row.state.status}, due {due} {row.asset.symbol}, code {row.code}{order}",
        f"transaction {claim.tx}",
    ]
    for transfer in one.transfers:
        asset = core.registry.asset(transfer.asset)
        sender = core.registry[transfer.chain].display_address(transfer.sender)
        lines.append(
            f"{transfer.id}: {amount_text(transfer.amount_base, asset)} {asset.symbol} from {sender}, "
            f"{transfer.standing}: {transfer.reason}"
        )
    lines += [f"rival: {rival.id} for {rival.session_id}, {rival.status}" for rival in one.rivals]
    if claim.note:
        lines.append(f"note: {claim.note}")
    emit_lines(claim.id, lines)
