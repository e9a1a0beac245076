"""Accounts of the demo chain.

WELL-KNOWN TEST KEYS: the ones that Hardhat and Anvil derive from "test test test test test test test test test test
test junk" (m/44'/60'/0'/0/n). They are in thousands of public repositories; whatever is sent to them on a real chain is
taken within seconds. That everybody knows them is the point: nobody mistakes this for a wallet, and the same accounts
work on both test nodes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """A funded account: `address` in EIP-55 form, `private_key` as 0x-hex of 32 bytes."""

    address: str
    private_key: str


OWNER = DemoAccount(
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
)
"""Deploys MockUSDT as its first transaction; sends the transfers that shift log indices in a staged reorg."""

CUSTOMERS = (
    DemoAccount(
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    ),
    DemoAccount(
        "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    ),
    DemoAccount(
        "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
        "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    ),
    DemoAccount(
        "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
        "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    ),
    DemoAccount(
        "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
        "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    ),
)
"""Customers, each with native coin and MockUSDT. The first one pays unless told otherwise."""

ALL = (OWNER, *CUSTOMERS)
