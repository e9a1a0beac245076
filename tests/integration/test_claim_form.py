"""The forms for a claim and for a payer's proof, as a browser without JavaScript sends them; the chain is a script."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar
from aiohttp.test_utils import TestServer

from astrapayd.db.tables import claims, payers
from astrapayd.news import News
from astrapayd.services.claims import challenge_of, claims_of
from astrapayd.services.payers import payer_challenge_of
from astrapayd.services.sessions import find_session
from astrapayd.sessions import Status
from astrapayd.testing import FakeChain, fake_signature
from astrapayd.transfers import Transfer
from astrapayd.web.routes import RouteRegistry
from astrapayd.web.site import public_site
from tests.shopfront import Shopfront, shopfront

WHOLE = 1_000_000
FIELD = re.compile(r'<input[^>]* name="(claim_token|payer_token|tx|code|account)"[^>]* value="([^"]*)"')


@dataclass
class Customer:
    """A browser with its own cookies, at the payment that it has opened."""

    front: Shopfront
    site: TestServer
    browser: ClientSession
    session_id: str

    async def page(self, path: str = "") -> str:
        """The payment page, or one below it."""
        async with self.browser.get(self.site.make_url(f"/s/{self.session_id}{path}")) as answer:
            assert answer.status == 200
            return await answer.text()

    async def send(self, form: str = "claim", **typed: str) -> tuple[int, str]:
        """A form as it is on the page, with what the customer types into it; where that leads, after redirects."""
        given = {name: html.unescape(value) for name, value in FIELD.findall(await self.page())}
        url = self.site.make_url(f"/s/{self.session_id}/{form}")
        async with self.browser.post(url, data={**given, **typed}) as answer:
            return answer.status, await answer.text()

    async def claims(self) -> int:
        """How many there are in all."""
        return await self.front.count(claims)


@asynccontextmanager
async def a_customer(front: Shopfront) -> AsyncIterator[Customer]:
    site = TestServer(
        public_site(front.core, News(), RouteRegistry(), lambda _subjects: None, asyncio.Event()), host="127.0.0.1"
    )
    link = await front.link()
    async with site, ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:
        data = {"asset": "usd", "form_token": "one"}
        async with browser.post(site.make_url(f"/l/{link.slug}"), data=data) as answer:
            assert answer.status == 200
            yield Customer(front, site, browser, answer.url.name)


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


@pytest.fixture
async def customer(front: Shopfront) -> AsyncIterator[Customer]:
    async with a_customer(front) as customer:
        yield customer


async def paid(front: Shopfront) -> Transfer:
    """Thirty whole ones, which are nobody's amount."""
    transfer = front.pay(30 * WHOLE)
    await front.mine(transfer)
    return transfer


async def test_a_claim_is_made_and_the_page_says_so(front: Shopfront, customer: Customer) -> None:
    transfer = await paid(front)
    before = await customer.page()
    assert "I have paid, but it is not shown" in before
    details = await find_session(front.core, customer.session_id)
    assert f'value="{details.row.code}"' in before, "the code is filled in"
    assert (await customer.send(tx=transfer.tx))[0] == 200
    page = await customer.page()
    assert "The shop has been asked to count this transaction" in page
    assert transfer.tx in page
    (made,) = await claims_of(front.core, customer.session_id)
    assert (made.tx, made.status) == (transfer.tx, "open")


async def test_a_claim_on_an_expired_payment(front: Shopfront, customer: Customer) -> None:
    await front.mine(secs=2000)
    transfer = await paid(front)
    assert (await front.session(customer.session_id)).status is Status.EXPIRED
    assert (await customer.send(tx=transfer.tx))[0] == 200
    assert await customer.claims() == 1


async def test_a_signed_claim_is_shown_as_a_payment(front: Shopfront, customer: Customer) -> None:
    transfer = await paid(front)
    text = challenge_of(front.core, (await find_session(front.core, customer.session_id)).row)
    assert html.escape(text, quote=False) in await customer.page()
    status, page = await customer.send(tx=transfer.tx, signature=fake_signature("fake1customer", text))
    assert (status, 'data-state="overpaid"' in page) == (200, True)
    await front.mine()
    assert '<h1 id="done-title">Paid</h1>' in await customer.page("/claim"), "the form's own address shows it too"


async def test_a_wrong_claim_says_what_is_wrong_and_keeps_what_was_typed(front: Shopfront, customer: Customer) -> None:
    transfer = await paid(front)
    for typed, sentence in (
        ({"tx": "nowhere"}, "no payment of that transaction has reached"),
        ({"tx": '"><script>alert(1)</script>'}, "is not a transaction id"),
        ({"tx": transfer.tx, "code": "ä\x00"}, "not this payment&#39;s verification code"),
        ({"tx": transfer.tx, "signature": "nö"}, "not a signature of exactly the text shown"),
        ({"tx": ""}, "is not a transaction id"),
    ):
        status, page = await customer.send(**typed)
        assert status == 422
        assert sentence in page, typed
        assert "<details open>" in page, "the form is open"
        assert 'http-equiv="refresh"' not in page, "and stays while it is mended"
        assert f'value="{html.escape(typed["tx"])}"'.replace("&quot;", "&#34;") in page
        assert "<script>alert" not in page
    assert await customer.claims() == 0


