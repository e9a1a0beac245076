"""From link to paid in a real browser, on the demo as everybody starts it; the pictures are kept to be looked at."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from astrapayd_evm.demo.surroundings import free_port
from tests.web.screens import CHROMIUM, CHROMIUM_ARGS, OUT

PHONE: Any = {"width": 390, "height": 844}
DESKTOP: Any = {"width": 1280, "height": 800}
SEEN_WITHIN_MS = 10_000


@pytest.fixture
async def shop_url(tmp_path: Path) -> AsyncIterator[str]:
    """`astrapayd demo` as a process of its own, in an empty folder; the address that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "astrapayd", "demo", "--json", "--port", str(free_port())),
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    yield json.loads(line)["url"]
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert not list(tmp_path.iterdir()), "the demo leaves nothing behind"


@pytest.fixture
async def browser(took_part: Any, missing: Any) -> AsyncIterator[Browser]:
    if not Path(CHROMIUM).exists():
        missing(f"{CHROMIUM}: install Chromium, or say CHROMIUM=/path")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        took_part("Browsers", f"Chromium {browser.version}")
        yield browser
        await browser.close()


class Walk:
    """One customer's way through the pages. Every request to another host, and every console error, is noted."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.wrong: list[str] = []
        self._name = name
        self._step = 0
        page.on("request", self._note)
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def _note(self, request: Any) -> None:
        if not re.match(r"http://127\.0\.0\.1:\d+/|data:|blob:", request.url):
            self.wrong.append(request.url)

    async def keep(self, what: str) -> None:
        """A picture of the page as it is now."""
        OUT.mkdir(parents=True, exist_ok=True)
        self._step += 1
        await self.page.screenshot(path=OUT / f"walk-{self._name}-{self._step}-{what}.png", full_page=True)


async def open_shop(context: BrowserContext, url: str, name: str) -> Walk:
    walk = Walk(await context.new_page(), name)
    await walk.page.goto(url)
    await walk.keep("link")
    await walk.page.get_by_role("button", name="Pay 25.00 USDT").click()
    await expect(walk.page.get_by_text("Send exactly this amount: the last digits")).to_be_visible()
    await walk.keep("waiting")
    return walk


async def test_link_to_paid(browser: Browser, shop_url: str) -> None:
    context = await browser.new_context(viewport=PHONE)
    walk = await open_shop(context, shop_url, "phone")
    page = walk.page
    shown = await page.locator(".pay .number").first.inner_text()
    assert re.fullmatch(r"25\.00\d{3}[1-9]", shown)
    await page.get_by_role("button", name=re.compile("^Pay exactly")).click()
    await page.evaluate("window.stayed = true")  # lost if the page is loaded anew
    await expect(page.get_by_text("of 3", exact=False).first).to_be_visible(timeout=SEEN_WITHIN_MS)
    assert await page.evaluate("window.stayed") is True, "the tracker follows without loading the page anew"
    await walk.keep("confirming")
    await expect(page.get_by_role("heading", name="Paid")).to_be_visible(timeout=SEEN_WITHIN_MS)
    await expect(page).to_have_title(re.compile("^Paid"))
    await walk.keep("paid")
    assert shown in await page.locator("main").inner_text()
    code = await page.locator(".code-text").first.inner_text()
    await page.get_by_role("link", name="Receipt").click()
    await expect(page.get_by_text(code).first).to_be_visible()
    await walk.keep("receipt")
    await page.goto(shop_url.replace("/l/coffee", f"/verify?code={code.lower()}"))
    await expect(page.get_by_text(code).first).to_be_visible()
    await walk.keep("verify")
    assert walk.wrong == []


async def test_link_to_paid_without_javascript(browser: Browser, shop_url: str) -> None:
    context = await browser.new_context(viewport=PHONE, java_script_enabled=False)
    walk = await open_shop(context, shop_url, "noscript")
    page = walk.page
    await page.get_by_role("button", name=re.compile("^Pay exactly")).click()
    for _ in range(40):  # as a customer who presses "Check now"
        if (await page.title()).startswith("Paid"):
            break
        await page.wait_for_timeout(500)
        await page.get_by_role("link", name="Check now").click()
    await expect(page.get_by_role("heading", name="Paid")).to_be_visible()
    await walk.keep("paid")
    assert walk.wrong == []


async def test_exchange_fee_and_then_the_rest(browser: Browser, shop_url: str) -> None:
    context = await browser.new_context(viewport=DESKTOP)
    walk = await open_shop(context, shop_url, "desktop")
    page = walk.page
    await page.get_by_role("button", name=re.compile("^Minus an exchange")).click()
    await expect(page.get_by_role("heading", name="A part is still missing")).to_be_visible(timeout=SEEN_WITHIN_MS)
    rest = await page.locator(".pay .number").first.inner_text()
    assert re.fullmatch(r"0\.50\d{3}[1-9]", rest)
    await walk.keep("underpaid")
    await page.reload()
    await page.get_by_role("button", name=re.compile(f"^Pay exactly {re.escape(rest)}")).click()
    await expect(page.get_by_role("heading", name="Paid")).to_be_visible(timeout=2 * SEEN_WITHIN_MS)
    await walk.keep("paid")
    await page.reload()
    await page.get_by_role("button", name="Reorganise the last payment away").click()
    await expect(page.get_by_role("heading", name="A part is still missing")).to_be_visible(timeout=SEEN_WITHIN_MS)
    await walk.keep("reorganised")
    assert walk.wrong == []


async def test_cancel_by_the_own_browser_only(browser: Browser, shop_url: str) -> None:
    context = await browser.new_context(viewport=PHONE)
    walk = await open_shop(context, shop_url, "cancel")
    stranger = await (await browser.new_context()).new_page()
    await stranger.goto(walk.page.url)
    await expect(stranger.get_by_role("button", name="Cancel this payment")).to_have_count(0)
    await walk.page.get_by_role("button", name="Cancel this payment").click()
    await expect(walk.page.get_by_role("heading", name="Cancelled")).to_be_visible()
    await walk.keep("cancelled")
    assert walk.wrong == []
