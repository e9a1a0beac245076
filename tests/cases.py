"""Which tests stand for which payment case: ``make cases`` prints it, and a case without one fails.

The rule: a test belongs to a case when its name, without ``test_``, begins with the whole words of the case's slug.
``test_exact_twice_on_one_address`` belongs to ``exact_twice`` (and to ``exact``); ``test_keys_spread_over_an_array``
does not belong to ``over``. Counted are functions named ``test_…`` in files ``test_*.py`` under ``tests``, of the core
and of the chain plugins alike. A case may wait for a part that is not there yet; ``cases.toml`` then says for which.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
LIST = TESTS / "cases.toml"


@dataclass(frozen=True, slots=True)
class Case:
    """One case. ``waits_for`` is empty, or what will bring it; ``tests`` are ``file::name``."""

    section: str
    slug: str
    waits_for: str
    tests: tuple[str, ...]

    @property
    def problem(self) -> str:
        """Why the case is not in order, or nothing."""
        if self.waits_for:
            kind, _, what = self.waits_for.partition(": ")
            if kind not in ("issue", "plugin") or not what:
                return f"{self.waits_for!r} is neither an issue nor a plugin"
            return "has a test, and its note says that it waits" if self.tests else ""
        return "" if self.tests else "no test carries its name"


def load_cases(listed: Path = LIST, tests: Path = TESTS) -> list[Case]:
    """Every case of the list with its tests."""
    names = list(_test_names(tests))
    return [
        Case(section, slug, waits_for, tuple(where for where, name in names if is_of(name, slug)))
        for section, cases in tomllib.loads(listed.read_text()).items()
        for slug, waits_for in cases.items()
    ]


def is_of(test_name: str, slug: str) -> bool:
    """The rule."""
    return f"{test_name.removeprefix('test_')}_".startswith(f"{slug}_")


def _test_names(tests: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(tests.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield f"{path.relative_to(tests.parent)}::{node.name}", node.name


def main() -> int:
    """Print the list; 1 where something is not in order."""
    cases = load_cases()
    section = ""
    for case in cases:
        if case.section != section:
            section = case.section
            print(f"\n{section.capitalize()}")
        print(f"  {case.slug.replace('_', ' ')}")
        for test in case.tests:
            print(f"      {test}")
        if case.waits_for:
            print(f"      waits for {case.waits_for}")
    problems = [f"{case.section}: {case.slug}: {case.problem}" for case in cases if case.problem]
    waiting = sum(bool(case.waits_for) for case in cases)
    print(f"\n{len(cases)} cases, {waiting} of them wait for what is not there yet, {len(problems)} not in order")
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
