"""Reorganisations and restarts mean the same on every real node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from astrapayd_evm.demo.accounts import CUSTOMERS
from astrapayd_evm.demo.wallet import NodeRefused
from tests.nodes.harness import EmbeddedNode, TestNode, running

SHOP = "0x" + "42" * 20


@pytest.mark.parametrize("blocks_above", [0, 3])
async def test_reorg_away_takes_one_payment_and_leaves_the_others(node: TestNode, blocks_above: int) -> None:
    before = await node.pay_token(SHOP, 1)
    gone = await node.pay_token(SHOP, 2)
    after = await node.pay_native(SHOP, 3)
    stranger = await node.pay_token(SHOP, 4, CUSTOMERS[1].address)
    head = await node.mine(1 + blocks_above)
    old_place = await node.mined_at(gone)
    other = await node.reorg_away(gone)
    assert await node.mined_at(gone) is None
    assert await node.wallet.request("eth_getTransactionByHash", gone) is None
    for survivor in (before, after, stranger, other):
        place = await node.mined_at(survivor)
        assert place is not None
        assert place.succeeded
    await node.mine(3)
    assert await node.mined_at(gone) is None, "its nonce is used, it cannot come back"
    assert await node.wallet.token_balance(SHOP) == 5
    assert int(await node.wallet.request("eth_blockNumber"), 16) == head + 4, "the winning branch is the longer one"
    assert old_place
    block = await node.wallet.request("eth_getBlockByNumber", hex(old_place.block_number), False)
    assert block["hash"] != old_place.block_hash


@pytest.mark.parametrize("blocks_above", [0, 2])
@pytest.mark.parametrize("log_index", [0, 1, 2])
async def test_reorg_move_gives_another_block_and_log_index(node: TestNode, blocks_above: int, log_index: int) -> None:
    for _ in range(log_index):
        await node.pay_token(SHOP, 1, CUSTOMERS[1].address)
    moved = await node.pay_token(SHOP, 100)
    later = await node.pay_token(SHOP, 1000)
    await node.mine(1 + blocks_above)
    old = await node.mined_at(moved)
    assert old
    assert old.log_index == log_index
    new = await node.reorg_move(moved)
    assert new.succeeded
    assert new.block_number == old.block_number + 1
    assert new.block_hash != old.block_hash
    assert new.log_index != old.log_index
    place = await node.mined_at(later)
    assert place
    assert place.succeeded
    assert await node.wallet.token_balance(SHOP) == 1100 + log_index


async def test_moving_twice_and_then_away(node: TestNode) -> None:
    paid = await node.pay_token(SHOP, 9)
    await node.mine()
    first = await node.reorg_move(paid)
    second = await node.reorg_move(paid)
    assert first.block_hash != second.block_hash
    await node.reorg_away(paid)
    assert await node.wallet.token_balance(SHOP) == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_restart_keeps_chain_and_url(node: TestNode, end: str) -> None:
    paid = await node.pay_token(SHOP, 11)
    number = await node.mine(3)
    url = node.url
    block = await node.wallet.request("eth_getBlockByNumber", hex(number), False)
    # anvil writes its state once a second.
    await asyncio.sleep(1.5 if end == "kill" and node.name.startswith("anvil") else 0)
    await (node.kill() if end == "kill" else node.stop())
    with pytest.raises(ConnectionError):
        await node.pay_token(SHOP, 1)
    await node.start()
    assert node.url == url
    assert (await node.wallet.request("eth_getBlockByNumber", hex(number), False))["hash"] == block["hash"]
    assert await node.mined_at(paid)
    second = await node.pay_token(SHOP, 11)
    await node.mine()
    assert await node.mined_at(second)
    assert await node.wallet.token_balance(SHOP) == 22


async def test_a_restart_keeps_the_branch_that_won(embedded: TestNode) -> None:
    paid = await embedded.pay_token(SHOP, 9)
    await embedded.mine(2)
    new = await embedded.reorg_move(paid)
    await embedded.kill()
    await embedded.start()
    assert await embedded.mined_at(paid) == new
    assert (await embedded.reorg_move(paid)).block_hash != new.block_hash


async def test_what_is_final_is_not_reorganised(tmp_path: Path) -> None:
    async with running(EmbeddedNode(tmp_path, 3)) as node:
        paid = await node.pay_token(SHOP, 9)
        await node.mine(4)
        with pytest.raises(NodeRefused, match="finalized"):
            await node.reorg_away(paid)


async def test_abandoned_blocks_are_known_by_hash_or_forgotten(tmp_path: Path) -> None:
    for options, known in (((), True), (("--forget-side-branches",), False)):
        folder = tmp_path / str(known)
        folder.mkdir()
        async with running(EmbeddedNode(folder, 64, *options)) as node:
            paid = await node.pay_token(SHOP, 9)
            await node.mine()
            old = await node.mined_at(paid)
            assert old
            await node.reorg_away(paid)
            block = await node.wallet.request("eth_getBlockByHash", old.block_hash, False)
            receipts = await node.wallet.request("eth_getBlockReceipts", old.block_hash)
            assert (block is not None, receipts is not None) == (known, known)


async def test_the_chain_mines_on_its_period_and_ends_with_its_parent(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path, 64, "--period", "1")
    async with running(node):
        paid = await node.pay_token(SHOP, 9)
        place = await node.wallet.wait_mined(paid, 5)
        assert place.succeeded
        assert node._process
        process = node._process._process
        assert process.stdin
        process.stdin.close()
        async with asyncio.timeout(5):
            assert await process.wait() == 0


def test_a_missing_node_is_skipped_with_a_reason_but_fails_where_all_are_required(
    missing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="anvil"):
        missing("anvil")
    monkeypatch.delenv("REQUIRE_ALL")
    with pytest.raises(pytest.skip.Exception, match="anvil"):
        missing("anvil")
