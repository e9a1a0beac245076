"""Runs generated histories in parts, each with a seed of its own, and counts what they came to.

``python -m tests.soak.histories --histories 100000 --seed 1 --jobs 2 [--engine] [--hours H]``: ends after so many
histories, or after so many hours where that comes first (``--with-engine``: half of them on a database). A failure is
kept with its history and its seed, and the next part goes on. The report is Markdown; the exit code says whether
anything failed.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.histories import STEPS, Histories

PART = {"pure": 1_000, "engine": 50}
NO_END = 10**9
REPORTS = Path("build/soak")
MEMORY = Path("/dev/shm")  # a disk's fsync would be most of the time


@dataclass
class Outcome:
    """One part, or all of them together."""

    asked: int = 0
    histories: int = 0
    secs: float = 0.0
    seeds: list[int] = field(default_factory=list)
    came_to: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, part: Outcome) -> None:
        """Count a part in."""
        self.asked += part.asked
        self.histories += part.histories
        self.secs += part.secs
        self.seeds += part.seeds
        self.came_to += part.came_to
        self.failures += part.failures


def run_part(kind: str, number: int, histories: int) -> Outcome:
    """So many histories from this seed; a failure ends the part."""
    gc.set_threshold(100_000, 50, 50)  # histories are short-lived
    counted: Counter[str] = Counter()
    machine = _machine(kind)

    class Counting(machine):  # type: ignore[valid-type, misc]
        def teardown(self) -> None:
            super().teardown()
            counted.update(self.came_to())

    seeded = seed(number)(Counting)
    begun, failures = time.monotonic(), []
    try:
        run_state_machine_as_test(
            seeded,
            settings=settings(
                max_examples=histories,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
    except BaseException as error:  # whatever it is belongs into the report
        if isinstance(error, KeyboardInterrupt):
            raise
        failures.append(f"seed {number}\n\n{''.join(traceback.format_exception(error))}")
    return Outcome(
        0 if failures else histories, counted["histories"], time.monotonic() - begun, [number], counted, failures
    )


def _machine(kind: str) -> type[Histories]:
    if kind == "pure":
        return Histories
    from tests.property.on_a_database import OnADatabase

    return OnADatabase


def run(kind: str, *, histories: int, hours: float, first_seed: int, jobs: int) -> tuple[Outcome, float, bool]:
    """All parts; the time that it took, and whether it ran to its end."""
    begun, part = time.monotonic(), min(PART[kind], histories)
    parts = -(-histories // part)
    total, given, ended = Outcome(), 0, 0
    waiting: set[Future[Outcome]] = set()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, max_tasks_per_child=5) as pool:
        while True:
            in_time = time.monotonic() - begun < hours * 3600
            while given < parts and len(waiting) < jobs and in_time:
                waiting.add(pool.submit(run_part, kind, first_seed + given, part))
                given += 1
            if not waiting:
                break
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for one in done:
                total.add(one.result())
                ended += 1
            took = time.monotonic() - begun
            print(f"{ended}/{parts} parts, {total.histories} histories, {len(total.failures)} failed, {took:.0f} s")
            sys.stdout.flush()
    return total, time.monotonic() - begun, ended == parts


def commit() -> str:
    """What was tested, as git names it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    said = subprocess.run([git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def report(kind: str, total: Outcome, took: float, *, whole: bool, jobs: int) -> str:
    """What was run, on what, and what it found."""
    what = {"pure": "the pure core (no database)", "engine": "a database"}[kind]
    lines = [
        f"# Generated histories of {what}",
        "",
        f"- ended: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {'whole' if whole else 'cut short by its time'}",
        f"- commit: {commit()}",
        f"- machine: {platform.machine()} {platform.system()}, {os.cpu_count()} cores, Python {python_version()}",
        f"- histories: {total.asked:,} passed, of up to {STEPS} rules each ({total.histories:,} runs in all)",
        f"- took: {took:.0f} s with {jobs} processes",
        f"- seeds: {min(total.seeds)} to {max(total.seeds)}, one for each part of up to {PART[kind]:,}",
        f"- failures: {len(total.failures)}",
        "",
        "What they came to (histories in which it occurred):",
        "",
        "| | histories |",
        "| --- | ---: |",
        *(f"| {what} | {count:,} |" for what, count in sorted(total.came_to.items()) if what != "histories"),
        "",
    ]
    for failure in total.failures:
        lines += ["## Failure", "", "```", failure.strip(), "```", ""]
    return "\n".join(lines)


def main() -> int:
    """See the module."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--engine", action="store_true")
    asked.add_argument("--with-engine", action="store_true")
    asked.add_argument("--histories", type=int, default=NO_END)
    asked.add_argument("--hours", type=float, default=1e6)
    asked.add_argument("--seed", type=int, default=int(time.time()))
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--report", type=Path)
    given = asked.parse_args()
    if not given.with_engine:
        return 1 if _run_and_report("engine" if given.engine else "pure", given, given.hours) else 0
    failures = [_run_and_report(kind, given, given.hours / 2) for kind in PART]
    return 1 if any(failures) else 0


def _run_and_report(kind: str, given: argparse.Namespace, hours: float) -> int:
    """The number of failures."""
    total, took, ended = run(kind, histories=given.histories, hours=hours, first_seed=given.seed, jobs=given.jobs)
    path = given.report or REPORTS / f"histories-{kind}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report(kind, total, took, whole=ended or given.histories == NO_END, jobs=given.jobs))
    print(f"{total.histories} histories, {len(total.failures)} failures: {path}")
    return len(total.failures)


if __name__ == "__main__":
    sys.exit(main())
