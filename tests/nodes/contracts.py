"""Small contracts for tests, assembled by hand: what no ordinary token does."""

from __future__ import annotations

from typing import Any

from astrapayd_evm.decode import TRANSFER_TOPIC
from astrapayd_evm.demo import token
from astrapayd_evm.demo.accounts import CUSTOMERS
from tests.nodes.protocol import TestNode

FORWARDER = bytes.fromhex("6000600060006000346000355af100")
"""Sends the coin that it is paid on to the address in its call data: CALL(gas, calldata[0:32], callvalue); STOP."""

FORWARDER_THAT_FAILS = bytes.fromhex("6000600060006000346000355af160006000fd")
"""The same, and then REVERT(0, 0): the trace shows a call that went well inside one that did not."""


def any_token(decimals: int) -> bytes:
    """A token without balances: whoever calls `transfer` has what it takes, up to 2^256-1. With coin attached it fails
    after its log: what a block explorer's trace shows as a Transfer never happened."""
    code = _Code()
    code.op("600035", "60e0", "1c")  # the selector: calldata[0:32] >> 224
    code.op("80", "63", token.SELECTORS["decimals()"].hex(), "14").jump_if("decimals")
    code.op("80", "63", token.SELECTORS["balanceOf(address)"].hex(), "14").jump_if("nothing")
    code.op("602435", "600052")  # the amount into memory
    code.op("600435", "33", "7f", TRANSFER_TOPIC[2:], "6020", "6000", "a3")  # LOG3(amount; topic, caller, recipient)
    code.op("34").jump_if("fail").op("00")
    code.label("fail").op("6000", "6000", "fd")
    code.label("nothing").op("6020", "6020", "f3")
    code.label("decimals").op("60", f"{decimals:02x}", "600052", "6020", "6000", "f3")
    return code.assembled()


def payee_that_pays_itself(token_address: str, amount_base: int) -> bytes:
    """Keeps the coin that it is paid and, in the same call, transfers a token to itself: two kinds at once."""
    code = _Code()
    selector = token.SELECTORS["transfer(address,uint256)"].hex()
    code.op("63", selector, "60e0", "1b", "600052")  # shifted to the left end of memory
    code.op("30", "600452", "7f", f"{amount_base:064x}", "602452")  # transfer(this, amount)
    code.op("6000", "6000", "6044", "6000", "6000", "73", token_address[2:].lower(), "5a", "f1", "00")
    return code.assembled()


def contract_wallet(owner: str) -> bytes:
    """A wallet with one owner. Called with an address and call data it makes that call, for anybody (tests only); asked
    `isValidSignature(bytes32,bytes)` (EIP-1271) it says yes to what the owner's key has signed."""
    code = _Code()
    code.op("600035", "60e0", "1c", "63", MAGIC, "14").jump_if("asked")
    code.op("36", "6020", "90", "03", "80", "6020", "6000", "37")  # call data behind the address into memory
    code.op("6000", "6000", "82", "6000", "6000", "600035", "5a", "f1").jump_if("done")
    code.op("6000", "6000", "fd")
    code.label("done").op("00")
    code.label("asked").op("600435", "600052")  # ecrecover(hash, v, r, s), the precompile at 1
    code.op("60a435", "60f8", "1c", "602052", "606435", "604052", "608435", "606052")
    code.op("6020", "6080", "6080", "6000", "6001", "5a", "fa", "50")
    code.op("608051", "73", owner[2:].lower(), "14").jump_if("yes")
    code.op("6020", "60a0", "f3")
    code.label("yes").op("63", MAGIC, "60e0", "1b", "600052", "6020", "6000", "f3")
    return code.assembled()


MAGIC = "1626ba7e"

NO_WALLETS = {
    "answers with what it is asked": bytes.fromhex("366000600037366000f3"),
    "says yes to anything else": bytes.fromhex("600160005260206000f3"),
    "says nothing": bytes.fromhex("00"),
    "fails": bytes.fromhex("60006000fd"),
    "breaks": bytes.fromhex("fe"),
    "never ends": bytes.fromhex("5b600056"),
}
"""Contracts whose answer to `isValidSignature` is no consent; the first one's begins with the four bytes of a yes."""


async def create(node: TestNode, runtime: bytes) -> str:
    """Put a contract with this code on the node's chain, in a block of its own; its address."""
    copies_itself = bytes.fromhex(f"61{len(runtime):04x}80600c6000396000f3")
    payer = CUSTOMERS[0].address
    created = await node.wallet.send_raw(payer, None, 0, copies_itself + runtime)
    await node.mine()
    receipt: dict[str, Any] = await node.wallet.request("eth_getTransactionReceipt", created)
    assert int(receipt["status"], 16) == 1
    return str(receipt["contractAddress"])


class _Code:
    """Bytes with labels; a jump's target is one byte."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._labels: dict[str, int] = {}
        self._jumps: dict[int, str] = {}

    def op(self, *parts: str) -> _Code:
        self._bytes += bytes.fromhex("".join(parts))
        return self

    def jump_if(self, label: str) -> _Code:
        self._jumps[len(self._bytes) + 1] = label
        return self.op("6000", "57")

    def label(self, name: str) -> _Code:
        self._labels[name] = len(self._bytes)
        return self.op("5b")

    def assembled(self) -> bytes:
        for place, label in self._jumps.items():
            self._bytes[place] = self._labels[label]
        return bytes(self._bytes)
