"""Takes a screenshot of every page in every state: ``python -m tests.web.screens [NAME …]``.

Serves the samples on loopback, with the daemon's own headers, and drives Debian's Chromium. It fails when a page
logs an error (a broken policy does), asks another host for anything, or, where axe-core lies in
``build/axe/axe.min.js``, has an accessibility violation.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, async_playwright

from tests.web.sample_views import SAMPLES
from tests.web.stage import Stage

OUT = Path("build/screenshots")
AXE = Path("build/axe/axe.min.js")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
MAIN_SAMPLES = ("link", "link-several", "waiting", "underpaid", "confirming", "paid")


@dataclass(frozen=True, slots=True)
class Look:
    """One way of looking at a page."""

    name: str
    width: int = 390
    height: int = 844
    scheme: Literal["light", "dark"] = "light"
    direction: Literal["ltr", "rtl"] = "ltr"
    script: bool = True
    full: bool = True


PHONE = Look("phone")
MAIN_LOOKS = (
    Look("phone-fold", full=False),
    Look("phone-dark", scheme="dark"),
    Look("phone-rtl", direction="rtl"),
    Look("phone-noscript", script=False),
    Look("desktop", 1280, 800),
    Look("desktop-dark", 1280, 800, "dark"),
    Look("desktop-rtl", 1280, 800, direction="rtl"),
)


async def take(browser: Browser, base: str, name: str, look: Look) -> list[str]:
    """Save one screenshot; what was wrong with the page is returned."""
    wrong: list[str] = []
    context = await browser.new_context(
        viewport={"width": look.width, "height": look.height},
        device_scale_factor=2 if look.width < 600 else 1,
        color_scheme=look.scheme,
        java_script_enabled=look.script,
        timezone_id="Europe/Vienna",
    )
    page = await context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((base, "data:")) else wrong.append(request.url),
    )
    await page.goto(f"{base}/sample/{name}?dir={look.direction}", wait_until="load")
    if look.script:
        await page.wait_for_timeout(700)
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            wrong.append(f"{wide} px wider than the screen")
        wrong += await axe(page)
    await page.screenshot(path=OUT / f"{name}.{look.name}.png", full_page=look.full)
    await context.close()
    return [f"{name} ({look.name}): {text}" for text in wrong]


async def axe(page: Page) -> list[str]:
    """Accessibility violations by axe-core, where it is there."""
    if not AXE.exists():
        return []
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run({resultTypes: ['violations']}).then(result => result.violations)")
    return [f"axe {one['id']}: {one['help']} {node['html'][:160]}" for one in found for node in one["nodes"]]


async def main(names: Sequence[str]) -> int:
    """All samples, or those named."""
    OUT.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    taken = 0
    async with Stage().running() as stage, async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        for name in names or SAMPLES:
            looks = (PHONE, *MAIN_LOOKS) if name in MAIN_SAMPLES else (PHONE, Look("desktop", 1280, 800))
            for result in await asyncio.gather(*(take(browser, stage.base, name, look) for look in looks)):
                wrong += result
            taken += len(looks)
        await browser.close()
    print(f"{taken} screenshots in {OUT}/, axe-core {'took part' if AXE.exists() else 'was not there'}")
    for line in wrong:
        print("WRONG", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
