"""The package is what the tree says: packages, data in the built wheel, and a page about every dependency."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {"astrapayd": ROOT / "astrapayd"} | {path.name: path for path in (ROOT / "plugins").glob("*/astrapayd_*")}


@pytest.fixture(scope="module")
def setup_cfg() -> ConfigParser:
    parsed = ConfigParser(interpolation=None)
    parsed.read(ROOT / "setup.cfg")
    return parsed


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_packages_are_listed_one_by_one(setup_cfg: ConfigParser) -> None:
    tree = {
        ".".join((name, *path.parent.relative_to(source).parts))
        for name, source in SOURCES.items()
        for path in source.rglob("__init__.py")
    }
    assert _lines(setup_cfg["options"]["packages"]) == sorted(tree)


def test_no_folder_of_code_is_without_its_init() -> None:
    for source in SOURCES.values():
        for path in source.rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel built from a copy of the tree (setuptools leaves things behind)."""
    into = tmp_path_factory.mktemp("wheel")
    copy = into / "tree"
    leftovers = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("astrapayd", "plugins"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=leftovers)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(into),
        str(copy),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = into.glob("*.whl")
    return set(zipfile.ZipFile(file).namelist())


def test_the_wheel_holds_everything_that_is_no_leftover(wheel: set[str]) -> None:
    missing = {
        f"{name}/{path.relative_to(source)}"
        for name, source in SOURCES.items()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } - wheel
    # what builds the mock token is for developers and needs npm; its result is in the wheel
    assert {name for name in missing if "/contracts/" not in name} == set()


@pytest.mark.parametrize(
    "name",
    [
        "astrapayd/py.typed",
        "astrapayd/bip39_english.txt",
        "astrapayd/web/templates/payment.html",
        "astrapayd/web/static/checkout.css",
        "astrapayd/db/migrations/env.py",
        "astrapayd/db/migrations/script.py.mako",
        "astrapayd/db/migrations/versions/0001_first_schema.py",
        "astrapayd_evm/py.typed",
        "astrapayd_evm/demo/contracts/MockUSDT.json",
    ],
)
def test_the_wheel_holds(wheel: set[str], name: str) -> None:
    assert name in wheel


def _page() -> dict[str, list[str]]:
    rows = re.findall(r"^\| ([A-Za-z0-9_.-]+) \|(.*)\|$", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows if name not in {"package", "---"}}


def test_each_dependency_has_its_reason(setup_cfg: ConfigParser) -> None:
    wanted = _lines(setup_cfg["options"]["install_requires"])
    for extra in setup_cfg["options.extras_require"].values():
        wanted += _lines(extra)
    page = _page()
    assert {re.split(r"[\[<>=~!]", line)[0] for line in wanted} == set(page)
    for name, cells in page.items():
        assert len(cells) == 4, name
        assert all(cells), name


def test_dependencies_are_bounded_above(setup_cfg: ConfigParser) -> None:
    for line in _lines(setup_cfg["options"]["install_requires"]):
        assert "<" in line, f"{line}: a next major version would come unasked"
