"""The list of payment cases is kept: each has a test that carries its name, or says what will bring it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases import is_of, load_cases, main


def test_every_case_has_a_test_or_says_what_will_bring_it() -> None:
    cases = load_cases()
    assert [f"{case.section}: {case.slug}: {case.problem}" for case in cases if case.problem] == []
    assert {case.section for case in cases} == {"sessions", "chain", "delivery", "store", "web"}


def test_the_list_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    printed = capsys.readouterr().out
    assert "  exact twice\n      tests/integration/test_ingest_payments.py::test_exact_twice\n" in printed
    assert "waits for issue: API" in printed


@pytest.mark.parametrize(
    ("name", "slug", "belongs"),
    [
        ("test_over", "over", True),
        ("test_over_by_a_cent", "over", True),
        ("test_overpaid", "over", False),
        ("test_keys_spread_over_an_array", "over", False),
        ("test_2_256_1", "2_256_1", True),
    ],
)
def test_a_test_belongs_to_the_case_that_its_name_begins_with(name: str, slug: str, belongs: bool) -> None:
    assert is_of(name, slug) is belongs


@pytest.mark.parametrize(
    ("waits_for", "source", "problem"),
    [
        ("", "", "no test carries its name"),
        ("", "async def test_some_case_of_two(): ...", ""),
        ("issue: the next", "", ""),
        ("issue: the next", "def test_some_case(): ...", "has a test, and its note says that it waits"),
        ("some day", "", "'some day' is neither an issue nor a plugin"),
    ],
)
def test_a_case_out_of_order_is_told(tmp_path: Path, waits_for: str, source: str, problem: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(source)
    (tmp_path / "list.toml").write_text(f'[store]\nsome_case = "{waits_for}"\n')
    (case,) = load_cases(tmp_path / "list.toml", tmp_path / "tests")
    assert case.problem == problem
