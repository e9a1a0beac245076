"""Addresses from account keys and descriptors, against those that a node derived."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.chains import AddressError
from astrapayd_bitcoin import base58
from astrapayd_bitcoin.derivation import AddressType, derive, parse_xpub
from astrapayd_bitcoin.networks import MAINNET, NETWORKS, REGTEST, SIGNET, Network

VECTORS = json.loads((Path(__file__).parent / "derivation.json").read_text())["networks"]
ACCOUNTS = [
    pytest.param(NETWORKS[name], kind, key, vectors, id=f"{name}-{kind}-{key[:9]}-{number}")
    for name, kinds in VECTORS.items()
    for kind, vectors in kinds.items()
    if kind != "p2wsh"
    for number, key in enumerate(vectors["keys"])
]
XPUB, ZPUB, DESCRIPTOR = VECTORS["mainnet"]["p2wpkh"]["keys"][:3]
TPUB = VECTORS["regtest"]["p2wpkh"]["keys"][0]
YPUB = VECTORS["mainnet"]["p2sh-p2wpkh"]["keys"][1]
BARE = DESCRIPTOR.partition("#")[0]


@pytest.mark.parametrize(("network", "kind", "key", "vectors"), ACCOUNTS)
def test_addresses_are_those_of_a_node(
    network: Network, kind: str, key: str, vectors: dict[str, list[list[str]]]
) -> None:
    account = parse_xpub(key, network, AddressType(kind))
    assert [derive(account, 0, i, network) for i in range(len(vectors["receive"]))] == [
        a for a, _ in vectors["receive"]
    ]
    assert [derive(account, 1, i, network) for i in range(len(vectors["change"]))] == [a for a, _ in vectors["change"]]


def test_one_account_has_one_text_however_it_is_written() -> None:
    kinds = VECTORS["mainnet"]["p2wpkh"]["keys"]
    texts = [*kinds, BARE, BARE.replace("/0/*", "/<0;1>/*")]
    (canonical,) = {parse_xpub(text, MAINNET, AddressType.P2WPKH) for text in texts}
    assert canonical == f"wpkh({XPUB}/<0;1>/*)"
    assert parse_xpub(canonical, MAINNET, AddressType.P2PKH) == canonical


def test_a_version_that_says_its_addresses_is_believed_over_the_default() -> None:
    assert parse_xpub(ZPUB, MAINNET, AddressType.P2TR).startswith("wpkh(")
    assert parse_xpub(YPUB, MAINNET, AddressType.P2TR).startswith("sh(wpkh(")
    assert parse_xpub(XPUB, MAINNET, AddressType.P2TR).startswith("tr(")


def _again(key: str, *, version: str | None = None, depth: int | None = None, point: bytes | None = None) -> str:
    """The same key with something in it changed, and a checksum that fits."""
    raw = bytearray(base58.decode_check(key))
    if version is not None:
        raw[:4] = bytes.fromhex(version)
    if depth is not None:
        raw[4] = depth
    if point is not None:
        raw[45:] = point
    return base58.encode_check(bytes(raw))


@pytest.mark.parametrize(
    ("text", "network", "words"),
    [
        pytest.param("", MAINNET, "no extended public key", id="nothing"),
        pytest.param("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", MAINNET, "no extended public key", id="address"),
        pytest.param(XPUB[:-1] + "x", MAINNET, "wrong checksum", id="mistyped"),
        pytest.param(XPUB, REGTEST, "of mainnet, but this chain is regtest", id="xpub on regtest"),
        pytest.param(ZPUB, SIGNET, "of mainnet, but this chain is signet", id="zpub on signet"),
        pytest.param(TPUB, MAINNET, "of test networks, but this chain is mainnet", id="tpub on mainnet"),
        pytest.param(_again(XPUB, depth=0), MAINNET, "depth 0", id="master key"),
        pytest.param(_again(XPUB, depth=5), MAINNET, "depth 5", id="key of one address"),
        pytest.param(_again(XPUB, version="02aa7ed3"), MAINNET, "several signers", id="Zpub"),
        pytest.param(_again(XPUB, version="12345678"), MAINNET, "no extended public key", id="unknown version"),
        pytest.param(_again(XPUB, point=b"\x02" + b"\xff" * 32), MAINNET, "no point", id="no point"),
        pytest.param(DESCRIPTOR[:-1] + "q", MAINNET, "wrong checksum", id="descriptor's checksum"),
        pytest.param(f"wsh(pk({XPUB}/0/*))", MAINNET, "no descriptor of one public key", id="wsh"),
        pytest.param(f"wsh(multi(1,{XPUB}/0/*))", MAINNET, "no descriptor of one", id="multisig"),
        pytest.param(f"wpkh({XPUB})", MAINNET, "goes on with nothing", id="no path"),
        pytest.param(f"wpkh({XPUB}/7/*)", MAINNET, "goes on with /7", id="another branch"),
        pytest.param(f"wpkh({XPUB}/0/*h)", MAINNET, "goes on with /0/", id="hardened"),
        pytest.param(
            f"pkh({ZPUB}/0/*)", MAINNET, "a key for p2wpkh addresses in a descriptor for p2pkh", id="zpub in pkh"
        ),
        pytest.param(f"wpkh({TPUB}/0/*)", MAINNET, "of test networks", id="tpub in a descriptor"),
        pytest.param("wpkh(", MAINNET, "no descriptor", id="cut off"),
    ],
)
def test_what_is_no_account_key_is_refused_in_words(text: str, network: Network, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        parse_xpub(text, network, AddressType.P2WPKH)


@pytest.mark.parametrize("wrapped", ["{}", "wpkh({}/0/*)"])
def test_a_private_key_is_refused_and_not_repeated(wrapped: str) -> None:
    xprv = _again(XPUB, version="0488ade4", point=b"\0" + bytes(range(1, 33)))
    with pytest.raises(AddressError, match="private key") as refused:
        parse_xpub(wrapped.format(xprv), MAINNET, AddressType.P2WPKH)
    assert xprv not in str(refused.value)


@given(st.text(max_size=120))
def test_any_text_is_a_key_or_refused_in_words(text: str) -> None:
    with pytest.raises(AddressError):
        parse_xpub(text, MAINNET, AddressType.P2WPKH)
