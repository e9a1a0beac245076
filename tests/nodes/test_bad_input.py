"""What an administrator can get wrong, against real nodes: one clear sentence with the place, and nothing half-done."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd_evm.demo.surroundings import free_port
from tests.nodes.harness import TestNode
from tests.shop import Shop, a_shop


@pytest.fixture
async def shop(node: TestNode, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop whose daemon has never run."""
    async with a_shop(tmp_path, url=node.url, chain_id=node.chain_id, usdt=node.usdt) as shop:
        yield shop


async def refused(shop: Shop, *arguments: str) -> str:
    """Run the command line; what it says on stderr. It must fail without a traceback, and say where."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "astrapayd", *arguments, "--config", str(shop.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    said = err.decode()
    assert process.returncode not in (0, None), (out, said)
    assert process.returncode < 64, "a user's mistake is no bug"
    assert "Traceback" not in said
    assert out == b""
    return said


def mend(shop: Shop, old: str, new: str) -> None:
    """Change the configuration."""
    text = shop.config.read_text()
    assert old in text
    shop.config.write_text(text.replace(old, new))


async def test_wrong_chain_id(shop: Shop, node: TestNode) -> None:
    mend(shop, f"chain_id = {node.chain_id}", "chain_id = 56")
    said = await refused(shop, "run")
    assert f"is of chain {node.chain_id}, but chain_id says 56" in said
    assert "chains.test" in said
    # Mended, it starts: the first try has left nothing behind that contradicts it.
    mend(shop, "chain_id = 56", f"chain_id = {node.chain_id}")
    await shop.start()


async def test_no_code_at_the_contract(shop: Shop, node: TestNode) -> None:
    mend(shop, node.usdt, "0x" + "ab" * 20)
    assert "no code at assets.usdt.contract" in await refused(shop, "run")


async def test_wrong_decimals(shop: Shop) -> None:
    mend(shop, "decimals = 6\n\n", "decimals = 8\n\n")
    said = await refused(shop, "run")
    assert "has 6 decimals, but assets.usdt.decimals says 8" in said


async def test_contract_that_is_no_token(shop: Shop, node: TestNode) -> None:
    # An account with code but no decimals(): MockUSDT's own transfer target does not have one, so take a precompile.
    mend(shop, node.usdt, "0x" + "00" * 19 + "04")
    assert "assets.usdt.contract" in await refused(shop, "run")


async def test_unreachable_node_at_the_first_start(shop: Shop, node: TestNode) -> None:
    mend(shop, node.url, f"ws://127.0.0.1:{free_port()}")
    said = await refused(shop, "run")
    assert "chains.test.nodes" in said
    assert "connection refused" in said


async def test_unreachable_node_later_is_waited_for(shop: Shop, node: TestNode) -> None:
    await shop.start()
    await shop.open(await shop.link("25.00", "USDT"), "usdt")  # by now the chain is followed
    await shop.stop()
    await node.stop()
    await shop.start()
    await node.start()
    asked = await shop.open(await shop.link("25.00", "USDT"), "usdt")
    await node.pay_token(asked.address, asked.due_base)
    await node.mine()
    await shop.until("session.paid", 40)


async def test_node_of_another_chain_with_the_same_id(shop: Shop, node: TestNode, tmp_path: Path) -> None:
    await shop.start()
    await shop.open(await shop.link("25.00", "USDT"), "usdt")
    await shop.stop()
    mend(shop, "testnet = true", 'testnet = true\ngenesis = "0x' + "12" * 32 + '"')
    said = await refused(shop, "run")
    assert "begins with block" in said


async def test_doctor_says_what_is_fine_and_what_is_wrong(shop: Shop, node: TestNode) -> None:
    await shop.start()
    await shop.open(await shop.link("25.00", "USDT"), "usdt")
    good = await said_by_doctor(shop)
    assert {one["verdict"] for one in good} == {"fine"}, good
    await node.stop()
    bad = await said_by_doctor(shop)
    assert any(one["verdict"] == "wrong" and "connection refused" in one["sentence"] for one in bad), bad
    await node.start()


async def said_by_doctor(shop: Shop) -> list[dict[str, str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "astrapayd", "doctor", "--json", "--config", str(shop.config)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    found: list[dict[str, str]] = json.loads(out)
    assert process.returncode == int(any(one["verdict"] == "wrong" for one in found))
    return found


@pytest.mark.parametrize("node", ["embedded"], indirect=True)  # nothing here asks the node
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[server\n", "line 1"),
        ('[server]\npublic = "127.0.0.1:99999999"\n', "server.public"),
        ("[chains.x]\nplugin = 'evm'\n", "chains.x"),
    ],
)
async def test_malformed_configuration(shop: Shop, text: str, place: str) -> None:
    shop.config.write_text(text)
    assert place in await refused(shop, "run")


@pytest.mark.parametrize("node", ["embedded"], indirect=True)  # nothing here asks the node
@pytest.mark.parametrize("amount", ["0", "0.00", "-5", "25.001", "1e3", "1,000", "abc", "", "9" * 90, "٢٥"])
async def test_amount_that_is_none(shop: Shop, amount: str) -> None:
    before = shop.core.database.path
    assert before is not None
    said = await refused(
        shop, "link", "create", "--title", "Coffee", f"--amount={amount}", "--currency", "USDT", "--store", "shop"
    )
    assert "amount" in said
    async with shop.core.database.read() as connection:
        from astrapayd.db.links import load_links

        assert await load_links(connection, None, 10) == []
