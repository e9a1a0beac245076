"""The chain cases of the list, from link to signed webhook on every real node; each test is named after its case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from astrapayd.services.payments import list_payments
from astrapayd.services.sessions import find_session
from astrapayd.sessions import Status
from astrapayd.testing import NodeProxy
from astrapayd_evm.demo import token
from astrapayd_evm.demo.accounts import CUSTOMERS
from tests.nodes.contracts import FORWARDER_THAT_FAILS, any_token, create, payee_that_pays_itself
from tests.nodes.harness import IN_TURN, TestNode, running
from tests.nodes.test_evm_own_addresses import XPUB
from tests.shop import COIN, USDT, Asked, Shop, a_shop

OWN_ADDRESSES = f'xpub = "{XPUB}"'
PAYER = CUSTOMERS[0].address


@pytest.fixture
async def shop(node: TestNode, tmp_path: Path) -> AsyncIterator[Shop]:
    async with a_shop(tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt) as shop:
        await shop.start()
        yield shop


async def height(node: TestNode) -> int:
    return int(await node.wallet.request("eth_blockNumber"), 16)


async def two_sessions(shop: Shop) -> tuple[Asked, Asked]:
    url = await shop.link("25.00", "USDT")
    return await shop.open(url, USDT), await shop.open(url, USDT)


async def test_same_address_twice_in_one_transaction(node: TestNode, tmp_path: Path) -> None:
    async with a_shop(tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt, account=OWN_ADDRESSES) as shop:
        await shop.start()
        asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
        tx = await node.pay_batch([(asked.address, 10_000_000), (asked.address, 15_000_000)])
        await node.mine()
        told = (await shop.until("session.paid"))[-1]["data"]
        assert told["session"]["received"] == "25.00"
        assert [(p["tx"], p["ordinal"], p["amount"]) for p in told["payments"]] == [
            (tx, 0, "10.00"),
            (tx, 1, "15.00"),
        ]


async def test_batch_transfer_with_several_logs(shop: Shop, node: TestNode) -> None:
    first, second = await two_sessions(shop)
    stranger = "0x" + "77" * 20
    await node.pay_batch(
        [(stranger, first.due_base), (second.address, second.due_base), (stranger, 1), (first.address, first.due_base)]
    )
    await node.mine()
    paid = [(await shop.until("session.paid"))[-1]["data"] for _ in range(2)]
    ordinals = {one["session"]["id"]: [p["ordinal"] for p in one["payments"]] for one in paid}
    assert ordinals == {first.session_id: [3], second.session_id: [1]}


async def test_hundred_small_transfers_under_a_confirmation_tier(node: TestNode, tmp_path: Path) -> None:
    """What is due would need one confirmation; what came, in a hundred pieces of one transaction, needs four."""
    tiers = 'decimals = 6\ntiers = [{ at_least = "20", confirmations = 4 }]'
    async with a_shop(
        tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt, account=OWN_ADDRESSES, token=tiers
    ) as shop:
        await shop.start()
        asked = await shop.open(await shop.link("10.00", "USDT"), USDT)
        await node.pay_batch([(asked.address, 250_000)] * 100)
        await node.mine(3)
        await shop.until("session.processing")
        while (await find_session(shop.core, asked.session_id)).head_height < await height(node):
            await asyncio.sleep(0.05)
        assert (await find_session(shop.core, asked.session_id)).row.state.status is Status.PROCESSING
        await node.mine()
        told = (await shop.until("session.paid"))[-1]["data"]
        assert told["session"]["received"] == "25.00"
        assert {p["confirmations"] for p in told["payments"]} == {4}
        assert len(told["payments"]) == 100


async def test_six_block_reorg_over_two_payments(shop: Shop, node: TestNode) -> None:
    """The first is replaced by a double spend at the bottom of the branch; the second is mined again above it."""
    first, second = await two_sessions(shop)
    tx = await node.pay_token(first.address, first.due_base)
    await node.mine(3)
    await node.pay_token(second.address, second.due_base, CUSTOMERS[1].address)
    await node.mine(3)
    for _ in range(2):
        await shop.until("session.paid")
    await node.reorg_away(tx)
    reverted = (await shop.until("session.reverted"))[-1]["data"]["session"]
    assert (reverted["id"], reverted["received"]) == (first.session_id, "0.00")
    await node.mine(2)
    state = (await find_session(shop.core, second.session_id)).row.state
    assert (state.status, state.received_base) == (Status.PAID, second.due_base)


async def test_failed_transaction_with_a_log_shaped_trace(node: TestNode, tmp_path: Path) -> None:
    """Traces show a Transfer log, and coin that moved; both were undone. What is paid afterwards is all that counts."""
    usdt = await create(node, any_token(6))
    forwarder = await create(node, FORWARDER_THAT_FAILS)
    async with a_shop(tmp_path, url=node.url, chain_id=node.chain_id, usdt=usdt) as shop:
        await shop.start()
        in_token = await shop.open(await shop.link("25.00", "USDT"), USDT)
        in_coin = await shop.open(await shop.link("0.015", "ETH"), COIN)
        call = token.transfer(in_token.address, in_token.due_base)
        failed = [
            await node.wallet.send_raw(PAYER, usdt, 1, call),
            await node.wallet.send_raw(
                PAYER, forwarder, in_coin.due_base, bytes(12) + bytes.fromhex(in_coin.address[2:])
            ),
        ]
        await node.mine()
        for tx in failed:
            receipt = await node.wallet.request("eth_getTransactionReceipt", tx)
            assert int(receipt["status"], 16) == 0
        await node.wallet.send_raw(PAYER, usdt, 0, call)
        await node.mine()
        events = await shop.until("session.paid")
        assert events[-1]["data"]["session"]["id"] == in_token.session_id
        assert not {"balance.unexplained", "transfer.unmatched"} & {event["type"] for event in events}
        assert [payment.session_id for payment in await list_payments(shop.core)] == [in_token.session_id]


async def test_2_256_1(node: TestNode, tmp_path: Path) -> None:
    """The largest amount that a token can hold survives every layer."""
    usdt = await create(node, any_token(6))
    async with a_shop(tmp_path, url=node.url, chain_id=node.chain_id, usdt=usdt, account=OWN_ADDRESSES) as shop:
        await shop.start()
        asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
        await node.wallet.send_raw(PAYER, usdt, 0, token.transfer(asked.address, 2**256 - 1))
        await node.mine()
        told = (await shop.until("session.overpaid"))[-1]["data"]
        whole, fraction = divmod(2**256 - 1, 10**6)
        assert told["session"]["received"] == told["payments"][0]["amount"] == f"{whole}.{fraction:06d}"
        (payment,) = await list_payments(shop.core)
        assert payment.transfer.amount_base == 2**256 - 1


@pytest.mark.parametrize(
    ("decimals", "numbers", "account", "price", "due_base"),
    [
        (18, "decimals = 18", "", "25.00", None),
        (0, "decimals = 0\nprice_decimals = 0\ntail_digits = 0", OWN_ADDRESSES, "25", 25),
    ],
    ids=["18", "0"],
)
async def test_token_with_18_and_with_0_decimals(
    node: TestNode, tmp_path: Path, decimals: int, numbers: str, account: str, price: str, due_base: int | None
) -> None:
    usdt = await create(node, any_token(decimals))
    async with a_shop(
        tmp_path, url=node.url, chain_id=node.chain_id, usdt=usdt, account=account, token=numbers
    ) as shop:
        await shop.start()
        asked = await shop.open(await shop.link(price, "USDT"), USDT)
        assert asked.due_base == due_base or (asked.due_base // 10**16, asked.due_base % 10**12) == (2500, 0)
        await node.wallet.send_raw(PAYER, usdt, 0, token.transfer(asked.address, asked.due_base))
        await node.mine()
        told = (await shop.until("session.paid"))[-1]["data"]
        assert told["session"]["received"] == told["session"]["due"]


async def test_native_transfer_and_first_log_in_one_transaction(node: TestNode, tmp_path: Path) -> None:
    """The shop's address is a contract: being paid coin, it moves a token to itself. Two payments of one transaction,
    both the first of their kind."""
    in_token_base = 25_001_234
    payee = await create(node, payee_that_pays_itself(node.usdt, in_token_base))
    await node.pay_token(payee, in_token_base)
    await node.mine()
    async with a_shop(
        tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt, account=f'addresses = ["{payee}"]'
    ) as shop:
        await shop.start()
        in_coin = await shop.open(await shop.link("0.015", "ETH"), COIN)
        tx = await node.wallet.send_raw(PAYER, payee, in_coin.due_base, b"")
        await node.mine()
        events = await shop.until("session.paid")
        assert events[-1]["data"]["session"]["id"] == in_coin.session_id
        (unmatched,) = [e["data"]["transfer"] for e in events if e["type"] == "transfer.unmatched"]
        assert (unmatched["kind"], unmatched["ordinal"], unmatched["tx"]) == ("token", 0, tx)
        (payment,) = events[-1]["data"]["payments"]
        assert (payment["kind"], payment["ordinal"], payment["tx"]) == ("native", 0, tx)


async def test_node_lost_its_tip_after_a_crash(node: TestNode, tmp_path: Path) -> None:
    """It comes back some blocks shorter and does not know our tip: that means wait. Then it has caught up."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(NodeProxy(node.url).running())
        shop = await stack.enter_async_context(
            a_shop(tmp_path, url=proxy.url, chain_id=node.chain_id, usdt=node.usdt, settings="poll_secs = 0.3")
        )
        await shop.start()
        first, second = await two_sessions(shop)
        lost = await node.wallet.request("eth_getBlockByNumber", "latest", False)
        await node.pay_token(first.address, first.due_base)
        await node.mine(2)
        await shop.until("session.paid")

        def shorter(block: Any) -> Any:
            return lost if block and int(block["number"], 16) > int(lost["number"], 16) else block

        proxy.rewrite("eth_getBlockByNumber", shorter)
        proxy.rewrite("eth_getBlockByHash", lambda block: block if shorter(block) is block else None)
        await proxy.cut()
        await asyncio.sleep(2)
        details = await find_session(shop.core, first.session_id)
        assert details.row.state.status is Status.PAID
        assert not details.level, "no session is opened on a chain that ends before our tip"
        proxy.mend()
        await node.pay_token(second.address, second.due_base)
        await node.mine()
        assert (await shop.until("session.paid"))[-1]["data"]["session"]["id"] == second.session_id


