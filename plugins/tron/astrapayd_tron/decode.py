"""From a java-tron node's JSON to blocks and transfers. Pure: no I/O, no clock.

Two answers belong to each block, both with hexadecimal addresses (``visible: false``, the node's default):

- ``wallet/getblockbynum``: ``blockID`` (its first 8 bytes are the height), ``block_header.raw_data`` with ``number``,
  ``parentHash`` and ``timestamp`` in milliseconds, and ``transactions``.
- ``wallet/gettransactioninfobyblocknum``: one info for each transaction, with its logs.

A field that is zero or empty is left out of both (protobuf), so a missing one means zero or none. **The infos do not
name their block's id.** That they belong to the block is checked by its height, its time and the transactions' ids;
whoever asks for both has to see as well that the block at that height is still the same one after the infos came.

Two kinds of oddity are kept apart, because they ask for opposite things.

- What *anybody* can put on chain (TRC-10 tokens, delegated or frozen coin, look-alike tokens, failed calls, zero
  values) is skipped: it is not a payment, and the block is read on.
- What only *a broken node or proxy* can cause (a missing info, another block's, a number that is none) raises
  :class:`~astrapayd.node_faults.MalformedAnswer`: the block is asked for again and nothing of it is used, since what is
  missing could be somebody's payment.

Everything returned is canonical: addresses and contracts base58 (``T…``), hashes lower-case hex without ``0x``, amounts
integers in base units (sun for TRX).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from astrapayd.node_faults import MalformedAnswer
from astrapayd.transfers import BlockRef, Transfer, TransferKind, Watched
from astrapayd_tron.address import from_hex20, to_hex20

TRANSFER_TOPIC = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256("Transfer(address,address,uint256)"), TRC-20's event and by accident TRC-721's, which has 4 topics."""

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HEX21 = re.compile(r"41[0-9a-f]{40}", re.ASCII)
_DATA = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_ADDRESS_PADDING = "0" * 24  # an address in a topic is left-padded to 32 bytes
_WORD_CHARS, _HEX21_CHARS, _HEX20_CHARS = 64, 42, 40  # 32, 21 and 20 bytes in hex
_MAX_INT64 = 2**63 - 1  # java-tron's longs
_SUCCESS = "SUCCESS"
_TRANSFER = "TransferContract"
_TRANSFER_URL = "type.googleapis.com/protocol.TransferContract"
_CALL = b"call".hex()  # an internal transaction's note, in hex


@dataclass(frozen=True, slots=True)
class Wanted:
    """A watched set as the hot path needs it: canonical forms by what stands in blocks and infos."""

    by_hex21: Mapping[str, str]
    """Addresses by 41 and 20 bytes, as in transactions."""
    by_topic: Mapping[str, str]
    """Addresses by 32 bytes, as in a log's topics."""
    contracts: Mapping[str, str]
    """Listed tokens by 20 bytes, as in logs."""
    native: bool


@lru_cache(maxsize=16)  # one for each chain and watched version: preparing takes longer than reading a block
def prepare(watched: Watched) -> Wanted:
    """Make a watched set ready. :func:`transfers` does so by itself, once for each version."""
    bare = {to_hex20(address): address for address in watched.addresses}
    return Wanted(
        {f"41{digits}": address for digits, address in bare.items()},
        {_ADDRESS_PADDING + digits: address for digits, address in bare.items()},
        {to_hex20(contract): contract for contract in watched.contracts},
        watched.native,
    )


