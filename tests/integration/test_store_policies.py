"""What a store can decide: tiers of confirmations, rests too small to be sent, open amounts, shares of the amounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrapayd.chains import Depth, Tier
from astrapayd.config import AccountSection
from astrapayd.db.tables import reservations, sessions
from astrapayd.links import AmountRules
from astrapayd.matching import tail_of
from astrapayd.money import AmountError
from astrapayd.services.capacity import spaces
from astrapayd.services.core import TryLater
from astrapayd.services.explain import standing
from astrapayd.services.sessions import find_session, open_session
from astrapayd.sessions import Flag, Status
from tests.databases import both_engines
from tests.shopfront import ADDRESS, PRICE, Shopfront, look, shopfront

pytestmark = both_engines

OWN = AccountSection(xpub="fakepub1", gap_limit=100)
TIERS = {"usd": [Tier(20_000_000, Depth.of_blocks(4)), Tier(1_000_000_000, Depth.of_blocks(6))]}


async def why(front: Shopfront, session_id: str) -> str:
    return standing(front.core, await find_session(front.core, session_id))


# -- tiers --------------------------------------------------------------------------------------------------------


async def test_larger_sum_waits_for_more_confirmations(tmp_path: Path) -> None:
    """Two for small ones, four from 20, six from 1,000."""
    async with shopfront(tmp_path, tiers=TIERS) as front:
        small, middle = await front.open_new("19.00"), await front.open_new("25.00")
        large = await front.open_new("1000.00")
        await front.mine(*(front.pay(session.due_base) for session in (small, middle, large)))
        paid_at: dict[str, int] = {}
        for depth in range(1, 8):
            for session in (small, middle, large):
                if (await front.session(session.id)).status is Status.PAID:
                    paid_at.setdefault(session.id, depth)
            if depth == 3:
                assert "confirmations: 3 of 4" in await why(front, middle.id)
            await front.mine()
        assert paid_at == {small.id: 2, middle.id: 4, large.id: 6}


async def test_hundred_small_transfers_under_a_confirmation_tier(tmp_path: Path) -> None:
    """Each alone would need two confirmations; their sum needs six, whatever it is cut into."""
    async with shopfront(tmp_path, tiers=TIERS, account=OWN) as front:
        session = await front.open_new("10.00")
        front.script.watch_version = 1
        own = "fake1fakepub1x0x0"
        await front.mine(*(front.pay(10_000_000, to=own) for _ in range(100)))
        await front.mine_more(4)
        assert (await front.session(session.id)).status is Status.PROCESSING
        await front.mine()
        assert (await front.session(session.id)).status is Status.PAID


async def test_further_payment_into_a_higher_tier_takes_nothing_back(tmp_path: Path) -> None:
    async with shopfront(tmp_path, tiers=TIERS, account=OWN) as front:
        session = await front.open_new("10.00")
        front.script.watch_version = 1
        own = "fake1fakepub1x0x0"
        await front.mine(front.pay(10_000_000, to=own))
        await front.mine()
        assert (await front.session(session.id)).status is Status.PAID
        await front.mine(front.pay(2_000_000_000, to=own))
        assert (await front.session(session.id)).status is Status.PAID
        assert "session.reverted" not in await front.told(session.id)
        await front.mine_more(5)
        assert (await front.session(session.id)).confirmed_base == 2_010_000_000


# -- held open, and small rests -----------------------------------------------------------------------------------


async def test_payment_seen_in_time_and_mined_long_after_the_window(tmp_path: Path) -> None:
    async with shopfront(tmp_path, held_open_secs=7200, late_window_secs=60) as front:
        session = await front.open_new()
        paid = front.pay(session.due_base)
        await front.apply(front.script.see(paid))
        await front.mine(secs=1800 + 7000)
        assert (await front.session(session.id)).status is Status.PROCESSING
        await front.mine(paid)
        await front.mine()
        state = await front.session(session.id)
        assert (state.status, state.flags) == (Status.PAID, frozenset())


async def test_payment_seen_in_time_and_mined_too_late_is_held(tmp_path: Path) -> None:
    async with shopfront(tmp_path, held_open_secs=7200, late_window_secs=60) as front:
        session = await front.open_new()
        paid = front.pay(session.due_base)
        await front.apply(front.script.see(paid))
        await front.mine(secs=1800 + 7201)
        assert (await front.session(session.id)).status is Status.EXPIRED
        await front.mine(paid)
        await front.mine_more(6)
        state = await front.session(session.id)
        assert (state.status, state.flags) == (Status.EXPIRED, {Flag.LATE, Flag.HELD})
        assert (await why(front, session.id)).startswith("It is held: the payment came late")
        assert "session.paid" not in await front.told(session.id)


@pytest.mark.parametrize(("policy", "status"), [("hold", Status.PENDING), ("forgive", Status.PAID)])
async def test_rest_below_dust(tmp_path: Path, policy: str, status: Status) -> None:
    async with shopfront(tmp_path, minimums={"usd": 500_000}, small_rest=policy) as front:
        session = await front.open_new()
        await front.mine(front.pay(session.due_base - 490_000))
        await front.mine()
        state = await front.session(session.id)
        assert state.status is status
        assert (Flag.HELD in state.flags) is (policy == "hold")
        assert len(await front.rows(reservations)) == 1, "nobody is asked for a rest that cannot be sent"


async def test_rest_that_can_be_sent_is_asked_for(tmp_path: Path) -> None:
    async with shopfront(tmp_path, minimums={"usd": 500_000}, small_rest="forgive") as front:
        session = await front.open_new()
        await front.mine(front.pay(session.due_base - 510_000))
        assert (await front.session(session.id)).status is Status.PENDING
        assert [row["purpose"] for row in await front.rows(reservations)] == ["price", "rest"]


# -- open amounts -------------------------------------------------------------------------------------------------


async def open_amount(front: Shopfront, amount: str, slug: str) -> str:
    await look(front.core, front.epoch)
    return (await open_session(front.core, slug, "usd", form_token="", source="checkout", amount=amount)).session_id


async def test_open_amount(tmp_path: Path) -> None:
    async with shopfront(tmp_path) as front:
        link = await front.link("", amount_rules=AmountRules("1", "100"))
        session = await front.session(await open_amount(front, "33.33", link.slug))
        assert session.due_base // 10_000 == 3333
        await front.mine(front.pay(session.due_base))
        await front.mine()
        assert (await front.session(session.id)).status is Status.PAID
        before = await front.rows(reservations)
        for refused in ("0.99", "100.01", "", "x"):
            with pytest.raises(AmountError):
                await open_amount(front, refused, link.slug)
        assert await front.rows(reservations) == before


async def test_chosen_open_amount_aimed_at_somebodys_due(tmp_path: Path) -> None:
    """A stranger who has read a victim's amount off the screen asks for the same: it cannot be had."""
    async with shopfront(tmp_path) as front:
        victim = await front.open_new()
        link = await front.link("")
        with pytest.raises(AmountError, match="decimals"):
            await open_amount(front, f"{victim.due_base // 10**6}.{victim.due_base % 10**6:06d}", link.slug)
        for _ in range(20):
            aimed = await front.session(await open_amount(front, "25.00", link.slug))
            assert tail_of(aimed.due_base, front.usd) != tail_of(victim.due_base, front.usd)
        await front.mine(front.pay(victim.due_base))
        assert (await front.session(victim.id)).received_base == victim.due_base


