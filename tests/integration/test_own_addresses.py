"""Addresses from an account's key: one counter, never the same twice, and never beyond what the wallet looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrapayd.config import AccountSection
from astrapayd.db.tables import addresses
from astrapayd.services.core import TryLater
from astrapayd.testing import FakeWatcher
from astrapayd.transfers import WatcherError
from tests.databases import both_engines
from tests.shopfront import ADDRESS, PRICE, shopfront

pytestmark = both_engines

ACCOUNT = AccountSection(xpub="fakepub1", gap_limit=3)


def own(index: int) -> str:
    return f"fake1fakepub1x0x{index}"


async def test_each_session_gets_the_next_address_and_the_exact_price(tmp_path: Path) -> None:
    async with shopfront(tmp_path, account=ACCOUNT) as front:
        link = await front.link()
        sessions = [await front.open(link) for _ in range(3)]
        assert [s.due_base for s in sessions] == [PRICE] * 3
        rows = await front.rows(addresses)
        assert [(r["address"], r["derivation_index"]) for r in rows] == [(own(i), i) for i in range(3)]
        assert len({r["added_version"] for r in rows}) == 3, "each is a new version of the watched set"


async def test_gap_limit_stops_before_the_wallet_does_and_a_payment_opens_it_again(tmp_path: Path) -> None:
    async with shopfront(tmp_path, account=ACCOUNT) as front:
        link = await front.link()
        for _ in range(3):
            await front.open(link)
        with pytest.raises(TryLater):
            await front.open(link)
        front.script.watch_version = 3
        await front.mine(front.pay(PRICE, to=own(1)))
        await front.open(link)  # one of three was paid: the run of empty ones is 1 long
        assert [r["derivation_index"] for r in await front.rows(addresses)] == [0, 1, 2, 3]


async def test_refused_opening_takes_no_index(tmp_path: Path) -> None:
    async with shopfront(tmp_path, account=ACCOUNT) as front:
        link = await front.link()
        for _ in range(3):
            await front.open(link)
        for _ in range(5):
            with pytest.raises(TryLater):
                await front.open(link)
        assert len(await front.rows(addresses)) == 3


async def test_shared_addresses_come_first_and_the_key_is_the_way_out_when_they_are_full(tmp_path: Path) -> None:
    account = AccountSection(addresses=(ADDRESS,), xpub="fakepub1")
    async with shopfront(tmp_path, account=account) as front:
        shared = await front.open_new()
        assert shared.due_base != PRICE, "a tail on the shared address"
        assert [r["address"] for r in await front.rows(addresses)] == [ADDRESS]


async def test_address_that_is_known_already_is_skipped(tmp_path: Path) -> None:
    """The administrator has listed the key's second address as a shared one: no session gets it for its own."""
    account = AccountSection(addresses=(own(1),), xpub="fakepub1")
    async with shopfront(tmp_path, account=account) as front:
        front.chain.assets = {
            key: asset if key != "usd" else _without_tails(asset) for key, asset in front.chain.assets.items()
        }
        for _ in range(2):
            await front.open_new()
        given = [r["derivation_index"] for r in await front.rows(addresses) if r["derivation"] is not None]
        assert given == [0, 2]


async def test_address_with_a_history_is_skipped(tmp_path: Path) -> None:
    """The merchant's wallet has given out the first two addresses of the account itself."""
    async with shopfront(tmp_path, account=ACCOUNT) as front:
        await front.mine(front.pay(PRICE, to=own(0)), front.pay(PRICE, to=own(1)))
        await front.open_new()
        assert [r["derivation_index"] for r in await front.rows(addresses)] == [2]


async def test_long_history_is_skipped_over_in_one_opening(tmp_path: Path) -> None:
    async with shopfront(tmp_path, account=ACCOUNT) as front:
        await front.mine(*(front.pay(PRICE, to=own(i)) for i in range(35)))
        await front.open_new()
        assert [r["derivation_index"] for r in await front.rows(addresses)] == [35]


async def test_history_longer_than_one_opening_looks_through_is_passed_by_in_the_end(tmp_path: Path) -> None:
    """An account that a wallet has used for years: some openings ask to come back, and none begins from the start."""
    async with shopfront(tmp_path, account=ACCOUNT) as front:
        await front.mine(*(front.pay(PRICE, to=own(i)) for i in range(250)))
        link = await front.link()
        for _ in range(2):
            with pytest.raises(TryLater, match="never used before"):
                await front.open(link)
            front.clock.ahead_secs += 3600  # what the node said is forgotten, how far it was asked is not
        await front.open(link)
        assert [r["derivation_index"] for r in await front.rows(addresses)] == [250]


async def test_no_address_is_given_out_unvetted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shopfront(tmp_path, account=ACCOUNT) as front:
        link = await front.link()

        async def silent(_self: FakeWatcher, _addresses: object) -> frozenset[str]:
            raise WatcherError("the node does not answer")

        with monkeypatch.context() as patch:
            patch.setattr(FakeWatcher, "used", silent)
            with pytest.raises(TryLater, match="node does not answer") as refused:
                await front.open(link)
        assert refused.value.retry_after_secs > 0
        assert await front.rows(addresses) == []
        await front.open(link)


async def test_0_and_2_decimal_tokens_take_addresses_of_their_own(tmp_path: Path) -> None:
    account = AccountSection(addresses=(ADDRESS,), xpub="fakepub1")
    async with shopfront(tmp_path, account=account) as front:
        front.chain.assets = {**front.chain.assets, "usd": _without_tails(front.usd)}
        session = await front.open_new()
        assert session.due_base == PRICE


async def test_address_added_behind_the_tip_is_not_missed(tmp_path: Path) -> None:
    """An update fetched before the opening is refused; fetched again it has the new address."""
    async with shopfront(tmp_path, account=ACCOUNT) as front:
        session = await front.open_new()
        step = front.script.mine(front.pay(PRICE, to=own(0)))
        from astrapayd.ingest import StaleWatch

        with pytest.raises(StaleWatch):
            await front.apply(step)
        front.script.watch_version = 1
        await front.apply(front.script.since(step.base))
        assert (await front.session(session.id)).received_base == PRICE


def _without_tails(asset):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(asset, tail_digits=0)
