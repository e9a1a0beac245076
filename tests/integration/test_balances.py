"""Coin that comes without a transfer is told once, with the session that waits for it, and never credited."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from astrapayd.config import AccountSection
from astrapayd.db.tables import balances, credits, events
from astrapayd.services.doctor import Verdict, _waiting
from astrapayd.transfers import Balance
from tests.databases import both_engines
from tests.shopfront import ADDRESS, Shopfront, shopfront

pytestmark = both_engines

COIN = 10**18


async def told(front: Shopfront) -> list[dict[str, Any]]:
    return [
        json.loads(row["body"])["data"]["balance"]
        for row in await front.rows(events)
        if row["type"] == "balance.unexplained"
    ]


async def test_rise_without_a_transfer_is_told_with_the_session_that_expects_it(tmp_path: Path) -> None:
    async with shopfront(tmp_path) as front:
        await front.apply(front.script.hold(ADDRESS, 5 * COIN))
        assert await told(front) == [], "the first look has nothing to be compared with"
        session = await front.open(await front.link("0.5", "COIN"), "coin")
        await front.apply(front.script.hold(ADDRESS, 5 * COIN + session.due_base))
        (balance,) = await told(front)
        assert balance["sessions"] == [session.id]
        assert balance["block"]["height"] == front.script.tip.height
        assert balance["above_height"] == front.script.tip.height - 1
        assert await front.count(credits) == 0
        assert (await front.session(session.id)).received_base == 0
        (finding,) = await _waiting(front.core)
        assert finding.verdict is Verdict.LOOK
        assert finding.sentence.startswith("1 times in the last week coin came without a transfer")
        await front.apply(front.script.hold(ADDRESS, 5 * COIN + session.due_base))
        assert len(await told(front)) == 1, "told once"


async def test_transfers_explain_what_an_address_holds(tmp_path: Path) -> None:
    async with shopfront(tmp_path) as front:
        await front.apply(front.script.hold(ADDRESS, 0))
        await front.mine(front.pay(3 * COIN, asset="coin"))  # an update without a look, as while a gap is filled
        await front.apply(front.script.hold(ADDRESS, 3 * COIN))
        step = front.script.mine(front.pay(COIN, asset="coin"), front.pay(2 * COIN, asset="coin"))
        await front.apply(replace(step, balances=(Balance(ADDRESS, 6 * COIN),)))
        assert await told(front) == []


async def test_what_left_the_address_feigns_no_rise(tmp_path: Path) -> None:
    async with shopfront(tmp_path) as front:
        await front.apply(front.script.hold(ADDRESS, 9 * COIN))
        await front.apply(front.script.hold(ADDRESS, COIN))
        step = front.script.mine(front.pay(COIN, asset="coin"))
        await front.apply(replace(step, balances=(Balance(ADDRESS, 2 * COIN),)))
        assert await told(front) == []


async def test_payment_mined_again_elsewhere_is_no_rise(tmp_path: Path) -> None:
    async with shopfront(tmp_path) as front:
        await front.apply(front.script.hold(ADDRESS, COIN))
        await front.mine()
        paid = front.pay(4 * COIN, asset="coin")
        step = front.script.mine(paid)
        await front.apply(replace(step, balances=(Balance(ADDRESS, 5 * COIN),)))
        moved = front.script.reorg(2, [], [], [paid])
        await front.apply(replace(moved, balances=(Balance(ADDRESS, 5 * COIN),)))
        assert await told(front) == []
        gone = front.script.reorg(1, [], [])
        await front.apply(replace(gone, balances=(Balance(ADDRESS, COIN),)))
        assert await told(front) == []
        (row,) = await front.rows(balances)
        assert (row["height"], row["amount_base"]) == (front.script.tip.height, COIN)


async def test_rise_in_a_branch_that_replaced_another_is_told(tmp_path: Path) -> None:
    async with shopfront(tmp_path) as front:
        await front.apply(front.script.hold(ADDRESS, COIN))
        paid = front.pay(4 * COIN, asset="coin")
        step = front.script.mine(paid)
        await front.apply(replace(step, balances=(Balance(ADDRESS, 5 * COIN),)))
        moved = front.script.reorg(1, [], [paid])
        await front.apply(replace(moved, balances=(Balance(ADDRESS, 7 * COIN),)))
        (balance,) = await told(front)
        assert balance["rose_by"] == "2.000000"


async def test_first_coin_of_a_new_address_is_told(tmp_path: Path) -> None:
    """Nothing was ever looked at there; but the node was asked whether it is unused."""
    async with shopfront(tmp_path, account=AccountSection(xpub="fakepub1")) as front:
        session = await front.open(await front.link("0.5", "COIN"), "coin")
        front.script.watch_version = 1
        await front.apply(front.script.hold("fake1fakepub1x0x0", session.due_base))
        (balance,) = await told(front)
        assert balance["sessions"] == [session.id]
