"""Queries on sessions, their reservations, and their story."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.chains import ChainRegistry
from astrapayd.db.postgresql import lock_key
from astrapayd.db.tables import (
    addresses,
    changes,
    checkouts,
    customer_details,
    fulfilments,
    links,
    sessions,
    transfers,
)
from astrapayd.db.tables import credits as credit_rows
from astrapayd.money import Asset
from astrapayd.rates import Quote
from astrapayd.sessions import Flag, LatePolicy, Session, Status

_BATCH = 300


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as committed: ``state`` is what the state machine works on, the rest is what it was opened with.

    ``quote``: what the price was converted with; None: it is in the asset itself.
    """

    checkout_id: str
    store: str
    link_id: str
    order_ref: str
    chain: str
    asset: Asset
    address_id: int
    address: str
    opened_by: str
    price: str
    currency: str
    price_base: int
    opened_at: int
    opened_height: int
    paid_at: int | None
    code: str
    secret_hash: str
    back_url: str
    metadata: Mapping[str, str]
    customer: Mapping[str, str]
    state: Session
    quote: Quote | None = None

    @property
    def id(self) -> str:
        """``ses_…``"""
        return self.state.id

    @property
    def order_key(self) -> str:
        """What is fulfilled once: the shop's order, or, without one, the checkout with all its siblings."""
        return f"order:{self.order_ref}" if self.order_ref else f"checkout:{self.checkout_id}"


# -- sessions -----------------------------------------------------------------------------------------------------


async def insert_session(tx: AsyncConnection, row: SessionRow) -> None:
    """A new session; its checkout exists."""
    state = row.state
    await tx.execute(
        insert(sessions).values(
            {
                "id": state.id,
                "checkout_id": row.checkout_id,
                "store": row.store,
                "link_id": row.link_id,
                "order_ref": row.order_ref,
                "chain": row.chain,
                "asset": row.asset.id,
                "address_id": row.address_id,
                "opened_by": row.opened_by,
                "price": row.price,
                "currency": row.currency,
                "rate": row.quote.text if row.quote is not None else "",
                "rate_source": row.quote.source if row.quote is not None else "",
                "rate_taken_at": row.quote.taken_at if row.quote is not None else None,
                "price_base": row.price_base,
                "due_base": state.due_base,
                "tolerance_base": state.tolerance_base,
                "minimum_base": state.minimum_base,
                "late_policy": state.late_policy,
                "opened_at": row.opened_at,
                "opened_height": row.opened_height,
                "expires_at": state.expires_at,
                "late_until": state.late_until,
                "held_until": state.held_until,
                "code": row.code,
                "secret_hash": row.secret_hash,
                "back_url": row.back_url,
                "metadata": dict(row.metadata),
                **_changing(state),
            }
        )
    )
    if row.customer:
        await tx.execute(insert(customer_details).values(session_id=state.id, details=dict(row.customer)))


async def save_session(tx: AsyncConnection, state: Session, *, paid_at: int | None) -> None:
    """Write what a transition changed. ``paid_at`` is set at the first ``session.paid``, else None."""
    values = _changing(state)
    if paid_at is not None:
        values["paid_at"] = paid_at
    await tx.execute(update(sessions).where(sessions.c.id == state.id).values(values))


async def load_sessions(
    connection: AsyncConnection, ids: Iterable[str], registry: ChainRegistry, *, lock: bool = False
) -> dict[str, SessionRow]:
    """The sessions that exist among the ids; ``lock`` holds their rows until the transaction ends."""
    wanted = sorted(ids)  # one order everywhere, so that two transactions cannot wait for each other
    found: dict[str, SessionRow] = {}
    for start in range(0, len(wanted), _BATCH):
        statement = (
            select(sessions, addresses.c.address, customer_details.c.details)
            .join(addresses, addresses.c.id == sessions.c.address_id)
            .outerjoin(customer_details, customer_details.c.session_id == sessions.c.id)
            .where(sessions.c.id.in_(wanted[start : start + _BATCH]))
            .order_by(sessions.c.id)
        )
        if lock:
            statement = statement.with_for_update(of=sessions, key_share=True)
        for row in await connection.execute(statement):
            found[row.id] = _session(row, registry.asset(row.asset))
    return found


