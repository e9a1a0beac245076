"""Whether an address has signed a text, by real keys and contracts on every node; and what a claim makes of it."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from astrapayd.chains import Chain
from astrapayd.services.unmatched import list_unmatched
from astrapayd.testing import Fault, NodeProxy
from astrapayd.transfers import WatcherError
from astrapayd_evm.demo import token
from astrapayd_evm.demo.accounts import CUSTOMERS, DemoAccount
from tests.nodes.contracts import NO_WALLETS, contract_wallet, create
from tests.nodes.harness import TestNode
from tests.shop import USDT, Asked, Shop, a_shop

TEXT = "I have paid, and ask the shop to count my payment.\n\nShop: Käse & Söhne"
PAYER, OTHER = CUSTOMERS[0], CUSTOMERS[1]
TOO_FAR_BASE = 7_000_000


def signature(text: str, account: DemoAccount) -> str:
    """As a wallet gives it for `personal_sign`."""
    return "0x" + bytes(Account.sign_message(encode_defunct(text=text), account.private_key).signature).hex()


@pytest.fixture
async def shop(node: TestNode, tmp_path: Path) -> AsyncIterator[Shop]:
    async with a_shop(tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt) as shop:
        yield shop


async def believed(chain: Chain, address: str, text: str, given: str) -> bool:
    watcher = chain.watcher()
    try:
        return await watcher.signed_by(address.lower(), text, given)
    finally:
        await watcher.close()


async def test_signed_by_a_key(shop: Shop) -> None:
    chain, good = shop.core.registry["test"], signature(TEXT, PAYER)
    assert await believed(chain, PAYER.address, TEXT, good)
    from_zero = good[:-2] + f"{int(good[-2:], 16) - 27:02x}"
    for same in (from_zero, good[2:], f" {good.upper().replace('0X', '0x')}\n"):
        assert await believed(chain, PAYER.address, TEXT, same)
    for wrong in (good[:-2] + "1d", good[:-2], good + "00", good[:10] + "00" + good[12:], signature(TEXT + " ", PAYER)):
        assert not await believed(chain, PAYER.address, TEXT, wrong)
    assert not await believed(chain, OTHER.address, TEXT, good)
    assert not await believed(chain, PAYER.address, TEXT, signature(TEXT, OTHER))


async def test_signed_by_a_contract_wallet(shop: Shop, node: TestNode) -> None:
    chain, wallet = shop.core.registry["test"], await create(node, contract_wallet(OTHER.address))
    assert await believed(chain, wallet, TEXT, signature(TEXT, OTHER))
    assert not await believed(chain, wallet, TEXT, signature(TEXT, PAYER))
    assert not await believed(chain, wallet, TEXT + " ", signature(TEXT, OTHER))
    assert not await believed(chain, wallet, TEXT, "0x00")


@pytest.mark.parametrize("kind", NO_WALLETS)
async def test_a_contract_that_gives_no_consent(shop: Shop, node: TestNode, kind: str) -> None:
    contract = await create(node, NO_WALLETS[kind])
    assert not await believed(shop.core.registry["test"], contract, TEXT, signature(TEXT, OTHER))


async def test_a_node_in_trouble_neither_believes_nor_refuses(node: TestNode, tmp_path: Path) -> None:
    wallet = await create(node, contract_wallet(OTHER.address))
    async with (
        NodeProxy(node.url).running() as proxy,
        a_shop(tmp_path, url=proxy.url, chain_id=node.chain_id, usdt=node.usdt) as shop,
    ):
        chain = shop.core.registry["test"]
        for fault in (Fault.ERROR, Fault.NULL, Fault.HTML, Fault.CUT):
            proxy.fail("eth_call", fault)
            with pytest.raises(WatcherError):
                await believed(chain, wallet, TEXT, signature(TEXT, OTHER))
        assert await believed(chain, PAYER.address, TEXT, signature(TEXT, PAYER)), "a key needs no node"


async def claim(shop: Shop, asked: Asked, tx: str, signer: DemoAccount | None) -> tuple[int, str]:
    """As the customer's browser sends it: the form on the page, with the text that it shows signed."""
    page = await shop.pay_page(asked.session_id)
    form = dict(re.findall(r'<input[^>]* name="(claim_token|code)"[^>]* value="([^"]*)"', page))
    shown = re.search(r"<pre[^>]*>(.*?)</pre>", page[page.index('name="claim_token"') :], re.DOTALL)
    assert shown is not None
    given = signature(html.unescape(shown[1]), signer) if signer else ""
    url = f"{shop.core.config.server.public_url}/s/{asked.session_id}/claim"
    async with shop.browser.post(url, data={**form, "tx": tx, "signature": given}) as answer:
        return answer.status, await answer.text()


