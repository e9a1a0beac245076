"""Private keys in the configuration are refused in any form, and never repeated. All keys here are made on the spot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.config import ConfigError, ConfigRegistry, load
from astrapayd.private_keys import in_comments, private_key_kind, scrub

KEY = hashlib.sha256(b"not a key of anybody").digest()
WORDS = resources.files("astrapayd").joinpath("bip39_english.txt").read_text().split()


def _base58check(payload: bytes) -> str:
    return base58.b58encode_check(payload).decode()


def _extended(version: str, key: bytes) -> str:
    return _base58check(bytes.fromhex(version) + bytes(9) + KEY + key)


def _phrase(count: int) -> str:
    bits = int.from_bytes(hashlib.sha512(KEY).digest())
    return " ".join(WORDS[bits >> (11 * index) & 2047] for index in range(count))


XPRV = _extended("0488ade4", b"\0" + KEY)
WIF = _base58check(b"\x80" + KEY + b"\x01")

PRIVATE = {
    "xprv": XPRV,
    "tprv": _extended("04358394", b"\0" + KEY),
    "yprv": _extended("049d7878", b"\0" + KEY),
    "zprv": _extended("04b2430c", b"\0" + KEY),
    "another coin's": _extended("02fac398", b"\0" + KEY),
    "xprv with a mistyped letter": XPRV[:-1] + ("a" if XPRV[-1] != "a" else "b"),
    "descriptor": f"wpkh([d34db33f/84h/0h/0h]{XPRV}/0/*)#checksum",
    "WIF": WIF,
    "WIF, uncompressed": _base58check(b"\x80" + KEY),
    "WIF, testnet": _base58check(b"\xef" + KEY + b"\x01"),
    "WIF of Electrum": f"p2wpkh:{WIF}",
    "BIP-38": _base58check(b"\x01\x42\xc0" + bytes(4) + KEY),
    "hex": KEY.hex(),
    "0x hex": "0x" + KEY.hex(),
    "hex in capitals": KEY.hex().upper(),
    "hex in a sentence": f"key={KEY.hex()};",
    "hex in groups": ":".join(KEY.hex()[at : at + 2] for at in range(0, 64, 2)),
    "seed": KEY.hex() * 2,
    "PEM": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ==\n-----END EC PRIVATE KEY-----",
    "keystore": '{"crypto": {"ciphertext": "aa", "kdf": "scrypt"}}',
    "12 words": _phrase(12),
    "15 words": _phrase(15),
    "18 words": _phrase(18),
    "21 words": _phrase(21),
    "24 words": _phrase(24),
    "words in capitals": _phrase(12).upper(),
    "words in a list": "".join(f"{number}. {word}\n" for number, word in enumerate(_phrase(12).split(), 1)),
    "words after text": f"my wallet: {_phrase(12)}",
}

PUBLIC = {
    "xpub": _extended("0488b21e", b"\x02" + KEY),
    "EVM address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "Tron address": "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    "Bitcoin address": _base58check(b"\0" + KEY[:20]),
    "public key": "02" + KEY.hex(),
    "WIF without its checksum": WIF[:-1] + ("a" if WIF[-1] != "a" else "b"),
    "description": (
        "A bag of one kilo of coffee, roasted on the day that you order it, sent in paper, with a card that says where "
        "the beans have come from, who has grown them and how they are best ground at home"
    ),
    "lower-case description": "a small bag of fresh coffee that can be sent as a gift to any city in the world",
    "keywords": "coffee tea sugar milk bread butter cheese apple orange lemon",  # fewer than twelve of the list
    "PEM certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "URL": "postgresql://me@host/db",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "sha-1": KEY.hex()[:40],
}


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_key_is_refused_anywhere_and_not_repeated(tmp_path: Path, name: str) -> None:
    value = PRIVATE[name]
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    for toml, key in [
        (f"[stores.shop]\nname = {quoted}", "stores.shop.name"),
        (f"[stores.shop.accounts.ring]\naddresses = ['a', {quoted}]", "stores.shop.accounts.ring.addresses[1]"),
        (f"[what.ever]\nx = [{{ y = {quoted} }}]", "what.ever.x[0].y"),
        (f"[stores.shop.accounts.{quoted}]", "stores.shop.accounts.[hidden]"),
        (f"[plugins.x]\ntoken = {{ env = {quoted} }}", "plugins.x.token.env"),
    ]:
        path = tmp_path / "astrapayd.toml"
        path.write_text(toml)
        with pytest.raises(ConfigError) as caught:
            load(path, ConfigRegistry())
        assert key in {
            problem.key for problem in caught.value.problems if "astrapayd never needs one" in problem.reason
        }
        for part in value.split():
            assert len(part) < 16 or part not in str(caught.value)


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_passes(name: str) -> None:
    assert private_key_kind(PUBLIC[name]) is None


def test_keys_spread_over_an_array_or_written_as_a_number() -> None:
    spread: dict[str, Any] = {
        "words": _phrase(12).split(),
        "bytes": list(KEY),
        "number": int.from_bytes(KEY) | 1 << 255,
    }
    clean, findings = scrub(spread, ())
    assert [finding.loc for finding in findings] == [("words",), ("bytes",), ("number",)]
    assert clean == {"words": [], "bytes": [], "number": 0}
    assert scrub({"ports": list(range(31)), "n": 2**64}, ())[1] == []


def test_hex_passes_where_it_is_a_hash() -> None:
    tree = {"genesis": "0x" + KEY.hex(), "list": {"genesis": [KEY.hex()]}}
    assert scrub(tree, {"genesis"}) == (tree, [])
    assert len(scrub(tree, ())[1]) == 2
    assert scrub({"genesis": WIF}, {"genesis"})[1]


def test_a_declared_hash_key_is_respected_by_load(tmp_path: Path) -> None:
    path = tmp_path / "astrapayd.toml"
    path.write_text(f"[plugins.x]\nblock = '{KEY.hex()}'")
    registry = ConfigRegistry()
    registry.add_hash_key("block")
    with pytest.raises(ConfigError) as caught:
        load(path, registry)
    assert "private key" not in str(caught.value)


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        (f"# {WIF}", True),
        (f"name = 'x' # was {XPRV}", True),
        (f"# private_key = '0x{KEY.hex()}'", True),
        (f"# genesis = '0x{KEY.hex()}'", False),
        (f"# deployed by transaction 0x{KEY.hex()}", False),
        (f"#{_phrase(12)}", True),
        ("# the price, rounded up, and behind it the digits that are the customer's alone", False),
    ],
)
def test_comments_are_read_too(tmp_path: Path, comment: str, found: bool) -> None:
    assert [line for line, _ in in_comments(f"a = 1\n{comment}\n", {"genesis"})] == ([2] if found else [])
    path = tmp_path / "astrapayd.toml"
    path.write_text(f"[log]\n{comment if comment.startswith('#') else '# ' + comment}\n")
    if found:
        with pytest.raises(ConfigError, match="line 2: holds"):
            load(path, ConfigRegistry())
    else:
        load(path, ConfigRegistry())


def _sentences() -> Iterator[str]:
    # the project's own prose stands for ordinary text
    for path in sorted(Path(__file__).parents[2].glob("*.md")):
        yield from path.read_text().split("\n\n")


def test_ordinary_prose_is_no_recovery_phrase() -> None:
    for sentence in _sentences():
        assert private_key_kind(sentence) is None, sentence


@given(st.binary(min_size=32, max_size=32), st.integers(0, 255))
def test_any_key_of_any_coin_in_wif(key: bytes, version: int) -> None:
    for payload in (bytes([version]) + key, bytes([version]) + key + b"\x01"):
        text = _base58check(payload)
        # the version byte decides the length; below 49 characters it would be no coin's
        assert (private_key_kind(text) is not None) or len(text) < 49


@given(st.text(max_size=300))
def test_any_text_has_an_answer(text: str) -> None:
    private_key_kind(text)
    list(in_comments(text, ()))
