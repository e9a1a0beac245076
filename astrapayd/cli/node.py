"""`astrapayd node`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astrapayd.cli.common import emit_json, leaf, with_core

if TYPE_CHECKING:
    from astrapayd.db.chains import ChainRow
    from astrapayd.services.chains import ChainNodes
    from astrapayd.services.core import Core


@click.group()
def node() -> None:
    """Look at the nodes."""


@node.command(
    epilog="""\b
Examples:
  astrapayd node status
  astrapayd node status --json
"""
)
@leaf
def status(config_path: Path, as_json: bool) -> None:
    """Ask every node who and where it is, and compare with the daemon. Exit code 1 if anything is wrong."""
    from dataclasses import replace

    from astrapayd.services.chains import ask_nodes, chain_states, levels

    async def work(core: Core) -> tuple[list[ChainNodes], dict[str, ChainRow]]:
        fresh = await levels(core)  # a daemon that ended may have left its last word behind
        return await ask_nodes(core), {row.id: replace(row, level=fresh[row.id]) for row in await chain_states(core)}

    asked, rows = with_core(config_path, work)
    if as_json:
        emit_json([_data(one, rows.get(one.chain.id)) for one in asked])
    else:
        for one in asked:
            _show(one, rows.get(one.chain.id))
    if any(one.problems for one in asked):
        sys.exit(1)


def _data(asked: ChainNodes, row: ChainRow | None) -> dict[str, object]:
    return {
        "chain": asked.chain.id,
        "network": asked.chain.network,
        "daemon": {
            "head": row.head_height if row else None,
            "level": bool(row and row.level),
            "looked_at": row.looked_at if row else None,
            "problem": row.problem if row else "",
        },
        "nodes": [
            {
                "node": n.node,
                "reachable": n.reachable,
                "client": n.client,
                "head": n.head.height if n.head else None,
                "final": n.final_height if n.final_height >= 0 else None,
                "syncing": n.syncing,
                "problems": list(n.problems),
            }
            for n in asked.nodes
        ],
    }


def _show(asked: ChainNodes, row: ChainRow | None) -> None:
    click.echo(click.style(f"{asked.chain.id} ({asked.chain.title}, {asked.chain.network})", bold=True))
    for n in asked.nodes:
        if n.head is None:
            click.echo(f"  {n.node}: " + "; ".join(n.problems or ("no answer",)))
            continue
        age_secs = max(0, int(time.time()) - n.head.time)
        final = f", final {n.final_height}" if n.final_height >= 0 else ""
        syncing = ", still syncing" if n.syncing else ""
        click.echo(f"  {n.node}: {n.client}, block {n.head.height} ({age_secs} s old){final}{syncing}")
        for problem in n.problems:
            click.echo(f"    {click.style('wrong:', fg='red')} {problem}")
    if row is None or row.head_height is None:
        click.echo("  daemon: has not followed this chain yet")
        return
    heads = [n.head.height for n in asked.nodes if n.head is not None]
    lag = f", {max(0, max(heads) - row.head_height)} behind" if heads else ""
    age_secs = int(time.time()) - row.looked_at
    state = f"looked {age_secs} s ago" if row.looked_at else "has not looked yet"
    click.echo(
        f"  daemon: block {row.head_height}{lag}, {state}, {'takes payments' if row.level else 'takes no payments'}"
    )
    if row.problem:
        click.echo(f"    {click.style('trouble:', fg='red')} {row.problem}")
