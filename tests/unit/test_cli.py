"""The command line without a node: help, JSON, refusals, and what is left behind."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from astrapayd.cli import cli
from astrapayd.prefill import Terms, signed_query, verify
from tests.unit.cli_reference import PAGE, leaves, reference

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # EIP-55's first example
LEAVES = list(leaves(cli))
structlog.reset_defaults()  # listing the commands loads plugins, and sets logging up first
logging.getLogger().handlers.clear()
logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The configuration that `init` writes."""
    result = run(
        "init", "--directory", str(tmp_path), "--store-name", "Corner Coffee", "--node", NODE, "--address", ADDRESS
    )
    assert result.exit_code == 0, result.output
    return tmp_path / "astrapayd.toml"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands set logging up for their process, which here is everybody's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


NODE = "ws://127.0.0.1:9"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def said(shop: Path, *arguments: str) -> Any:
    """The JSON document that a command prints."""
    result = run(*arguments, "--config", str(shop), "--json")
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_command_has_json_help_and_an_example(path: tuple[str, ...], command: click.Command) -> None:
    assert any("--json" in parameter.opts for parameter in command.params)
    assert command.help
    assert all(p.help for p in command.params if isinstance(p, click.Option))
    assert f"astrapayd {' '.join(path)}" in (command.epilog or "")
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output


def test_reference_page_is_that_of_the_commands() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run python -m tests.unit.cli_reference"


def test_init_writes_a_configuration_that_loads_and_is_private(shop: Path) -> None:
    assert shop.stat().st_mode & 0o777 == 0o600
    assert said(shop, "config", "check") == {
        "file": str(shop),
        "ok": True,
        "notes": [],
        "chains": 1,
        "assets": 3,
        "stores": 1,
    }


def test_init_never_overwrites(shop: Path) -> None:
    before = shop.read_bytes()
    result = run("init", "--directory", str(shop.parent), "--store-name", "x", "--node", NODE, "--address", ADDRESS)
    assert result.exit_code == 1
    assert "is there already" in result.stderr
    assert shop.read_bytes() == before


@pytest.mark.parametrize(
    ("node", "address", "place"),
    [
        ("http://127.0.0.1:8545", ADDRESS, "nodes"),
        (NODE, ADDRESS.replace("5aA", "5AA"), "addresses[0]"),
        (NODE, "0x" + "11" * 32, "addresses[0]"),
        (NODE, "", "addresses[0]"),
    ],
)
def test_init_writes_nothing_that_does_not_load(tmp_path: Path, node: str, address: str, place: str) -> None:
    folder = tmp_path / "new"
    result = run("init", "--directory", str(folder), "--store-name", "x", "--node", node, "--address", address)
    assert result.exit_code == 1
    assert place in result.stderr
    assert list(folder.iterdir()) == []


def test_init_takes_a_ready_chain_file(tmp_path: Path) -> None:
    chain = Path(__file__).parents[2] / "config" / "chains" / "polygon.toml"
    result = run(
        *("init", "--directory", str(tmp_path), "--chain-file", str(chain)),
        *("--store-name", "x", "--node", NODE, "--address", ADDRESS),
    )
    assert result.exit_code == 0, result.stderr
    assert "[chains.polygon]" in (tmp_path / "astrapayd.toml").read_text()


def test_link_from_making_to_archive(shop: Path) -> None:
    made = said(
        *(shop, "link", "create", "--title", "Coffee", "--amount", "25", "--currency", "USDT"),
        *("--max-uses", "3", "--expires-in", "7d", "--meta", "sku=7", "--slug", "coffee"),
    )
    assert made["price"] == {"amount": "25", "currency": "USDT"}
    assert made["url"].endswith("/l/coffee")
    assert made["metadata"] == {"sku": "7"}
    assert [one["id"] for one in said(shop, "link", "list")] == [made["id"]]
    assert said(shop, "link", "pause", "coffee")["status"] == "paused"
    assert said(shop, "link", "show", "coffee")["unavailable"] == "paused"
    assert said(shop, "link", "resume", "coffee")["status"] == "active"
    assert said(shop, "link", "archive", made["id"])["status"] == "archived"
    text = run("link", "show", "coffee", "--config", str(shop))
    assert "Coffee" in text.output
    assert "no: archived" in text.output


