"""From a node's JSON to blocks and transfers. Pure: no I/O, no clock.

Two kinds of oddity are kept apart, because they ask for opposite things.

- What *anyone's contract* can put on chain (look-alike tokens, zero values, events with other arguments) is skipped:
  it is not a payment, and the block is read on.
- What only *a broken node or proxy* can cause (a missing field, another block's receipt, a number that is none)
  raises :class:`~astrapayd.node_faults.MalformedAnswer`: the block is asked for again and nothing of it is used, since
  what is missing could be somebody's payment.

Everything returned is canonical: lower-case hex with ``0x``; amounts are integers in base units (wei).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from astrapayd.node_faults import MalformedAnswer
from astrapayd.transfers import BlockRef, Transfer, TransferKind, Watched

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256("Transfer(address,address,uint256)"), ERC-20's event and by accident ERC-721's, which has 4 topics."""

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_HASH = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_ADDRESS_PADDING = "0x" + "0" * 24  # an address in a topic is left-padded to 32 bytes
_WORD_CHARS = 2 + 64  # 32 bytes in hex with 0x
_MAX_INT64 = 2**63 - 1  # heights and times are stored in 64 bits


@dataclass(frozen=True, slots=True)
class Hit:
    """Where ``eth_getLogs`` found a transfer: which receipt to fetch, and which block it must be in."""

    block_hash: str
    tx: str


def block_ref(block: Any) -> BlockRef:
    """A block's place in the chain, from ``eth_getBlockBy…``'s answer.

    :raises MalformedAnswer: if a field is missing or of another form.
    """
    with malformed("a block"):
        return BlockRef(
            height=quantity(block["number"], most=_MAX_INT64),
            hash=block_hash(block["hash"]),
            parent=block_hash(block["parentHash"]),
            time=quantity(block["timestamp"], most=_MAX_INT64),
        )


def transaction_hashes(block: Any) -> list[str]:
    """The hashes of a block's transactions, whether the block came with whole transactions or only their hashes.

    :raises MalformedAnswer: if one is missing, twice there, or of another form.
    """
    with malformed("a block's transactions"):
        hashes = [_hash(tx if isinstance(tx, str) else tx["hash"]) for tx in _list(block["transactions"])]
        if len(set(hashes)) != len(hashes):
            raise MalformedAnswer("sent a block with the same transaction twice")
        return hashes


def without_receipt(block: Any, receipts: Any) -> list[str]:
    """The transactions of a block of which there is none among these receipts.

    :raises MalformedAnswer: if either is of another form.
    """
    with malformed("receipts"):
        told = {_hash(receipt["transactionHash"]) for receipt in _list(receipts)}
    return [tx for tx in transaction_hashes(block) if tx not in told]


def transfers(block: Any, receipts: Any, watched: Watched) -> tuple[Transfer, ...]:
    """Every transfer of a block to a watched address, native coin included if it is watched, in the block's order.

    :param block: the answer of ``eth_getBlockByHash(hash, true)``; with hashes only if no native coin is watched.
    :param receipts: the answer of ``eth_getBlockReceipts(hash)``: one for each transaction. More than the block
        has transactions is no fault: Polygon's state-sync receipts belong to no listed transaction.
    :raises MalformedAnswer: if anything is missing or does not belong to the block.
    """
    ref = block_ref(block)
    found = token_transfers(receipts, ref, watched)
    with malformed("receipts"):
        by_tx: dict[str, Any] = {_hash(receipt["transactionHash"]): receipt for receipt in receipts}
    if len(by_tx) != len(receipts):
        raise MalformedAnswer("sent two receipts for one transaction")
    for tx in transaction_hashes(block):
        if tx not in by_tx:
            raise MalformedAnswer("sent a block's receipts without that of one of its transactions")
    if not watched.native:
        return tuple(found)
    found += native_transfers(block, by_tx, ref, watched)
    order = {tx: index for index, tx in enumerate(by_tx)}
    # within a transaction the coin first: it moves before any code runs
    return tuple(sorted(found, key=lambda t: (order[t.tx], t.kind is not TransferKind.NATIVE, t.ordinal)))


