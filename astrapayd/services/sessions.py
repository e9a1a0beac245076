"""Open, find, cancel and settle sessions."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.bookkeeping import ChainView, NoSuchSession
from astrapayd.db import chains as chain_queries
from astrapayd.db import links as link_queries
from astrapayd.db import reservations as reservation_queries
from astrapayd.db import sessions as session_queries
from astrapayd.db import transfers as transfer_queries
from astrapayd.db.reservations import ReservationRow
from astrapayd.db.sessions import SessionRow
from astrapayd.db.transfers import CreditRow
from astrapayd.ids import normal_code
from astrapayd.links import Link, Unavailable, availability, chosen_price, is_direct, price_in
from astrapayd.money import Asset
from astrapayd.rates import Quote, convert
from astrapayd.services.core import Core, NotFound, TryLater
from astrapayd.services.reserving import Opening, Unvetted, reserve, vet
from astrapayd.sessions import Cancelled, Session, Settled, Status
from astrapayd.transfers import WatcherError

LOOK_MAX_AGE_SECS = 90
"""A watcher that has not spoken with its node for longer is not level, whatever it said last."""

_VETTINGS = 10

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class LinkUnavailable(Exception):
    """The link cannot be paid now; ``why`` says how the page should put it."""

    def __init__(self, why: Unavailable) -> None:
        super().__init__(f"this link is {why}")
        self.why = why


class _Unquoted(Exception):
    """The price is in another currency, and the sources must be asked first, which takes too long for a transaction."""

    def __init__(self, currency: str, asset: Asset) -> None:
        super().__init__("the price is to be converted first")
        self.currency = currency
        self.asset = asset


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session. ``secret`` goes into the browser's cookie and nowhere else; only its hash is kept."""

    session_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class SessionDetails:
    """A session with all that a page or a command shows of it, as of one moment.

    ``asking`` is what should be paid now: the price's reservation, or the rest's after an underpayment.
    ``head_height`` and ``looked_at`` (Unix seconds) are the chain's; ``level``: its watcher sees the node live.
    """

    row: SessionRow
    link: Link
    credits: tuple[CreditRow, ...]
    asking: ReservationRow
    head_height: int
    final_height: int
    looked_at: int
    level: bool


async def open_session(
    core: Core, slug: str, asset_id: str, *, form_token: str, source: str, amount: str = "", order_ref: str = ""
) -> Opened:
    """Reserve an amount or address for a customer, in one transaction with the height above which it can be paid.

    ``form_token`` is the random text of the form that was sent: sent twice (a double tap, a bad line) it opens one
    session, and the same browser gets the same secret again. ``amount`` is what the customer chose, as decimal text in
    the link's currency; it counts only where the link leaves it open. ``order_ref`` is the shop's own reference, which
    is fulfilled once: whoever calls this has it from an authenticated or signed request.

    :raises NotFound: if the link does not exist or does not take the asset.
    :raises LinkUnavailable: if it is paused, expired, archived or sold out.
    :raises astrapayd.money.AmountError: if the amount chosen is none, or not one that may be paid.
    :raises astrapayd.rates.NoQuote: if the price is in another currency and there is no recent rate.
    :raises TryLater: while the chain's watcher is not level with its node, or every tail is taken.
    """
    quote: Quote | None = None
    token = f"{slug}\0{asset_id}\0{amount}\0{order_ref}\0{form_token or secrets.token_urlsafe(32)}"
    for _ in range(_VETTINGS):
        try:
            return await _open(core, slug, asset_id, amount, order_ref, token, source, quote)
        except _Unquoted as unquoted:
            quote = await core.quotes.quote(unquoted.currency, unquoted.asset)
        except Unvetted as unvetted:
            try:
                await vet(core, unvetted)
            except WatcherError as error:
                _log.warning("new addresses cannot be vetted", chain=unvetted.chain.id, reason=str(error))
                raise TryLater("the shop's node does not answer at the moment", 15) from None
    raise TryLater("the shop looks for an address that was never used before", 5)


async def _open(
    core: Core, slug: str, asset_id: str, amount: str, order_ref: str, token: str, source: str, quote: Quote | None
) -> Opened:
    now = core.now()
    async with core.database.write() as tx:
        if asset_id in {asset.id for asset in core.registry.assets()}:
            await chain_queries.lock_chain(tx, core.registry.asset(asset_id).chain)
        link = await link_queries.load_link(tx, slug, lock=True)
        if link is None:
            raise NotFound("there is no such link")
        opened = Opened(_from_token("ses", token), _digest(f"secret\0{token}"))
        if await session_queries.session_exists(tx, opened.session_id):
            return opened
        uses = await session_queries.uses_of_link(tx, link.id) if link.max_uses is not None else 0
        why = availability(link, uses, now)
        if why is not None:
            raise LinkUnavailable(why)
        if asset_id not in link.assets or asset_id not in {a.id for a in core.assets_of(link.store)}:
            raise NotFound(f"this link is not paid in {asset_id!r}")
        asset = core.registry.asset(asset_id)
        price = chosen_price(link, asset, amount, core.minimums)
        view = await _level_view(core, tx, asset, now)
        if is_direct(asset, link.currency):
            price_base, quote = price_in(asset, price), None
        elif quote is None:
            raise _Unquoted(link.currency, asset)
        else:
            minimum_base = core.minimums.get(asset.id, 0)
            price_base = convert(price, link.currency, quote, asset, minimum_base).price_base
        opening = Opening(
            session_id=opened.session_id,
            secret_hash=_digest(opened.secret),
            link=link,
            price=price,
            price_base=price_base,
            quote=quote,
            asset=asset,
            view=view,
            source=source,
            order_ref=order_ref,
        )
        await reserve(core, tx, opening)
        return opened


