"""`astrapayd config`."""

from __future__ import annotations

from pathlib import Path

import click

from astrapayd.cli.common import Failed, emit_json, leaf


@click.group()
def config() -> None:
    """Check the configuration file."""


@config.command(
    epilog="""\b
Examples:
  astrapayd config check            everything that is wrong in the file
  astrapayd config check --nodes    and with the nodes that it names
"""
)
@click.option("--nodes", is_flag=True, help="Also ask every node: is it the right chain, are the tokens there?")
@leaf
def check(config_path: Path, as_json: bool, nodes: bool) -> None:
    """Report everything that is wrong in the file, with its key. Writes nothing."""
    import asyncio

    from astrapayd.app import assemble, unusable
    from astrapayd.services.chains import ask_nodes

    core = assemble(config_path).core
    if nodes:
        wrong = [line for asked in asyncio.run(ask_nodes(core)) for line in unusable(asked, first_start=True)]
        if wrong:
            raise Failed("StartError", [("", line) for line in wrong])
    counted = {"chains": len(core.config.chains), "assets": len(core.config.assets), "stores": len(core.config.stores)}
    if as_json:
        emit_json({"file": str(core.config.path), "ok": True, "notes": list(core.config.notes), **counted})
        return
    click.echo(f"{core.config.path} is in order: " + ", ".join(f"{n} {what}" for what, n in counted.items()))
    for note in core.config.notes:
        click.echo(f"note: {note}")