def test_link_in_another_currency_tells_its_rate_or_why_there_is_none(shop: Path) -> None:
    before = shop.read_text()
    asset = re.findall(r"^\[assets\.(\S+)\]$", before, re.MULTILINE)[0]
    fixed = f'\n[[rates.fixed]]\nasset = "{asset}"\ncurrency = "EUR"\nprice = "0.92"\ntaken_at = 2026-01-02T03:04:05Z\n'
    shop.write_text(f"{before}{fixed}max_age_secs = 31622400\n")
    made = said(shop, "link", "create", "--title", "Tea", "--amount", "25", "--currency", "EUR", "--slug", "tea")
    assert made["assets"] == [asset]
    assert "= 0.92 EUR (fixed, 2026-01-02T03:04:05Z)" in run("link", "show", "tea", "--config", str(shop)).output
    shop.write_text(f"{before}{fixed}max_age_secs = 1\n")
    assert "the latest rate is from 2026-01-02T03:04:05Z" in run("link", "show", "tea", "--config", str(shop)).output


def test_link_sign_prints_an_address_that_the_stores_secret_signs(shop: Path) -> None:
    said(shop, "link", "create", "--title", "Orders", "--currency", "USDT", "--slug", "orders")
    arguments = ("link", "sign", "orders", "--amount", "74.50", "--order", "R&D 1042", "--email", "a+b@shop.example")
    signed = said(shop, *arguments, "--expires-in", "1h")
    secret = said(shop, "link", "signing-key")["secret"]
    query = parse_qsl(urlsplit(signed["url"]).query)
    terms = Terms("74.50", "R&D 1042", "a+b@shop.example", signed["until"])
    assert verify([secret], "orders", query, signed["until"] - 1) == terms
    assert signed["until"] - 3600 == pytest.approx(time.time(), abs=60)
    plain = run("link", "sign", "orders", "--amount", "1", "--config", str(shop)).stdout
    assert (
        plain == f"{urlsplit(signed['url'])._replace(query='').geturl()}?{signed_query(secret, 'orders', Terms('1'))}\n"
    )


