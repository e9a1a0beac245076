"""Whether the owner of an address has signed a text: EIP-191 for a key, EIP-1271 for a contract."""

from __future__ import annotations

import re
from typing import Any

from astrapayd.node_faults import MalformedAnswer
from astrapayd_evm.faults import RpcError
from astrapayd_evm.rpc import NodeRpc

MAX_SIGNATURE_BYTES = 4096
"""A Safe's signature has 65 bytes for each owner."""

_HEX = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2})+)", re.ASCII)
_MAGIC = "1626ba7e"  # keccak256("isValidSignature(bytes32,bytes)")[:4]: EIP-1271's question and its yes
_CALL_SECS = 5.0
_CALL_GAS = 5_000_000  # enough for many owners, or a passkey; a stranger's contract does not keep the node busy


def parse_signature(text: str) -> bytes | None:
    """The bytes of a signature in hex, or None where it is none."""
    found = _HEX.fullmatch(text.strip())
    if found is None or len(found[1]) > 2 * MAX_SIGNATURE_BYTES:
        return None
    return bytes.fromhex(found[1])


def personal_hash(message: str) -> bytes:
    """What a wallet signs for ``personal_sign`` (EIP-191, version 0x45): never a transaction."""
    from eth_hash.auto import keccak

    text = message.encode()
    return keccak(b"\x19Ethereum Signed Message:\n%d" % len(text) + text)


def signer_of(digest: bytes, signature: bytes) -> str | None:
    """The canonical address whose key gave this signature of a hash, or None where no key can have.

    Some key answers to nearly every signature: only one that is the expected address proves anything.
    """
    from embit.util import secp256k1  # at the first claim that is signed
    from eth_hash.auto import keccak

    if len(signature) != 65:
        return None
    recovery = signature[64] - 27 if signature[64] >= 27 else signature[64]  # some wallets count from 0
    if recovery not in (0, 1):
        return None
    try:
        parsed = secp256k1.ecdsa_recoverable_signature_parse_compact(signature[:64], recovery)
        public = secp256k1.ecdsa_recover(parsed, digest)
        whole = secp256k1.ec_pubkey_serialize(public, secp256k1.EC_UNCOMPRESSED)
    except Exception:  # embit raises whatever its parts raise; what it cannot read is no signature
        return None
    return "0x" + keccak(whole[1:])[-20:].hex()


async def contract_accepts(rpc: NodeRpc, contract: str, digest: bytes, signature: bytes) -> bool:
    """Whether a contract wallet says that the signature is its owners' (EIP-1271). False for an address without code.

    :raises NodeFault: for what is wrong with the node.
    """
    if await rpc.call("eth_getCode", contract, "latest") in ("0x", None):
        return False
    padded = signature.ljust(-(-len(signature) // 32) * 32, b"\0")
    data = f"0x{_MAGIC}{digest.hex()}{64:064x}{len(signature):064x}{padded.hex()}"
    call = {"to": contract, "data": data, "gas": hex(_CALL_GAS)}
    try:
        answer: Any = await rpc.call("eth_call", call, "latest", secs=_CALL_SECS)
    except RpcError as error:
        if _is_the_contracts(error):
            return False
        raise
    if not isinstance(answer, str):
        raise MalformedAnswer("sent a call's answer that is no text")
    # To the last byte: a contract that sends back what it is sent begins with the same four.
    return answer.lower() == f"0x{_MAGIC}".ljust(66, "0")


def _is_the_contracts(error: RpcError) -> bool:
    """Whether the contract failed, and not the node; the words differ by client."""
    words = ("revert", "opcode", "out of gas", "outofgas", "jump", "stack", "evm error", "execution aborted")
    text = error.message.lower()
    return error.code == 3 or any(word in text for word in words)
