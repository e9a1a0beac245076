"""docs/writing-plugins.md is true: its example installs, is found, and passes the contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from astrapayd.testing import CHECKS

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "astrapayd-pebble"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine that has installed the example, as an administrator would."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "pebble"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(source)], check=True)  # a build writes beside its source
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", str(folder), str(source)], check=True)
    root = str(EXAMPLE.parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), root, f"{root}/plugins/evm"])}


def test_example_is_found_by_its_entry_point(installed: dict[str, str], tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "astrapayd", "plugins", "--json"],
        env=installed,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    (pebble,) = [plugin for plugin in json.loads(said.stdout) if plugin["name"] == "pebble"]
    assert pebble["problem"] == ""
    assert pebble["version"] == "0.1.0"
    assert pebble["hooks"] == ["astrapayd_register_chains", "astrapayd_register_config"]


def test_example_passes_the_contract(installed: dict[str, str], tmp_path: Path) -> None:
    tests = tmp_path / "test_pebble.py"
    tests.write_text((EXAMPLE / "test_pebble.py").read_text())
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", str(tests)],
        env=installed,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert f"{len(CHECKS)} passed" in ended.stdout