async def find_session(core: Core, session_id: str) -> SessionDetails:
    """A session as of one moment.

    :raises NotFound: if there is none with that id.
    """
    async with core.database.read() as connection:
        rows = await session_queries.load_sessions(connection, [session_id], core.registry)
        if session_id not in rows:
            raise NotFound(f"there is no session {session_id!r}")
        row = rows[session_id]
        link = await link_queries.load_link(connection, row.link_id)
        chain = await chain_queries.load_chain(connection, row.chain)
        assert link is not None  # both are foreign keys of the session
        assert chain is not None
        credits = (await transfer_queries.load_credits(connection, [session_id]))[session_id]
        held = await reservation_queries.reservations_of(connection, session_id)
    return SessionDetails(
        row=row,
        link=link,
        credits=tuple(credits),
        asking=_asking(row, held),
        head_height=chain.head_height or 0,
        final_height=chain.final_height,
        looked_at=chain.looked_at,
        level=chain.level and core.now() - chain.looked_at <= LOOK_MAX_AGE_SECS,
    )


async def find_by_code(core: Core, code: str) -> str | None:
    """The session that a verification code (in its normal form) belongs to."""
    async with core.database.read() as connection:
        return await session_queries.session_with_code(connection, code)


async def find_by_key(core: Core, key: str) -> str:
    """The session's id, from what a person typed: the id itself, or the verification code.

    :raises NotFound: if the code is nobody's. An id is taken as it is.
    """
    if key.startswith("ses_"):
        return key
    code = normal_code(key)
    found = await find_by_code(core, code) if code else None
    if found is None:
        raise NotFound(f"there is no session {key!r}: give its id (ses_…) or its verification code")
    return found


async def list_sessions(core: Core, *, store: str | None, status: Status | None, limit: int) -> list[SessionRow]:
    """The newest sessions first."""
    async with core.database.read() as connection:
        ids = await session_queries.newest_sessions(connection, store, status, limit)
        rows = await session_queries.load_sessions(connection, ids, core.registry)
    return [rows[session_id] for session_id in ids]


async def story(core: Core, session_id: str) -> list[Mapping[str, Any]]:
    """Every recorded change of a session, oldest first."""
    async with core.database.read() as connection:
        return await session_queries.load_changes(connection, session_id)


async def cancel(core: Core, session_id: str, *, by: str) -> Session:
    """Give a session up; only while nothing was seen.

    :raises NotFound: if there is none with that id.
    :raises astrapayd.sessions.NotPossible: if something was seen, or it is not pending.
    """
    return await _decide(core, session_id, Cancelled(by))


async def settle(core: Core, session_id: str, *, by: str, note: str) -> Session:
    """The merchant's word that it is paid, whatever came in.

    :raises NotFound: if there is none with that id.
    :raises astrapayd.sessions.NotPossible: if it is paid already.
    """
    return await _decide(core, session_id, Settled(by, note))


def is_customer(row: SessionRow, secret: str) -> bool:
    """Whether the secret is the one that was given to the session's own browser; compared in constant time."""
    return hmac.compare_digest(_digest(secret), row.secret_hash)


async def _decide(core: Core, session_id: str, change: Cancelled | Settled) -> Session:
    try:
        return await core.ingest.change(session_id, change)
    except NoSuchSession:
        raise NotFound(f"there is no session {session_id!r}") from None


async def _level_view(core: Core, tx: AsyncConnection, asset: Asset, now: int) -> ChainView:
    chain = await chain_queries.load_chain(tx, asset.chain)
    view = await core.ingest.books.committed_view(tx, asset.chain)
    # Without a live look at the chain, the opening height would be a guess, and an older transfer could pay.
    if chain is None or not chain.level or now - chain.looked_at > LOOK_MAX_AGE_SECS or view.time == 0:
        title = core.registry[asset.chain].title
        raise TryLater(f"the shop's {title} node is catching up; payments open again when it has", 15)
    return view


def _asking(row: SessionRow, held: list[ReservationRow]) -> ReservationRow:
    """What should be paid now: the rest that fits what is missing, else what was due from the start."""
    if row.state.received_base and row.state.missing_base:
        for reservation in reversed(held):
            if reservation.is_rest_of(row.state.missing_base, row.asset):
                return reservation
    return held[0]


def _digest(text: str) -> str:
    """SHA-256, hex: enough for random secrets of 128 bits and more."""
    return hashlib.sha256(text.encode()).hexdigest()


def _from_token(prefix: str, token: str) -> str:
    digest = hashlib.sha256(f"{prefix}\0{token}".encode()).digest()[:16]
    return f"{prefix}_{base64.b32encode(digest).decode().rstrip('=').lower()}"
