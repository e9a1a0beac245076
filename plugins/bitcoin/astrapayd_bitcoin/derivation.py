"""Watch-only derivation: from an account's public key, or a descriptor of one key, to the addresses of its wallet.

Kept is a descriptor (BIP-380, BIP-389) without origin and checksum, such as ``wpkh(xpub…/<0;1>/*)``: the same account
has one text, whether it came as zpub, xpub or descriptor, so that no index is given out twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from astrapayd.chains import AddressError
from astrapayd_bitcoin import base58, bech32
from astrapayd_bitcoin.base58 import Base58Error
from astrapayd_bitcoin.networks import Network

_KEY_BYTES = 78  # version 4, depth 1, parent 4, child 4, chain code 32, key 33 (BIP-32)
_ACCOUNT_DEPTH = 3  # m / purpose' / coin' / account'
_WANTED = "export the account's public key (xpub, ypub, zpub or descriptor) from the wallet"
_XPUB = {False: bytes.fromhex("0488b21e"), True: bytes.fromhex("043587cf")}


class AddressType(StrEnum):
    """What the addresses of an account look like: BIP-44, BIP-49, BIP-84, BIP-86."""

    P2PKH = "p2pkh"
    P2SH_P2WPKH = "p2sh-p2wpkh"
    P2WPKH = "p2wpkh"
    P2TR = "p2tr"


# SLIP-132: version bytes, whether of a test network, and what they say of the addresses (None: nothing)
_PUBLIC: Mapping[bytes, tuple[bool, AddressType | None]] = {
    bytes.fromhex("0488b21e"): (False, None),  # xpub
    bytes.fromhex("049d7cb2"): (False, AddressType.P2SH_P2WPKH),  # ypub
    bytes.fromhex("04b24746"): (False, AddressType.P2WPKH),  # zpub
    bytes.fromhex("043587cf"): (True, None),  # tpub
    bytes.fromhex("044a5262"): (True, AddressType.P2SH_P2WPKH),  # upub
    bytes.fromhex("045f1cf6"): (True, AddressType.P2WPKH),  # vpub
}
_MULTISIG = {bytes.fromhex(v) for v in ("0295b43f", "02aa7ed3", "024289ef", "02575483")}  # Ypub Zpub Upub Vpub
_WRAPPERS: Mapping[AddressType, tuple[str, str]] = MappingProxyType(
    {
        AddressType.P2PKH: ("pkh(", ")"),
        AddressType.P2SH_P2WPKH: ("sh(wpkh(", "))"),
        AddressType.P2WPKH: ("wpkh(", ")"),
        AddressType.P2TR: ("tr(", ")"),
    }
)
_PATHS = "/<0;1>/*"
_DESCRIPTOR = re.compile(
    r"(?P<head>(?:[a-z]+\()+)(?P<origin>\[[0-9a-fA-F]{8}(?:/[0-9]+[h'H]?)*\])?(?P<key>[1-9A-HJ-NP-Za-km-z]+)"
    r"(?P<paths>[^()]*)(?P<tail>\)+)",
    re.ASCII,
)


def parse_xpub(text: str, network: Network, default: AddressType) -> str:
    """The canonical descriptor of an account.

    :param default: what a bare xpub or tpub means, since it says nothing of its addresses.
    :raises AddressError: with one sentence that begins with a verb.
    """
    if "(" in text or "#" in text:
        return _parse_descriptor(text, network)
    key, said = _public_key(text, network)
    if key[4] != _ACCOUNT_DEPTH:
        raise AddressError(f"is of depth {key[4]} instead of {_ACCOUNT_DEPTH}, so no wallet would find it: {_WANTED}")
    return _canonical(said or default, key, network)


def derive(account: str, branch: int, index: int, network: Network) -> str:
    """The canonical address at ``branch/index`` of a canonical descriptor."""
    kind, key = _parsed(account)
    public = _hd_key(key).derive([branch, index]).key
    match kind:
        case AddressType.P2PKH:
            return base58.encode_check(bytes((network.p2pkh_version,)) + _hash160(public.sec()))
        case AddressType.P2SH_P2WPKH:
            redeem = b"\x00\x14" + _hash160(public.sec())
            return base58.encode_check(bytes((network.p2sh_version,)) + _hash160(redeem))
        case AddressType.P2WPKH:
            return bech32.encode(network.hrp, 0, _hash160(public.sec()))
        case AddressType.P2TR:
            # BIP-86: the key is tweaked with its own hash, so that no hidden script can spend
            return bech32.encode(network.hrp, 1, public.taproot_tweak(b"").xonly())


def _parse_descriptor(text: str, network: Network) -> str:
    body, hash_sign, checksum = text.partition("#")
    if hash_sign and checksum != _descriptor_checksum(body):
        raise AddressError("has a wrong checksum behind the #, so a character is mistyped: copy the descriptor again")
    found = _DESCRIPTOR.fullmatch(body)
    kind = next(
        (k for k, (head, tail) in _WRAPPERS.items() if found and (found["head"], found["tail"]) == (head, tail)), None
    )
    if found is None or kind is None:
        raise AddressError(
            "is no descriptor of one public key: write wpkh(…), tr(…), sh(wpkh(…)) or pkh(…) around an extended "
            "public key that ends with /<0;1>/* or /0/*"
        )
    key, said = _public_key(found["key"], network)
    if said not in {None, kind}:
        raise AddressError(f"has a key for {said} addresses in a descriptor for {kind}: write it with its xpub")
    if found["paths"] not in {_PATHS, "/0/*"}:
        raise AddressError(f"goes on with {found['paths'] or 'nothing'} behind the key: write /<0;1>/* or /0/* there")
    return _canonical(kind, key, network)


def _public_key(text: str, network: Network) -> tuple[bytes, AddressType | None]:
    """The key's 78 bytes, and what its version says of the addresses. :raises AddressError: with one sentence."""
    try:
        raw = base58.decode_check(text)
    except Base58Error as error:
        if error.wrong_checksum and len(text) > 100:
            raise AddressError("has a wrong checksum, so a character is mistyped: copy the key again") from None
        raise AddressError(f"is no extended public key: {_WANTED}") from None
    if len(raw) == _KEY_BYTES and raw[45] == 0:
        raise AddressError(f"is a private key, which astrapayd never holds: treat it as exposed, and {_WANTED}")
    if raw[:4] in _MULTISIG:
        raise AddressError(f"is a key for addresses of several signers, which are not supported: {_WANTED}")
    if len(raw) != _KEY_BYTES or raw[:4] not in _PUBLIC:
        raise AddressError(f"is no extended public key: {_WANTED}")
    test, said = _PUBLIC[raw[:4]]
    if test != network.testnet:
        theirs = "test networks" if test else "mainnet"
        raise AddressError(f"is a key of {theirs}, but this chain is {network.name}: {_WANTED}")
    return raw, said