async def sessions_to_look_at(
    connection: AsyncConnection, chain_id: str, chain_time: int, *, reorganised: bool
) -> set[str]:
    """Sessions that a new block can change without a transfer: by time, by confirmations, by finality.

    ``reorganised``: blocks went, so that confirmations and the chain's time may have gone back.
    """
    credited = select(credit_rows.c.transfer_id).where(credit_rows.c.session_id == sessions.c.id)
    unconfirmed = credited.where(credit_rows.c.live.is_(True), credit_rows.c.confirmed.is_(False)).exists()
    not_final = and_(sessions.c.status == Status.PAID, sessions.c.flags.not_like(f"%{Flag.FINAL}%"))
    gone_back = [sessions.c.status == Status.EXPIRED, credited.exists()] if reorganised else []
    rows = await connection.execute(
        select(sessions.c.id).where(
            sessions.c.chain == chain_id,
            sessions.c.open.is_(True),
            or_(
                sessions.c.status == Status.PROCESSING,
                not_final,
                and_(sessions.c.status == Status.PENDING, sessions.c.expires_at < chain_time),
                sessions.c.late_until < chain_time,
                unconfirmed,
                *gone_back,
            ),
        )
    )
    return set(rows.scalars())


async def open_assets(connection: AsyncConnection) -> set[str]:
    """Assets that some session or transfer is in; the configuration must still have them."""
    opened = set((await connection.execute(select(sessions.c.asset).distinct())).scalars())
    return opened | set((await connection.execute(select(transfers.c.asset).distinct())).scalars())


USING_A_LINK = (Status.PENDING, Status.PROCESSING, Status.PAID)
"""Statuses of a session that is paid or may still be by itself: each takes one use of a limited link."""


async def uses_of_link(connection: AsyncConnection, link_id: str, *, but: str = "") -> int:
    """How many uses of a limited link are taken, not counting session ``but`` nor those held for the merchant."""
    statement = (
        select(func.count())
        .select_from(sessions)
        .where(
            sessions.c.link_id == link_id,
            sessions.c.status.in_(USING_A_LINK),
            sessions.c.flags.not_like(f"%{Flag.HELD}%"),
            sessions.c.id != but,
        )
    )
    return int((await connection.execute(statement)).scalar_one())


async def max_uses_of(connection: AsyncConnection, link_id: str) -> int | None:
    """The limit of a link's uses, or None."""
    limit: int | None = await connection.scalar(select(links.c.max_uses).where(links.c.id == link_id))
    return limit


async def lock_what_is_shared(tx: AsyncConnection, rows: Iterable[SessionRow]) -> None:
    """Keep other chains' transactions from deciding about the same orders and limited links until this one ends.

    Two sessions of one order on two chains would else both find it open. SQLite has one writer and needs none of it.
    """
    if tx.dialect.name != "postgresql":
        return
    rows = tuple(rows)
    link_ids = sorted({row.link_id for row in rows})
    for start in range(0, len(link_ids), _BATCH):
        of_links = links.c.id.in_(link_ids[start : start + _BATCH]) & links.c.max_uses.is_not(None)
        await tx.execute(select(links.c.id).where(of_links).order_by(links.c.id).with_for_update(key_share=True))
    for key in sorted({lock_key(f"order {row.store} {row.order_key}") for row in rows}):
        await tx.execute(select(func.pg_advisory_xact_lock(key)))


async def session_exists(connection: AsyncConnection, session_id: str) -> bool:
    """Whether there is a session with that id."""
    found = await connection.execute(select(sessions.c.id).where(sessions.c.id == session_id))
    return found.one_or_none() is not None


async def chain_of_session(connection: AsyncConnection, session_id: str) -> str | None:
    """The chain that a session is paid on; it never changes."""
    chain_id: str | None = await connection.scalar(select(sessions.c.chain).where(sessions.c.id == session_id))
    return chain_id


async def set_due(tx: AsyncConnection, session_id: str, due_base: int) -> None:
    """Fix what a session is asked for, in the transaction that reserved it."""
    await tx.execute(update(sessions).where(sessions.c.id == session_id).values(due_base=due_base))


async def session_with_code(connection: AsyncConnection, code: str) -> str | None:
    """The id of the session that carries the verification code."""
    return (await connection.execute(select(sessions.c.id).where(sessions.c.code == code))).scalar_one_or_none()


