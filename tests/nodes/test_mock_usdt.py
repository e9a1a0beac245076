"""The mock token: its artifact belongs to its source, its hand-made calls to its ABI, its behaviour to USDT's."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from eth_hash.auto import keccak

from astrapayd_evm.demo import token
from astrapayd_evm.demo.accounts import CUSTOMERS, OWNER
from tests.nodes.harness import CONTRACTS, ROOT, TestNode

SHOP = "0x" + "42" * 20


@pytest.fixture(scope="module")
def artifact() -> Any:
    return json.loads((CONTRACTS / "MockUSDT.json").read_text())


def test_artifact_was_made_from_this_source(artifact: Any) -> None:
    assert artifact["sourceSha256"] == hashlib.sha256((CONTRACTS / "MockUSDT.sol").read_bytes()).hexdigest()
    assert artifact["compiler"].startswith("0.8.28+")


def test_the_pinned_compiler_makes_the_same_artifact(tmp_path: Path, missing: Any) -> None:
    if shutil.which("npm") is None:
        missing("npm, to compile MockUSDT.sol again")
    built = tmp_path / "MockUSDT.json"
    run = subprocess.run(["sh", str(CONTRACTS / "build.sh"), str(built)], capture_output=True, text=True, timeout=180)
    if run.returncode and not (ROOT / "build" / "solc" / "node_modules" / "solc").exists():
        missing(f"solc from npm (offline?): {run.stderr[-300:]}")
    assert run.returncode == 0, run.stderr
    assert built.read_text() == (CONTRACTS / "MockUSDT.json").read_text()


def test_selectors_are_those_of_the_abi(artifact: Any) -> None:
    in_abi = {
        f"{entry['name']}({','.join(argument['type'] for argument in entry['inputs'])})"
        for entry in artifact["abi"]
        if entry["type"] == "function"
    }
    for signature, selector in token.SELECTORS.items():
        assert signature in in_abi
        assert keccak(signature.encode())[:4] == selector
    assert "0x" + keccak(b"Transfer(address,address,uint256)").hex() == token.TRANSFER_TOPIC


def test_like_usdt_it_returns_no_bool(artifact: Any) -> None:
    outputs = {entry["name"]: entry["outputs"] for entry in artifact["abi"] if entry["type"] == "function"}
    assert all(outputs[name] == [] for name in ("transfer", "transferFrom", "approve"))


def test_calls_are_encoded_as_eth_abi_does() -> None:
    from eth_abi.abi import encode

    assert token.transfer(SHOP, 7)[4:] == encode(["address", "uint256"], [SHOP, 7])
    payments = [(SHOP, 1), (OWNER.address, 2**256 - 1), (SHOP, 3)]
    expected = encode(["address[]", "uint256[]"], [[to for to, _ in payments], [amount for _, amount in payments]])
    assert token.batch_transfer(payments)[4:] == expected
    for outside in (-1, 2**256):
        with pytest.raises(ValueError, match="outside uint256"):
            token.transfer(SHOP, outside)


async def test_only_the_owner_mints_and_nobody_overspends(node: TestNode) -> None:
    largest_base = 2**255
    minted = await node.wallet.mint(CUSTOMERS[0].address, largest_base)
    await node.mine()
    huge = await node.pay_token(SHOP, largest_base)
    overspent = await node.pay_token(SHOP, largest_base)
    zero = await node.pay_token(SHOP, 0, CUSTOMERS[1].address)
    await node.mine()
    places = [await node.mined_at(transaction) for transaction in (minted, huge, overspent, zero)]
    assert [place.succeeded for place in places if place] == [True, True, False, True]
    assert [place.log_index is None for place in places if place] == [False, False, True, False]
    assert await node.wallet.token_balance(SHOP) == largest_base
