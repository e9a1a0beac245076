"""Where a new session is paid: a unique amount on one of the store's addresses, or an address of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd import balances
from astrapayd.bookkeeping import ChainView
from astrapayd.chains import Chain
from astrapayd.config import AccountSection, StoreSection
from astrapayd.db import chains as chain_queries
from astrapayd.db import reservations as reservation_queries
from astrapayd.db import sessions as session_queries
from astrapayd.db.sessions import SessionRow
from astrapayd.ids import new_code, new_id
from astrapayd.links import Link
from astrapayd.matching import AmountSpaceFull
from astrapayd.money import Asset, parse_amount
from astrapayd.rates import Quote
from astrapayd.services.capacity import check_share
from astrapayd.services.core import Core, TryLater
from astrapayd.sessions import LatePolicy, Session, Status

BRANCH = 0
"""The external branch of an account (BIP-44): what a wallet shows as its receiving addresses."""

_SKIPS = 100
_VETTED_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Opening:
    """A session on its way in: everything but where it is paid. ``price`` is decimal text in the link's currency,
    ``price_base`` the same in the asset, converted with ``quote`` where that is another currency.

    ``order_ref`` is the shop's own, from an authenticated or signed request only.
    """

    session_id: str
    secret_hash: str
    link: Link
    price: str
    price_base: int
    quote: Quote | None
    asset: Asset
    view: ChainView
    source: str
    order_ref: str = ""


class Unvetted(Exception):
    """The session would get one of these addresses, and nobody has asked the node yet whether they have a history.

    They are those of a key (``key_hash``) from ``index`` on.
    """

    def __init__(self, chain: Chain, key_hash: str, index: int, addresses: Sequence[str]) -> None:
        super().__init__("addresses are to be vetted first")
        self.chain = chain
        self.key_hash = key_hash
        self.index = index
        self.addresses = addresses


async def vet(core: Core, unvetted: Unvetted) -> None:
    """Ask the node, and pass for good by what has a history, however long: an opening may go on from there later.

    :raises astrapayd.transfers.WatcherError: if no node answers.
    """
    chain, index = unvetted.chain, unvetted.index
    await core.vetting.ask(chain, unvetted.addresses)
    used = [*takewhile(lambda address: core.vetting.is_used(chain.id, address), unvetted.addresses)]
    if used:
        async with core.database.write() as tx:
            await chain_queries.skip_indexes(tx, unvetted.key_hash, BRANCH, index + len(used))


async def reserve(core: Core, tx: AsyncConnection, opening: Opening) -> None:
    """Open the session on the first of these that is free: a tail on a shared address, then an address of its own.

    :raises TryLater: if neither is.
    :raises Unvetted: if the node must be asked first, which takes too long for a transaction.
    """
    store = core.store(opening.link.store)
    account = store.accounts[opening.asset.chain]
    checkout_id = new_id("chk")
    await session_queries.insert_checkout(
        tx,
        checkout_id=checkout_id,
        store=opening.link.store,
        link_id=opening.link.id,
        order_ref=opening.order_ref,
        now=core.now(),
    )
    row = _new_row(core, store, opening, checkout_id)
    full = TryLater("every unique amount of this shop is taken at the moment", 60)
    try:
        await check_share(core, tx, row.store, opening.asset, row.link_id, opening.source)
        if await _on_shared_address(core, tx, row, account, opening):
            return
    except TryLater as share_taken:
        full = share_taken
    if not await _on_own_address(core, tx, row, account, opening):
        raise full


async def _on_shared_address(
    core: Core, tx: AsyncConnection, row: SessionRow, account: AccountSection, opening: Opening
) -> bool:
    """The exact amount is the price and a tail that nobody else has."""
    asset, chain = opening.asset, core.registry[opening.asset.chain]
    if not asset.takes_tails:
        return False
    shared = [chain.parse_address(text) for text in account.addresses]
    known = await chain_queries.load_addresses(tx, asset.chain, shared)
    for canonical in shared:
        address = known[canonical]
        if not await chain_queries.fix_tail_space(tx, address.id, asset):
            continue  # bound to other numbers; said at start
        placed = replace(row, address_id=address.id, address=address.address)
        try:
            async with tx.begin_nested():
                await session_queries.insert_session(tx, placed)
                due_base = await core.ingest.books.reserve_tail(
                    tx, placed, row.price_base, purpose="price", view=opening.view
                )
                await session_queries.set_due(tx, row.id, due_base)
        except AmountSpaceFull:
            continue
        placed = replace(placed, state=replace(row.state, due_base=due_base))
        await core.ingest.books.opened(tx, placed, opening.view, opening.source)
        return True
    return False


async def _on_own_address(
    core: Core, tx: AsyncConnection, row: SessionRow, account: AccountSection, opening: Opening
) -> bool:
    """The exact amount is the price; the next address of the account's key is this session's alone."""
    if account.xpub is None:
        return False
    chain = core.registry[opening.asset.chain]
    xpub = chain.parse_xpub(account.xpub)
    key_hash = hashlib.sha256(xpub.encode()).hexdigest()
    # A wallet that finds so many empty addresses in a row looks no further: money beyond would seem lost.
    if await chain_queries.unfunded_run(tx, key_hash, BRANCH, account.gap_limit) >= account.gap_limit:
        return False
    for _ in range(_SKIPS):
        derivation, index = await chain_queries.next_derivation_index(tx, key_hash, BRANCH)
        address = chain.derive(xpub, BRANCH, index)
        used = core.vetting.is_used(chain.id, address)
        if used is None:
            ahead = [chain.derive(xpub, BRANCH, index + further) for further in range(_VETTED_AT_ONCE)]
            raise Unvetted(chain, key_hash, index, ahead)
        if used:
            continue  # by the wallet itself, or by another shop: whoever pays there again would pay this session
        address_id = await chain_queries.insert_derived_address(tx, chain.id, address, row.store, derivation, index)
        if address_id is None:
            continue  # configured as a shared one, or given out on another chain's behalf: it has a history
        placed = replace(row, address_id=address_id, address=address)
        await session_queries.insert_session(tx, placed)
        await balances.begin_empty(tx, chain, address_id, opening.view.head_height)
        await reservation_queries.insert_reservation(
            tx,
            placed,
            purpose="price",
            tail=None,
            due_base=row.price_base,
            opened_at=row.opened_at,
            height=opening.view.head_height,
        )
        await core.ingest.books.opened(tx, placed, opening.view, opening.source)
        return True
    return False


def _new_row(core: Core, store: StoreSection, opening: Opening, checkout_id: str) -> SessionRow:
    """The session without its address; ``due_base`` is the price until a tail is known."""
    now, link, asset = core.now(), opening.link, opening.asset
    price_base = opening.price_base
    minimum_base = core.minimums.get(asset.id, 0)
    tolerance_base = parse_amount(store.tolerance, asset.decimals)
    if store.small_rest == "forgive":
        tolerance_base = max(tolerance_base, minimum_base - 1)
    expires_at = now + store.payment_window_secs
    return SessionRow(
        checkout_id=checkout_id,
        store=link.store,
        link_id=link.id,
        order_ref=opening.order_ref,
        chain=asset.chain,
        asset=asset,
        address_id=0,
        address="",
        opened_by=opening.source,
        price=opening.price,
        currency=link.currency,
        price_base=price_base,
        opened_at=now,
        opened_height=opening.view.head_height,
        paid_at=None,
        code=new_code(),
        secret_hash=opening.secret_hash,
        back_url=link.back_url,
        metadata=link.metadata,
        customer={},
        state=Session(
            id=opening.session_id,
            status=Status.PENDING,
            flags=frozenset(),
            revision=1,
            due_base=price_base,
            tolerance_base=tolerance_base,
            overpaid_from_base=asset.price_step_base,
            received_base=0,
            confirmed_base=0,
            expires_at=expires_at,
            late_until=expires_at + store.late_window_secs,
            held_until=expires_at + max(store.held_open_secs, store.late_window_secs),
            late_policy=_late_policy(core, store, opening),
            minimum_base=minimum_base,
            announced=False,
            open=True,
        ),
        quote=opening.quote,
    )


def _late_policy(core: Core, store: StoreSection, opening: Opening) -> LatePolicy:
    """By itself, late money is accepted only where it is worth what it was when the session was opened."""
    if store.late != "auto":
        return LatePolicy(store.late)
    same = core.is_same_currency(opening.asset, opening.link.currency)
    return LatePolicy.ACCEPT if same else LatePolicy.HOLD
