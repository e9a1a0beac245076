"""The ready chain files load, and say what the chains really are."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrapayd.app import assemble

CHAIN_FILES = [
    path
    for path in sorted((Path(__file__).parents[3] / "config" / "chains").glob("*.toml"))
    if 'plugin = "evm"' in path.read_text()
]
NETWORKS = {
    "arbitrum": "eip155:42161",
    "avalanche": "eip155:43114",
    "base": "eip155:8453",
    "bsc": "eip155:56",
    "ethereum": "eip155:1",
    "optimism": "eip155:10",
    "polygon": "eip155:137",
}


def test_all_seven_are_there() -> None:
    assert [path.stem for path in CHAIN_FILES] == sorted(NETWORKS)


@pytest.mark.parametrize("path", CHAIN_FILES, ids=lambda path: path.stem)
def test_chain_file_loads_as_it_is(path: Path, tmp_path: Path) -> None:
    config = tmp_path / "astrapayd.toml"
    config.write_text(
        f"""{path.read_text()}
[database]
url = "sqlite:///{tmp_path / "astrapayd.db"}"

[stores.shop]
name = "Shop"

[stores.shop.accounts.{path.stem}]
addresses = ["0x{"5a" * 20}"]
"""
    )
    config.chmod(0o600)
    registry = assemble(config).core.registry
    chain = registry[path.stem]
    assert chain.network == NETWORKS[path.stem]
    assert {asset.symbol for asset in chain.assets.values()} >= {"USDT", "USDC"}
    assert all(asset.takes_tails for asset in chain.assets.values())
    stablecoin = next(asset for asset in chain.assets.values() if asset.symbol == "USDT")
    assert stablecoin.decimals == (18 if path.stem == "bsc" else 6)
