"""Unconfirmed payments: what was heard of, what the node really has, and what is no longer there.

Frames only say where to look. ``rawtx`` comes for a payment that was just reorganised away as well as for a new one,
and ``R`` does not come for every one that is gone (conflicts in a block, double spends by a reorganisation). So
each payment is looked up in the node's mempool before it is told, and again whenever something could have taken it out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from astrapayd.node_faults import MalformedAnswer
from astrapayd_bitcoin.blocks import MalformedBlock, Payment, payment_in_transaction, transaction_id
from astrapayd_bitcoin.node import CoreNode, Outpoint
from astrapayd_bitcoin.scripts import Scripts

MOST_FETCHED = 500
"""Transactions fetched in one look: blocks are not kept waiting for a mempool of a hundred thousand."""

_MOST_REMEMBERED = 3_000  # frames; searched again for addresses that are added a moment later
_REMOVED = b"R"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the mempool found: ``arrived`` is to be told as unconfirmed, ``gone`` as replaced. ``looked_up``
    is what was heard of before it; ``complete``: all was looked at, else another look follows at once."""

    arrived: tuple[Payment, ...]
    gone: tuple[str, ...]
    looked_up: Mapping[str, Payment]
    complete: bool


class Mempool:
    """Payments in one node's mempool. After a look comes :meth:`told`, once it is committed, or :meth:`not_told`."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._told: dict[str, Payment] = {}
        self._heard: dict[str, Payment] = {}  # to be looked up
        self._recheck = True
        self._known: set[str] = set()  # fetched, whatever they pay
        self._unfetched: set[str] = set()
        self._frames: deque[bytes] = deque(maxlen=_MOST_REMEMBERED)

    # What is heard

    def heard(self, topic: str, body: bytes) -> None:
        """A frame."""
        if topic == "rawtx":
            self._frames.append(body)
            self._search(body)
        elif topic == "sequence" and body[32:33] == _REMOVED:
            self._known.discard(body[:32].hex())
            self._recheck = True

    def heard_of_relevant(self, topic: str, body: bytes) -> None:
        """A transaction that pays a watched address, or spends what a payment that was told spends as well."""
        self.heard(topic, body)
        self.recheck()

    def recheck(self) -> None:
        """Look up what was told: something may have taken it out."""
        self._recheck = True

    def spent(self) -> frozenset[Outpoint]:
        """What the payments that were told spend: whatever else spends it replaces them."""
        return frozenset(outpoint for payment in self._told.values() for outpoint in payment.inputs)

    def addresses_changed(self) -> None:
        """Look through the last frames again: the payment may have been quicker than the news of its address."""
        for frame in self._frames:
            self._search(frame)

    def left_blocks(self, payments: Iterable[Payment]) -> None:
        """These stood in disconnected blocks, and in none of the new ones: gone, unless the node has them."""
        for payment in payments:
            self._heard[payment.txid] = self._told[payment.txid] = payment

    def mined(self, txids: Collection[str]) -> None:
        """These stand in a block; others that were told may now never be, which is looked up."""
        for txid in txids:
            self._told.pop(txid, None)
            self._heard.pop(txid, None)
        self._recheck = True

    def begin_again(self) -> None:
        """What was told may not have been committed: it is told once more."""
        self._heard |= self._told
        self._recheck = True

    # What the node has

    def idle(self, *, everything: bool) -> bool:
        """Whether there is nothing to look up."""
        return not (everything or self._heard or self._recheck or self._unfetched)

    async def look(self, node: CoreNode, *, everything: bool) -> Look:
        """Ask the node.

        1. With ``everything``, list the mempool; fetch what was never fetched before, some of it at a time.
        2. Look up what was heard of: it may be mined, or gone, already.
        3. Look up what was told, if something has happened that may have taken it out.

        :raises NodeFault: for what is wrong with the node; nothing is forgotten then.
        """
        if everything:
            listed = await node.mempool()
            self._known &= listed
            self._unfetched = set(listed - self._known)
            self._recheck = True
        await self._fetch(node)
        looked_up, self._heard = self._heard, {}
        recheck, self._recheck = self._recheck, False
        try:
            there = {txid: await node.in_mempool(txid) for txid in looked_up}
            if recheck:
                there |= {txid: await node.in_mempool(txid) for txid in list(self._told) if txid not in there}
        except BaseException:
            self._heard, self._recheck = looked_up | self._heard, True
            raise
        return Look(
            arrived=tuple(payment for txid, payment in looked_up.items() if there[txid]),
            gone=tuple(txid for txid in self._told if there.get(txid) is False),
            looked_up=looked_up,
            complete=not self._unfetched,
        )

    def told(self, look: Look) -> None:
        """It was committed."""
        self._told |= {payment.txid: payment for payment in look.arrived}
        for txid in look.gone:
            self._told.pop(txid, None)

    def not_told(self, look: Look) -> None:
        """The chain had moved meanwhile, or it was not committed: all of it is looked up again."""
        self._heard, self._recheck = dict(look.looked_up) | self._heard, True

    async def _fetch(self, node: CoreNode) -> None:
        for _ in range(min(MOST_FETCHED, len(self._unfetched))):
            txid = self._unfetched.pop()
            raw = await node.raw_transaction(txid)
            if raw is not None:
                self._search(raw, expected=txid)
                self._known.add(txid)

    def _search(self, raw: bytes, expected: str | None = None) -> None:
        try:
            payment = payment_in_transaction(raw, self._scripts.by_script)
            if expected is not None and expected != (payment.txid if payment else transaction_id(raw)):
                raise MalformedAnswer("sent another transaction than the one that was asked for")
        except MalformedBlock as error:
            if expected is None:
                return  # a frame is a hint and no more
            raise MalformedAnswer(f"sent a transaction that {error}") from None
        if payment is not None and payment.txid not in self._told:
            self._heard[payment.txid] = payment
