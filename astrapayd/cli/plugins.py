"""`astrapayd plugins`."""

from __future__ import annotations

from pathlib import Path

import click

from astrapayd.cli.common import emit_json, emit_table, leaf


@click.command(
    epilog="""\b
Examples:
  astrapayd plugins
  astrapayd plugins --json
"""
)
@leaf
def plugins(config_path: Path, as_json: bool) -> None:
    """List the installed plugins, with their hooks, and what is wrong with those that cannot be used."""
    from astrapayd.plugins import PluginHost

    host = PluginHost()
    host.load_installed()
    rows = host.listing()
    if as_json:
        emit_json(
            [
                {"name": p.name, "version": p.version, "module": p.module, "hooks": p.hooks, "problem": p.problem}
                for p in rows
            ]
        )
        return
    emit_table(
        ("plugin", "version", "module", "hooks or problem"),
        (
            (p.name, p.version, p.module, p.problem or " ".join(h.removeprefix("astrapayd_") for h in p.hooks))
            for p in rows
        ),
        nothing="no plugin is installed",
    )
