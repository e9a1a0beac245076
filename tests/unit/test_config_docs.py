"""The example file loads, and example, reference page and models name the same settings with the same defaults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from astrapayd.config import (
    AccountSection,
    AssetSection,
    ChainSection,
    ConfigRegistry,
    DatabaseSection,
    FixedRateSection,
    LogSection,
    RatesSection,
    ServerSection,
    StoreSection,
    load,
)
from astrapayd.webhooks import WebhooksSection
from astrapayd_bitcoin.config import BitcoinChainSection, NodeSection
from astrapayd_evm.config import EvmChainSection
from astrapayd_tron.config import NodeSection as TronNodeSection
from astrapayd_tron.config import TronChainSection

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "astrapayd.example.toml"
BITCOIN = ROOT / "config" / "chains" / "bitcoin.toml"
TRON = ROOT / "config" / "chains" / "tron.toml"
REFERENCE = ROOT / "docs" / "configuration.md"

# the file that shows the table, the table, the heading in the reference, the model
TABLES: list[tuple[Path, str, str, type[BaseModel]]] = [
    (EXAMPLE, "server", "## `[server]`", ServerSection),
    (EXAMPLE, "database", "## `[database]`", DatabaseSection),
    (EXAMPLE, "log", "## `[log]`", LogSection),
    (EXAMPLE, "chains.ethereum", '### with `plugin = "evm"`', EvmChainSection),
    (BITCOIN, "chains.bitcoin", '### with `plugin = "bitcoin"`', BitcoinChainSection),
    (BITCOIN, "chains.bitcoin.nodes", '### `[[chains.ID.nodes]]` with `plugin = "bitcoin"`', NodeSection),
    (TRON, "chains.tron", '### with `plugin = "tron"`', TronChainSection),
    (TRON, "chains.tron.nodes", '### `[[chains.ID.nodes]]` with `plugin = "tron"`', TronNodeSection),
    (EXAMPLE, "assets.usdt-eth", "## `[assets.ID]`", AssetSection),
    (EXAMPLE, "stores.shop", "## `[stores.ID]`", StoreSection),
    (EXAMPLE, "stores.shop.accounts.ethereum", "## `[stores.ID.accounts.CHAIN]`", AccountSection),
    (EXAMPLE, "rates", "## `[rates]`", RatesSection),
    (EXAMPLE, "rates.fixed", "## `[[rates.fixed]]`", FixedRateSection),
    (EXAMPLE, "plugins.webhooks", "## `[plugins.webhooks]`", WebhooksSection),
]
OF_EVERY_CHAIN = "## `[chains.ID]`"
KEYS = [
    pytest.param(shown, table, heading, name, field, id=f"{table}.{name}")
    for shown, table, heading, model in TABLES
    for name, field in model.model_fields.items()
]


@pytest.fixture
def registry() -> ConfigRegistry:
    registry = ConfigRegistry()
    registry.add_chain_section("evm", EvmChainSection)
    registry.add_plugin_section("webhooks", WebhooksSection)
    return registry


def _tables(text: str) -> Iterator[tuple[str, str]]:
    """Each table of the example, also one that is switched off, with the lines under it."""
    parts = re.split(r"^(?:# )?\[+([a-z0-9.-]+)\]+$", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def test_the_example_loads_without_a_remark(registry: ConfigRegistry) -> None:
    config = load(EXAMPLE, registry)
    assert config.notes == ()
    assert {asset.symbol for asset in config.assets.values()} == {"USDT", "USDC", "ETH"}


def test_the_example_loads_with_every_default_switched_on(registry: ConfigRegistry, tmp_path: Path) -> None:
    switched_on = tmp_path / "astrapayd.toml"
    switched_on.write_text(re.sub(r"^#(?=[a-z_]+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE))
    assert load(switched_on, registry) == _at(load(EXAMPLE, registry), switched_on)


def _at(config: Any, path: Path) -> Any:
    return type(config)(**{name: getattr(config, name) for name in config.__slots__} | {"path": path})


@pytest.mark.parametrize(("shown", "table", "heading", "name", "field"), KEYS)
def test_each_setting_is_in_the_example(shown: Path, table: str, heading: str, name: str, field: FieldInfo) -> None:
    lines = dict(_tables(shown.read_text()))[table]
    if name in ("accounts", "fixed") or (name == "nodes" and f"[[{table}.nodes]]" in shown.read_text()):
        assert f"[{table}.{name}" in shown.read_text()
        return
    found = re.search(rf"^(# ?)?{name} = (.+)$", lines, re.MULTILINE)
    assert found, f"[{table}] in {shown.name} does not show {name}"
    if found[1] == "#":
        written = tomllib.loads(f"x = {found[2]}")["x"]
        default = field.get_default(call_default_factory=True)
        assert written == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize(("shown", "table", "heading", "name", "field"), KEYS)
def test_each_setting_is_in_the_reference(shown: Path, table: str, heading: str, name: str, field: FieldInfo) -> None:
    rows = {row[0]: row[1] for row in (*_rows(OF_EVERY_CHAIN), *_rows(heading))}
    assert name in rows, f"{heading} in {REFERENCE.name} does not explain {name}"
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        assert rows[name] == "required"
    elif default is None:
        assert rows[name] == "none"
    else:
        written = tomllib.loads(f"x = {rows[name].strip('`')}")["x"]
        assert written == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize(("shown", "table", "heading", "model"), TABLES)
def test_the_reference_explains_nothing_that_is_not_there(
    shown: Path, table: str, heading: str, model: type[BaseModel]
) -> None:
    assert {name for name, _ in _rows(heading)} <= set(model.model_fields)
    assert {name for name, _ in _rows(OF_EVERY_CHAIN)} == set(ChainSection.model_fields)


def _rows(heading: str) -> list[tuple[str, str]]:
    _, _, text = REFERENCE.read_text().partition(f"\n{heading}\n")
    return re.findall(r"^\| `([a-z_]+)` \| (.+?) \|", re.split(r"\n##+ ", text)[0], re.MULTILINE)
