"""`astrapayd demo`: a whole shop on a chain of its own, fresh at each start."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import tempfile
from pathlib import Path

import click


@click.command(
    "demo",
    epilog="""\b
Examples:
  astrapayd demo                     run the shop and print its page
  astrapayd demo --port 9000         on another port
  astrapayd demo --selftest --json   pay once, check everything, print the timings
""",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8420, show_default=True, help="Port of the shop's page.")
@click.option("--selftest", is_flag=True, help="Pay once from link to signed webhook, print the timings, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--verbose", is_flag=True, help="Show the daemon's log.")
def demo(port: int, selftest: bool, as_json: bool, verbose: bool) -> None:
    """Run a whole shop on an embedded chain: nothing to install, nothing of worth, nothing kept.

    Prints the address of a payment link. Below its payment page a demo wallet pays exactly, short, too much, twice, too
    late, and reorganises the payment away.
    """
    from astrapayd.logs import configure

    from .surroundings import DemoError

    configure("auto", "info" if verbose else "warning")
    try:
        if selftest:
            from .selftest import run_selftest

            result = asyncio.run(run_selftest())
            click.echo(json.dumps(result) if as_json else _as_text(result))
        else:
            asyncio.run(_run(port, as_json))
    except DemoError as error:
        click.echo(json.dumps({"error": str(error)}) if as_json else f"astrapayd demo: {error}", err=not as_json)
        sys.exit(1)


async def _run(port: int, as_json: bool) -> None:
    from astrapayd.app import Daemon, StartError, assemble, prepare_database
    from astrapayd.links import LinkDraft
    from astrapayd.services.links import create_link, link_url

    from .customer import NAME, DemoCustomer
    from .surroundings import STORE, DemoError, demo_chain, free_port, wait_until_open, write_configuration

    if not _is_free(port):
        raise DemoError(f"port {port} is taken: choose another with --port")
    with tempfile.TemporaryDirectory(prefix="astrapayd-demo-") as folder:
        async with demo_chain() as chain:
            path = write_configuration(
                Path(folder), chain, public=f"127.0.0.1:{port}", admin=f"127.0.0.1:{free_port()}", webhooks=False
            )
            assembly = assemble(path, plugins={NAME: DemoCustomer(chain.url, chain.usdt)})
            await prepare_database(assembly.core, may_upgrade=True)
            draft = LinkDraft(
                store=STORE,
                title="One kilo of coffee, freshly roasted",
                description="Whole beans from a roastery that does not exist.",
                price="25.00",
                currency="USDT",
                slug="coffee",
            )
            link = await create_link(assembly.core, draft, source="demo")
            url = link_url(assembly.core, link)
            daemon = Daemon(assembly)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, daemon.stop)

            async def announce() -> None:
                await listening.wait()
                await wait_until_open(assembly.core)
                if as_json:
                    click.echo(json.dumps({"url": url, "node": chain.url}))
                else:
                    click.echo(f"The shop is open: {url}")
                    click.echo("Pay there with the demo wallet below the page. Ctrl-C ends it.")

            listening = asyncio.Event()
            announcing = asyncio.create_task(announce())
            try:
                await daemon.run(ready=listening.set)
            except StartError as error:
                raise DemoError(str(error)) from error
            finally:
                announcing.cancel()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _as_text(result: dict[str, object]) -> str:
    timings = result["seconds"]
    assert isinstance(timings, dict)
    lines = [f"{name.replace('_', ' '):<40}{value:8.3f} s" for name, value in timings.items()]
    return "\n".join(["Paid once, from link to signed webhook:", *lines])
