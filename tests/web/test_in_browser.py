"""The pages in a real browser: live updates, copying, scanning, and life without a script."""

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.web.sample_views import ADDRESS, CONFIRMING, NATIVE, PAID, SEEN, SESSION, UNDERPAID, WAITING
from tests.web.screens import CHROMIUM, CHROMIUM_ARGS
from tests.web.stage import Stage

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and not os.environ.get("REQUIRE_ALL"), reason="no Chromium here"
)
PHONE = {"width": 390, "height": 844}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage().running() as running:
        running.session = WAITING
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser, stage: Stage) -> AsyncIterator[Page]:
    context = await browser.new_context(viewport=PHONE, permissions=["clipboard-read", "clipboard-write"])  # type: ignore[arg-type]
    page = await opened(context, stage)
    yield page
    await context.close()


async def opened(context: BrowserContext, stage: Stage) -> Page:
    """The session's page, with every request to elsewhere and every error on the console a failure."""
    page = await context.new_page()
    elsewhere: list[str] = []
    page.on(
        "request",
        lambda request: None if request.url.startswith(stage.base) else elsewhere.append(request.url),
    )
    await page.goto(f"{stage.base}/s/{SESSION}")
    assert elsewhere == []
    return page


async def test_page_follows_the_payment_to_the_end(page: Page, stage: Stage) -> None:
    await expect(page).to_have_title("Waiting for your payment — Two bags of Sidamo, 500 g")
    await stage.show(SEEN)
    await expect(page.get_by_role("heading", name="Your payment has been seen")).to_be_visible(timeout=1000)
    await expect(page.locator(".qr")).to_have_count(0)  # nobody pays twice
    await expect(page.locator("#say")).to_have_text("Your payment has been seen")
    await stage.show(CONFIRMING)
    await expect(page.get_by_text("2 of 12", exact=True)).to_be_visible(timeout=1000)
    await stage.show(PAID)
    await expect(page).to_have_title("Paid — Two bags of Sidamo, 500 g", timeout=1000)
    await expect(page.get_by_role("link", name="Back to the shop")).to_be_visible()


async def test_page_survives_a_dropped_connection(page: Page, stage: Stage) -> None:
    await page.wait_for_timeout(200)
    stage.cut()
    stage.session = UNDERPAID  # while nobody listens
    await expect(page.get_by_role("heading", name="A part is still missing")).to_be_visible(timeout=8000)
    assert stage.streams_opened >= 2


async def test_page_that_slept_asks_again_when_it_is_looked_at(page: Page, stage: Stage) -> None:
    await page.wait_for_timeout(200)
    before = stage.streams_opened
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.wait_for_timeout(300)
    assert stage.streams_opened == before + 1


async def test_unchanged_parts_keep_choice_and_focus(page: Page, stage: Stage) -> None:
    await page.get_by_text("With amount").click()
    await page.locator("#copy-address").focus()
    await stage.show(replace(WAITING, revision=2, seconds_left=900, node_seen_at="2026-11-23T12:15:00Z"))
    await expect(page.locator(".clock-left")).to_have_text(re.compile("15:00|14:5"), timeout=1500)
    await expect(page.locator("#qr-u")).to_be_checked()
    await expect(page.locator("#copy-address")).to_be_focused()


async def test_countdown_runs_from_the_servers_clock(browser: Browser, stage: Stage) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.clock.install(time="2031-01-01T00:00:00Z")  # the device is years ahead
    await page.goto(f"{stage.base}/s/{SESSION}")
    await page.wait_for_timeout(300)  # until the first live message, which sets the clock again
    await page.clock.run_for(11_000)
    left = await page.locator(".clock-left").inner_text()
    assert left in ("29:29", "29:30", "29:31")
    await context.close()


async def test_countdown_stops_at_zero_and_says_so(page: Page, stage: Stage) -> None:
    await stage.show(replace(WAITING, seconds_left=1))
    await expect(page.locator(".clock-left")).to_have_text("over")
    await expect(page.get_by_text("Less than five minutes.")).to_be_visible()


@pytest.mark.parametrize(
    ("button", "text"),
    [("#copy-amount", "25.003417"), ("#copy-address", ADDRESS), ("#copy-code", "7KQ2-M9XD")],
)
async def test_copy_buttons_copy_exactly(page: Page, button: str, text: str) -> None:
    await page.locator(button).click()
    assert await page.evaluate("navigator.clipboard.readText()") == text
    await expect(page.locator("#say")).to_have_text("Copied")
    await expect(page.locator(button)).to_contain_text("Copied")


