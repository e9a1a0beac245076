"""A contract pays (as a Safe does): credited where the node offers traces, never guessed where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrapayd.services.payments import list_payments
from astrapayd.testing import NodeProxy
from astrapayd_evm.demo.accounts import CUSTOMERS
from tests.nodes.contracts import FORWARDER, create
from tests.nodes.harness import TestNode
from tests.nodes.test_evm_own_addresses import XPUB
from tests.shop import COIN, Shop, a_shop

SETTINGS = "poll_secs = 0.3"  # balances are looked at when a look finds nothing new


async def offers(node: TestNode, method: str, *parameters: object) -> bool:
    from astrapayd_evm.demo.wallet import NodeRefused

    try:
        await node.wallet.request(method, *parameters)
    except NodeRefused:
        return False
    return True


async def pay_by_contract(shop: Shop, node: TestNode) -> str:
    """Open a session for native coin and pay it through the forwarder; the session's id."""
    asked = await shop.open(await shop.link("0.015", "ETH"), COIN)
    forwarder = await create(node, FORWARDER)
    data = bytes(12) + bytes.fromhex(asked.address[2:])
    await node.wallet.send_raw(CUSTOMERS[0].address, forwarder, asked.due_base, data)
    await node.mine()
    return asked.session_id


@pytest.mark.parametrize("refused", ["", "debug_traceBlockByHash"])
async def test_contract_payer(node: TestNode, tmp_path: Path, refused: str) -> None:
    """With either kind of trace the payment has the same identity."""
    async with (
        NodeProxy(node.url).running() as proxy,
        a_shop(tmp_path, url=proxy.url, chain_id=node.chain_id, usdt=node.usdt, settings=SETTINGS) as shop,
    ):
        if refused:
            proxy.unknown.add(refused)
        await shop.start()
        session_id = await pay_by_contract(shop, node)
        method = "trace_block" if refused else "debug_traceBlockByHash"
        head = await node.wallet.request("eth_getBlockByNumber", "latest", False)
        parameters = (head["number"],) if refused else (head["hash"], {"tracer": "callTracer"})
        if await offers(node, method, *parameters):
            told = (await shop.until("session.paid"))[-1]["data"]
            assert told["session"]["id"] == session_id
            (payment,) = told["payments"]
            assert (payment["kind"], payment["ordinal"]) == ("internal", 1)
        else:
            told = (await shop.until("balance.unexplained"))[-1]["data"]["balance"]
            assert told["sessions"] == [session_id]
            assert await list_payments(shop.core) == []


@pytest.mark.parametrize("account", ["", f'xpub = "{XPUB}"'])
async def test_without_traces_the_balance_tells(node: TestNode, tmp_path: Path, account: str) -> None:
    """On a shared address and on one of the session's own: told with the session that expects it, never credited."""
    async with (
        NodeProxy(node.url).running() as proxy,
        a_shop(
            tmp_path, url=proxy.url, chain_id=node.chain_id, usdt=node.usdt, account=account, settings=SETTINGS
        ) as shop,
    ):
        proxy.unknown |= {"debug_traceBlockByHash", "trace_block"}
        await shop.start()
        asked = await shop.open(await shop.link("0.015", "ETH"), COIN)
        await node.pay_native(asked.address, asked.due_base)  # seen to come: explained
        await node.mine()
        await shop.until("session.paid")
        session_id = await pay_by_contract(shop, node)
        told = (await shop.until("balance.unexplained"))[-1]["data"]["balance"]
        assert told["sessions"] == [session_id]
        assert [payment.session_id for payment in await list_payments(shop.core)] == [asked.session_id]
        third = await shop.open(await shop.link("0.015", "ETH"), COIN)
        await node.pay_native(third.address, third.due_base)
        await node.mine(2)
        again = await shop.until("session.paid")
        assert "balance.unexplained" not in [event["type"] for event in again], "told once"
