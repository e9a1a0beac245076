"""Links priced in another currency: the quote of a session, refusals without one, late money, sources that fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar
from aiohttp.test_utils import TestServer

from astrapayd.config import AssetSection, FixedRateSection
from astrapayd.db.sessions import load_sessions
from astrapayd.db.tables import events, reservations, sessions
from astrapayd.links import DraftError, Link, LinkStatus
from astrapayd.money import AmountError, Asset
from astrapayd.news import News
from astrapayd.rate_sources import FixedSource, ParitySource
from astrapayd.rates import NoQuote, Quote, QuoteTooOld, Rate, RateRegistry
from astrapayd.services.links import set_status
from astrapayd.services.sessions import LinkUnavailable, find_session, open_session, story
from astrapayd.sessions import Flag, Status
from astrapayd.web.routes import RouteRegistry
from astrapayd.web.site import public_site
from tests.databases import both_engines
from tests.shopfront import Shopfront, look, shopfront

USD_ASSET = AssetSection(chain="fake", symbol="USD", decimals=6, currency="USD")
FIXED = "0.92"
"""One USD costs so many EUR: 25.00 EUR are 27.1739… USD."""


def fixed(taken_at: int) -> FixedSource:
    """What one USD costs in CHF, written down at a time, and good for a day."""
    moment = datetime.fromtimestamp(taken_at, UTC)
    return FixedSource((FixedRateSection(asset="usd", currency="CHF", price=FIXED, taken_at=moment),))


@asynccontextmanager
async def priced(folder: Path, **store: Any) -> AsyncIterator[Shopfront]:
    """A store with both built-in sources; the fixed rate is as old as the chain is at its start."""
    sources = RateRegistry()
    async with shopfront(folder, sources=sources, assets={"usd": USD_ASSET}, **store) as front:
        sources.add("parity", ParitySource({"usd": USD_ASSET}, front.clock))
        sources.add("fixed", fixed(front.clock()))
        yield front


async def row_of(front: Shopfront, session_id: str) -> Any:
    async with front.core.database.read() as connection:
        return (await load_sessions(connection, [session_id], front.core.registry))[session_id]


@asynccontextmanager
async def page_of(front: Shopfront, link: Link) -> AsyncIterator[Callable[[], Awaitable[tuple[int, str, str]]]]:
    """Sends the link's form: status, page and ``Retry-After``."""
    site = TestServer(
        public_site(front.core, News(), RouteRegistry(), lambda _subjects: None, asyncio.Event()), host="127.0.0.1"
    )
    async with site, ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:

        async def send() -> tuple[int, str, str]:
            await look(front.core, front.epoch)
            async with browser.post(site.make_url(f"/l/{link.slug}"), data={"asset": "usd"}) as answer:
                return answer.status, await answer.text(), answer.headers.get("Retry-After", "")

        yield send


# -- the case -----------------------------------------------------------------------------------------------------


