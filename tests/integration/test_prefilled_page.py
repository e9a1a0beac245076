"""Pre-filled checkout through HTTP: what the shop has signed is what is paid, and nothing else can be."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, CookieJar
from aiohttp.test_utils import TestServer
from yarl import URL

from astrapayd.db.tables import checkouts, sessions
from astrapayd.links import AmountRules, Link
from astrapayd.news import News
from astrapayd.prefill import PrefillRefused, Terms, sign
from astrapayd.services.prefill import (
    RotationError,
    end_signing_rotation,
    rotate_signing_secret,
    signed_url,
    signing_secrets,
)
from astrapayd.sessions import Flag, Status
from astrapayd.web.routes import RouteRegistry
from astrapayd.web.site import public_site
from tests.databases import both_engines
from tests.shopfront import Shopfront, look, shopfront

BACK = "https://shop.example/cart"


class Browser:
    """A browser without JavaScript, that follows nothing by itself and takes addresses as they are."""

    def __init__(self, base: URL, http: ClientSession) -> None:
        self._base = base
        self._http = http

    async def get(self, target: str) -> tuple[int, str]:
        async with self._http.get(URL(f"{self._base}{target}", encoded=True)) as answer:
            return answer.status, await answer.text()

    async def post(self, target: str, **form: str) -> tuple[int, str, str]:
        """Status, page, and where it leads."""
        data = {"asset": "usd", "form_token": target, **form}
        url = URL(f"{self._base}{target}", encoded=True)
        async with self._http.post(url, data=data, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers.get("Location", "")


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        await look(front.core, front.epoch)
        yield front


@pytest.fixture
async def browser(front: Shopfront) -> AsyncIterator[Browser]:
    site = TestServer(
        public_site(front.core, News(), RouteRegistry(), lambda _subjects: None, asyncio.Event()), host="127.0.0.1"
    )
    async with site, ClientSession(cookie_jar=CookieJar(unsafe=True)) as http:
        yield Browser(URL(str(site.make_url("")).rstrip("/")), http)


async def open_link(front: Shopfront) -> Link:
    return await front.link("", amount_rules=AmountRules("1", "100", ("5", "20")), back_url=BACK)


async def signed(front: Shopfront, link: Link, terms: Terms) -> str:
    """Path and query of the signed address."""
    parts = urlsplit(await signed_url(front.core, link.slug, terms))
    return f"{parts.path}?{parts.query}"


def form_of(page: str) -> str:
    """Where the page's form is sent."""
    found = re.search(r'<form method="post" action="([^"]*)"', page)
    assert found is not None
    return unescape(found[1])


async def test_edited_pre_filled_amount_is_refused_when_looked_at_and_when_sent(
    front: Shopfront, browser: Browser
) -> None:
    link = await open_link(front)
    right = await signed(front, link, Terms("25", "1042"))
    for wrong in (
        right.replace("amount=25", "amount=2"),
        right.replace("amount=25", "amount=25.00"),
        right.replace("amount=25&", ""),
        right.replace("order=1042", "order=1043"),
        right.replace("order=1042&", ""),
        right[: right.index("&signature")],
        right[:-1] + ("0" if right[-1] != "0" else "1"),
        right + "&amount=2",
        right + "&email=a%40b.example",
        right + "&until=1900000000",
        right + "%00",
    ):
        status, page = await browser.get(wrong)
        assert status in (400, 403)
        assert f'href="{BACK}"' in page
        assert "<form" not in page
        status, page, to = await browser.post(wrong)
        assert status in (400, 403)
        assert f'href="{BACK}"' in page
        assert not to
    assert await front.count(sessions) == await front.count(checkouts) == 0


async def test_edited_pre_filled_amount_in_the_form_is_refused(front: Shopfront, browser: Browser) -> None:
    right = await signed(front, await open_link(front), Terms("25", "1042"))
    for edited in ({"amount": "2"}, {"preset": "5"}, {"preset": "other", "amount": "2"}):
        status, page, _ = await browser.post(right, **edited)
        assert status == 422
        assert "The shop has fixed the amount at 25" in page
        assert 'name="amount"' not in page
    status, _, _ = await browser.post(right, order="1043", email="x", until="0", signature="0")  # read nowhere
    assert status == 303
    (row,) = await front.rows(sessions)
    assert (row["price"], row["order_ref"]) == ("25", "1042")


async def test_signed_amount_and_order_are_shown_and_opened(front: Shopfront, browser: Browser) -> None:
    link = await open_link(front)
    target = await signed(front, link, Terms("25.50", 'R&D "7" <b>', "a+b@example.org", front.core.now() + 60))
    status, page = await browser.get(f"{target}&utm_source=mail")
    assert status == 200
    assert 'name="amount"' not in page
    assert 'name="preset"' not in page
    assert "Pay 25.50 USD" in page
    assert "Order R&amp;D &#34;7&#34; &lt;b&gt;" in page
    assert form_of(page) == target
    assert await front.count(sessions) == 0
    status, _, to = await browser.post(form_of(page))
    assert status == 303
    assert re.fullmatch(r"/s/ses_[a-z2-7]+", to)
    (row,) = await front.rows(sessions)
    assert (row["price"], row["order_ref"]) == ("25.50", 'R&D "7" <b>')
    assert [c["order_ref"] for c in await front.rows(checkouts)] == ['R&D "7" <b>']
    _, page = await browser.get(to)
    assert "Order R&amp;D" in page
    assert f'href="/l/{link.slug}"' not in page  # it would sell something else than the order


