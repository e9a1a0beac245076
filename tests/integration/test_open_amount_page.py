"""The link page of an open amount, as a browser without JavaScript sends its form."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar
from aiohttp.test_utils import TestServer

from astrapayd.db.tables import sessions
from astrapayd.links import AmountRules
from astrapayd.news import News
from astrapayd.web.routes import RouteRegistry
from astrapayd.web.site import public_site
from tests.shopfront import Shopfront, look, shopfront

Send = Callable[[dict[str, str]], Awaitable[tuple[int, str]]]


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


@pytest.fixture
async def send(front: Shopfront) -> AsyncIterator[Send]:
    """Sends the form of a link from 1 to 100, with 5 and 20 offered."""
    site = TestServer(
        public_site(front.core, News(), RouteRegistry(), lambda _subjects: None, asyncio.Event()), host="127.0.0.1"
    )
    link = await front.link("", amount_rules=AmountRules("1", "100", ("5", "20")))
    await look(front.core, front.epoch)
    async with site, ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:

        async def send(form: dict[str, str]) -> tuple[int, str]:
            data = {"asset": "usd", "form_token": repr(form), **form}
            async with browser.post(site.make_url(f"/l/{link.slug}"), data=data) as answer:
                return answer.status, await answer.text()

        yield send


@pytest.mark.parametrize(
    ("form", "price"),
    [
        ({"preset": "20", "amount": ""}, "20"),
        ({"preset": "20", "amount": "20"}, "20"),
        ({"preset": "other", "amount": " 33.33 "}, "33.33"),
        ({"amount": "7"}, "7"),
    ],
)
async def test_open_amount_on_its_page(front: Shopfront, send: Send, form: dict[str, str], price: str) -> None:
    status, page = await send(form)
    assert status == 200
    assert f">{price}" in page
    assert [row["price"] for row in await front.rows(sessions)] == [price]


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"preset": "5", "amount": "7"}, "Two amounts are given, 5 and 7: choose one, and clear the other."),
        ({"preset": "other", "amount": ""}, "is no"),
        ({"preset": "other", "amount": "0.99"}, "is less than the least, 1: choose another one."),
        ({"preset": "1000", "amount": ""}, "is more than the most, 100: choose another one."),
        ({"preset": "<b>", "amount": ""}, "&lt;b&gt;"),
    ],
)
async def test_open_amount_that_cannot_be_paid_is_asked_for_again(
    front: Shopfront, send: Send, form: dict[str, str], sentence: str
) -> None:
    status, page = await send(form)
    assert status == 422
    assert sentence in page
    assert "<b>" not in page
    typed = re.search(r'name="amount"[^>]* value="([^"]*)"', page)
    assert typed is not None
    assert await front.count(sessions) == 0