def token_transfers(receipts: Any, ref: BlockRef, watched: Watched) -> list[Transfer]:
    """The ERC-20 transfers to watched addresses in these receipts of the block ``ref``.

    A transfer's ordinal is its log's position in its own transaction's receipt: unlike ``logIndex`` it stays the
    same when the transaction is mined again behind others.

    :raises MalformedAnswer: if a receipt or a log that counts is not of that block, or anything is missing.
    """
    found: list[Transfer] = []
    contracts, addresses = watched.contracts, watched.addresses
    with malformed("receipts"):
        for receipt in _list(receipts):
            if receipt["blockHash"] != ref.hash and _hash(receipt["blockHash"]) != ref.hash:
                raise MalformedAnswer("sent a receipt of another block")
            logs = receipt["logs"]
            if type(logs) is not list:
                raise MalformedAnswer("sent a receipt without a list of logs")
            if not logs:
                continue
            for ordinal, log in enumerate(logs):
                # the busy path: nearly every log of a block ends at one of the next three questions
                contract = log["address"]
                if contract not in contracts:
                    contract = contract.lower()
                    if contract not in contracts:
                        continue
                topics = log["topics"]
                if type(topics) is not list:
                    raise MalformedAnswer("sent a log without a list of topics")
                if len(topics) != 3 or topics[0].lower() != TRANSFER_TOPIC:
                    continue
                sender, recipient = _topic_address(topics[1]), _topic_address(topics[2])
                if recipient not in addresses:
                    continue
                data = log["data"]
                if not _DATA.fullmatch(data):
                    raise MalformedAnswer("sent a log whose data is not hex")
                # an ERC-20 in name only; or one of address poisoning's favourites, a transfer of nothing
                if sender is None or recipient is None or len(data) != _WORD_CHARS or int(data, 16) == 0:
                    continue
                if not _belongs(log, receipt, ref, ordinal, logs[0]):
                    continue
                tx = _hash(receipt["transactionHash"])
                amount_base = int(data, 16)
                found.append(Transfer(tx, TransferKind.TOKEN, ordinal, contract, sender, recipient, amount_base, ref))
    return found


def native_candidates(block: Any, watched: Watched) -> list[str]:
    """Hashes of the block's transactions that send native coin to a watched address, if they have not failed.

    :param block: with whole transactions.
    :raises MalformedAnswer: if a transaction is not of that block, or anything is missing.
    """
    return [tx for tx, _, _, _ in _native(block, block_ref(block), watched)]


def native_transfers(block: Any, receipts_by_tx: Mapping[str, Any], ref: BlockRef, watched: Watched) -> list[Transfer]:
    """The native transfers to watched addresses: ``to`` and ``value`` of transactions that did not fail.

    What a contract sends on (internal transfers) does not show here; that takes a trace.

    :param receipts_by_tx: receipts by canonical hash, at least those of :func:`native_candidates`.
    :raises MalformedAnswer: if a receipt is missing or of another block.
    """
    found: list[Transfer] = []
    for tx, sender, recipient, amount_base in _native(block, ref, watched):
        with malformed("a receipt"):
            receipt = receipts_by_tx.get(tx)
            if receipt is None:
                raise MalformedAnswer("sent no receipt for a transaction of the block")
            if _hash(receipt["transactionHash"]) != tx or _hash(receipt["blockHash"]) != ref.hash:
                raise MalformedAnswer("sent a receipt of another transaction or block")
            if _succeeded(receipt):
                found.append(Transfer(tx, TransferKind.NATIVE, 0, None, sender, recipient, amount_base, ref))
    return found


