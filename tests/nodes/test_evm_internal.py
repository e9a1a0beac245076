"""A contract pays (as a Safe does): credited where the node offers traces, never guessed where it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from astrapayd.services.payments import list_payments
from astrapayd.testing import NodeProxy
from astrapayd_evm.demo.accounts import CUSTOMERS
from tests.nodes.harness import TestNode
from tests.shop import COIN, Shop, a_shop

FORWARDER = bytes.fromhex("600f600c600039600f6000f3" + "600060006000600034600035" + "5af100")
"""Creates a contract that sends whatever it is paid on to the address in its call data."""


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
    payer = CUSTOMERS[0].address
    created = await node.wallet.send_raw(payer, None, 0, FORWARDER)
    await node.mine()
    receipt = await node.wallet.request("eth_getTransactionReceipt", created)
    data = bytes(12) + bytes.fromhex(asked.address[2:])
    await node.wallet.send_raw(payer, receipt["contractAddress"], asked.due_base, data)
    await node.mine()
    return asked.session_id


@pytest.mark.parametrize("refused", ["", "debug_traceBlockByHash"])
async def test_contract_payer(node: TestNode, tmp_path: Path, refused: str) -> None:
    """With either kind of trace the payment has the same identity."""
    async with (
        NodeProxy(node.url).running() as proxy,
        a_shop(tmp_path, url=proxy.url, chain_id=node.chain_id, usdt=node.usdt) as shop,
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
            await asyncio.sleep(2)
            assert await list_payments(shop.core) == []