async def test_signed_address_counts_until_its_time(front: Shopfront, browser: Browser) -> None:
    target = await signed(front, await open_link(front), Terms("25", "1042", until=front.core.now() + 60))
    front.clock.ahead_secs = 60
    status, page = await browser.get(target)
    assert status == 403
    assert "The time for this payment has passed: go back to the shop" in page
    assert (await browser.post(target))[0] == 403
    assert await front.count(sessions) == 0


async def test_signed_order_on_a_fixed_price(front: Shopfront, browser: Browser) -> None:
    link = await front.link("25.00")
    status, page = await browser.get(await signed(front, link, Terms(order="1042")))
    assert status == 200
    assert "Pay 25.00 USD" in page
    assert (await browser.post(form_of(page)))[0] == 303
    (row,) = await front.rows(sessions)
    assert (row["price"], row["order_ref"]) == ("25.00", "1042")


async def test_terms_that_the_link_does_not_let_the_shop_say(front: Shopfront, browser: Browser) -> None:
    fixed, choice = await front.link("25.00"), await open_link(front)
    (secret,) = await signing_secrets(front.core, "shop")
    for link, terms, sentence in (
        (fixed, Terms("25.00"), "whose price is fixed at 25.00 USD"),
        (fixed, Terms("2", "1042"), "whose price is fixed at 25.00 USD"),
        (choice, Terms(order="1042"), "An order was given without its amount"),
        (choice, Terms("0.99"), "less than the least"),
        (choice, Terms("100.01"), "more than the most"),
        (choice, Terms("25,00"), "25,00"),
        (choice, Terms("<b>"), "&lt;b&gt;"),
    ):
        with pytest.raises(PrefillRefused):
            await signed_url(front.core, link.slug, terms)
        pairs = {"amount": terms.amount, "order": terms.order, "signature": sign(secret, link.slug, terms)}
        target = str(URL(f"/l/{link.slug}").with_query({name: value for name, value in pairs.items() if value}))
        for status, page in (await browser.get(target), (await browser.post(target))[:2]):
            assert status == 400
            assert sentence in page
            assert "<b>" not in page
    assert await front.count(sessions) == 0


async def test_signature_of_another_link_or_store_secret_does_not_count(front: Shopfront, browser: Browser) -> None:
    one, other = await open_link(front), await open_link(front)
    target = await signed(front, one, Terms("25", "1042"))
    assert (await browser.get(target.replace(one.slug, other.slug)))[0] == 403
    await rotate_signing_secret(front.core, "shop")
    assert (await browser.get(target))[0] == 200
    with pytest.raises(RotationError, match="--end"):
        await rotate_signing_secret(front.core, "shop")
    newer = await signed(front, one, Terms("25", "1042"))
    await end_signing_rotation(front.core, "shop")
    assert (await browser.get(target))[0] == 403
    assert (await browser.get(newer))[0] == 200
    assert len(await signing_secrets(front.core, "shop")) == 1


@both_engines
async def test_signed_address_used_twice_is_fulfilled_once(front: Shopfront, browser: Browser) -> None:
    target = await signed(front, await open_link(front), Terms("25", "1042"))
    opened = [(await browser.post(target, form_token=token))[2].removeprefix("/s/") for token in ("a", "b", "a")]
    assert opened[0] == opened[2] != opened[1]
    first, second = [await front.session(session_id) for session_id in opened[:2]]
    await front.mine(front.pay(second.due_base))
    await front.mine(front.pay(first.due_base))
    await front.mine_more(8)
    assert (await front.session(second.id)).status is Status.PAID
    held = await front.session(first.id)
    assert (held.status, held.flags) == (Status.PROCESSING, {Flag.HELD, Flag.DUPLICATE})
    assert (await front.told()).count("session.paid") == 1


async def test_an_email_alone_and_unknown_parameters_change_nothing(front: Shopfront, browser: Browser) -> None:
    link = await open_link(front)
    for query in ("email=a%40example.org", "email=", "utm_source=mail", "email=%FF%00"):
        status, page = await browser.get(f"/l/{link.slug}?{query}")
        assert status == 200
        assert 'name="amount"' in page
        assert (await browser.post(form_of(page), amount="7"))[0] == 303
    assert {(row["price"], row["order_ref"]) for row in await front.rows(sessions)} == {("7", "")}


@both_engines
async def test_two_who_ask_first_for_the_secret_get_the_same(front: Shopfront) -> None:
    asked = await asyncio.gather(*(signing_secrets(front.core, "shop") for _ in range(8)))
    assert len(set(asked)) == 1