@pytest.mark.parametrize("node", [name for name in IN_TURN if name != "embedded"], indirect=True)
async def test_block_times_ahead_of_the_clock(node: TestNode, tmp_path: Path) -> None:
    """Headers say that the window is over; the clock does not. Nobody's time is over before both do."""
    async with a_shop(
        tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt, store="payment_window_secs = 120"
    ) as shop:
        await shop.start()
        asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
        if node.name.startswith("anvil"):
            await node.wallet.request("anvil_mine", "0x2", hex(600))
        else:
            await node.mine(300)  # geth's are a second apart
        head = await node.wallet.request("eth_getBlockByNumber", "latest", False)
        details = await find_session(shop.core, asked.session_id)
        assert int(head["timestamp"], 16) > details.row.state.expires_at
        await node.pay_token(asked.address, asked.due_base)
        await node.mine()
        told = (await shop.until("session.paid", 60))[-1]["data"]["session"]
        assert (told["id"], told["flags"]) == (asked.session_id, [])


async def test_downtime_longer_than_the_window_with_an_on_time_payment_in_it(
    tmp_path: Path, took_part: Any, missing: Any
) -> None:
    """All nodes at once: it takes a minute."""
    from tests.nodes.conftest import MAKERS

    async with AsyncExitStack() as stack:
        open_shops: list[tuple[Shop, Asked]] = []
        for name in IN_TURN:
            folder = tmp_path / name
            folder.mkdir()
            try:
                node = await stack.enter_async_context(running(MAKERS[name](folder)))
            except FileNotFoundError as error:
                missing(str(error))
            took_part("Real nodes", node.name)
            shop = await stack.enter_async_context(
                a_shop(folder, url=node.url, chain_id=node.chain_id, usdt=node.usdt, store="payment_window_secs = 60")
            )
            await shop.start()
            asked = await shop.open(await shop.link("25.00", "USDT"), USDT)
            await shop.stop()
            await node.pay_token(asked.address, asked.due_base)
            await node.mine(2)
            open_shops.append((shop, asked))
        await asyncio.sleep(62)
        for shop, asked in open_shops:
            await shop.start()
            events = await shop.until("session.paid")
            assert events[-1]["data"]["session"]["id"] == asked.session_id
            assert events[-1]["data"]["session"]["flags"] == []
            assert "session.expired" not in [event["type"] for event in events]
