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
"""
)
@leaf
def run(config_path: Path, as_json: bool) -> None:
    """Run the daemon until SIGTERM or Ctrl-C. Its log goes to stderr (--json: as JSON lines)."""
    from astrapayd.app import assemble, run_daemon
    from astrapayd.logs import configure

    assembly = assemble(config_path)
    log = assembly.core.config.log
    configure("json" if as_json else log.format, log.level)
    run_daemon(assembly)
