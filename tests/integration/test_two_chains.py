"""Two chains of one store, ingested at the same time: what they share is decided once, and nobody waits in a ring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.db.tables import reservations
from astrapayd.services.sessions import open_session
from astrapayd.sessions import Flag, Status
from astrapayd.testing import ChainScript, FakeChain, fake_assets
from tests.databases import both_engines
from tests.shopfront import Shopfront, shopfront

pytestmark = both_engines

Fronts = tuple[Shopfront, Shopfront]


@pytest.fixture
async def fronts(tmp_path: Path) -> AsyncIterator[Fronts]:
    """The same store and database, each on its own chain."""
    other = FakeChain(ChainScript("other"), fake_assets("other"))
    async with shopfront(tmp_path) as one, shopfront(tmp_path, chain=other) as two:
        yield one, two


async def test_one_use_of_a_link_is_not_sold_twice_by_two_chains(fronts: Fronts) -> None:
    """Sessions on both chains have expired, so the use of each link is free again; then both are paid late, at once:
    one of them fulfils, the other is held for the merchant."""
    one, two = fronts
    pairs = []
    for _ in range(5):
        link = await one.link(max_uses=1)
        first = await one.open(link)
        await one.mine(secs=3_600)
        second = await two.open(link)
        await two.mine(secs=3_600)
        pairs.append((first, second))
    await asyncio.gather(
        one.mine(*(one.pay(first.due_base) for first, _ in pairs)),
        two.mine(*(two.pay(second.due_base) for _, second in reversed(pairs))),
    )
    await asyncio.gather(one.mine_more(3), two.mine_more(3))
    for first, second in pairs:
        after = await one.session(first.id), await two.session(second.id)
        fulfilled = [s for s in after if s.status is Status.PAID and Flag.HELD not in s.flags]
        assert len(fulfilled) == 1, [(s.status, s.flags) for s in after]
    await one.every_event_has_one_delivery()


async def test_blocks_and_openings_of_two_chains_at_once(fronts: Fronts) -> None:
    """Paid, short, unmatched and limited ones on both, while sessions are opened on the same links."""
    links = [await fronts[0].link(max_uses=30) for _ in range(3)]
    sessions = [[await front.open(link) for link in links for _ in range(4)] for front in fronts]

    async def blocks(front: Shopfront, number: int) -> None:
        for i, session in enumerate(sessions[number]):
            off = 1_000_000 if i % 3 else 0
            await front.mine(front.pay(session.due_base - off), front.pay(7_000_000 + i), secs=1)

    async def openings(front: Shopfront, number: int) -> None:
        for i in range(6):
            token = f"{number} {i}"
            await open_session(front.core, links[i % 3].slug, "usd", form_token=token, source="test")

    work = [blocks(front, number) for number, front in enumerate(fronts)]
    work += [openings(front, number) for number in range(3) for front in fronts]
    await asyncio.gather(*work)
    await fronts[0].every_event_has_one_delivery()
    held = [(r["address_id"], r["tail"]) for r in await fronts[0].rows(reservations)]
    assert len(held) == len(set(held))
