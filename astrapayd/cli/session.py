"""`astrapayd session`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrapayd.cli.common import emit_facts, emit_json, emit_table, fail, leaf, local_time, on_terminal, with_core
from astrapayd.cli.explain import print_story

if TYPE_CHECKING:
    from astrapayd.services.core import Core

STATUSES = ("draft", "pending", "processing", "paid", "expired", "cancelled")


@click.group()
def session() -> None:
    """Look at sessions: customers' attempts to pay a link."""


@session.command(
    "list",
    epilog="""\b
Examples:
  astrapayd session list --status pending
  astrapayd session list --store shop --json
""",
)
@click.option("--store", help="Only this store's.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those with this status.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@leaf
def list_(config_path: Path, as_json: bool, store: str | None, status: str | None, limit: int) -> None:
    """List sessions, the newest first."""
    from astrapayd.event_data import amount_text
    from astrapayd.services import sessions
    from astrapayd.sessions import Status

    async def work(core: Core) -> None:
        if store is not None:
            core.store(store)
        found = await sessions.list_sessions(core, store=store, status=Status(status) if status else None, limit=limit)
        if as_json:
            emit_json([await _data(core, row.id) for row in found])
            return
        emit_table(
            ("opened", "status", "flags", "due", "received", "code", "session"),
            (
                (
                    local_time(row.opened_at),
                    row.state.status,
                    " ".join(sorted(row.state.flags)) or "-",
                    f"{amount_text(row.state.due_base, row.asset)} {row.asset.symbol}",
                    amount_text(row.state.received_base, row.asset),
                    row.code,
                    row.id,
                )
                for row in found
            ),
            nothing="there is no such session",
        )

    with_core(config_path, work)


@session.command(
    epilog="""\b
Examples:
  astrapayd session show ses_k5ql2…          by its id
  astrapayd session show 7KQ2-M9XD           by the verification code that the customer reads out
"""
)
@click.argument("session_key", metavar="SESSION")
@leaf
def show(config_path: Path, as_json: bool, session_key: str) -> None:
    """Show one session and its whole story: every change with its time, cause, rule and result."""
    from astrapayd.services import sessions

    async def work(core: Core) -> None:
        session_id = await sessions.find_by_key(core, session_key)
        data, story = await _data(core, session_id), await sessions.story(core, session_id)
        if as_json:
            emit_json({**data, "story": story})
        else:
            _show(data, story)

    with_core(config_path, work)


@session.command(
    epilog="""\b
Examples:
  astrapayd session cancel ses_k5ql2…
"""
)
@click.argument("session_key", metavar="SESSION")
@leaf
def cancel(config_path: Path, as_json: bool, session_key: str) -> None:
    """Give a session up, while nothing was seen for it."""
    from astrapayd.services import sessions

    async def work(core: Core) -> None:
        session_id = await sessions.find_by_key(core, session_key)
        await sessions.cancel(core, session_id, by="the merchant")
        emit_json(await _data(core, session_id)) if as_json else click.echo(f"{session_id} is cancelled")

    with_core(config_path, work)


@session.command(
    epilog="""\b
Examples:
  astrapayd session settle 7KQ2-M9XD --note "paid in cash"
"""
)
@click.argument("session_key", metavar="SESSION")
@click.option("--note", required=True, help="Why; it stays in the session's story.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@leaf
def settle(config_path: Path, as_json: bool, session_key: str, note: str, yes: bool) -> None:
    """Call a session paid by hand, whatever came in. The shop is told as of any payment."""
    from astrapayd.services import sessions

    async def work(core: Core) -> None:
        session_id = await sessions.find_by_key(core, session_key)
        told = (await _data(core, session_id))["session"]
        if not yes:
            if not on_terminal():
                fail("--yes", "is needed where nobody can be asked: the shop will deliver")
            question = f"{told['received']} of {told['due']} {told['asset']['symbol']} was received. Call it paid?"
            click.confirm(question, abort=True)
        await sessions.settle(core, session_id, by="the merchant", note=note)
        emit_json(await _data(core, session_id)) if as_json else click.echo(f"{session_id} is paid")

    with_core(config_path, work)


async def _data(core: Core, session_id: str) -> dict[str, Any]:
    """A session as events tell it."""
    from astrapayd.event_data import session_data
    from astrapayd.services.sessions import find_session

    details = await find_session(core, session_id)
    row = details.row
    return session_data(row, details.credits, core.registry[row.chain], details.head_height, row.paid_at)


def _show(data: dict[str, Any], story: list[Any]) -> None:
    told = data["session"]
    symbol = told["asset"]["symbol"]
    emit_facts(
        [
            ("session", told["id"]),
            ("status", " ".join([told["status"], *told["flags"]])),
            ("code", told["code"]),
            ("price", f"{told['price']['amount']} {told['price']['currency']}"),
            ("due", f"{told['due']} {symbol} on {told['asset']['chain']}"),
            ("received", told["received"]),
            ("confirmed", told["confirmed"]),
            ("address", told["address"]),
            ("opened", told["opened_at"]),
            ("expires", told["expires_at"]),
            ("paid", told["paid_at"]),
            ("order", told["order"]),
            ("link", told["link"]),
        ]
    )
    for payment in data["payments"]:
        block = payment["block"]
        where = f"block {block['height']}, {payment['confirmations']} confirmations" if block else payment["state"]
        click.echo(f"\npayment {payment['id']}: {payment['amount']} {symbol}, {where}, by {payment['credited_by']}")
        click.echo(f"  {payment['tx']} #{payment['ordinal']} from {payment['from']}")
    print_story(story)
