"""`astrapayd payment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrapayd.cli.common import emit_json, emit_table, leaf, local_time, with_core

if TYPE_CHECKING:
    from astrapayd.services.core import Core
    from astrapayd.services.payments import Payment


@click.group()
def payment() -> None:
    """Look at what came in."""


@payment.command(
    "list",
    epilog="""\b
Examples:
  astrapayd payment list
  astrapayd payment list --unmatched     what no rule could credit: with the likeliest sessions
""",
)
@click.option("--store", help="Only this store's.")
@click.option("--unmatched", is_flag=True, help="Only what is credited to no session.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@leaf
def list_(config_path: Path, as_json: bool, store: str | None, unmatched: bool, limit: int) -> None:
    """List every transfer to the stores' addresses, the newest first."""
    from astrapayd.event_data import amount_text
    from astrapayd.services.payments import list_payments

    async def work(core: Core) -> None:
        if store is not None:
            core.store(store)
        standing = "unmatched" if unmatched else None
        found = await list_payments(core, store=store, standing=standing, limit=limit)
        if as_json:
            emit_json([payment_json(core, p) for p in found])
            return
        emit_table(
            ("first seen", "amount", "state", "session or reason", "transaction"),
            (
                (
                    local_time(p.transfer.first_seen_at),
                    f"{amount_text(p.transfer.amount_base, asset)} {asset.symbol}",
                    p.transfer.state,
                    p.session_id or f"{p.transfer.standing}: {p.transfer.note or p.transfer.reason}",
                    p.transfer.tx,
                )
                for p in found
                for asset in (core.registry.asset(p.transfer.asset),)
            ),
            nothing="nothing has come in yet" if not unmatched else "nothing is unmatched",
        )

    with_core(config_path, work)


def payment_json(core: Core, payment: Payment) -> dict[str, Any]:
    """A payment as every command prints it."""
    from astrapayd.event_data import amount_text, block_data
    from astrapayd.events import iso_time

    transfer, chain = payment.transfer, core.registry[payment.transfer.chain]
    return {
        "id": transfer.id,
        "store": payment.store,
        "amount": amount_text(transfer.amount_base, core.registry.asset(transfer.asset)),
        "asset": transfer.asset,
        "tx": transfer.tx,
        "kind": transfer.kind,
        "ordinal": transfer.ordinal,
        "address": chain.display_address(payment.address),
        "from": chain.display_address(transfer.sender),
        "state": transfer.state,
        "block": block_data(transfer),
        "first_seen_at": iso_time(transfer.first_seen_at),
        "standing": transfer.standing,
        "reason": transfer.reason,
        "note": transfer.note,
        "session": payment.session_id,
        "credited_by": payment.credited_by,
        "candidates": [{"session": c.session_id, "reason": c.reason} for c in transfer.candidates],
    }