async def test_only_the_browser_that_opened_the_payment_can_claim(front: Shopfront, customer: Customer) -> None:
    transfer = await paid(front)
    url = customer.site.make_url(f"/s/{customer.session_id}/claim")
    details = await find_session(front.core, customer.session_id)
    token = dict(FIELD.findall(await customer.page()))["claim_token"]
    data = {"claim_token": token, "tx": transfer.tx, "code": details.row.code}
    async with ClientSession() as stranger:
        async with stranger.get(url.parent) as answer:
            assert "claim_token" not in await answer.text()
        async with stranger.post(url, data=data) as answer:
            assert answer.status == 403
    for forged in ({}, {"claim_token": ""}, {"claim_token": "ä"}, {"claim_token": token[::-1]}):
        async with customer.browser.post(url, data={**data, "claim_token": "", **forged}) as answer:
            assert answer.status == 403
    assert await customer.claims() == 0


async def test_claims_are_limited_by_client(front: Shopfront, customer: Customer) -> None:
    tried = [(await customer.send(tx="nowhere"))[0] for _ in range(11)]
    assert tried == [422] * 10 + [429]


async def test_the_form_has_an_address_that_does_not_refresh(customer: Customer) -> None:
    assert 'http-equiv="refresh"' in await customer.page()
    assert f'href="/s/{customer.session_id}/claim"' in await customer.page()
    assert 'http-equiv="refresh"' not in await customer.page("/claim")


async def test_no_form_once_what_was_due_has_come(front: Shopfront, customer: Customer) -> None:
    await front.mine(front.pay((await front.session(customer.session_id)).due_base))
    assert "claim_token" not in await customer.page()


async def test_no_signature_is_asked_for_where_there_is_none(tmp_path: Path) -> None:
    async with shopfront(tmp_path, chain=FakeChain(signs_messages=False)) as front, a_customer(front) as customer:
        page = await customer.page()
        assert "claim_token" in page
        assert 'name="signature"' not in page


async def test_the_account_that_pays_is_proved_and_the_page_says_so(front: Shopfront, customer: Customer) -> None:
    text = payer_challenge_of(front.core, (await find_session(front.core, customer.session_id)).row)
    before = await customer.page()
    assert "My wallet cannot send exactly this amount" in before
    assert html.escape(text, quote=False) in before
    typed = {"account": "FAKE1CUSTOMER", "signature": fake_signature("fake1customer", text)}
    status, page = await customer.send("payer", **typed)
    assert (status, "Whatever this account sends now is counted for this payment" in page) == (200, True)
    assert "FAKE1CUSTOMER</span>" in page
    await front.mine(front.pay(20 * WHOLE))
    assert 'data-state="underpaid"' in await customer.page()


async def test_a_wrong_proof_says_what_is_wrong_and_keeps_what_was_typed(front: Shopfront, customer: Customer) -> None:
    for typed, sentence in (
        ({"account": '"><script>alert(1)</script>', "signature": "x"}, "is not an address of Fake Chain"),
        ({"account": "fake1exchange", "signature": "nö"}, "not a signature of exactly the text shown"),
        ({"account": "fake1exchange"}, "not a signature of exactly the text shown"),
    ):
        status, page = await customer.send("payer", **typed)
        assert status == 422
        assert sentence in page, typed
        assert 'http-equiv="refresh"' not in page, "it stays while it is mended"
        assert page.count('role="alert"') == 1, "the claim's form beside it has no fault"
        assert f'value="{html.escape(typed["account"])}"'.replace("&quot;", "&#34;") in page
        assert "<script>alert" not in page
    assert await front.count(payers) == 0


async def test_only_the_browser_that_opened_the_payment_says_who_pays(front: Shopfront, customer: Customer) -> None:
    text = payer_challenge_of(front.core, (await find_session(front.core, customer.session_id)).row)
    data = {"account": "fake1customer", "signature": fake_signature("fake1customer", text)}
    claims_own = dict(FIELD.findall(await customer.page()))["claim_token"]
    for forged in ("", "ä", claims_own):
        url = customer.site.make_url(f"/s/{customer.session_id}/payer")
        async with customer.browser.post(url, data={**data, "payer_token": forged}) as answer:
            assert answer.status == 403
    async with ClientSession() as stranger, stranger.get(url.parent) as answer:
        assert "payer_token" not in await answer.text()
    assert await front.count(payers) == 0
