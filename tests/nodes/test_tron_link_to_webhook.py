"""The chain cases of the list that apply to Tron, from link to signed webhook; each test is named after its case.

The node is the java-tron stand-in, by :class:`~tests.plugins.tron.tron_node.TronNode` where a real one could do the
same, and by what only a stand-in can be made to do where a case needs that.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from astrapayd.money import parse_amount
from astrapayd.services.payments import list_payments
from astrapayd.services.sessions import find_session
from astrapayd.sessions import Status
from astrapayd_tron.address import from_hex20
from tests.plugins.tron.tron_node import StandInNode, TronNode, running
from tests.shop import Asked, Shop, a_shop_on

USDT, TRX = "usdt-tron", "trx"
OURS, STRANGER = from_hex20("5a" * 20), from_hex20("77" * 20)
_ADDRESS = re.compile(r"\bT[1-9A-HJ-NP-Za-km-z]{33}\b")


@pytest.fixture
async def node() -> AsyncIterator[StandInNode]:
    async with running(StandInNode()) as one:
        yield one


@asynccontextmanager
async def a_tron_shop(
    folder: Path,
    node: TronNode,
    more: Sequence[TronNode] = (),
    confirmations: str = "1",
    store: str = "",
    token: str = "",
) -> AsyncIterator[Shop]:
    nodes = "\n".join(
        f'[[chains.tron.nodes]]\nurl = "{one.url}"\nsolidity = "{one.solidity}"\nevents = "{one.events}"\n'
        for one in (node, *more)
    )
    tables = f"""
[chains.tron]
plugin = "tron"
network = "private"
genesis = "{node.genesis}"
confirmations = {confirmations}
poll_secs = 0.5

{nodes}
[assets.{USDT}]
chain = "tron"
symbol = "USDT"
contract = "{node.usdt}"
decimals = 6
{token}

[assets.{TRX}]
chain = "tron"
symbol = "TRX"
decimals = 6
price_decimals = 2
tail_digits = 4

[stores.shop]
name = "The shop"
{store}

[stores.shop.accounts.tron]
addresses = ["{OURS}"]
"""
    async with a_shop_on(folder, tables) as shop:
        await shop.start()
        yield shop


async def open_on(shop: Shop, url: str, asset: str) -> Asked:
    """Open a link, and read what is due from the session: Tron's pages have no payment URI to read it from."""
    async with asyncio.timeout(30):
        while True:
            form = {"asset": asset, "form_token": secrets.token_hex(8)}
            async with shop.browser.post(url, data=form) as answer:
                page = await answer.text()
                if answer.status == 200:
                    break
                assert answer.status == 503, (answer.status, page)
            await asyncio.sleep(0.05)
    session_id = answer.url.name
    state = (await find_session(shop.core, session_id)).row.state
    assert OURS in _ADDRESS.findall(page)
    return Asked(session_id, OURS, state.due_base)


async def two_sessions(shop: Shop) -> tuple[Asked, Asked]:
    url = await shop.link("25.00", "USDT")
    return await open_on(shop, url, USDT), await open_on(shop, url, USDT)


async def _paid(shop: Shop) -> dict[str, Any]:
    told: dict[str, Any] = (await shop.until("session.paid"))[-1]["data"]
    return told


async def test_mined_without_being_seen(node: StandInNode, tmp_path: Path) -> None:
    async with a_tron_shop(tmp_path, node) as shop:
        for asset, price, currency, pay in (
            (USDT, "25.00", "USDT", node.pay_token),
            (TRX, "80.00", "TRX", node.pay_coin),
        ):
            asked = await open_on(shop, await shop.link(price, currency), asset)
            tx = await pay(asked.address, asked.due_base)
            await node.mine()
            told = await _paid(shop)
            assert told["session"]["id"] == asked.session_id
            assert parse_amount(told["session"]["received"], 6) == asked.due_base
            assert [payment["tx"] for payment in told["payments"]] == [tx]


async def test_paid_when_solidified(node: StandInNode, tmp_path: Path) -> None:
    async with a_tron_shop(tmp_path, node, confirmations='"solidified"') as shop:
        asked = await open_on(shop, await shop.link("25.00", "USDT"), USDT)
        await node.pay_token(asked.address, asked.due_base)
        await node.mine()
        await shop.until("session.processing")
        assert (await find_session(shop.core, asked.session_id)).row.state.status is Status.PROCESSING
        await node.solidify()
        assert (await _paid(shop))["session"]["id"] == asked.session_id


async def test_batch_transfer_with_several_logs(node: StandInNode, tmp_path: Path) -> None:
    """Two outputs in one transaction to two sessions, beside what goes to a stranger."""
    async with a_tron_shop(tmp_path, node) as shop:
        first, second = await two_sessions(shop)
        due = [(STRANGER, first.due_base), (OURS, second.due_base), (STRANGER, 1), (OURS, first.due_base)]
        await node.pay_batch(due)
        await node.mine()
        paid = [await _paid(shop) for _ in range(2)]
        ordinals = {one["session"]["id"]: [p["ordinal"] for p in one["payments"]] for one in paid}
        assert ordinals == {first.session_id: [3], second.session_id: [1]}


