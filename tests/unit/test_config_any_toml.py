"""Whatever the file holds, reading it ends in a Config or a ConfigError, never in a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from astrapayd.config import ChainSection, Config, ConfigError, ConfigRegistry, Section, load
from astrapayd.secret import Secret


class RingSection(ChainSection):
    """A chain plugin's section with a bit of everything."""

    chain_id: Annotated[int, Field(ge=1)]
    nodes: Annotated[tuple[str | Secret, ...], Field(min_length=1)]
    confirmations: Annotated[int, Field(ge=1)] | Literal["finalized"] = "finalized"
    genesis: str | None = None
    quorum: float = 0.5


class ShopSection(Section):
    token: Secret | None = None
    tags: frozenset[str] = frozenset()
    depth: int = 0


@pytest.fixture
def registry() -> ConfigRegistry:
    registry = ConfigRegistry()
    registry.add_chain_section("ring", RingSection)
    registry.add_plugin_section("shop", ShopSection)
    return registry


_NAMES = """
    server database log chains assets stores plugins ring shop coin plugin name url public_url admin accounts addresses
    chain decimals token nodes trusted_proxies genesis chain_id symbol
"""
_KEYS = st.sampled_from(_NAMES.split()) | st.text(max_size=6)
_VALUES = st.recursive(
    st.text(max_size=20)
    | st.integers(-(2**70), 2**300)
    | st.booleans()
    | st.floats()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.sampled_from(["ring", "sqlite:///x", "https://a.example", "127.0.0.1:1", "{ env }", "[::1", "http://["]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=30,
)


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(char):08X}" for char in value if not 0xD800 <= ord(char) <= 0xDFFF) + '"'
        case int():
            return str(value)
        case float():
            return repr(value)
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            # two names that differ by a surrogate only would be one name twice
            unique = {_toml(key): _toml(child) for key, child in value.items()}
            return f"{{{', '.join(f'{key} = {child}' for key, child in unique.items())}}}"
        case _:
            return str(value.isoformat())


def _load_or_refuse(path: Path, registry: ConfigRegistry) -> None:
    try:
        config = load(path, registry)
    except ConfigError as error:
        problems = error.problems
    else:
        assert isinstance(config, Config)
        return
    assert problems
    assert all(problem.reason and "\n" not in problem.key + problem.reason for problem in problems)


_QUIET = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_QUIET
@given(st.dictionaries(_KEYS, _VALUES, max_size=8))
@example({"chains": {"ring": {"plugin": "ring", "nodes": [{"env": "\0"}], "chain_id": 1}}})
@example({"plugins": {"shop": {"token": {"file": "/\0"}}}})
@example({"server": {"public_url": "http://[", "trusted_proxies": [[]]}})
def test_any_toml_is_a_config_or_a_config_error(tmp_path: Path, registry: ConfigRegistry, tree: dict[str, Any]) -> None:
    path = tmp_path / "any.toml"
    path.write_text(
        "\n".join(f"{key} = {child}" for key, child in {_toml(k): _toml(v) for k, v in tree.items()}.items())
    )
    _load_or_refuse(path, registry)


@_QUIET
@given(st.binary(max_size=200) | st.text(alphabet="[]{}=.,\"'\\#\n\r\t 019abc_-+:TZé", max_size=80).map(str.encode))
@example(b"\xef\xbb\xbf[server]\r\n")
def test_any_bytes_are_a_config_or_a_config_error(tmp_path: Path, registry: ConfigRegistry, raw: bytes) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(raw)
    _load_or_refuse(path, registry)
