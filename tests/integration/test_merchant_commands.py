"""What a merchant types to sort payments and decide claims, and reads in plain text; no node and no daemon runs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from astrapayd.app import assemble, prepare_database
from astrapayd.cli import cli
from astrapayd.db import chains as chain_queries
from astrapayd.links import LinkDraft
from astrapayd.services.claims import Evidence, present
from astrapayd.services.links import create_link
from astrapayd.services.sessions import find_session, open_session
from astrapayd.testing import ChainScript

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # EIP-55's first example
SENDER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"  # … and its second
CONFIG = """
[database]
url = "sqlite:///{folder}/astrapayd.db"
[chains.ethereum]
plugin = "evm"
chain_id = 1
nodes = ["ws://127.0.0.1:9"]
confirmations = 1
[assets.usdt]
chain = "ethereum"
symbol = "USDT"
contract = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
decimals = 6
[assets.dai]
chain = "ethereum"
symbol = "DAI"
contract = "0x6B175474E89094C44Da98b954EedeAC495271d0F"
decimals = 18
[stores.shop]
name = "Shop"
[stores.shop.accounts.ethereum]
addresses = ["{address}"]
"""


@dataclass(frozen=True, slots=True)
class Day:
    """A shop after a day: two open sessions, and payments that none of them gets, by name."""

    config: Path
    sessions: tuple[str, str]
    codes: tuple[str, str]
    payments: dict[str, str]

    def type(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, [*arguments, "--config", str(self.config)])

    def plain(self, *arguments: str) -> str:
        result = self.type(*arguments)
        assert result.exit_code == 0, result.output + result.stderr
        return result.stdout

    def said(self, *arguments: str) -> Any:
        return json.loads(self.plain(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        result = self.type(*arguments)
        assert result.exit_code == 1
        assert "Traceback" not in result.stderr
        return result.stderr


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    path = tmp_path / "astrapayd.toml"
    path.write_text(CONFIG.format(folder=tmp_path, address=ADDRESS))
    path.chmod(0o600)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield asyncio.run(a_day(path))
    structlog.reset_defaults()  # commands set logging up for their process, which here is everybody's
    root.handlers[:] = handlers
    root.setLevel(level)


async def a_day(path: Path) -> Day:
    core = assemble(path).core
    await prepare_database(core, may_upgrade=True)
    script = ChainScript("ethereum")
    async with core.database.write() as tx:
        watched = await chain_queries.load_watched(tx, "ethereum", core.registry["ethereum"].assets.values())
        script.watch_version = watched.version
        epoch = await chain_queries.begin_epoch(tx, "ethereum")
    await core.ingest.apply(script.since(None), epoch)
    async with core.database.write() as tx:
        await chain_queries.record_look(tx, "ethereum", epoch, level=True, looked_at=core.now(), problem="")
    link = await create_link(core, LinkDraft("shop", "Coffee", "25.00", "USDT"), source="test")
    opened = [
        (await open_session(core, link.slug, "usdt", form_token=token, source="test")).session_id for token in "ab"
    ]
    rows = [(await find_session(core, session_id)).row for session_id in opened]
    usdt, dai = core.registry.asset("usdt"), core.registry.asset("dai")
    amounts = {
        "near": (usdt, rows[0].state.due_base + 7_000_000),
        "round": (usdt, 25_000_000),
        "dai": (dai, 25 * 10**18),
    }
    paid = {
        name: script.transfer(asset, ADDRESS.lower(), amount, sender=SENDER.lower(), tx=f"0x{number:064x}")
        for number, (name, (asset, amount)) in enumerate(amounts.items(), 1)
    }
    await core.ingest.apply(script.mine(*paid.values()), epoch)
    for row in rows:
        await present(core, row.id, Evidence(paid["round"].tx, row.code))
    async with core.database.read() as connection:
        known = await payment_ids(connection, paid)
    await core.database.close()
    return Day(path, (opened[0], opened[1]), (rows[0].code, rows[1].code), known)


async def payment_ids(connection: Any, paid: dict[str, Any]) -> dict[str, str]:
    from astrapayd.db.transfers import load_by_tx

    return {name: (await load_by_tx(connection, "ethereum", one.tx))[0][0].id for name, one in paid.items()}


def test_unmatched_list_tells_candidates_reasons_and_claims(day: Day) -> None:
    text = day.plain("unmatched", "list")
    blocks = {block.splitlines()[0]: block for block in text.split("pay_") if block}
    near = blocks[day.payments["near"].removeprefix("pay_")]
    assert "why: the last digits are one session's, but the amount is too far from what was due" in near
    ranked = [line.strip() for line in near.splitlines() if line.strip().startswith(("1.", "2."))]
    assert ranked[0].startswith(f"1. {day.sessions[0]} pending, due 25.")
    assert ranked[0].endswith(f"code {day.codes[0]}")
    assert ranked[1].startswith(f"2. {day.sessions[1]} pending")
    assert "the same last digits, 7 USDT more than it expects" in near
    assert f"to {ADDRESS} of shop, from {SENDER}" in near
    contested = blocks[day.payments["round"].removeprefix("pay_")]
    assert contested.count("claimed (contested) by ses_") == 2


def test_unmatched_list_as_json(day: Day) -> None:
    found = {one["id"]: one for one in day.said("unmatched", "list", "--store", "shop")}
    assert set(found) == set(day.payments.values())
    near = found[day.payments["near"]]
    assert near["candidates"][0] == {
        **near["candidates"][0],
        "session": day.sessions[0],
        "status": "pending",
        "code": day.codes[0],
    }
    assert {c["session"] for c in found[day.payments["round"]]["claims"]} == set(day.sessions)
    assert {p["id"] for p in day.said("payment", "list", "--unmatched")} == set(day.payments.values())


def test_assign_by_code_and_not_again(day: Day) -> None:
    said = day.plain("unmatched", "assign", day.payments["near"], day.codes[0], "--note", "asked")
    assert said == f"{day.payments['near']} is counted for {day.sessions[0]}, which is now paid overpaid\n"
    assert "asked" in day.plain("session", "show", day.codes[0])
    assert "already (by manual)" in day.refused("unmatched", "assign", day.payments["near"], day.sessions[1])
    assert "session settle" in day.refused("unmatched", "assign", day.payments["dai"], day.sessions[1])
    assert "no payment 'pay_x'" in day.refused("unmatched", "assign", "pay_x", day.sessions[1])


def test_dismiss_own_and_undo(day: Day) -> None:
    payment = day.payments["dai"]
    assert day.plain("unmatched", "dismiss", payment, "--note", "a gift") == f"{payment} is dismissed\n"
    assert "note: a gift" in day.plain("unmatched", "list", "--standing", "dismissed")
    assert "undo" in day.refused("unmatched", "own", payment)
    assert day.said("unmatched", "undo", payment) == {"payment": payment, "standing": "unmatched"}
    assert day.plain("unmatched", "own", payment) == f"{payment} is your own money\n"
    assert day.plain("unmatched", "list", "--standing", "dismissed") == "nothing is dismissed\n"
    assert day.type("unmatched", "dismiss", payment).exit_code == 2, "a note is required"


def test_claims_are_listed_approved_and_refused(day: Day) -> None:
    text = day.plain("claim", "list")
    assert text.count("open, contested") == 2
    assert text.count("rival: clm_") == 2
    assert f"from {SENDER}, unmatched: the amount is not that of any session" in text
    first, second = (
        next(one["id"] for one in day.said("claim", "list") if one["session"] == session) for session in day.sessions
    )
    assert day.plain("claim", "refuse", first, "--note", "no") == f"{first} is refused\n"
    approved = day.said("claim", "approve", second)
    assert (approved["session"], approved["status"], approved["claim_status"]) == (
        day.sessions[1],
        "pending",
        "approved",
    )
    assert "refused already (no)" in day.refused("claim", "approve", first)
    assert "no claim 'clm_x'" in day.refused("claim", "refuse", "clm_x", "--note", "no")
    assert day.plain("claim", "list") == "no claim waits\n"
    assert {one["status"] for one in day.said("claim", "list", "--status", "all")} == {"approved", "refused"}