def _canonical(kind: AddressType, key: bytes, network: Network) -> str:
    xpub = base58.encode_check(_XPUB[network.testnet] + key[4:])
    try:
        _hd_key(xpub)
    except Exception:  # embit raises whatever its parts raise
        raise AddressError(f"holds no point of the curve, so it is no public key: {_WANTED}") from None
    head, tail = _WRAPPERS[kind]
    return f"{head}{xpub}{_PATHS}{tail}"


@lru_cache(maxsize=64)
def _parsed(account: str) -> tuple[AddressType, str]:
    """Type and xpub of a canonical descriptor."""
    kind = next(k for k, (head, _) in _WRAPPERS.items() if account.startswith(head))
    head, tail = _WRAPPERS[kind]
    return kind, account.removeprefix(head).removesuffix(_PATHS + tail)


@lru_cache(maxsize=64)
def _hd_key(xpub: str) -> Any:
    from embit import bip32  # at the first key, which a start without accounts spares

    return bip32.HDKey.from_string(xpub)


def _hash160(data: bytes) -> bytes:
    from embit import hashes  # has RIPEMD-160 where OpenSSL 3 left it out

    digest: bytes = hashes.hash160(data)
    return digest


def _descriptor_checksum(body: str) -> str | None:
    """BIP-380's checksum, or None where a character is none of a descriptor's."""
    from embit.descriptor import checksum

    try:
        found: str = checksum.add_checksum(body).rpartition("#")[2]
    except Exception:  # embit raises whatever its parts raise
        return None
    return found
