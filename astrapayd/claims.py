"""What a claim needs: which transfers of a transaction a customer can claim, and the texts that prove the sender. Pure.

The rules stand in ``docs/explanation/claims.md``. A sender that is only named proves nothing: an exchange's wallet is
everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_OPEN_CLAIMS = 3
"""Of one session that wait for the merchant: a stranger must not claim whatever the chain shows."""


class ClaimStatus(StrEnum):
    """Where a claim stands."""

    OPEN = "open"
    APPROVED = "approved"
    REFUSED = "refused"


MAX_PAYERS = 3
"""Accounts that can be proved to pay one session: a customer may have several, a stranger must not collect them."""


class ClaimRefused(Exception):
    """A claim or proof cannot be made or approved. The message is one sentence for whoever tried."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """The session that a claim is made for, as the rules see it. ``place`` names network and address for a person."""

    session_id: str
    store: str
    asset: str
    symbol: str
    opened_height: int
    place: str


@dataclass(frozen=True, slots=True)
class Found:
    """One transfer of the claimed transaction to an address of ours. ``symbol`` is its asset's; ``height`` its block's,
    ``first_seen_height`` the chain's when it was first seen; ``session_id`` the session it is counted for, if any."""

    payment_id: str
    store: str
    asset: str
    symbol: str
    sender: str
    state: str
    height: int | None
    first_seen_height: int
    standing: str
    session_id: str | None


def claimable(claimant: Claimant, found: Sequence[Found]) -> tuple[Found, ...]:
    """Those of a transaction's transfers that the session can claim: known, of its store and asset, in a block, made
    after it was opened, and not sorted into anything else.

    :raises ClaimRefused: if there is none, with the first of these that leaves none.
    """
    if not found:
        raise ClaimRefused(
            f"no payment of that transaction has reached {claimant.place}: compare network and address in your wallet, "
            "and if it was sent only just now, ask again when it is in a block"
        )
    for holds, sentence in _rules(claimant):
        left = [one for one in found if holds(one)]
        if not left:
            raise ClaimRefused(sentence(found[0]))
        found = left
    return tuple(found)


def _rules(claimant: Claimant) -> tuple[tuple[Callable[[Found], bool], Callable[[Found], str]], ...]:
    """What has to hold, and what is said where it does not."""
    return (
        (
            lambda f: f.store == claimant.store,
            lambda f: f"that transaction pays to another address: compare yours with {claimant.place}",
        ),
        (
            lambda f: f.asset == claimant.asset,
            lambda f: f"that transaction paid {f.symbol}, but this payment is in {claimant.symbol}: ask the shop",
        ),
        (
            lambda f: f.state == "mined",
            lambda f: (
                "that transaction was replaced by another one of its sender: give that one's id"
                if f.state == "replaced"
                else "that transaction is in no block yet: ask again when your wallet calls it confirmed"
            ),
        ),
        (
            # Seen below the opening, it was meant for something else, even if it was mined (again) above it.
            lambda f: (
                f.height is not None
                and f.height > claimant.opened_height
                and f.first_seen_height >= claimant.opened_height
            ),
            lambda f: "that transaction was made before this payment was opened, so it cannot be for it",
        ),
        (
            lambda f: f.standing != "credited",
            lambda f: (
                "that transaction is counted for this payment already"
                if f.session_id == claimant.session_id
                else "that transaction is counted for another payment already"
            ),
        ),
        (
            lambda f: f.standing == "unmatched",
            lambda f: "the shop has looked at that transaction and put it aside: ask the shop",
        ),
    )


def challenge(*, host: str, store: str, session_id: str, address: str, code: str) -> str:
    """The text that the sender's key signs. It names one session at one shop, so that a signature is good for nothing
    else, and says what it does to the person who reads it in a wallet."""
    what = "I have paid, and ask the shop to count my payment."
    return _to_be_signed(what, host=host, store=store, session_id=session_id, address=address, code=code)


def payer_challenge(*, host: str, store: str, session_id: str, address: str, code: str) -> str:
    """The text that a customer's key signs before paying, so that any amount it sends is counted. Another one than
    :func:`challenge`, so that neither stands for the other."""
    what = "I am going to pay from this account, and ask the shop to count whatever I send."
    return _to_be_signed(what, host=host, store=store, session_id=session_id, address=address, code=code)


def _to_be_signed(what: str, *, host: str, store: str, session_id: str, address: str, code: str) -> str:
    return (
        f"{what} This signature moves no money.\n"
        f"\nShop: {store} at {host}\nPayment: {session_id}\nPaid to: {address}\nCode: {code}"
    )