def test_link_signing_key_is_rotated(shop: Path) -> None:
    first = said(shop, "link", "signing-key")
    assert first == {"store": "corner-coffee", "secret": first["secret"], "rotating": False}
    assert first["secret"].startswith("lnksec_")
    assert said(shop, "link", "signing-key") == first
    second = said(shop, "link", "signing-key", "--rotate")
    assert second["secret"] != first["secret"]
    assert second["rotating"]
    text = run("link", "signing-key", "--config", str(shop)).stdout
    assert second["secret"] in text
    assert first["secret"] not in text
    again = run("link", "signing-key", "--rotate", "--config", str(shop))
    assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
    assert said(shop, "link", "signing-key", "--end") == {**second, "rotating": False}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("link", "sign", "nothing", "--amount", "1"), "no link 'nothing'"),
        (("link", "sign", "open"), "neither an amount nor an order"),
        (("link", "sign", "open", "--order", "1042"), "without its amount"),
        (("link", "sign", "open", "--amount", "1,5"), "1,5"),
        (("link", "sign", "open", "--amount", "1", "--order", "a\nb"), "the order"),
        (("link", "sign", "open", "--amount", "1", "--order", "x" * 101), "longer than 100"),
        (("link", "sign", "open", "--amount", "1", "--expires-in", "soon"), "duration"),
        (("link", "sign", "fixed", "--amount", "25"), "fixed at 25 USDT"),
        (("link", "signing-key", "--store", "no"), "no store 'no'"),
        (("link", "signing-key", "--rotate", "--end"), "one of them"),
    ],
)
def test_what_cannot_be_signed_gets_one_sentence(shop: Path, arguments: tuple[str, ...], sentence: str) -> None:
    said(shop, "link", "create", "--title", "Open", "--currency", "USDT", "--slug", "open")
    said(shop, "link", "create", "--title", "Fixed", "--amount", "25", "--currency", "USDT", "--slug", "fixed")
    result = run(*arguments, "--config", str(shop))
    assert result.exit_code == 1, result.output
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("amount", ["0", "0.00", "-5", "25.001", "1e3", "1,000", "abc", "", "9" * 90, "٢٥", "NaN"])
def test_amount_that_is_none_makes_no_link(shop: Path, amount: str) -> None:
    result = run(
        *("link", "create", "--title", "Coffee", f"--amount={amount}", "--currency", "USDT", "--config", str(shop))
    )
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "amount" in result.stderr
    assert said(shop, "link", "list") == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("link", "create", "--title", "x", "--amount", "1", "--currency", "DOGE"), "cannot be paid in 'DOGE'"),
        (("link", "create", "--title", "", "--amount", "1", "--currency", "USDT"), "title"),
        (("link", "create", "--title", "x", "--amount", "1", "--currency", "USDT", "--store", "no"), "no store 'no'"),
        (("link", "create", "--title", "x", "--amount", "1", "--currency", "USDT", "--expires-in", "soon"), "duration"),
        (("link", "create", "--title", "x", "--amount", "1", "--currency", "USDT", "--meta", "x"), "NAME=VALUE"),
        (("link", "create", "--title", "x", "--amount", "1", "--currency", "USDT", "--slug", "A B"), "slug"),
        (("link", "create", "--title", "x", "--amount", "1", "--currency", "USDT", "--max-uses", "0"), "max_uses"),
        (
            ("link", "create", "--title", "x", "--amount", "1", "--currency", "USDT", "--back-url", "javascript:1"),
            "back_url",
        ),
        (("link", "show", "nothing"), "no link 'nothing'"),
        (("session", "show", "ses_nothing"), "no session"),
        (("session", "show", "AAAA-AAAA"), "no session"),
        (("session", "cancel", "ses_nothing"), "no session"),
        (("session", "settle", "ses_nothing", "--note", "x", "--yes"), "no session"),
        (("webhook", "add", "ftp://shop.example/"), "http"),
        (("webhook", "add", "https://shop.example/", "--event", "session.payed"), "session.pa"),
        (("webhook", "remove", "whk_nothing"), "no webhook endpoint"),
        (("webhook", "redeliver", "4711"), "no delivery 4711"),
        (("webhook", "deliveries", "whk_nothing"), "no webhook endpoint"),
        (("link", "create", "--title", "x", "--amount", "1", "--currency", "USDT", "--max-uses", "9" * 30), "max_uses"),
        (
            ("link", "create", "--title", "x", "--amount", "1", "--currency", "USDT", "--expires-in", "999999w"),
            "ten years",
        ),
    ],
)
def test_mistakes_get_one_sentence_each(shop: Path, arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments, "--config", str(shop))
    assert result.exit_code == 1, result.output
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_failure_as_json_is_one_object_on_stderr(shop: Path) -> None:
    result = run("link", "show", "nothing", "--config", str(shop), "--json")
    assert result.stdout == ""
    error = json.loads(result.stderr)["error"]
    assert error["type"] == "NotFound"
    assert error["problems"] == [{"key": "", "reason": "there is no link 'nothing'"}]


