"""``docs/events.md`` and ``docs/webhooks.md`` against the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import orjson

from astrapayd import signing
from astrapayd.dispatcher import RETRY_DELAYS_SECS
from astrapayd.event_data import claim_data, session_data, unexplained_data, unmatched_data
from astrapayd.events import API_VERSION, EventType, envelope
from astrapayd.links import AmountRules
from astrapayd.rates import Quote
from astrapayd.services import links
from astrapayd.transfers import BlockRef
from astrapayd.webhooks import WebhooksSection

ROOT = Path(__file__).parents[2]
EVENTS = (ROOT / "docs" / "events.md").read_text()
WEBHOOKS = (ROOT / "docs" / "webhooks.md").read_text()


def listed(page: str) -> list[str]:
    return re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", page, re.MULTILINE)


def examples(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def shape(value: Any) -> Any:
    """The keys of a JSON value, all the way down."""
    match value:
        case dict():
            return {key: shape(inner) for key, inner in value.items()}
        case list():
            return [shape(value[0])] if value else []
        case _:
            return None


def test_every_event_is_on_the_page_once() -> None:
    assert sorted(listed(EVENTS)) == sorted(EventType)


def test_reserved_are_those_that_nothing_sends() -> None:
    sources = [path.read_text() for path in (ROOT / "astrapayd").rglob("*.py")]
    sent = {type.value for type in EventType if any(f"EventType.{type.name}" in source for source in sources)}
    now, reserved = EVENTS.split("## Reserved")
    assert set(listed(now)) == sent
    assert set(listed(reserved)) == set(EventType) - sent


ASSET = SimpleNamespace(
    id="usdt-eth", symbol="USDT", chain="ethereum", caip19="eip155:1/erc20:0x", decimals=6, price_decimals=2
)
CHAIN: Any = SimpleNamespace(display_address=lambda address: address)
TRANSFER = SimpleNamespace(
    id="pay_1",
    amount_base=1,
    tx="0x",
    kind="token",
    ordinal=2,
    sender="0x",
    state="mined",
    block_height=1,
    block_hash="0x",
    block_time=1,
    reason="why",
    candidates=(SimpleNamespace(session_id="ses_1", reason="why"),),
)


def test_the_examples_have_the_shape_of_what_is_sent() -> None:
    session, unmatched, claim, balance, link, test = (json.loads(example) for example in examples(EVENTS, "json"))
    state = SimpleNamespace(
        revision=1, status="paid", flags=(), due_base=1, received_base=1, confirmed_base=1, expires_at=1
    )
    row: Any = SimpleNamespace(
        id="ses_1",
        state=state,
        asset=ASSET,
        link_id="lnk_1",
        checkout_id="chk_1",
        order_ref="",
        code="",
        price="1",
        currency="USD",
        quote=Quote(Fraction(1), "parity", 1),
        address="0x",
        opened_at=1,
        customer={"email": ""},
        metadata={},
    )
    credit: Any = SimpleNamespace(transfer=TRANSFER, credited_by="amount")
    data = session_data(row, [credit], CHAIN, 12, 1)
    whole = envelope(
        id="evt_1", sequence=1, type=EventType.SESSION_PAID, created_at=1, store="shop", subject="ses_1", data=data
    )
    assert shape(session) == shape(orjson.loads(whole))
    assert session["api_version"] == API_VERSION
    transfer: Any = TRANSFER
    asset: Any = ASSET
    assert shape(unmatched) == shape(unmatched_data(transfer, asset, CHAIN, "0x"))
    opened: Any = SimpleNamespace(id="clm_1", status="open", tx="0x", created_at=1)
    assert shape(claim) == shape(claim_data(opened, row, [transfer], [], CHAIN))
    rise: Any = SimpleNamespace(address=SimpleNamespace(address="0x"), amount_base=1, from_height=1)
    block = BlockRef(2, "0x", "0x", 1)
    assert shape(balance) == shape(unexplained_data(rise, asset, CHAIN, ["ses_1"], block))
    core: Any = SimpleNamespace(config=SimpleNamespace(server=SimpleNamespace(public_url="https://pay.example")))
    any_link: Any = SimpleNamespace(**dict.fromkeys(link["link"], "x"), currency="USDT")
    any_link.amount_rules = AmountRules()
    any_link.expires_at, any_link.created_at, any_link.metadata, any_link.assets = None, 1, {}, ["usdt-eth"]
    assert shape(link) == shape({"link": links.link_data(core, any_link)})
    assert set(test["endpoint"]) == {"id", "url"}


def test_the_schedule_on_the_page_is_the_schedule() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    sentence = WEBHOOKS[WEBHOOKS.index("Attempts are made at once") :].split(" after the one before")[0]
    found = re.findall(r"(\d+) (s|min|h)\b", sentence)
    assert [int(number) * units[unit] for number, unit in found] == list(RETRY_DELAYS_SECS)


def test_every_setting_is_on_the_page() -> None:
    assert re.findall(r"^\| `([a-z_]+)` \| `", WEBHOOKS, re.MULTILINE) == list(WebhooksSection.model_fields)


BODY = '{"type":"session.paid","name":"Ädä"}'.encode()


def cases() -> list[tuple[bool, str, dict[str, str], bytes]]:
    """(whether it verifies, secret, headers, body)."""
    secret, other = signing.new_secret(), signing.new_secret()
    now = int(time.time())
    good = signing.signed_headers("evt_1", now, BODY, [secret])
    return [
        (True, secret, good, BODY),
        (True, other, signing.signed_headers("evt_1", now, BODY, [secret, other]), BODY),
        (False, other, good, BODY),
        (False, secret, good, BODY + b" "),
        (False, secret, {**good, "webhook-id": "evt_2"}, BODY),
        (False, secret, {**good, "webhook-timestamp": str(now - 1)}, BODY),
        (False, secret, {**good, "webhook-timestamp": "soon"}, BODY),
        (False, secret, signing.signed_headers("evt_1", now - 301, BODY, [secret]), BODY),
        (False, secret, {**good, "webhook-signature": "v1,ä"}, BODY),
        (False, secret, {}, BODY),
    ]


def test_the_python_example_verifies() -> None:
    (source,) = examples(WEBHOOKS, "python")
    names: dict[str, Any] = {}
    exec(compile(source, "docs/webhooks.md", "exec"), names)
    for verifies, secret, headers, body in cases():
        assert names["verify"](secret, headers, body) is verifies, headers


def test_the_javascript_example_verifies(tmp_path: Path, missing: Callable[[str], NoReturn]) -> None:
    node = shutil.which("node") or missing("node, which runs the JavaScript example")
    (source,) = examples(WEBHOOKS, "js")
    (tmp_path / "verify.mjs").write_text(source)
    (tmp_path / "run.mjs").write_text(
        'import { verify } from "./verify.mjs";\nimport { readFileSync } from "node:fs";\n'
        "const cases = JSON.parse(readFileSync(process.argv[2], 'utf8'));\n"
        "console.log(JSON.stringify(cases.map(([s, h, b]) => verify(s, h, Buffer.from(b, 'utf8')))));\n"
    )
    wanted = cases()
    (tmp_path / "cases.json").write_text(
        json.dumps([[secret, headers, body.decode()] for _, secret, headers, body in wanted])
    )
    run = [node, str(tmp_path / "run.mjs"), str(tmp_path / "cases.json")]
    printed = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout
    assert json.loads(printed) == [verifies for verifies, *_ in wanted]
