"""`astrapayd run`."""

from __future__ import annotations

from pathlib import Path

import click

from astrapayd.cli.common import leaf


@click.command(
    epilog="""\b
Examples:
  astrapayd run
  astrapayd run --config /etc/astrapayd/astrapayd.toml
  astrapayd run --role web    pages only; other processes on the same PostgreSQL database do the rest
"""
)
@click.option(
    "--role",
    "roles",
    type=click.Choice(["watch", "web", "dispatch"]),
    multiple=True,
    help="What this process does; may be given several times. Default: everything. On PostgreSQL only.",
)
@leaf
def run(config_path: Path, as_json: bool, roles: tuple[str, ...]) -> None:
    """Run the daemon until SIGTERM or Ctrl-C. Its log goes to stderr (--json: as JSON lines)."""
    from astrapayd.app import Role, assemble, run_daemon
    from astrapayd.logs import configure

    assembly = assemble(config_path)
    log = assembly.core.config.log
    configure("json" if as_json else log.format, log.level)
    run_daemon(assembly, [Role(role) for role in roles] or tuple(Role))
