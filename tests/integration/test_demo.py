"""The demo as everybody gets it: from the wheel, in an empty folder; and its customer does what customers do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar

from astrapayd_evm.demo.surroundings import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The built wheel, unpacked where nothing of this checkout is."""
    built, site = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = tmp_path_factory.mktemp("source") / "astrapayd"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(built), str(source)], check=True)
    (wheel,) = built.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return {**os.environ, "PYTHONPATH": str(site)}


def test_selftest_from_the_wheel_in_an_empty_folder(wheel_environment: dict[str, str], tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "astrapayd", "demo", "--selftest", "--json"],
        cwd=tmp_path,
        env={**wheel_environment, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = json.loads(ended.stdout)
    assert said["ok"] is True
    assert said["events"][-1] == "session.paid"
    assert said["seconds"]["mined_to_session_paid_webhook"] > 0
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.fixture
async def shop_url(tmp_path: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "astrapayd", "demo", "--json", "--port", str(free_port())),
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        yield json.loads(await process.stdout.readline())["url"]
    process.terminate()
    await process.wait()


@pytest.mark.parametrize(
    ("actions", "title", "words"),
    [
        (["over"], "Paid", "Too much"),
        (["twice"], "Paid", "Too much"),
        (["exact", "reorg"], "Your payment was taken back", "mostly the payment comes again by itself"),
    ],
)
async def test_customer_of_the_demo(shop_url: str, actions: list[str], title: str, words: str) -> None:
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:
        async with browser.post(shop_url, data={"asset": "usdt-demo"}) as answer:
            page, session = await answer.text(), answer.url
        for action in actions:
            assert f'value="{action}"' in page
            async with browser.post(session.with_path(f"/x/demo/{session.name}"), data={"action": action}) as answer:
                assert answer.status == 200
            wanted, beside = (title, words) if action == actions[-1] else ("Paid", "")
            async with asyncio.timeout(20):
                while not (re.search(f"<title>{wanted}", page) and beside in page):
                    await asyncio.sleep(0.3)
                    async with browser.get(session) as answer:
                        page = await answer.text()


async def test_port_that_is_taken_is_told(tmp_path: Path) -> None:
    port = free_port()
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", port)
    async with server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "astrapayd", "demo", "--port", str(port)),
            stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path,
        )
        _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode() == f"astrapayd demo: port {port} is taken: choose another with --port\n"