def block_ref(block: Any) -> BlockRef:
    """A block's place in the chain.

    :raises MalformedAnswer: if a field is missing or of another form.
    """
    with malformed("a block"):
        header = block["block_header"]["raw_data"]
        height = _long(header.get("number", 0))
        found = _hash(block["blockID"])
        parent = _hash(header["parentHash"])
        if int(found[:16], 16) != height:
            raise MalformedAnswer("sent a block whose id is not of its height")
        if height and int(parent[:16], 16) != height - 1:
            raise MalformedAnswer("sent a block whose parent's id is not of the height before it")
        return BlockRef(height=height, hash=found, parent=parent, time=_long(header.get("timestamp", 0)) // 1000)


def transaction_ids(block: Any) -> list[str]:
    """The ids of a block's transactions, in its order.

    :raises MalformedAnswer: if one is missing, twice there, or of another form.
    """
    with malformed("a block's transactions"):
        ids = [_hash(tx["txID"]) for tx in _list(block.get("transactions", []))]
    if len(set(ids)) != len(ids):
        raise MalformedAnswer("sent a block with the same transaction twice")
    return ids


def transfers(block: Any, infos: Any, watched: Watched) -> list[Transfer]:
    """Every transfer of a block to a watched address, in the block's order.

    :param block: the answer of ``wallet/getblockbynum``.
    :param infos: the answer of ``wallet/gettransactioninfobyblocknum`` for that height. The node's ``{}`` for a block
        without any is an empty list too.
    :raises MalformedAnswer: if anything is missing or does not belong to the block.
    """
    ref = block_ref(block)
    wanted = prepare(watched)
    found: list[Transfer] = []
    with malformed("a block or its transaction infos"):
        txs = _list(block.get("transactions", []))
        by_id = _infos_by_id(txs, infos, ref, block["block_header"]["raw_data"].get("timestamp", 0))
        for tx in txs:
            info = by_id[tx["txID"]]
            contracts = tx["raw_data"]["contract"]
            if type(contracts) is not list or len(contracts) != 1:
                raise MalformedAnswer("sent a transaction that has not exactly one contract")
            # java-tron shows freezing, delegation, votes and TRC-10 with amounts as well, but under other types
            if contracts[0]["type"] == _TRANSFER:
                to = contracts[0]["parameter"]["value"]["to_address"]
                if to in wanted.by_hex21:
                    found.extend(_native(tx, info, ref, wanted))
                elif len(to) != _HEX21_CHARS or not to.startswith("41"):
                    raise MalformedAnswer("sent an address that is none, or not in hex")
            if "log" in info:
                for ordinal, log in enumerate(_list(info["log"])):
                    # the busy path: nearly every log of a block ends at one of these questions
                    if log["address"] not in wanted.contracts:
                        if len(log["address"]) != _HEX20_CHARS:
                            raise MalformedAnswer("sent a log whose address is not 20 bytes")
                        continue
                    topics = log.get("topics", [])
                    if type(topics) is not list:
                        raise MalformedAnswer("sent a log without a list of topics")
                    if len(topics) != 3 or topics[0] != TRANSFER_TOPIC:
                        continue
                    if topics[2] in wanted.by_topic:
                        found.extend(_token(tx, info, log, ordinal, ref, wanted))
                    elif len(topics[2]) != _WORD_CHARS:
                        raise MalformedAnswer("sent a topic that is not 32 bytes")
            if "internal_transactions" in info and wanted.native:
                found.extend(_internal(tx, info, ref, wanted))
    return found


def _infos_by_id(txs: Sequence[Any], infos: Any, ref: BlockRef, time_ms: Any) -> dict[str, Any]:
    """The infos by transaction. :raises MalformedAnswer: if they are not exactly those of the block."""
    listed = [] if infos == {} else _list(infos)
    by_id: dict[str, Any] = {info["id"]: info for info in listed}
    if len(by_id) != len(listed):
        raise MalformedAnswer("sent two infos for one transaction")
    if len(listed) != len(txs) or by_id.keys() != {tx["txID"] for tx in txs}:
        raise MalformedAnswer("sent infos that are not those of the block's transactions")
    for info in listed:
        if info["blockNumber"] != ref.height or info["blockTimeStamp"] != time_ms:
            raise MalformedAnswer("sent an info of another block")
    return by_id


def _native(tx: Any, info: Any, ref: BlockRef, wanted: Wanted) -> Iterator[Transfer]:
    """The TRX that a transaction sends to a watched address, if it was carried out."""
    parameter = tx["raw_data"]["contract"][0]["parameter"]
    value = parameter["value"]
    if parameter["type_url"] != _TRANSFER_URL:
        raise MalformedAnswer("sent a transaction of two types")
    amount_base = _long(value.get("amount", 0))
    sender = from_hex20(_address(value["owner_address"]))
    if wanted.native and amount_base > 0 and _succeeded(tx) and info.get("result") != "FAILED":
        recipient = wanted.by_hex21[value["to_address"]]
        yield Transfer(_hash(tx["txID"]), TransferKind.NATIVE, 0, None, sender, recipient, amount_base, ref)


def _token(tx: Any, info: Any, log: Any, ordinal: int, ref: BlockRef, wanted: Wanted) -> Iterator[Transfer]:
    """The TRC-20 transfer that a log of a listed token to a watched address tells of, if it does.

    :param ordinal: the log's position in its transaction's info.
    """
    sender, data = _topic_address(log["topics"][1]), log.get("data", "")
    if not _DATA.fullmatch(data):
        raise MalformedAnswer("sent a log whose data is not hex")
    # a TRC-20 in name only; or one of address poisoning's favourites, a transfer of nothing
    if sender is None or len(data) != _WORD_CHARS or int(data, 16) == 0:
        return
    if _executed(tx, info):
        contract, recipient = wanted.contracts[log["address"]], wanted.by_topic[log["topics"][2]]
        amount_base = int(data, 16)
        sender = from_hex20(sender)
        yield Transfer(_hash(tx["txID"]), TransferKind.TOKEN, ordinal, contract, sender, recipient, amount_base, ref)


def _internal(tx: Any, info: Any, ref: BlockRef, wanted: Wanted) -> Iterator[Transfer]:
    """The TRX that a contract sends on to a watched address while it runs (an exchange's batch, a shared wallet).

    Only calls are counted, and only they give the ordinal: delegation, freezing and votes by a contract stand in the
    same list with amounts, on some nodes and not on others (``vm.saveFeaturedInternalTx``). A node with
    ``vm.saveInternalTx`` off keeps no such list.
    """
    ordinal = -1
    for inner in _list(info["internal_transactions"]):
        if inner.get("note") != _CALL:
            continue
        ordinal += 1
        to = inner.get("transferTo_address", "")
        recipient = wanted.by_hex21.get(to)
        if recipient is None or inner.get("rejected", False):
            continue
        caller = inner["caller_address"]
        sender = from_hex20(_address(caller))
        values = _list(inner.get("callValueInfo", []))
        amount_base = sum(_long(value.get("callValue", 0)) for value in values if "tokenId" not in value)  # else TRC-10
        # a contract that calls its own code sends itself nothing
        if amount_base > 0 and caller != to and _executed(tx, info):
            tx_id = _hash(tx["txID"])
            yield Transfer(tx_id, TransferKind.INTERNAL, ordinal, None, sender, recipient, amount_base, ref)


def _succeeded(tx: Any) -> bool:
    """Whether the block says that a transaction was carried out."""
    results = _list(tx.get("ret", []))
    succeeded: bool = len(results) == 1 and results[0].get("contractRet") == _SUCCESS
    return succeeded


def _executed(tx: Any, info: Any) -> bool:
    """Whether a contract's call was carried out, by the block and by its info.

    :raises MalformedAnswer: if they contradict each other: one of them is of another fork.
    """
    receipt: bool = info.get("receipt", {}).get("result") == _SUCCESS and info.get("result") != "FAILED"
    if receipt != _succeeded(tx):
        raise MalformedAnswer("sent an info that contradicts its block on whether a transaction succeeded")
    return receipt


def _topic_address(topic: Any) -> str | None:
    """The 20 bytes of the address in a topic, or None if the 32 bytes are no address."""
    if not _HASH.fullmatch(topic):
        raise MalformedAnswer("sent a topic that is not 32 bytes")
    return str(topic[24:]) if topic.startswith(_ADDRESS_PADDING) else None


def _address(text: Any) -> str:
    """The 20 bytes, in hex, of an address as transactions have it: 41 and 20 bytes in hex."""
    if not _HEX21.fullmatch(text):
        raise MalformedAnswer("sent an address that is none, or not in hex")
    return str(text[2:])


def _long(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT64:
        raise MalformedAnswer("sent a number that is none")
    return value


def _hash(text: Any) -> str:
    if not _HASH.fullmatch(text):
        raise MalformedAnswer("sent a hash that is none")
    return str(text)


def _list(value: Any) -> Sequence[Any]:
    if type(value) is not list:
        raise MalformedAnswer("sent something else where a list belongs")
    return value


@contextmanager
def malformed(what: str) -> Iterator[None]:
    """Whatever a wrong shape makes Python raise is the node's malformed answer."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError):
        raise MalformedAnswer(f"sent {what} of another form than the method's") from None
