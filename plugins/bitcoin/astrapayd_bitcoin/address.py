"""Addresses and the output scripts they stand for: P2PKH, P2SH (base58check), P2WPKH, P2WSH (BIP-141, bech32), P2TR
and later witness versions (bech32m).

Canonical is the address as wallets show it: base58 as it is, bech32 in lower case. Equality of canonical texts is
equality of scripts within one network.
"""

from __future__ import annotations

from astrapayd.chains import AddressError
from astrapayd.private_keys import private_key_kind
from astrapayd_bitcoin import base58, bech32
from astrapayd_bitcoin.base58 import Base58Error
from astrapayd_bitcoin.bech32 import Bech32Error
from astrapayd_bitcoin.networks import Network, of_hrp

_HASH_BYTES = 20
_BASE58_NETWORKS = {0x00: "mainnet", 0x05: "mainnet", 0x6F: "a test network", 0xC4: "a test network"}
_EXTENDED = tuple(f"{letter}pub" for letter in "xyztuvYZUV")


def parse(text: str, network: Network) -> str:
    """The canonical form of an address of this network.

    :raises AddressError: with one sentence that begins with a verb, and never repeats what could be a secret.
    """
    if kind := private_key_kind(text):
        raise AddressError(
            f"looks like {kind}, which astrapayd never holds: treat it as exposed, and write the address instead"
        )
    wanted = f"write an address of {network.title}, such as one that begins with {network.hrp}1"
    if not text or not text.isascii() or any(char.isspace() for char in text):
        raise AddressError(f"is not a Bitcoin address: {wanted}")
    if text.startswith(_EXTENDED) and len(text) > 90:
        raise AddressError("is an account's public key and no address: write it as xpub instead")
    if text.lower().startswith("bitcoin:"):
        raise AddressError("is a payment link and no address: write what stands between bitcoin: and the question mark")
    if of_hrp(text.lower().rpartition("1")[0]) is not None:
        return _parse_segwit(text, network)
    return _parse_base58(text, network, wanted)


def _parse_segwit(text: str, network: Network) -> str:
    try:
        hrp, version, program = bech32.decode(text)
    except Bech32Error as error:
        raise AddressError(str(error)) from None
    if hrp != network.hrp:
        raise AddressError(
            f"is an address of {of_hrp(hrp)}, but this chain is {network.name}: write one that begins "
            f"with {network.hrp}1"
        )
    if version == 1 and len(program) == 2:
        raise AddressError("is an anchor (P2A), which anybody may spend from: write an address of your own")
    if version > 1 or (version == 1 and len(program) != 32):
        raise AddressError(
            f"is of witness version {version} with {len(program)} bytes, which has no rules yet, so anybody may take "
            "what is paid there: write an address that begins with "
            f"{network.hrp}1q or {network.hrp}1p"
        )
    return text.lower()


def _parse_base58(text: str, network: Network, wanted: str) -> str:
    try:
        payload = base58.decode_check(text)
    except Base58Error as error:
        if error.wrong_checksum and 26 <= len(text) <= 35:
            raise AddressError("has a wrong checksum, so a character is mistyped: copy the address again") from None
        raise AddressError(f"is not a Bitcoin address: {wanted}") from None
    version = payload[0] if payload else -1
    if len(payload) != 1 + _HASH_BYTES or version not in _BASE58_NETWORKS:
        raise AddressError(f"is an address of another coin, or none: {wanted}")
    if version not in {network.p2pkh_version, network.p2sh_version}:
        raise AddressError(f"is an address of {_BASE58_NETWORKS[version]}, but this chain is {network.name}: {wanted}")
    return text


def script_of(address: str, network: Network) -> bytes:
    """The output script (scriptPubKey) that pays a canonical address of this network."""
    if address.startswith(f"{network.hrp}1"):
        version, program = bech32.program_of(address)
        return bytes((0x50 + version if version else 0, len(program))) + program
    payload = base58.decode_check(address)
    digest = payload[1:]
    if payload[0] == network.p2pkh_version:
        return b"\x76\xa9\x14" + digest + b"\x88\xac"  # DUP HASH160 <20 bytes> EQUALVERIFY CHECKSIG
    return b"\xa9\x14" + digest + b"\x87"  # HASH160 <20 bytes> EQUAL


def address_of(script: bytes, network: Network) -> str | None:
    """The canonical address that an output script pays, or None where it has none (OP_RETURN, bare keys)."""
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return base58.encode_check(bytes((network.p2pkh_version,)) + script[3:23])
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return base58.encode_check(bytes((network.p2sh_version,)) + script[2:22])
    if not 4 <= len(script) <= 42 or len(script) != script[1] + 2:
        return None
    if script[0] == 0 and script[1] in {20, 32}:
        return bech32.encode(network.hrp, 0, script[2:])
    if 0x51 <= script[0] <= 0x60:
        return bech32.encode(network.hrp, script[0] - 0x50, script[2:])
    return None