def test_webhook_endpoint_shows_its_secret_once(shop: Path) -> None:
    made = said(shop, "webhook", "add", "https://shop.example/hook", "--event", "session.paid")
    assert made["secret"].startswith("whsec_")
    (listed,) = said(shop, "webhook", "list")
    assert listed["id"] == made["id"]
    assert made["secret"] not in json.dumps(listed)
    assert said(shop, "webhook", "test", made["id"])["delivery"] == 1
    assert said(shop, "webhook", "deliveries", made["id"])[0]["type"] == "webhook.test"
    rotated = said(shop, "webhook", "rotate", made["id"])
    assert rotated["secrets_in_use"] == 2
    assert rotated["secret"] != made["secret"]
    again = run("webhook", "rotate", made["id"], "--config", str(shop))
    assert (again.exit_code, "being rotated already" in again.stderr) == (1, True)
    ended = said(shop, "webhook", "rotate", made["id"], "--end")
    assert (ended["secret"], ended["secrets_in_use"]) == (rotated["secret"], 1)
    assert said(shop, "webhook", "enable", made["id"]) == {"id": made["id"], "active": True}
    assert said(shop, "webhook", "remove", made["id"]) == {"removed": made["id"], "parked": 1}


def test_db_check_and_upgrade(shop: Path) -> None:
    assert run("db", "check", "--config", str(shop)).exit_code == 1
    assert said(shop, "db", "upgrade") == {"before": None, "now": "0001"}
    found = said(shop, "db", "check")
    assert found["problems"] == []
    assert found["rows"]["links"] == 0


def test_empty_lists_say_so(shop: Path) -> None:
    for arguments in (("link", "list"), ("session", "list"), ("payment", "list"), ("webhook", "list")):
        assert said(shop, *arguments) == []
        text = run(*arguments, "--config", str(shop))
        assert text.exit_code == 0
        assert len(text.output.strip().splitlines()) == 1


def test_plugins_are_listed_with_their_hooks() -> None:
    rows = json.loads(run("plugins", "--json").stdout)
    assert {row["name"] for row in rows} >= {"evm", "webhooks"}
    assert all(row["problem"] == "" for row in rows)


def test_node_status_of_an_unreachable_node_fails_and_says_why(shop: Path) -> None:
    result = run("node", "status", "--config", str(shop))
    assert result.exit_code == 1
    assert "connection refused" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("no-such-command",), 2, "No such command"),
        (("link", "create"), 2, "Missing option"),
        (("run", "--config", "/nonexistent/astrapayd.toml"), 1, "/nonexistent/astrapayd.toml"),
        (("config", "check", "--config", "/dev/null"), 1, ""),
    ],
)
def test_process_ends_with_a_code_and_without_a_traceback(arguments: tuple[str, ...], code: int, words: str) -> None:
    ended = subprocess.run([sys.executable, "-m", "astrapayd", *arguments], capture_output=True, text=True, check=False)
    if words:
        assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_backup_by_command(shop: Path) -> None:
    """Created, verified, restored; what is wrong is one sentence and exit code 1."""
    saved, config = shop.with_name("saved.db"), ("--config", str(shop))
    nothing = run("backup", "create", str(saved), *config)
    assert nothing.exit_code == 1
    assert "there is no database at" in nothing.stderr
    said(shop, "db", "upgrade")
    taken = said(shop, "backup", "create", str(saved))
    assert taken == said(shop, "backup", "verify", str(saved))
    assert taken["rows"]["sessions"] == 0
    assert (taken["older"], taken["schema"]) == (False, said(shop, "db", "check")["schema"])
    restored = said(shop, "backup", "restore", str(saved))
    assert restored["epoch"] == 2
    assert Path(restored["aside"]).exists()
    assert said(shop, "backup", "restored")["epoch"] == 3
    for arguments in (("create", str(saved)), ("verify", str(shop)), ("restore", str(shop))):
        refused = run("backup", *arguments, *config)
        assert refused.exit_code == 1
        assert refused.stderr.count("\n") == 1
        assert "Traceback" not in refused.stderr
    assert "can be restored" in run("backup", "verify", str(saved)).stdout