async def newest_sessions(
    connection: AsyncConnection, store: str | None, status: Status | None, limit: int
) -> list[str]:
    """Ids, the newest first."""
    statement = select(sessions.c.id).order_by(sessions.c.opened_at.desc(), sessions.c.id).limit(limit)
    if store is not None:
        statement = statement.where(sessions.c.store == store)
    if status is not None:
        statement = statement.where(sessions.c.status == status)
    return list((await connection.execute(statement)).scalars())


def _changing(state: Session) -> dict[str, Any]:
    return {
        "status": state.status,
        "flags": " ".join(sorted(state.flags)),
        "revision": state.revision,
        "received_base": state.received_base,
        "confirmed_base": state.confirmed_base,
        "open": state.open,
    }


def _session(row: Any, asset: Asset) -> SessionRow:
    return SessionRow(
        checkout_id=row.checkout_id,
        store=row.store,
        link_id=row.link_id,
        order_ref=row.order_ref,
        chain=row.chain,
        asset=asset,
        address_id=row.address_id,
        address=row.address,
        opened_by=row.opened_by,
        price=row.price,
        currency=row.currency,
        price_base=row.price_base,
        opened_at=row.opened_at,
        opened_height=row.opened_height,
        paid_at=row.paid_at,
        code=row.code,
        secret_hash=row.secret_hash,
        back_url=row.back_url,
        metadata=row.metadata,
        customer=row.details or {},
        state=Session(
            id=row.id,
            status=Status(row.status),
            flags=frozenset(Flag(flag) for flag in row.flags.split()),
            revision=row.revision,
            due_base=row.due_base,
            tolerance_base=row.tolerance_base,
            overpaid_from_base=asset.price_step_base,
            received_base=row.received_base,
            confirmed_base=row.confirmed_base,
            expires_at=row.expires_at,
            late_until=row.late_until,
            held_until=row.held_until,
            late_policy=LatePolicy(row.late_policy),
            minimum_base=row.minimum_base,
            announced=row.paid_at is not None,
            open=row.open,
        ),
        quote=Quote.parse(row.rate, row.rate_source, row.rate_taken_at) if row.rate else None,
    )


# -- orders -------------------------------------------------------------------------------------------------------


async def insert_checkout(
    tx: AsyncConnection, *, checkout_id: str, store: str, link_id: str, order_ref: str, now: int
) -> None:
    """One order's sessions are siblings under it."""
    await tx.execute(
        insert(checkouts).values(id=checkout_id, store=store, link_id=link_id, order_ref=order_ref, created_at=now)
    )


async def fulfilled_by(connection: AsyncConnection, rows: Iterable[SessionRow]) -> dict[tuple[str, str], str]:
    """Which session fulfilled an order, by (store, order key), for the orders of these sessions."""
    found: dict[tuple[str, str], str] = {}
    keys = sorted({row.order_key for row in rows})
    for start in range(0, len(keys), _BATCH):
        for row in await connection.execute(
            select(fulfilments.c.store, fulfilments.c.order_key, fulfilments.c.session_id).where(
                fulfilments.c.order_key.in_(keys[start : start + _BATCH])
            )
        ):
            found[row.store, row.order_key] = row.session_id
    return found


async def fulfil_order(tx: AsyncConnection, row: SessionRow, now: int) -> None:
    """The order is fulfilled by this session; the primary key refuses a second one."""
    await tx.execute(
        insert(fulfilments).values(store=row.store, order_key=row.order_key, session_id=row.id, fulfilled_at=now)
    )


# -- the story ----------------------------------------------------------------------------------------------------


async def insert_change(
    tx: AsyncConnection, session_id: str, *, revision: int, at: int, cause: str, rule: str, result: Mapping[str, Any]
) -> None:
    """One line of the session's story: what happened, by which rule, with which result."""
    await tx.execute(
        insert(changes).values(
            session_id=session_id, revision=revision, at=at, cause=cause, rule=rule, result=dict(result)
        )
    )


async def load_changes(connection: AsyncConnection, session_id: str) -> list[Mapping[str, Any]]:
    """The session's story, oldest first."""
    rows = await connection.execute(
        select(changes.c.revision, changes.c.at, changes.c.cause, changes.c.rule, changes.c.result)
        .where(changes.c.session_id == session_id)
        .order_by(changes.c.revision)
    )
    return [{str(name): value for name, value in row._mapping.items()} for row in rows]
