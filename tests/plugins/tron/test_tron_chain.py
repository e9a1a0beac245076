"""The configuration of a Tron chain, and what the core then knows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from astrapayd.app import assemble
from astrapayd.chains import AddressError, ChainRegistry, TransactionError
from astrapayd.config import AssetSection, ConfigError
from astrapayd_tron.chain import TronChain, caip2, read_assets
from astrapayd_tron.config import NodeSection, TronChainSection
from astrapayd_tron.networks import MAINNET, NETWORKS, NILE, SHASTA
from tests.plugins.tron.test_tip191 import SIGNATURE, SIGNER, TEXT
from tests.plugins.tron.test_tron_derivation import ADDRESSES, XPUB

PLUGIN = Path(__file__).parents[3] / "plugins" / "tron" / "astrapayd_tron"
READY = Path(__file__).parents[3] / "config" / "chains" / "tron.toml"
USDT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
NODE = {"url": "http://127.0.0.1:8090", "solidity": "http://127.0.0.1:8091"}
PRIVATE_GENESIS = "00" * 8 + "5a" * 24


def _load(tmp_path: Path, account: str, changed: tuple[str, str] = ("", "")) -> Any:
    config = tmp_path / "astrapayd.toml"
    config.write_text(
        f"""{READY.read_text().replace(*changed)}
[database]
url = "sqlite:///{tmp_path / "astrapayd.db"}"

[stores.shop]
name = "Shop"

