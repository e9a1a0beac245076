"""Opening sessions: unique amounts under concurrency, refusals, limits."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from astrapayd.chains import ChainRegistry
from astrapayd.db import chains as chain_queries
from astrapayd.db.sessions import load_sessions
from astrapayd.db.tables import checkouts, reservations, sessions, tail_spaces
from astrapayd.links import Unavailable
from astrapayd.services.core import NotFound, TryLater
from astrapayd.services.sessions import LinkUnavailable, find_session, is_customer, open_session
from tests.databases import both_engines
from tests.shopfront import PRICE, Shopfront, look, shopfront

pytestmark = both_engines


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def test_64_concurrent_openings_of_one_price_on_one_address_are_all_different(front: Shopfront) -> None:
    link = await front.link()
    opened = await asyncio.gather(
        *(open_session(front.core, link.slug, "usd", form_token=str(i), source="test") for i in range(64))
    )
    due = [(await front.session(o.session_id)).due_base for o in opened]
    assert len(set(due)) == 64
    assert all(PRICE < amount < PRICE + 10_000 and amount % 10 for amount in due)
    for lost_digits in range(1, 7):
        step = 10**lost_digits
        cut = {amount // step * step for amount in due} | {-(-amount // step) * step for amount in due}
        assert not cut & set(due)


async def test_double_post_of_one_form_opens_one_session(front: Shopfront) -> None:
    link = await front.link(max_uses=1)
    first, second = await asyncio.gather(
        *(open_session(front.core, link.slug, "usd", form_token="a form", source="test") for _ in range(2))
    )
    assert first == second
    assert await front.count(sessions) == await front.count(reservations) == await front.count(checkouts) == 1
    row = (await find_session(front.core, first.session_id)).row
    assert is_customer(row, first.secret)
    assert not is_customer(row, "another")


async def test_forms_without_a_token_open_sessions_of_their_own(front: Shopfront) -> None:
    link = await front.link()
    assert (await front.open(link)).id != (await front.open(link)).id


async def test_single_use_link_opened_twice_at_once(front: Shopfront) -> None:
    link = await front.link(max_uses=1)
    outcomes = await asyncio.gather(
        *(open_session(front.core, link.slug, "usd", form_token=str(i), source="test") for i in range(8)),
        return_exceptions=True,
    )
    refused = [o for o in outcomes if isinstance(o, LinkUnavailable)]
    assert (len(refused), await front.count(sessions)) == (7, 1)
    assert {r.why for r in refused} == {Unavailable.SOLD_OUT}


async def test_opening_while_the_node_lags(front: Shopfront) -> None:
    link = await front.link()
    await look(front.core, front.epoch, level=False)
    with pytest.raises(TryLater, match="catching up"):
        await open_session(front.core, link.slug, "usd", form_token="", source="test")
    assert await front.count(sessions) == await front.count(checkouts) == 0


async def test_opening_when_the_watcher_has_been_silent_for_long(front: Shopfront) -> None:
    link = await front.link()
    front.clock.ahead_secs = 91
    with pytest.raises(TryLater):
        await open_session(front.core, link.slug, "usd", form_token="", source="test")


async def test_an_old_watchers_look_opens_nothing(front: Shopfront) -> None:
    link = await front.link()
    async with front.core.database.write() as tx:
        await chain_queries.begin_epoch(tx, "fake")
    await look(front.core, front.epoch)
    with pytest.raises(TryLater):
        await open_session(front.core, link.slug, "usd", form_token="", source="test")


async def test_unknown_links_and_assets(front: Shopfront) -> None:
    link = await front.link()
    for slug, asset in (("none", "usd"), (link.slug, "eur"), (link.slug, "none")):
        with pytest.raises(NotFound):
            await open_session(front.core, slug, asset, form_token="", source="test")


async def test_amount_space_exhaustion_goes_on_to_the_next_address_and_is_then_refused(tmp_path: Path) -> None:
    """All tails but one of the first address are taken; the refused opening leaves nothing behind."""
    async with shopfront(tmp_path, addresses=("fake1a", "fake1b")) as front:
        first = await front.open_new()
        await _fill(front, first.id, "fake1a", leave=1)
        second, third = await front.open_new(), await front.open_new()
        placed = [(await find_session(front.core, s.id)).row.address for s in (first, second, third)]
        assert placed == ["fake1a", "fake1a", "fake1b"]
        await _fill(front, first.id, "fake1b", leave=0)
        before = [await front.count(t) for t in (sessions, checkouts, reservations)]
        link = await front.link()
        with pytest.raises(TryLater) as refused:
            await front.open(link)
        assert refused.value.retry_after_secs > 0
        assert [await front.count(t) for t in (sessions, checkouts, reservations)] == before


async def test_9000_openings_fill_one_address_exactly_and_the_next_goes_to_the_next_address(tmp_path: Path) -> None:
    """8,960 of the reservations are written in bulk, as that many openings would leave them; 40 are opened for real."""
    async with shopfront(tmp_path, addresses=("fake1a", "fake1b")) as front:
        first = await front.open_new()
        await _fill(front, first.id, "fake1a", leave=39)
        link = await front.link()
        opened = await asyncio.gather(
            *(open_session(front.core, link.slug, "usd", form_token=str(i), source="test") for i in range(39))
        )
        rows = [(await find_session(front.core, one.session_id)).row for one in opened]
        assert {row.address for row in rows} == {"fake1a"}
        held = await front.rows(reservations)
        tails = {r["tail"] for r in held}
        assert len(held) == len(tails) == 9_000
        assert all(tail % 10 for tail in tails)
        last = await front.open(link)
        assert (await find_session(front.core, last.id)).row.address == "fake1b"


async def test_tails_are_let_again_only_after_their_late_window_and_the_longest_rested_first(front: Shopfront) -> None:
    first = await front.open_new()
    await _fill(front, first.id, "fake1shop", leave=0)
    rested = {10 * i + 1 for i in range(60)}
    newer = {10 * i + 2 for i in range(40)}
    async with front.core.database.write() as tx:
        for tails, released_at in ((rested, front.clock() - 2_000), (newer, front.clock() - 1_000)):
            of_tails = reservations.c.tail.in_(tails)
            await tx.execute(update(reservations).where(of_tails).values(released_at=released_at))
    assert {(await front.open_new()).due_base - PRICE for _ in range(10)} < rested


async def test_amount_that_an_earlier_customer_may_still_pay_is_given_out_last(front: Shopfront) -> None:
    """All but a few tails have rested; some of them were asked for at this price and never paid."""
    first = await front.open_new()
    await _fill(front, first.id, "fake1shop", leave=0)
    asked = {10 * i + 1 for i in range(60)}
    other_price = {10 * i + 2 for i in range(3)}
    async with front.core.database.write() as tx:
        for tails, due_of in ((asked, lambda t: PRICE + t), (other_price, lambda t: 2 * PRICE + t)):
            for tail in tails:
                given_back = {"released_at": front.clock() - 1_000, "due_base": due_of(tail)}
                await tx.execute(update(reservations).where(reservations.c.tail == tail).values(given_back))
    opened = [(await front.open_new()).due_base - PRICE for _ in range(5)]
    assert set(opened[:3]) == other_price
    assert set(opened[3:]) < asked


async def test_changed_tail_digits_are_noticed(front: Shopfront) -> None:
    """An address that was used with other numbers takes no more: amounts could no longer be told apart."""
    link = await front.link()
    await front.open(link)
    async with front.core.database.write() as tx:
        await tx.execute(update(tail_spaces).values(tail_digits=3))
    with pytest.raises(TryLater):
        await front.open(link)


async def test_two_stores_given_one_address(front: Shopfront) -> None:
    async with front.core.database.write() as tx:
        configured = {"fake1shop": "other", "fake1new": "other"}
        assert await chain_queries.synchronise_addresses(tx, "fake", configured, 1) == {"fake1shop": "shop"}
        assert set(await chain_queries.load_addresses(tx, "fake", {"fake1shop", "fake1other"})) == {"fake1shop"}, (
            "nothing was changed"
        )


async def test_an_address_put_back_is_given_out_again(front: Shopfront) -> None:
    async with front.core.database.write() as tx:
        for configured in ({}, {"fake1shop": "shop"}):
            assert not await chain_queries.synchronise_addresses(tx, "fake", configured, 5)
        watched = await chain_queries.load_watched(tx, "fake", front.chain.assets.values())
    assert watched.version == front.script.watch_version, "nothing new to watch"


async def test_opening_height_is_the_ingested_chains(front: Shopfront) -> None:
    await front.mine_more(3)
    session = await front.open_new()
    async with front.core.database.read() as connection:
        registry: ChainRegistry = front.core.registry
        row = (await load_sessions(connection, [session.id], registry))[session.id]
    assert row.opened_height == front.script.tip.height


async def _fill(front: Shopfront, session_id: str, address: str, *, leave: int) -> None:
    """Take every free tail of an address but ``leave`` of them."""
    async with front.core.database.write() as tx:
        known = (await chain_queries.load_addresses(tx, "fake", [address]))[address]
        held = {r["tail"] for r in await front.rows(reservations) if r["address_id"] == known.id}
        free = [tail for tail in range(1, 10_000) if tail % 10 and tail not in held]
        assert len(free) + len(held) == 9_000
        for _ in range(leave):
            free.pop(secrets.randbelow(len(free)))
        blank = {"session_id": session_id, "purpose": "price", "asset": "usd", "address_id": known.id}
        more = {"opened_at": 0, "opened_height": 0, "live_until": 2_000_000_000}
        await tx.execute(reservations.insert(), [{**blank, **more, "tail": t, "due_base": PRICE + t} for t in free])