@both_engines
async def test_price_quote_too_old_refuses_on_the_page_and_reserves_nothing(tmp_path: Path) -> None:
    """The rate was written down a day ago: a link in CHF is refused, one in the asset itself goes on working."""
    async with priced(tmp_path) as front:
        link, direct = await front.link(currency="CHF"), await front.link()
        noted_at = front.clock()
        async with page_of(front, link) as send:
            front.clock.ahead_secs = 86400
            status, page, _ = await send()
            assert status == 200
            assert await front.count(sessions) == 1
            front.clock.ahead_secs = 86401
            status, page, retry_after = await send()
        assert (status, retry_after) == (503, "60")
        when = datetime.fromtimestamp(noted_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert (
            "The price in CHF cannot be converted to USD at the moment: the latest rate is from "
            f"{when}, which is too long ago." in page
        )
        assert await front.count(sessions) == 1
        assert await front.count(reservations) == 1
        with pytest.raises(QuoteTooOld):
            await front.open(link)
        assert (await front.open(direct)).due_base // 10_000 == 2500


async def test_price_quote_too_old_of_one_source_and_recent_of_another(tmp_path: Path) -> None:
    sources = RateRegistry()
    async with shopfront(tmp_path, sources=sources) as front:
        sources.add("fixed", fixed(front.clock() - 86401))
        sources.add("other", Other(front.clock, lambda: Rate("CHF", "usd", Fraction(2), front.clock() - 300)))
        session = await front.open(await front.link(currency="CHF"))
        assert (await row_of(front, session.id)).quote == Quote(Fraction(2), "other", front.clock() - 300)


# -- a quote and its session --------------------------------------------------------------------------------------


@both_engines
async def test_quote_is_frozen_with_the_session(tmp_path: Path) -> None:
    async with priced(tmp_path) as front:
        session = await front.open(await front.link(currency="CHF"))
        taken_at = front.clock()
        row = await row_of(front, session.id)
        assert row.quote == Quote(Fraction(FIXED), "fixed", taken_at)
        assert (row.price, row.currency, row.price_base) == ("25.00", "CHF", 27_180_000)
        assert row.state.due_base // 10_000 == 2718
        told = next(r["body"].decode() for r in await front.rows(events) if r["type"] == "session.created")
        assert '"price":{"amount":"25.00","currency":"CHF"}' in told
        assert '"quote":{"rate":"0.92","source":"fixed","taken_at":"' in told
        opened = (await story(front.core, session.id))[0]
        assert "25.00 CHF at 1 USD = 0.92 CHF (fixed, " in opened["rule"]
        assert opened["rule"].endswith(" is 27.18 USD, rounded up by 0.006086…")
        await front.mine(front.pay(session.due_base))
        await front.mine()
        assert (await front.session(session.id)).status is Status.PAID


async def test_quote_stays_through_the_window_whatever_rates_do(tmp_path: Path) -> None:
    async with priced(tmp_path) as front:
        session = await front.open(await front.link(currency="CHF"))
        front.clock.ahead_secs = 86401
        await front.mine(front.pay(session.due_base), secs=1700)
        await front.mine()
        state = await front.session(session.id)
        assert (state.status, state.flags) == (Status.PAID, frozenset())


async def test_link_at_parity(tmp_path: Path) -> None:
    """Twenty-five USD are twenty-five of the stablecoin; here by another name than its symbol's."""
    sources = RateRegistry()
    section = USD_ASSET.model_copy(update={"currency": "USDX"})
    async with shopfront(tmp_path, sources=sources, assets={"usd": section}) as front:
        sources.add("parity", ParitySource({"usd": section}, front.clock))
        link = await front.link(currency="USDX")
        assert link.assets == ("usd",)
        session = await front.open(link)
        row = await row_of(front, session.id)
        assert (row.price_base, row.quote) == (25_000_000, Quote(Fraction(1), "parity", front.clock()))
        assert "without rounding" in (await story(front.core, session.id))[0]["rule"]
        await front.mine(secs=1801)
        await front.mine(front.pay(session.due_base))
        await front.mine()
        state = await front.session(session.id)
        assert (state.status, state.flags) == (Status.PAID, {Flag.LATE}), "it is worth the same as before"


@pytest.mark.parametrize(
    ("late", "status", "flags"),
    [
        ("auto", Status.EXPIRED, {Flag.LATE, Flag.HELD}),
        ("hold", Status.EXPIRED, {Flag.LATE, Flag.HELD}),
        ("accept", Status.PAID, {Flag.LATE}),
    ],
)
async def test_late_payment_of_a_price_in_another_currency(
    tmp_path: Path, late: str, status: Status, flags: set[Flag]
) -> None:
    async with priced(tmp_path, late=late) as front:
        session = await front.open(await front.link(currency="CHF"))
        await front.mine(secs=1801)
        await front.mine(front.pay(session.due_base))
        await front.mine()
        state = await front.session(session.id)
        assert (state.status, state.flags) == (status, flags)


async def test_open_amount_in_another_currency(tmp_path: Path) -> None:
    async with priced(tmp_path, minimums={"usd": 500_000}) as front:
        link = await front.link("", currency="CHF")

        async def opened(amount: str) -> Any:
            await look(front.core, front.epoch)
            made = await open_session(front.core, link.slug, "usd", form_token="", source="checkout", amount=amount)
            return await row_of(front, made.session_id)

        assert (await opened("9.20")).price_base == 10_000_000
        for refused in ("0.10", "x", "0", "9" * 80):
            with pytest.raises(AmountError):
                await opened(refused)
        assert await front.count(sessions) == 1


async def test_form_sent_twice_has_one_quote(tmp_path: Path) -> None:
    async with priced(tmp_path) as front:
        link = await front.link(currency="CHF")
        first = await front.open(link, form_token="one")
        front.clock.ahead_secs = 86401
        assert (await front.open(link, form_token="one")).id == first.id


async def test_link_that_is_paused_says_so_and_not_that_it_has_no_rate(tmp_path: Path) -> None:
    async with priced(tmp_path) as front:
        link = await front.link(currency="CHF")
        await set_status(front.core, link.id, LinkStatus.PAUSED)
        front.clock.ahead_secs = 86401
        with pytest.raises(LinkUnavailable):
            await front.open(link)


async def test_links_are_refused_where_nothing_converts(tmp_path: Path) -> None:
    async with priced(tmp_path) as front:
        assert (await front.link(currency="CHF")).assets == ("usd",)
        with pytest.raises(DraftError, match="cannot be paid in 'XYZ'"):
            await front.link(currency="XYZ")
        with pytest.raises(DraftError, match="'coin' is COIN, and no rate source converts CHF to it"):
            await front.link(currency="CHF", assets=("usd", "coin"))
        with pytest.raises(DraftError, match="amount in CHF 'x' is not an amount"):
            await front.link("x", currency="CHF")


async def test_payment_page_tells_the_rate(tmp_path: Path) -> None:
    async with priced(tmp_path) as front:
        link = await front.link(currency="CHF")
        async with page_of(front, link) as send:
            status, page, _ = await send()
        assert status == 200
        assert "The price is 25.00 CHF; until the time is over, 1 USD = 0.92 CHF." in page
        (row,) = await front.rows(sessions)
        assert (await find_session(front.core, row["id"])).row.quote is not None


# -- sources of third parties -------------------------------------------------------------------------------------


@dataclass
class Other:
    """A third party's source: answers, raises or hangs as told."""

    now: Callable[[], int]
    behave: Callable[[], Any]
    cover: Any = True

    def covers(self, currency: str, asset: Asset) -> bool:
        if isinstance(self.cover, Exception):
            raise self.cover
        return self.cover  # type: ignore[no-any-return]

    async def rate(self, currency: str, asset: Asset) -> Rate | None:
        answer = self.behave()
        return await answer if asyncio.iscoroutine(answer) else answer


class Synchronous(Other):
    """Forgets that it is to be awaited."""

    def rate(self, currency: str, asset: Asset) -> Rate | None:  # type: ignore[override]
        return Rate(currency, asset.id, Fraction(5), self.now())


async def deaf() -> None:
    """Ignores that it is cancelled."""
    for _ in range(4):
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            continue


def fails() -> None:
    raise RuntimeError("secret of a customer")


def leaves() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("behave", [fails, leaves, lambda: None, lambda: 1.5, lambda: asyncio.sleep(60), deaf], ids=str)
async def test_source_that_fails_is_passed_by(tmp_path: Path, behave: Callable[[], Any]) -> None:
    """The next one is asked; without a next one the customer reads a sentence, and nothing is reserved."""
    sources = RateRegistry()
    async with shopfront(tmp_path, sources=sources) as front:
        sources.add("bad", Other(front.clock, behave))
        link = await front.link(currency="CHF")
        begun = time.monotonic()
        with pytest.raises(NoQuote, match="there is no rate for it") as refused:
            await front.open(link)
        assert "secret" not in str(refused.value)
        assert await front.count(sessions) == 0
        sources.add("good", Other(front.clock, lambda: Rate("CHF", "usd", Fraction(2), front.clock())))
        session = await front.open(link)
        assert time.monotonic() - begun < 5
        row = await row_of(front, session.id)
        assert (row.quote.source, row.price_base) == ("good", 12_500_000)


async def test_source_that_is_written_wrongly_is_passed_by(tmp_path: Path) -> None:
    sources = RateRegistry()
    async with shopfront(tmp_path, sources=sources) as front:
        sources.add("raises", Other(front.clock, lambda: None, RuntimeError()))
        sources.add("yes", Other(front.clock, lambda: None, "yes"))
        with pytest.raises(DraftError):
            await front.link(currency="CHF")
        sources.add("sync", Synchronous(front.clock, lambda: None))
        link = await front.link(currency="CHF")
        with pytest.raises(NoQuote):
            await front.open(link)