[stores.shop.accounts.tron]
{account}
"""
    )
    config.chmod(0o600)
    return assemble(config).core.registry["tron"]


def test_the_ready_chain_file_loads_as_it_is(tmp_path: Path) -> None:
    chain = _load(tmp_path, f'addresses = ["{ADDRESSES[0]}"]\nxpub = "{XPUB}"')
    usdt, trx = chain.assets["usdt-tron"], chain.assets["trx"]
    assert (chain.network, chain.title, chain.token_standard) == ("tron:728126428", "Tron", "TRC-20")
    assert usdt.caip19 == f"tron:728126428/trc20:{USDT}"
    assert trx.caip19 == "tron:728126428/slip44:195"
    assert (usdt.contract, usdt.decimals, trx.contract, trx.decimals) == (USDT, 6, None, 6)
    assert all(asset.takes_tails and not asset.testnet for asset in chain.assets.values())
    assert chain.confirmations == chain.final
    assert (chain.final.blocks, chain.final.label) == (None, "solidified")
    assert chain.derive(chain.parse_xpub(XPUB), 0, 0) == ADDRESSES[0]


def test_a_number_of_blocks_is_sooner_than_solidified(tmp_path: Path) -> None:
    changed = ('#confirmations = "solidified"', "confirmations = 3")
    chain = _load(tmp_path, f'addresses = ["{ADDRESSES[0]}"]', changed)
    assert (chain.confirmations.blocks, chain.final.blocks) == (3, None)


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ('addresses = ["0xa614f803b6fd780986a42c78ec9c7f77e6ded13d"]', "same key's address on Tron is T"),
        (f'addresses = ["{USDT}"]', "is the contract of USDT, where money is lost"),
        (f'addresses = ["{ADDRESSES[0][:-1]}h"]', "wrong checksum"),
        (f'xpub = "{XPUB[:-1]}e"', "no extended public key"),
    ],
)
def test_wrong_addresses_and_keys_are_told_at_start(tmp_path: Path, account: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _load(tmp_path, account)


def test_an_address_in_hex_is_the_same_as_in_base58(tmp_path: Path) -> None:
    chain = _load(tmp_path, f'addresses = ["{ADDRESSES[0]}"]')
    hex_form = "41c8599111f29c1e1e061265b4af93ea1f274ad78a"
    assert chain.parse_address(hex_form) == chain.parse_address(ADDRESSES[0]) == ADDRESSES[0]
    assert chain.display_address(ADDRESSES[0]) == ADDRESSES[0]


@pytest.mark.parametrize(
    ("network", "expected"), [(MAINNET, "tron:728126428"), (NILE, "tron:3448148188"), (SHASTA, "tron:2494104990")]
)
def test_networks_have_the_ids_that_caip_2_lists(network: Any, expected: str) -> None:
    assert caip2(network.genesis) == expected
    assert NETWORKS[network.name] is network


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"url": "127.0.0.1:8090"}, "does not begin with http://"),
        ({"url": "ws://127.0.0.1:8090"}, "does not begin with http://"),
        ({"url": "http://user:word@127.0.0.1:8090"}, "user or password"),
        ({"url": "http://:8090"}, "no proper host and port"),
        ({"url": "http://127.0.0.1:99999"}, "not a URL"),
        ({"url": "http://127.0.0.1:8090/wallet"}, "something behind the port"),
        ({"solidity": "grpc://127.0.0.1:50061"}, "solidity HTTP address"),
        ({"solidity": "http://127.0.0.1:8090"}, "port of its own"),
        ({"events": "http://127.0.0.1:5555"}, "no address of ZeroMQ"),
        ({"events": "tcp://*:5555"}, "no proper host and port"),
        ({"events": "tcp://127.0.0.1:0"}, "no proper host and port"),
        ({"events": "tcp://127.0.0.1"}, "no proper host and port"),
    ],
)
def test_a_wrong_node_is_told_in_words(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as error:
        NodeSection.model_validate(NODE | changed)
    assert "word@" not in str(error.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"nodes": []}, "at least 1 item"),
        ({"nodes": [NODE, NODE]}, "same node twice"),
        ({"network": "private"}, "without genesis"),
        ({"network": "private", "genesis": NILE.genesis}, 'write network = "nile"'),
        ({"genesis": NILE.genesis}, "genesis of another network"),
        ({"genesis": "0x12"}, "not a block's id"),
        ({"confirmations": 0}, "greater than or equal to 1"),
        ({"confirmations": "finalized"}, "solidified"),
        ({"uri": "yes"}, "off"),
    ],
)
def test_a_wrong_section_is_told_in_words(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TronChainSection.model_validate({"plugin": "tron", "nodes": [NODE]} | changed)


def _section(**changed: Any) -> TronChainSection:
    return TronChainSection.model_validate({"plugin": "tron", "nodes": [NODE]} | changed)


def test_a_private_network_has_the_id_of_its_genesis() -> None:
    chain = TronChain("mine", _section(network="private", genesis=PRIVATE_GENESIS, title="Ours"), {})
    assert (chain.network, chain.title) == (f"tron:{0x5A5A5A5A}", "Ours")


def _assets(*listed: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    registry = ChainRegistry()
    sections = [
        (f"a{number}", AssetSection.model_validate({"chain": "tron", "symbol": "X", "decimals": 6} | asset))
        for number, asset in enumerate(listed)
    ]
    assets = read_assets("tron", _section(network="nile"), sections, registry)
    return assets, [f"{problem.key}: {problem.reason}" for problem in registry.problems]


def test_assets_of_a_test_network_are_worth_nothing() -> None:
    assets, problems = _assets({}, {"contract": "41a614f803b6fd780986a42c78ec9c7f77e6ded13c"})
    assert not problems
    assert all(asset.testnet for asset in assets.values())
    assert assets["a1"].contract == USDT, "one representation inside"


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ([{"decimals": 18}], "a0.decimals: is 18, but TRX has 6"),
        ([{}, {}], "a1: is the chain's native coin as assets.a0"),
        ([{"contract": USDT}, {"contract": USDT}], "a1.contract: is the same contract as assets.a0"),
        ([{"contract": "0xdAC17F958D2ee523a2206206994597C13D831ec7"}], "a0.contract: is an address of an EVM chain"),
        ([{"price_decimals": 4}], "a0.tail_digits: is 4, which together with price_decimals = 4 is more than"),
    ],
)
def test_wrong_assets_are_told_with_their_key(listed: list[dict[str, Any]], words: str) -> None:
    _, problems = _assets(*listed)
    assert [problem for problem in problems if words in problem]


def test_a_uri_is_an_address_unless_asked_for_and_never_for_a_token() -> None:
    assets, _ = _assets({}, {"contract": USDT})
    plain, asked = TronChain("tron", _section(), assets), TronChain("tron", _section(uri="tron"), assets)
    for asset in assets.values():
        assert plain.payment_uri(asset, ADDRESSES[0], 12_340_007) == ""
    assert asked.payment_uri(assets["a0"], ADDRESSES[0], 12_340_007) == f"tron:{ADDRESSES[0]}?amount=12.340007"
    assert asked.payment_uri(assets["a1"], ADDRESSES[0], 12_340_007) == ""


async def test_a_claim_is_checked_without_a_node() -> None:
    nobody = {"url": "http://127.0.0.1:1", "solidity": "http://127.0.0.1:2"}
    watcher = TronChain("tron", _section(nodes=[nobody]), {}).watcher()
    try:
        assert await watcher.signed_by(SIGNER, TEXT, SIGNATURE)
        assert not await watcher.signed_by(ADDRESSES[0], TEXT, SIGNATURE)
        (status,) = await watcher.check()
        assert not status.reachable
        assert status.problems
    finally:
        await watcher.close()


def test_tronpy_is_on_no_way_of_a_payment() -> None:
    """Without a provider it asks a public service by itself."""
    sources = list(PLUGIN.rglob("*.py"))
    assert len(sources) > 8
    for path in sources:
        assert "tronpy" not in path.read_text(), path


def test_transaction_ids() -> None:
    chain = TronChain("tron", _section(), {})
    assert chain.parse_transaction("0x" + "AB" * 32) == chain.parse_transaction("ab" * 32) == "ab" * 32
    for wrong in ("", "ab", "ab" * 33, "zz" * 32, " " + "ab" * 32):
        with pytest.raises(TransactionError, match="not a transaction id"):
            chain.parse_transaction(wrong)
    with pytest.raises(AddressError):
        chain.parse_address("ab" * 32)
