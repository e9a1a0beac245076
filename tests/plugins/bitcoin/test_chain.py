"""The configuration of a Bitcoin chain, and what the core then knows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from astrapayd.app import assemble
from astrapayd.chains import AddressError, ChainRegistry, TransactionError
from astrapayd.config import AssetSection, ConfigError
from astrapayd.money import parse_amount
from astrapayd_bitcoin.chain import read_assets
from astrapayd_bitcoin.config import BitcoinChainSection, NodeSection
from astrapayd_bitcoin.networks import MAINNET, REGTEST
from tests.plugins.bitcoin.following import bitcoin_chain
from tests.plugins.bitcoin.regtest import Regtest
from tests.plugins.bitcoin.test_bitcoin_derivation import TPUB, VECTORS, XPUB, ZPUB

READY = Path(__file__).parents[3] / "config" / "chains" / "bitcoin.toml"
ADDRESS = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk"


def _load(tmp_path: Path, account: str, changed: tuple[str, str] = ("", "")) -> Any:
    config = tmp_path / "astrapayd.toml"
    config.write_text(
        f"""{READY.read_text().replace(*changed)}
[database]
url = "sqlite:///{tmp_path / "astrapayd.db"}"

[stores.shop]
name = "Shop"

[stores.shop.accounts.bitcoin]
{account}
"""
    )
    config.chmod(0o600)
    return assemble(config).core.registry["bitcoin"]


def test_the_ready_chain_file_loads_as_it_is(tmp_path: Path) -> None:
    chain = _load(tmp_path, f'xpub = "{ZPUB}"')
    (asset,) = chain.assets.values()
    assert chain.network == "bip122:000000000019d6689c085ae165831e93"
    assert asset.caip19 == "bip122:000000000019d6689c085ae165831e93/slip44:0"
    assert (asset.price_decimals, asset.tail_digits, asset.testnet) == (5, 3, False)
    assert (chain.confirmations.blocks, chain.final.blocks) == (2, 100)
    assert chain.derive(chain.parse_xpub(ZPUB), 0, 0) == VECTORS["mainnet"]["p2wpkh"]["receive"][0][0]


@pytest.mark.parametrize(
    ("account", "words"),
    [
        (f'xpub = "{TPUB}"', "stores.shop.accounts.bitcoin.xpub: is a key of test networks"),
        (f'addresses = ["{ADDRESS}"]', "is an address of regtest, but this chain is mainnet"),
        ('addresses = ["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"]', "wrong checksum"),
    ],
)
def test_wrong_addresses_and_keys_are_told_at_start(tmp_path: Path, account: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _load(tmp_path, account)


def test_a_bare_xpub_means_what_the_chain_says(tmp_path: Path) -> None:
    chain = _load(tmp_path, f'xpub = "{XPUB}"', ('#xpub_addresses = "p2wpkh"', 'xpub_addresses = "p2tr"'))
    assert chain.parse_xpub(XPUB).startswith("tr(")


NODE = {"url": "http://127.0.0.1:8332", "cookie_file": "/x/.cookie", "zmq": ["tcp://127.0.0.1:28332"]}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"url": "https://127.0.0.1:8332"}, "does not begin with http://"),
        ({"url": "127.0.0.1:8332"}, "does not begin with http://"),
        ({"url": "http://127.0.0.1"}, "no proper host and port"),
        ({"url": "http://alice:secret@127.0.0.1:8332"}, "user or password in it"),
        ({"url": "http://127.0.0.1:8332/wallet/shop"}, "no wallet is used"),
        ({"zmq": []}, "has no zmq, by which payments are seen"),
        ({"certificate": "/x/rpc.cert"}, "has a certificate, but Bitcoin Core"),
        ({"url": "wss://127.0.0.1:8334"}, "btcd has neither"),
        ({"zmq": ["127.0.0.1:28332"]}, "no address of ZeroMQ"),
        ({"zmq": ["tcp://127.0.0.1"]}, "no proper host and port"),
        ({"zmq": ["tcp://127.0.0.1:99999"]}, "no proper host and port"),
        ({"user": "alice"}, "one or the other"),
        ({"cookie_file": None}, "how to log in"),
        ({"cookie_file": ".cookie"}, "pattern"),
    ],
)
def test_wrong_nodes_are_refused_in_words(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        NodeSection.model_validate(NODE | changed)


def test_zero_confirmations_cannot_be_written() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        BitcoinChainSection.model_validate({"plugin": "bitcoin", "nodes": [NODE], "confirmations": 0})


def test_final_is_not_before_confirmed() -> None:
    with pytest.raises(ValidationError, match="write final = 6 or more"):
        BitcoinChainSection.model_validate({"plugin": "bitcoin", "nodes": [NODE], "confirmations": 6, "final": 3})


@pytest.mark.parametrize(
    ("changed", "key", "words"),
    [
        ({"contract": "0x12"}, "assets.btc.contract", "no tokens"),
        ({"decimals": 18}, "assets.btc.decimals", "write 8"),
        ({"tail_digits": 4}, "assets.btc.tail_digits", "5 and 3"),
    ],
)
def test_wrong_assets_are_told_with_their_key(changed: dict[str, Any], key: str, words: str) -> None:
    section = BitcoinChainSection.model_validate({"plugin": "bitcoin", "nodes": [NODE]})
    table = {"chain": "bitcoin", "symbol": "BTC", "decimals": 8, "price_decimals": 5, "tail_digits": 3} | changed
    registry = ChainRegistry()
    assert read_assets("bitcoin", section, [("btc", AssetSection.model_validate(table))], registry) == {}
    (problem,) = registry.problems
    assert problem.key == key
    assert words in problem.reason


def test_the_coin_is_listed_once() -> None:
    section = BitcoinChainSection.model_validate({"plugin": "bitcoin", "nodes": [NODE], "network": "signet"})
    asset = AssetSection(chain="bitcoin", symbol="BTC", decimals=8, price_decimals=5, tail_digits=3)
    registry = ChainRegistry()
    (found,) = read_assets("bitcoin", section, [("btc", asset), ("xbt", asset)], registry).values()
    assert found.testnet
    assert found.caip19.endswith("/slip44:1")
    assert [problem.key for problem in registry.problems] == ["assets.xbt"]


@pytest.mark.parametrize("amount", ["0.00000001", "0.01", "1", "20999999.9769"])
def test_the_uri_is_bip_21_in_whole_bitcoins(amount: str) -> None:
    chain = bitcoin_chain(Regtest().node)
    base = parse_amount(amount, 8)
    assert chain.payment_uri(chain.assets["btc"], ADDRESS, base) == f"bitcoin:{ADDRESS}?amount={amount}"


def test_transaction_ids_are_lower_case_hex() -> None:
    chain = bitcoin_chain(Regtest().node)
    assert chain.parse_transaction("AB" * 32) == "ab" * 32
    for text in ("", "ab" * 31, "0x" + "ab" * 32, "zz" * 32):
        with pytest.raises(TransactionError, match="64 letters or digits"):
            chain.parse_transaction(text)


def test_names() -> None:
    chain = bitcoin_chain(Regtest().node)
    assert (chain.title, chain.token_standard, chain.signs_messages) == ("Bitcoin regtest", "", False)
    assert chain.network == f"bip122:{REGTEST.genesis[:32]}"
    assert chain.display_address("") == ""
    assert chain.display_address(chain.parse_address(ADDRESS.upper())) == ADDRESS
    with pytest.raises(AddressError):
        chain.parse_address("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")
    assert MAINNET.genesis != REGTEST.genesis
