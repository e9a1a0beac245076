"""`astrapayd webhook`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from astrapayd.cli.common import emit_facts, emit_json, emit_table, leaf, local_time, with_core

if TYPE_CHECKING:
    from astrapayd.services.core import Core


@click.group()
def webhook() -> None:
    """Tell shops of events: endpoints and their deliveries."""


@webhook.command(
    epilog="""\b
Examples:
  astrapayd webhook add https://shop.example/hooks/astrapay
  astrapayd webhook add https://shop.example/hooks/astrapay --event session.paid --event session.reverted
"""
)
@click.argument("url")
@click.option("--store", default="", help="Only this store's events. Default: every store's.")
@click.option("--event", "event_types", multiple=True, help="Only this type (may be given again). Default: every type.")
@click.option("--description", default="", help="For you.")
@leaf
def add(config_path: Path, as_json: bool, url: str, store: str, event_types: tuple[str, ...], description: str) -> None:
    """Add an endpoint and print its secret, with which the shop verifies what it gets."""
    from astrapayd.services.endpoints import add_endpoint

    async def work(core: Core) -> None:
        made = await add_endpoint(core, url=url, store=store, description=description, event_types=event_types)
        if as_json:
            emit_json({"id": made.id, "url": made.url, "secret": made.secrets[0]})
        else:
            emit_facts([("endpoint", made.id), ("url", made.url), ("secret", made.secrets[0])])

    with_core(config_path, work)


@webhook.command(
    "list",
    epilog="""\b
Examples:
  astrapayd webhook list
""",
)
@leaf
def list_(config_path: Path, as_json: bool) -> None:
    """List the endpoints (without their secrets)."""
    from astrapayd.services.endpoints import list_endpoints

    async def work(core: Core) -> None:
        found = await list_endpoints(core)
        if as_json:
            emit_json(
                [
                    {
                        "id": e.id,
                        "url": e.url,
                        "store": e.store,
                        "event_types": list(e.event_types),
                        "active": e.active,
                        "description": e.description,
                    }
                    for e in found
                ]
            )
            return
        emit_table(
            ("endpoint", "store", "events", "state", "url"),
            (
                (e.id, e.store or "every", " ".join(e.event_types) or "every", "on" if e.active else "off", e.url)
                for e in found
            ),
            nothing="there is no endpoint yet: astrapayd webhook add makes one",
        )

    with_core(config_path, work)


@webhook.command(
    epilog="""\b
Examples:
  astrapayd webhook remove whk_…
"""
)
@click.argument("endpoint")
@leaf
def remove(config_path: Path, as_json: bool, endpoint: str) -> None:
    """Remove an endpoint; what still waits for it is not sent."""
    from astrapayd.services.endpoints import remove_endpoint

    async def work(core: Core) -> None:
        parked = await remove_endpoint(core, endpoint)
        if as_json:
            emit_json({"removed": endpoint, "parked": parked})
        else:
            click.echo(f"{endpoint} is removed; {parked} deliveries that waited for it are parked")

    with_core(config_path, work)


@webhook.command(
    epilog="""\b
Examples:
  astrapayd webhook enable whk_…
"""
)
@click.argument("endpoint")
@leaf
def enable(config_path: Path, as_json: bool, endpoint: str) -> None:
    """Use an endpoint again that was switched off by its answer 410. What was parked meanwhile goes by redeliver."""
    from astrapayd.services.endpoints import enable_endpoint

    async def work(core: Core) -> None:
        found = await enable_endpoint(core, endpoint)
        emit_json({"id": found.id, "active": found.active}) if as_json else click.echo(f"{endpoint} is in use")

    with_core(config_path, work)


@webhook.command(
    epilog="""\b
Examples:
  astrapayd webhook rotate whk_…          a new secret; from now on both sign
  astrapayd webhook rotate whk_… --end    the receiver has the new one: the old one signs no more
