"""MockUSDT: the compiled contract and its calls, encoded by hand (Solidity's "Contract ABI Specification").

Neither web3 nor eth-abi is needed for five calls with fixed shapes; either would be most of the start-up time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources

DECIMALS = 6
TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""topic0 of Transfer(address,address,uint256), keccak256 of the signature."""

# The first four bytes of keccak256 of the signature; a test recomputes them from the ABI.
SELECTORS = {
    "transfer(address,uint256)": bytes.fromhex("a9059cbb"),
    "batchTransfer(address[],uint256[])": bytes.fromhex("88d695b2"),
    "mint(address,uint256)": bytes.fromhex("40c10f19"),
    "balanceOf(address)": bytes.fromhex("70a08231"),
    "decimals()": bytes.fromhex("313ce567"),
}
_UINT256_MAX = 2**256 - 1


def creation_code(initial_supply_base: int) -> bytes:
    """Data of the transaction that deploys MockUSDT and gives `initial_supply_base` base units to the deployer."""
    artifact = json.loads(resources.files(__package__).joinpath("contracts/MockUSDT.json").read_text("utf-8"))
    return bytes.fromhex(artifact["bytecode"].removeprefix("0x")) + _uint256(initial_supply_base)


def transfer(to: str, amount_base: int) -> bytes:
    """Calldata of `transfer`. `amount_base` in base units, 0 allowed (address poisoning does that)."""
    return SELECTORS["transfer(address,uint256)"] + _address(to) + _uint256(amount_base)


def mint(to: str, amount_base: int) -> bytes:
    """Calldata of `mint`; only the owner may."""
    return SELECTORS["mint(address,uint256)"] + _address(to) + _uint256(amount_base)


def batch_transfer(payments: Sequence[tuple[str, int]]) -> bytes:
    """Calldata of `batchTransfer` for (recipient, base units) pairs: one Transfer log each, in this order."""
    recipients = _uint256(len(payments)) + b"".join(_address(to) for to, _ in payments)
    amounts = _uint256(len(payments)) + b"".join(_uint256(amount) for _, amount in payments)
    # Head: where each of the two dynamic arrays begins, counted from the start of the arguments.
    head = _uint256(64) + _uint256(64 + len(recipients))
    return SELECTORS["batchTransfer(address[],uint256[])"] + head + recipients + amounts


def balance_of(owner: str) -> bytes:
    """Calldata of `balanceOf`; the answer is one 32-byte big-endian number of base units."""
    return SELECTORS["balanceOf(address)"] + _address(owner)


def _address(address: str) -> bytes:
    raw = bytes.fromhex(address.removeprefix("0x"))
    if len(raw) != 20:
        raise ValueError(f"an address has 20 bytes: {address}")
    return raw.rjust(32, b"\0")


def _uint256(value: int) -> bytes:
    if not 0 <= value <= _UINT256_MAX:
        raise ValueError(f"outside uint256: {value}")
    return value.to_bytes(32, "big")