async def test_selecting_the_address_by_hand_gives_it_without_spaces(page: Page) -> None:
    await page.locator(".to .address").click()
    assert await page.evaluate("getSelection().toString()") == ADDRESS


async def test_code_to_scan_is_on_the_first_screen_of_a_phone(page: Page) -> None:
    box = await page.locator("#qr-big-a").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= PHONE["height"]
    assert box["width"] >= 200
    amount = await page.locator(".big .number").bounding_box()
    assert amount is not None
    assert amount["height"] < 80  # one line


async def test_all_of_it_works_without_script(browser: Browser, stage: Stage, tmp_path: Path) -> None:
    context = await browser.new_context(viewport=PHONE, java_script_enabled=False)  # type: ignore[arg-type]
    page = await opened(context, stage)
    await expect(page.locator("#copy-amount")).to_be_hidden()  # it could do nothing
    await page.get_by_text("With amount").click()
    await expect(page.locator("#qr-big-u")).to_be_visible()
    await expect(page.locator("#qr-big-a")).to_be_hidden()
    await page.get_by_label("Enlarge the QR code of address and amount").click()
    box = await page.locator("#qr-big-u").bounding_box()
    assert box is not None
    assert box["width"] == PHONE["width"]
    await page.get_by_role("link", name="Close").click()
    await page.get_by_text("I pay from an exchange").click()
    await expect(page.get_by_text("Exchanges take their fee")).to_be_visible()
    stage.session = PAID
    await page.get_by_role("link", name="Check now").first.click()
    await expect(page).to_have_title("Paid — Two bags of Sidamo, 500 g")
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_codes_scan_to_exactly_what_is_shown(browser: Browser, stage: Stage, tmp_path: Path, scheme: str) -> None:
    zbar = shutil.which("zbarimg")
    if zbar is None:
        if os.environ.get("REQUIRE_ALL"):
            pytest.fail("zbarimg is missing")
        pytest.skip("no zbarimg here")
    context = await browser.new_context(viewport=PHONE, color_scheme=scheme, device_scale_factor=2)  # type: ignore[arg-type]
    for view in (WAITING, UNDERPAID, NATIVE):
        stage.session = view
        page = await opened(context, stage)
        uri = await page.locator("#open-wallet").get_attribute("href")
        assert uri == view.payment_uri
        for choice, code, text in (("Address only", "#qr-big-a", ADDRESS), ("With amount", "#qr-big-u", uri)):
            await page.get_by_text(choice, exact=True).click()
            picture = tmp_path / "code.png"
            await page.locator(code).screenshot(path=picture)
            read = subprocess.run([zbar, "--raw", "-q", picture], capture_output=True, text=True, check=True)
            assert read.stdout.strip() == text
        await page.close()
    await context.close()


async def test_keyboard_reaches_everything_in_reading_order(page: Page) -> None:
    reached: list[str] = []
    for _ in range(12):
        await page.keyboard.press("Tab")
        reached.append(
            await page.evaluate("(one => (one.id || one.ariaLabel || one.textContent).trim())(document.activeElement)")
        )
    assert reached[:5] == [
        "copy-amount",
        "qr-a",
        "Enlarge the QR code of the address",
        "copy-address",
        "open-wallet",
    ]
    assert "Check now" in reached
    assert "Cancel this payment" in reached


@pytest.mark.parametrize("script", [True, False])
async def test_open_amount_is_chosen_or_typed(browser: Browser, stage: Stage, script: bool) -> None:
    """The field is there for who wants another amount; what was typed and given up is not sent along."""
    page = await browser.new_page(viewport=PHONE, java_script_enabled=script)  # type: ignore[arg-type]
    await page.goto(f"{stage.base}/sample/link-open-amount")
    typed = page.get_by_label("Amount in USDT")
    await expect(typed).to_be_hidden()
    await page.get_by_text("Another amount").click()
    await typed.fill("7")
    await page.get_by_text("20 USDT").click()
    await expect(typed).to_be_hidden()
    await expect(page.locator("#amount")).to_have_value("" if script else "7")  # without, the server asks
    await page.close()
