"""Runs the scenario once undisturbed, then once for each point with the process ended there, and compares.

``python -m tests.faults.run [--sample] [--seed N] [--report FILE]``. The whole are all points; the sample is every
commit, every hook call, and a seeded tenth of the rest. Every run is a fork of this process,
which has imported everything and holds no thread, loop or connection.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version
from typing import Any

import structlog

from tests.faults.outcome import differences, faults_of_delivery, outcome
from tests.faults.process import Points, live, prepare
from tests.soak.histories import MEMORY, commit

SAMPLED = 10  # one statement in so many


@dataclass(frozen=True)
class Undisturbed:
    """What the run without a kill leaves, and the kinds of its points in order."""

    outcome: dict[str, list[Any]]
    kinds: list[str]


def forked(work: Callable[[], None]) -> int:
    """Run in a process of its own; answers the exit code, negative for a signal."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_a_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """For :func:`forked`."""
    return lambda: asyncio.run(work())


def run_undisturbed(folder: Path) -> Undisturbed:
    """The run that the others are compared with."""

    async def whole() -> None:
        points = Points()
        await live(folder, points)
        (folder / "points.txt").write_text("\n".join(points.kinds))

    assert forked(in_a_loop(whole)) == 0
    assert not faults_of_delivery(folder)
    return Undisturbed(outcome(folder), (folder / "points.txt").read_text().split("\n"))


def kill_at(point: int, prepared: Path, folder: Path, undisturbed: Undisturbed) -> list[str]:
    """End the process at a point, start it again, and say what is different."""
    shutil.copytree(prepared, folder)
    try:
        code = forked(in_a_loop(lambda: live(folder, Points(last=point))))
        # Calls end in any order, so a run has a few points more or less: one of the very last may not be reached.
        at_the_end = point > 0.99 * len(undisturbed.kinds)
        if code != -signal.SIGKILL and not (code == 0 and at_the_end):
            return [f"it was not ended: exit code {code}"]
        code = forked(in_a_loop(lambda: live(folder, Points())))
        if code != 0:
            return [f"started again, it failed: exit code {code}"]
        return differences(outcome(folder), undisturbed.outcome) + faults_of_delivery(folder)
    finally:
        shutil.rmtree(folder)


def chosen(kinds: list[str], *, sample: bool, seed: int) -> list[int]:
    """The points, counted from 1, at which the process is ended."""
    chance = random.Random(seed)
    picked = []
    for number, kind in enumerate(kinds, 1):
        match kind:
            case "commit" | "hook call":
                share = 1
            case "statement" | "statement done":  # a tenth of the statements, each before or after
                share = 2 * SAMPLED
            case _:
                share = SAMPLED
        if not sample or chance.randrange(share) == 0:
            picked.append(number)
    return picked


def killed_at_each(points: list[int], jobs: int, root: Path, undisturbed: Undisturbed) -> list[str]:
    """In so many processes beside each other; answers what was different."""
    workers = {}
    for job in range(jobs):
        mine = points[job::jobs]
        file = root / f"faults-{job}.txt"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _worker(mine, root, root / f"run-{job}", file, undisturbed)
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        workers[child] = file
    found = []
    for child, file in workers.items():
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            found.append("a worker failed")
        found += file.read_text().splitlines()
    return found


def _worker(points: list[int], root: Path, folder: Path, file: Path, undisturbed: Undisturbed) -> None:
    begun = time.monotonic()
    with file.open("w") as faults:
        for done, point in enumerate(points, 1):
            for one in kill_at(point, root / "prepared", folder, undisturbed):
                print(f"point {point} ({undisturbed.kinds[point - 1]}): {one}", file=faults, flush=True)
            if done % 100 == 0:
                print(f"{folder.name}: {done}/{len(points)}, {time.monotonic() - begun:.0f} s", flush=True)


def main() -> int:
    """See the module."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--sample", action="store_true")
    asked.add_argument("--seed", type=int, default=20261124)
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--report", type=Path, default=Path("build/soak/faults.md"))
    given = asked.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    begun = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="astrapayd-faults-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        prepared = root / "prepared"
        prepared.mkdir()
        assert forked(in_a_loop(lambda: prepare(prepared))) == 0
        shutil.copytree(prepared, root / "undisturbed")
        undisturbed = run_undisturbed(root / "undisturbed")
        points = chosen(undisturbed.kinds, sample=given.sample, seed=given.seed)
        killed = Counter(undisturbed.kinds[point - 1] for point in points)
        failures = killed_at_each(points, given.jobs, root, undisturbed)
    finally:
        shutil.rmtree(root)
    text = _report(undisturbed, killed, failures, given, time.monotonic() - begun)
    given.report.parent.mkdir(parents=True, exist_ok=True)
    given.report.write_text(text)
    print(text)
    return 1 if failures or not points else 0


def _report(
    undisturbed: Undisturbed, killed: Counter[str], failures: list[str], given: argparse.Namespace, took: float
) -> str:
    there = Counter(undisturbed.kinds)
    events = len(undisturbed.outcome["events"])
    statuses = Counter(row["status"] for row in undisturbed.outcome["sessions"])
    became = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    return "\n".join(
        [
            "# The process ended at every point of a scenario",
            "",
            f"- ended: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {'a sample' if given.sample else 'the whole'}",
            f"- commit: {commit()}",
            f"- machine: {platform.machine()} {platform.system()}, {os.cpu_count()} cores, Python {python_version()}",
            f"- scenario: 20 payments and a reorganisation; {events} events; sessions: {became}",
            f"- kills: {sum(killed.values()):,}, each by SIGKILL, each started again and compared; took {took:.0f} s",
            f"- differences from the undisturbed run: {len(failures)}",
            "",
            "| point | in the scenario | killed there |",
            "| --- | ---: | ---: |",
            *(f"| {kind} | {count:,} | {killed[kind]:,} |" for kind, count in sorted(there.items())),
            "",
            *(f"- {failure}" for failure in failures),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