"""
)
@click.argument("endpoint")
@click.option("--end", is_flag=True, help="End the rotation: only the new secret signs.")
@leaf
def rotate(config_path: Path, as_json: bool, endpoint: str, end: bool) -> None:
    """Give an endpoint a new secret and print it. Until --end the old one signs too, so that nothing is missed."""
    from astrapayd.services.endpoints import end_rotation, rotate_secret

    async def work(core: Core) -> None:
        found = await (end_rotation if end else rotate_secret)(core, endpoint)
        if as_json:
            emit_json({"id": found.id, "secret": found.secrets[0], "secrets_in_use": len(found.secrets)})
        elif end:
            click.echo(f"{endpoint} is signed with its new secret only")
        else:
            emit_facts([("endpoint", found.id), ("new secret", found.secrets[0])])

    with_core(config_path, work)


@webhook.command(
    epilog="""\b
Examples:
  astrapayd webhook test whk_…
"""
)
@click.argument("endpoint")
@leaf
def test(config_path: Path, as_json: bool, endpoint: str) -> None:
    """Send a webhook.test event to an endpoint. The running daemon sends it within a second."""
    from astrapayd.services.endpoints import send_test

    async def work(core: Core) -> None:
        delivery = await send_test(core, endpoint)
        if as_json:
            emit_json({"delivery": delivery})
        else:
            click.echo(f"delivery {delivery} is on its way; see astrapayd webhook deliveries {endpoint}")

    with_core(config_path, work)


@webhook.command(
    epilog="""\b
Examples:
  astrapayd webhook deliveries whk_…
"""
)
@click.argument("endpoint")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@leaf
def deliveries(config_path: Path, as_json: bool, endpoint: str, limit: int) -> None:
    """Show an endpoint's deliveries, the newest first, with what the receiver answered."""
    from astrapayd.events import iso_time
    from astrapayd.services.endpoints import find_endpoint, list_deliveries

    async def work(core: Core) -> None:
        await find_endpoint(core, endpoint)
        found = await list_deliveries(core, endpoint_id=endpoint, limit=limit)
        if as_json:
            emit_json(
                [
                    {
                        "id": d.id,
                        "event": d.event_id,
                        "type": d.event_type,
                        "subject": d.subject,
                        "state": d.state,
                        "attempts": d.attempts,
                        "next_attempt_at": iso_time(d.next_attempt_at),
                    }
                    for d in found
                ]
            )
            return
        emit_table(
            ("delivery", "event", "state", "attempts", "next or last", "subject"),
            (
                (d.id, d.event_type, d.state, d.attempts, local_time(d.finished_at or d.next_attempt_at), d.subject)
                for d in found
            ),
            nothing="nothing was delivered there yet",
        )

    with_core(config_path, work)


@webhook.command(
    epilog="""\b
Examples:
  astrapayd webhook redeliver 4711 4712
  astrapayd webhook redeliver 4711 --forced    although the receiver has heard later news of the same session
"""
)
@click.argument("delivery", type=click.IntRange(1, 2**63 - 1), nargs=-1, required=True)
@click.option("--forced", is_flag=True, help="Also what later news have superseded.")
@leaf
def redeliver(config_path: Path, as_json: bool, delivery: tuple[int, ...], forced: bool) -> None:
    """Send deliveries again, the same bytes."""
    from dataclasses import asdict

    from astrapayd.services.endpoints import find_delivery
    from astrapayd.services.endpoints import redeliver as redeliver_service

    async def work(core: Core) -> None:
        result = asdict(await redeliver_service(core, list(delivery), forced=forced))
        if as_json:
            emit_json(result)
            return
        emit_facts((what.replace("_", " "), " ".join(map(str, ids))) for what, ids in result.items() if ids)

    async def checked(core: Core) -> None:
        for one in delivery:
            await find_delivery(core, one)
        await work(core)

    with_core(config_path, checked)