def hits(logs: Any, refs: Mapping[str, BlockRef], watched: Watched) -> list[Hit]:
    """From ``eth_getLogs``' answer: the receipts to fetch, each once, in the answer's order. The logs themselves are
    not credited, since only the receipt tells the ordinal.

    :param refs: by hash, every block that was asked about.
    :raises MalformedAnswer: if a log is of none of those blocks, or anything is missing.
    """
    found: dict[Hit, None] = {}
    with malformed("logs"):
        for log in _list(logs):
            if log.get("removed") or address(log["address"]) not in watched.contracts:
                continue
            topics = _list(log["topics"])
            if len(topics) != 3 or topics[0].lower() != TRANSFER_TOPIC:
                continue
            if _topic_address(topics[2]) not in watched.addresses:
                continue
            hit = Hit(_hash(log["blockHash"]), _hash(log["transactionHash"]))
            if hit.block_hash not in refs:
                raise MalformedAnswer("sent a log of a block that was not asked about")
            found[hit] = None
    return list(found)


def recipient_topic(address: str) -> str:
    """A canonical address as it stands in a topic, left-padded to 32 bytes: what ``eth_getLogs`` is asked with."""
    return _ADDRESS_PADDING + address[2:]


def quantity(text: Any, *, most: int = 2**256 - 1) -> int:
    """A JSON-RPC quantity such as ``"0x1b4"``. Strict: ``int(text, 16)`` takes signs, blanks and underscores too.

    :raises MalformedAnswer: if it is none, or above ``most``.
    """
    if not isinstance(text, str) or not _QUANTITY.fullmatch(text):
        raise MalformedAnswer("sent a number that is none")
    value = int(text, 16)
    if value > most:
        raise MalformedAnswer("sent a number larger than can be")
    return value


def block_hash(text: Any) -> str:
    """A 32-byte hash in canonical form.

    :raises MalformedAnswer: if it is none.
    """
    return _hash(text)


def _native(block: Any, ref: BlockRef, watched: Watched) -> Iterator[tuple[str, str, str, int]]:
    """(hash, sender, recipient, amount) of what would pay a watched address."""
    addresses = watched.addresses
    with malformed("a block's transactions"):
        for tx in _list(block["transactions"]):
            to = tx["to"]
            if to is None:
                continue  # creates a contract
            if to not in addresses:
                to = to.lower()
                if to not in addresses:
                    continue
            amount_base = quantity(tx["value"])
            if amount_base == 0:
                continue
            if _hash(tx["blockHash"]) != ref.hash:
                raise MalformedAnswer("sent a transaction of another block")
            yield _hash(tx["hash"]), address(tx["from"]), to, amount_base


def _belongs(log: Any, receipt: Any, ref: BlockRef, ordinal: int, first: Any) -> bool:
    """Whether a log may be credited. :raises MalformedAnswer: if it is not what its receipt says it is."""
    if _hash(log["blockHash"]) != ref.hash or _hash(log["transactionHash"]) != _hash(receipt["transactionHash"]):
        raise MalformedAnswer("sent a log of another block or transaction")
    # numbered without a gap within the receipt: else one is missing before it, and the ordinal would be wrong
    if quantity(log["logIndex"]) - quantity(first["logIndex"]) != ordinal:
        raise MalformedAnswer("sent a receipt in which a log is missing")
    # a failed transaction has no logs; a node that shows some shows what has been rolled back
    return _succeeded(receipt) and not log.get("removed")


def _succeeded(receipt: Any) -> bool:
    status = quantity(receipt["status"])
    if status > 1:
        raise MalformedAnswer("sent a receipt with a status that is neither 0 nor 1")
    return status == 1


def _topic_address(topic: Any) -> str | None:
    """The address in a topic, or None if the 32 bytes are no address."""
    if not _HASH.fullmatch(topic):
        raise MalformedAnswer("sent a topic that is not 32 bytes")
    return "0x" + topic[26:].lower() if topic.startswith(_ADDRESS_PADDING) else None


def _hash(text: Any) -> str:
    if not _HASH.fullmatch(text):
        raise MalformedAnswer("sent a hash that is none")
    return str(text).lower()


def address(text: Any) -> str:
    """An address in canonical form.

    :raises MalformedAnswer: if it is none.
    """
    if not _ADDRESS.fullmatch(text):
        raise MalformedAnswer("sent an address that is none")
    return str(text).lower()


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
