"""`python -m benchmarks`: prints a table and writes build/bench.json."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import bitcoin_blocks, decoding, latency, startup, tron_catch_up
from benchmarks.figures import Figure
from tests.nodes.harness import AnvilNode, EmbeddedNode, TestNode, running

OUTPUT = Path("build/bench.json")


async def measure() -> list[Figure]:
    """Everything, one after the other, so that nothing disturbs anything else."""
    figures = decoding.measure() + bitcoin_blocks.measure()
    figures += await tron_catch_up.measure()
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / name for name in ("embedded", "anvil")]
        for one in folders:
            one.mkdir()
        nodes: list[TestNode] = [EmbeddedNode(folders[0])]
        with contextlib.suppress(FileNotFoundError):  # not fetched: the embedded chain alone is measured
            nodes.append(AnvilNode(folders[1]))
        for node in nodes:
            async with running(node):
                if node is nodes[-1]:
                    figures += await startup.measure(node)
                figures += await latency.measure(node)
    return figures


def main() -> None:
    """Measure, print, write."""
    figures = asyncio.run(measure())
    print(f"{'figure':<52}{'value':>14} {'baseline':>14}   {'ratio':>7}  baseline is")
    for figure in figures:
        value, baseline = (f"{x:,.2f} {figure.unit}" for x in (figure.value, figure.baseline))
        print(f"{figure.name:<52}{value:>14} {baseline:>14}   {figure.ratio:>6.2f}×  {figure.baseline_name}")
    OUTPUT.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "system": platform.platform()}
    rows = [{**asdict(figure), "ratio": figure.ratio} for figure in figures]
    OUTPUT.write_text(json.dumps({"machine": machine, "figures": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
