"""The unit stays hardened: systemd's own judgement, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "astrapayd.service"


def test_exposure_is_at_most_two() -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    said = subprocess.run([tool, "security", "--offline=yes", str(UNIT)], capture_output=True, text=True)
    level = re.search(r"exposure level for astrapayd.service: ([0-9.]+)", said.stdout)
    assert level, said.stdout + said.stderr
    assert float(level[1]) <= 2.0


def test_the_daemon_is_watched() -> None:
    unit = RawConfigParser(strict=False)  # a setting may stand twice
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 10
    assert service["ExecStart"] == "/opt/astrapayd/bin/astrapayd run --config /etc/astrapayd/astrapayd.toml"
    assert service["DynamicUser"] == "yes"
