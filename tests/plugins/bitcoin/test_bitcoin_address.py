"""Addresses: the vectors of BIP-173, BIP-350 and of a node, and what is refused with which words."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.chains import AddressError
from astrapayd_bitcoin import base58, bech32
from astrapayd_bitcoin.address import address_of, parse, script_of
from astrapayd_bitcoin.networks import MAINNET, NETWORKS, REGTEST, SIGNET, TESTNET, TESTNET4, Network

VECTORS = json.loads((Path(__file__).parent / "derivation.json").read_text())["networks"]
OF_THE_NODE = [
    pytest.param(NETWORKS[name], address, script, id=f"{name}-{kind}-{index}")
    for name, kinds in VECTORS.items()
    for kind, vectors in kinds.items()
    for index, (address, script) in enumerate(vectors["receive"][:3])
]
V0 = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
V1 = "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"
P2PKH = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"


@pytest.mark.parametrize(("network", "address", "script"), OF_THE_NODE)
def test_scripts_are_those_of_a_node(network: Network, address: str, script: str) -> None:
    assert parse(address, network) == address
    assert script_of(address, network).hex() == script
    assert address_of(bytes.fromhex(script), network) == address


def test_bech32_is_canonical_in_lower_case() -> None:
    assert parse(V0.upper(), MAINNET) == V0


@pytest.mark.parametrize("network", [TESTNET, TESTNET4, SIGNET])
def test_test_networks_share_their_addresses(network: Network) -> None:
    address = "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7"
    assert parse(address, network) == address


@pytest.mark.parametrize(
    ("text", "network", "words"),
    [
        pytest.param("", MAINNET, "not a Bitcoin address", id="nothing"),
        pytest.param(V0[:-1] + "5", MAINNET, "wrong checksum", id="bech32 mistyped"),
        pytest.param(V0.replace("w508", "W508"), MAINNET, "mixes capital and small", id="mixed case"),
        pytest.param(V0[:20], MAINNET, "wrong checksum", id="cut off"),
        pytest.param("bc1", MAINNET, "cut off", id="only the beginning"),
        pytest.param(V0.replace("8", "b"), MAINNET, "character 'b'", id="no bech32 character"),
        pytest.param(V0, TESTNET, "address of mainnet, but this chain is testnet", id="mainnet on testnet"),
        pytest.param(V0, REGTEST, "address of mainnet, but this chain is regtest", id="mainnet on regtest"),
        pytest.param(
            "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", MAINNET, "testnet or signet", id="testnet on mainnet"
        ),
        pytest.param("bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk", SIGNET, "regtest", id="regtest on signet"),
        pytest.param(
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", MAINNET, "in bech32m", id="v1 in bech32"
        ),
        pytest.param("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", MAINNET, "in bech32:", id="v0 in bech32m"),
        pytest.param("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", MAINNET, "16 bytes", id="v0 of 16 bytes"),
        pytest.param("bc1pw5dgrnzv", MAINNET, "1 bytes", id="v1 of one byte"),
        pytest.param(
            "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", MAINNET, "version 17", id="version 17"
        ),
        pytest.param("BC1SW50QGDZ25J", MAINNET, "no rules yet", id="version 16"),
        pytest.param("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", MAINNET, "no rules yet", id="version 2"),
        pytest.param("bc1pfeessrawgf", MAINNET, "anchor", id="anchor"),
        pytest.param(P2PKH[:-1] + "b", MAINNET, "wrong checksum", id="base58 mistyped"),
        pytest.param(P2PKH, TESTNET, "address of mainnet", id="p2pkh of mainnet on testnet"),
        pytest.param("mkpZhYtJu2r87Js3pDiWJDmPte2NRZ8bJV", MAINNET, "test network", id="p2pkh of a test network"),
        pytest.param("2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2", MAINNET, "test network", id="p2sh of a test network"),
        pytest.param("LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1", MAINNET, "another coin", id="litecoin"),
        pytest.param("0x52908400098527886E0F7030069857D2E4169EE7", MAINNET, "not a Bitcoin address", id="ethereum"),
        pytest.param("12" * 32, MAINNET, "private key", id="hex key"),
        pytest.param(f"bitcoin:{V0}?amount=1", MAINNET, "payment link", id="uri"),
        pytest.param(f" {V0}", MAINNET, "not a Bitcoin address", id="blank"),
        pytest.param("bс1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", MAINNET, "not a Bitcoin", id="cyrillic"),
        pytest.param(VECTORS["mainnet"]["p2wpkh"]["keys"][1], MAINNET, "public key and no address", id="zpub"),
    ],
)
def test_what_is_no_address_of_the_network_is_refused_in_words(text: str, network: Network, words: str) -> None:
    with pytest.raises(AddressError, match=words) as refused:
        parse(text, network)
    assert "12" * 32 not in str(refused.value), "what may be a private key is not repeated"


def test_a_private_key_is_refused_and_not_repeated() -> None:
    wif = base58.encode_check(b"\xef" + bytes(range(1, 33)) + b"\x01")
    with pytest.raises(AddressError, match="private key") as refused:
        parse(wif, REGTEST)
    assert wif not in str(refused.value)


@given(st.sampled_from(list(NETWORKS.values())), st.sampled_from([(0, 20), (0, 32), (1, 32)]), st.data())
def test_every_segwit_script_comes_back(network: Network, form: tuple[int, int], data: st.DataObject) -> None:
    version, length = form
    program = data.draw(st.binary(min_size=length, max_size=length))
    address = bech32.encode(network.hrp, version, program)
    script = script_of(address, network)
    assert parse(address.upper(), network) == address
    assert address_of(script, network) == address
    assert script == bytes((0x51 if version else 0, length)) + program


@given(st.sampled_from(list(NETWORKS.values())), st.booleans(), st.binary(min_size=20, max_size=20))
def test_every_base58_script_comes_back(network: Network, to_script: bool, digest: bytes) -> None:
    address = base58.encode_check(bytes((network.p2sh_version if to_script else network.p2pkh_version,)) + digest)
    assert parse(address, network) == address
    assert address_of(script_of(address, network), network) == address


@given(st.sampled_from([V0, V1, P2PKH]), st.data())
def test_one_wrong_character_is_noticed(address: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(address) - 1))
    letter = data.draw(st.sampled_from(base58.ALPHABET).filter(lambda char: char != address[at]))
    with pytest.raises(AddressError):
        parse(address[:at] + letter + address[at + 1 :], MAINNET)


@given(st.text(max_size=100), st.sampled_from(list(NETWORKS.values())))
def test_any_text_is_an_address_or_refused_in_words(text: str, network: Network) -> None:
    with contextlib.suppress(AddressError):
        parse(text, network)


@given(st.binary(max_size=60))
def test_any_script_has_an_address_or_none(script: bytes) -> None:
    address = address_of(script, MAINNET)
    if address is not None:
        assert script_of(address, MAINNET) == script


@pytest.mark.parametrize("script", ["6a0468656c6c6f", "21" + "02" * 33 + "ac", "5121" + "02" * 33 + "51ae", ""])
def test_scripts_without_an_address(script: str) -> None:
    assert address_of(bytes.fromhex(script), MAINNET) is None