async def test_reorg_and_mined_again_elsewhere(node: StandInNode, tmp_path: Path) -> None:
    async with a_tron_shop(tmp_path, node, confirmations="3") as shop:
        asked = await open_on(shop, await shop.link("25.00", "USDT"), USDT)
        tx = await node.pay_token(asked.address, asked.due_base)
        await node.mine()
        await shop.until("session.processing")
        await node.reorg_move(tx)
        await node.mine(3)
        told = await _paid(shop)
        assert [(payment["tx"], payment["ordinal"]) for payment in told["payments"]] == [(tx, 0)]


async def test_six_block_reorg_over_two_payments_after_paid(node: StandInNode, tmp_path: Path) -> None:
    async with a_tron_shop(tmp_path, node) as shop:
        first, second = await two_sessions(shop)
        tx = await node.pay_token(first.address, first.due_base)
        await node.mine(3)
        await node.pay_token(second.address, second.due_base)
        await node.mine(3)
        for _ in range(2):
            await _paid(shop)
        await node.reorg_away(tx)
        reverted = (await shop.until("session.reverted"))[-1]["data"]["session"]
        assert (reverted["id"], reverted["received"]) == (first.session_id, "0.00")
        await node.mine(2)
        state = (await find_session(shop.core, second.session_id)).row.state
        assert (state.status, state.received_base) == (Status.PAID, second.due_base)


async def test_trc_10_and_delegate_resource_posing_as_trx(node: StandInNode, tmp_path: Path) -> None:
    """Neither they nor a failed call nor a transfer of nothing pays; the real transfer after them does."""
    async with a_tron_shop(tmp_path, node) as shop:
        asked = await open_on(shop, await shop.link("80.00", "TRX"), TRX)
        for kind in ("TransferAssetContract", "DelegateResourceContract", "FreezeBalanceV2Contract"):
            node.send(node.ledger.posing(kind, asked.address, asked.due_base))
        node.send(node.ledger.trx(asked.address, asked.due_base, result="OUT_OF_ENERGY"))
        node.send(node.ledger.token([(asked.address, 5)], result="REVERT"))
        node.send(node.ledger.token([(asked.address, 0)]))
        node.send(node.ledger.contract_payer(asked.address, asked.due_base, rejected=True))
        await node.mine()
        tx = await node.pay_coin(asked.address, asked.due_base)
        await node.mine()
        told = await _paid(shop)
        assert [payment["tx"] for payment in told["payments"]] == [tx]
        assert [payment.transfer.tx for payment in await list_payments(shop.core)] == [tx]


async def test_contract_payer(node: StandInNode, tmp_path: Path) -> None:
    async with a_tron_shop(tmp_path, node) as shop:
        asked = await open_on(shop, await shop.link("80.00", "TRX"), TRX)
        node.send(node.ledger.contract_payer(asked.address, asked.due_base))
        await node.mine()
        (payment,) = (await _paid(shop))["payments"]
        assert payment["kind"] == "internal"


async def test_daemon_down_for_1_000_blocks(node: StandInNode, tmp_path: Path) -> None:
    async with a_tron_shop(tmp_path, node) as shop:
        asked = await open_on(shop, await shop.link("25.00", "USDT"), USDT)
        await shop.stop()
        await node.pay_token(asked.address, asked.due_base)
        node.ledger.mine(1_000)
        await shop.start()
        assert (await _paid(shop))["session"]["id"] == asked.session_id


async def test_node_restarts_and_subscription_silently_dead(node: StandInNode, tmp_path: Path) -> None:
    async with a_tron_shop(tmp_path, node) as shop:
        first, second = await two_sessions(shop)
        await node.restart()
        await node.pay_token(first.address, first.due_base)
        await node.mine()
        assert (await _paid(shop))["session"]["id"] == first.session_id
        node.standin.muted = True
        await node.pay_token(second.address, second.due_base)
        await node.mine()
        assert (await _paid(shop))["session"]["id"] == second.session_id


async def test_node_behind_after_failover_no_revert(node: StandInNode, tmp_path: Path) -> None:
    other = StandInNode()
    other.ledger = other.standin.ledger = node.ledger
    async with running(other), a_tron_shop(tmp_path, node, [other]) as shop:
        first, second = await two_sessions(shop)
        await node.pay_token(first.address, first.due_base)
        await node.mine(2)
        await _paid(shop)
        other.standin.behind = 2
        await node.standin.stop()
        await asyncio.sleep(2)
        assert (await find_session(shop.core, first.session_id)).row.state.status is Status.PAID
        other.standin.behind = 0
        await node.pay_token(second.address, second.due_base)
        await node.mine()
        events = await shop.until("session.paid")
        assert events[-1]["data"]["session"]["id"] == second.session_id
        assert "session.reverted" not in [event["type"] for event in events]


async def test_2_256_1(node: StandInNode, tmp_path: Path) -> None:
    async with a_tron_shop(tmp_path, node) as shop:
        await open_on(shop, await shop.link("25.00", "USDT"), USDT)
        await node.pay_token(OURS, 2**256 - 1)
        await node.mine()
        await shop.until("transfer.unmatched")