async def the_unmatched(shop: Shop) -> dict[str, Any]:
    return (await shop.until("transfer.unmatched"))[-1]["data"]["transfer"]


async def test_claim_proved_by_signature(shop: Shop, node: TestNode) -> None:
    await shop.start()
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    tx = await node.pay_token(asked.address, asked.due_base + TOO_FAR_BASE)
    await node.mine()
    await the_unmatched(shop)
    status, page = await claim(shop, asked, tx, OTHER)
    assert (status, "not a signature of exactly the text shown" in page) == (422, True)
    assert (await claim(shop, asked, tx, PAYER))[0] == 200
    told = (await shop.until("session.paid"))[-1]["data"]
    assert told["payments"][0]["credited_by"] == "claim"
    assert told["session"]["flags"] == ["overpaid"]


async def test_claim_proved_by_a_contract_payer(shop: Shop, node: TestNode) -> None:
    wallet = await create(node, contract_wallet(OTHER.address))
    await node.pay_token(wallet, 100_000_000)
    await node.mine()
    await shop.start()
    asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
    pay = token.transfer(asked.address, asked.due_base + TOO_FAR_BASE)
    tx = await node.wallet.send_raw(PAYER.address, wallet, 0, bytes(12) + bytes.fromhex(node.usdt[2:]) + pay)
    await node.mine()
    assert (await the_unmatched(shop))["from"].lower() == wallet.lower()
    assert (await claim(shop, asked, tx, PAYER))[0] == 422, "who sent the transaction has not paid"
    assert (await claim(shop, asked, tx, OTHER))[0] == 200
    assert (await shop.until("session.paid"))[-1]["data"]["payments"][0]["credited_by"] == "claim"


async def test_claim_decided_at_the_command_line(shop: Shop, node: TestNode) -> None:
    """While the daemon runs: what the merchant types reaches the shop by webhook."""
    await shop.start()
    url = await shop.link("25.00", "USDT")
    first, second = await shop.open(url, USDT), await shop.open(url, USDT)
    txs = []
    for asked in (first, second):
        txs.append(await node.pay_token(asked.address, asked.due_base + TOO_FAR_BASE))
        await node.mine()
        await the_unmatched(shop)
    assert (await claim(shop, first, txs[0], None))[0] == 200
    opened = (await shop.until("claim.opened"))[-1]["data"]["claim"]
    (listed,) = await shop.run("claim", "list")
    assert (listed["id"], listed["tx"], listed["contested"]) == (opened["id"], txs[0], False)
    assert (await shop.run("claim", "approve", listed["id"], "--note", "known"))["session"] == first.session_id
    assert (await shop.until("session.paid"))[-1]["subject"] == first.session_id
    (left,) = await shop.run("unmatched", "list")
    assert left["candidates"][0]["session"] == second.session_id
    await shop.run("unmatched", "dismiss", left["id"], "--note", "mistaken")
    assert await shop.run("unmatched", "list") == []
    await shop.run("unmatched", "undo", left["id"])
    await shop.run("unmatched", "assign", left["id"], second.session_id)
    assert (await shop.until("session.paid"))[-1]["subject"] == second.session_id
    assert await list_unmatched(shop.core) == []
