"""Paid somewhere else, or for two at once: networks, keys and links that several share, on a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from astrapayd.config import AccountSection, StoreSection
from astrapayd.db import chains as chain_queries
from astrapayd.db.tables import addresses, sessions, transfers
from astrapayd.db.tables import links as link_rows
from astrapayd.links import LinkDraft
from astrapayd.services.links import create_link
from astrapayd.services.sessions import LinkUnavailable
from astrapayd.sessions import Flag, Status
from astrapayd.testing import ChainScript, FakeChain, fake_assets
from tests.shopfront import ADDRESS, Shopfront, shopfront


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def test_wrong_network(front: Shopfront) -> None:
    """The same address exists on another chain. What comes there is kept, and is not this session's."""
    other = FakeChain(ChainScript("other"), fake_assets("other"))
    front.core.registry.add(other)
    async with front.core.database.write() as tx:
        await chain_queries.insert_chain(tx, "other", other.network)
        assert not await chain_queries.synchronise_addresses(tx, "other", {ADDRESS: "shop"}, 0)
        epoch = await chain_queries.begin_epoch(tx, "other")
    other.script.watch_version = 1
    await front.core.ingest.apply(other.script.since(None), epoch)
    session = await front.open_new()
    wrong = other.script.transfer(other.assets["usd"], ADDRESS, session.due_base)
    await front.core.ingest.apply(other.script.mine(wrong), epoch)
    row = await front.transfer_row(wrong)
    assert (row["chain"], row["standing"], row["candidates"]) == ("other", "unmatched", [])
    await front.mine_more(2)
    assert await front.session(session.id) == session


async def test_two_stores_given_one_xpub(tmp_path: Path) -> None:
    """One counter for the key: neither store is ever given an address of the other."""
    account = AccountSection(xpub="fakepub1")
    async with shopfront(tmp_path, account=account) as front:
        both = {**front.core.config.stores, "second": StoreSection(name="Second", accounts={"fake": account})}
        front.core = replace(front.core, config=replace(front.core.config, stores=both))
        mine, theirs = [
            await create_link(front.core, LinkDraft(store, "Test", "25.00", "USD"), source="test")
            for store in ("shop", "second")
        ]
        for link in (mine, theirs, theirs, mine):
            await front.open(link)
        given = sorted((r["derivation_index"], r["store"]) for r in await front.rows(addresses))
        assert given == [(0, "shop"), (1, "second"), (2, "second"), (3, "shop")]
        assert len({r["derivation"] for r in await front.rows(addresses)}) == 1


async def test_mined_without_being_seen(front: Shopfront) -> None:
    """Its block's time is when it was heard of, and it is told as seen all the same."""
    session = await front.open_new()
    payment = front.pay(session.due_base)
    await front.mine(payment)
    row = await front.transfer_row(payment)
    assert (row["first_seen_at"], row["first_seen_height"]) == (front.script.tip.time, front.script.tip.height)
    assert (await front.told(session.id))[-2:] == ["payment.seen", "session.processing"]


async def test_single_use_link_opened_twice_at_once_both_paid(front: Shopfront) -> None:
    """Two sessions hold the link's one use (as when its limit was lowered meanwhile), and both customers pay."""
    link = await front.link()
    first, second = await front.open(link), await front.open(link)
    async with front.core.database.write() as tx:
        await tx.execute(update(link_rows).values(max_uses=1))
    with pytest.raises(LinkUnavailable):
        await front.open(link)
    await front.mine(front.pay(second.due_base), front.pay(first.due_base))
    await front.mine_more(8)
    # Each held its use from its opening on: who was let in is served, and nobody is let in after them.
    for session in (first, second):
        assert (await front.session(session.id)).status is Status.PAID
        assert (await front.told(session.id)).count("session.paid") == 1
    with pytest.raises(LinkUnavailable):
        await front.open(link)


async def test_link_expired_between_opening_and_paying(front: Shopfront) -> None:
    link = await front.link(expires_at=front.clock() + 60)
    session = await front.open(link)
    await front.mine(secs=120)
    with pytest.raises(LinkUnavailable, match="expired"):
        await front.open(link)
    await front.mine(front.pay(session.due_base))
    await front.mine()
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PAID, frozenset())


async def test_link_sold_out_between_opening_and_paying(front: Shopfront) -> None:
    """It expired and so gave its use back; another took it. What the first then pays is held, not lost."""
    link = await front.link(max_uses=1)
    first = await front.open(link)
    await front.mine(secs=1801)
    second = await front.open(link)
    await front.mine(front.pay(second.due_base))
    await front.mine(front.pay(first.due_base))
    await front.mine_more(8)
    assert (await front.session(second.id)).status is Status.PAID
    held = await front.session(first.id)
    assert (held.status, held.flags) == (Status.PROCESSING, {Flag.LATE, Flag.HELD})
    assert await front.count(transfers) == await front.count(sessions) == 2
