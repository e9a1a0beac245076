"""``docs/prefill.md`` against the code: its example runs, its test vector and its commands are right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from click import Context

from astrapayd.cli import cli
from astrapayd.prefill import MAX_AMOUNT, MAX_EMAIL, MAX_ORDER, Terms, canonical, sign, verify
from tests.unit.cli_reference import leaves

PAGE = (Path(__file__).parents[2] / "docs" / "prefill.md").read_text()
(SECRET,) = re.findall(r"`(lnksec_[A-Za-z0-9+/=]{10,})`", PAGE)
TERMS = Terms("74.50", "R&D 1042", "a+b@shop.example", 1893456000)
SAID = {"amount": "74.50", "order": "R&D 1042", "email": "a+b@shop.example", "until": "1893456000"}


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_vector() -> None:
    signed, signature = examples("text")
    assert canonical("orders", SAID.items()).decode() == signed
    assert sign(SECRET, "orders", TERMS) == signature


def test_the_python_example_signs_what_counts() -> None:
    names: dict[str, Any] = {}
    (source,) = examples("python")
    exec(compile(source, "docs/prefill.md", "exec"), names)
    url = names["checkout_url"](SECRET, "https://pay.shop.example/l/orders", **SAID)
    assert url.startswith("https://pay.shop.example/l/orders?")
    assert url.endswith(examples("text")[1])
    assert verify([SECRET], "orders", parse_qsl(urlsplit(url).query), 0) == TERMS
    shorter = names["checkout_url"](SECRET, "https://pay.shop.example/l/orders", order="ü~!'()*+ 7", amount="1")
    assert verify([SECRET], "orders", parse_qsl(urlsplit(shorter).query), 0) == Terms("1", "ü~!'()*+ 7")


def test_its_commands_are_commands() -> None:
    commands = dict(leaves(cli))
    typed = re.findall(r"^    astrapayd (.*?)(?:  +#.*)?$", PAGE, re.MULTILINE)
    assert len(typed) == 4
    for line in typed:
        words = shlex.split(line)
        command = commands[words[0], words[1]]
        command.make_context("astrapayd", words[2:], parent=Context(cli))


def test_its_limits_are_the_codes() -> None:
    assert f"up to {MAX_AMOUNT} characters" in PAGE
    assert f"up to {MAX_ORDER} characters" in PAGE
    assert f"up to {MAX_EMAIL} characters" in PAGE
