"""From link to signed webhook on a real btcd: an address of its own for each session, and a static one with tails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.nodes.btcd import PASSWORD, USER, BtcdNode
from tests.shop import Shop, a_shop_on

_VECTORS = Path(__file__).parents[1] / "plugins" / "bitcoin" / "derivation.json"
WALLET = json.loads(_VECTORS.read_text())["networks"]["regtest"]["p2wpkh"]
THEIRS = "bcrt1qkwgskuzmmwwvqajnyr7yp9hgvh5y45kg984qvy"
OWN = f'xpub = "{WALLET["keys"][1]}"'
STATIC = f'addresses = ["{WALLET["receive"][0][0]}"]'


@asynccontextmanager
async def _shop(node: BtcdNode, folder: Path, account: str) -> AsyncIterator[Shop]:
    (folder / "password").write_text(PASSWORD)
    tables = f"""
[chains.bitcoin]
plugin = "bitcoin"
network = "regtest"
confirmations = 6
poll_secs = 1.0

[[chains.bitcoin.nodes]]
url = "{node.url}"
user = "{USER}"
password = {{ file = "{folder / "password"}" }}
certificate = "{node.certificate}"

[assets.btc]
chain = "bitcoin"
symbol = "BTC"
decimals = 8
price_decimals = 5
tail_digits = 3

[stores.shop]
name = "The shop"

[stores.shop.accounts.bitcoin]
{account}
"""
    async with a_shop_on(folder, tables) as shop:
        await shop.start()
        yield shop


async def test_an_address_of_its_own_seen_replaced_and_confirmed(btcd: BtcdNode, tmp_path: Path) -> None:
    async with _shop(btcd, tmp_path, OWN) as shop:
        asked = await shop.open(await shop.link("0.0015", "BTC"), "btc")
        assert asked.address == WALLET["receive"][0][0]
        assert asked.due_base == 150_000
        first = btcd.make(asked.address, asked.due_base)
        await btcd.send(first)
        await shop.until("payment.seen")
        bumped = btcd.make(asked.address, asked.due_base, replaces=first)
        await btcd.send(bumped)
        await shop.until("payment.seen")
        await btcd.mine(5)
        await btcd.mine()
        told = (await shop.until("session.paid"))[-1]["data"]
        assert told["session"]["id"] == asked.session_id
        assert told["session"]["received"] == told["session"]["due"]
        assert [p["tx"] for p in told["payments"] if p["confirmations"] == 6] == [bumped.txid]
        another = await shop.open(await shop.link("0.0015", "BTC"), "btc")
        assert another.address == WALLET["receive"][1][0]


async def test_a_static_address_with_a_tail(btcd: BtcdNode, tmp_path: Path) -> None:
    async with _shop(btcd, tmp_path, STATIC) as shop:
        asked = await shop.open(await shop.link("0.0015", "BTC"), "btc")
        assert 150_000 < asked.due_base < 151_000
        await btcd.send(btcd.make(asked.address, asked.due_base))
        await btcd.mine(6)
        assert (await shop.until("session.paid"))[-1]["data"]["session"]["id"] == asked.session_id


async def test_double_spent_by_a_reorganisation_after_paid_and_paid_while_the_daemon_is_stopped(
    btcd: BtcdNode, tmp_path: Path
) -> None:
    async with _shop(btcd, tmp_path, OWN) as shop:
        asked = await shop.open(await shop.link("0.0015", "BTC"), "btc")
        tx = btcd.make(asked.address, asked.due_base)
        await btcd.send(tx)
        await btcd.mine(6)
        await shop.until("session.paid")
        await btcd.reorganise(6, [btcd.make(THEIRS, 5_000, replaces=tx)], *([[]] * 6))
        told = (await shop.until("session.reverted"))[-1]["data"]["session"]
        assert told["flags"] == ["reverted"]
        await shop.stop()
        await btcd.send(btcd.make(asked.address, asked.due_base))
        await btcd.mine(10)
        await shop.start()
        events = await shop.until("session.restored")
        assert "session.paid" not in [event["type"] for event in events], "it is told once, ever"