# -- shares of the amounts ----------------------------------------------------------------------------------------


async def test_amount_space_exhaustion_by_a_bot_leaves_the_shop_open_for_others(tmp_path: Path) -> None:
    """Nine amounts: browsers may hold seven of them, those of one link six; keys and the merchant have the rest."""
    async with shopfront(tmp_path, anonymous_percent=75, link_percent=60, key_percent=50) as front:
        front.chain.assets = {**front.chain.assets, "usd": _one_digit(front.usd)}
        link, other = await front.link(), await front.link()
        await look(front.core, front.epoch)

        async def opened(slug: str, source: str) -> int:
            count = await front.count(sessions)

            async def open_on() -> None:
                for _ in range(20):
                    await open_session(front.core, slug, "usd", form_token="", source=source)

            with pytest.raises(TryLater) as full:
                await open_on()
            assert 30 <= full.value.retry_after_secs <= 3600
            return await front.count(sessions) - count

        assert await opened(link.slug, "checkout") == 6
        assert await opened(other.slug, "checkout") == 1
        assert await opened(link.slug, "key:key_1") == 2
        (space,) = [s for s in await spaces(front.core) if s.asset.id == "usd"]
        assert (space.size, space.taken, space.opened_lately) == (9, 9, 9)
        assert space.full_in_secs == 0


async def test_own_addresses_are_the_way_out_where_a_share_is_taken(tmp_path: Path) -> None:
    account = AccountSection(addresses=(ADDRESS,), xpub="fakepub1")
    async with shopfront(tmp_path, account=account, anonymous_percent=20, link_percent=20) as front:
        front.chain.assets = {**front.chain.assets, "usd": _one_digit(front.usd)}
        link = await front.link()
        await look(front.core, front.epoch)
        dues = []
        for _ in range(4):
            opened = await open_session(front.core, link.slug, "usd", form_token="", source="checkout")
            dues.append((await front.session(opened.session_id)).due_base)
        assert [due == PRICE for due in dues] == [False, False, True, True]


def _one_digit(asset):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(asset, tail_digits=1)
