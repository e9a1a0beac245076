"""A store with an xpub: each session has an address of its own, and pays the exact price there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.services.payments import list_payments
from astrapayd_evm import address, derivation
from tests.nodes.harness import TestNode
from tests.shop import COIN, USDT, Shop, a_shop

XPUB = "xpub6DCoCpSuQZB2jawqnGMEPS63ePKWkwWPH4TU45Q7LPXWuNd8TMtVxRrgjtEshuqpK3mdhaWHPFsBngh5GFZaM6si3yZdUsT8ddYM3PwnATt"


@pytest.fixture
async def shop(node: TestNode, tmp_path: Path) -> AsyncIterator[Shop]:
    async with a_shop(
        tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt, account=f'xpub = "{XPUB}"'
    ) as shop:
        await shop.start()
        yield shop


def derived(index: int) -> str:
    return address.display(derivation.derive(XPUB, 0, index))


async def test_exact_price_on_an_address_of_its_own(shop: Shop, node: TestNode) -> None:
    url = await shop.link("25.00", "USDT")
    first, second = await shop.open(url, USDT), await shop.open(url, USDT)
    assert (first.address, second.address) == (derived(0), derived(1))
    assert first.due_base == second.due_base == 25_000_000
    await node.pay_token(second.address, second.due_base)
    await node.mine()
    told = (await shop.until("session.paid"))[-1]["data"]
    assert told["session"]["id"] == second.session_id
    assert told["payments"][0]["credited_by"] == "address"
    assert told["session"]["received"] == "25.00"


async def test_used_addresses_are_skipped(shop: Shop, node: TestNode) -> None:
    """The wallet of the merchant has given out the first addresses of the account: one holds a token, one coin."""
    await node.pay_token(derived(0), 1)
    await node.pay_native(derived(1), 1)
    await node.mine()
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    assert asked.address == derived(2)


async def test_partial_then_rest_on_an_address_of_its_own(shop: Shop, node: TestNode) -> None:
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    await node.pay_token(asked.address, 24_000_000)
    await node.mine()
    await shop.until("session.underpaid")
    again = await shop.read(asked.session_id)
    assert (again.address, again.due_base) == (asked.address, 1_000_000), "the page asks for what is missing"
    await node.pay_token(asked.address, 1_000_000)
    await node.mine()
    assert (await shop.until("session.paid"))[-1]["data"]["session"]["received"] == "25.00"


async def test_wrong_token_on_a_derived_address(shop: Shop, node: TestNode) -> None:
    asked = await shop.open(await shop.link("0.015", "ETH"), COIN)
    await node.pay_token(asked.address, 25_000_000)
    await node.mine()
    told = (await shop.until("transfer.unmatched"))[-1]["data"]["transfer"]
    assert told["reason"] == "USDT came to an address that expects ETH"
    assert told["candidates"][0]["session"] == asked.session_id
    (payment,) = await list_payments(shop.core)
    assert payment.session_id is None


async def test_address_of_a_session_opened_while_the_daemon_runs_is_watched_at_once(shop: Shop, node: TestNode) -> None:
    url = await shop.link("25.00", "USDT")
    for _ in range(5):
        asked = await shop.open(url, USDT)
        await node.pay_token(asked.address, asked.due_base)
        await node.mine()
        assert (await shop.until("session.paid"))[-1]["data"]["session"]["id"] == asked.session_id
    assert "watcher failed" not in shop.log.read_text()
