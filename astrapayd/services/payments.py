"""What came in: every transfer to the stores' addresses, credited or not."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from astrapayd.db.tables import addresses, transfers
from astrapayd.db.tables import credits as credit_rows
from astrapayd.db.transfers import TransferRow, transfer_of
from astrapayd.services.core import Core


@dataclass(frozen=True, slots=True)
class Payment:
    """A transfer with the store and address that it came to, and the session it is credited to, if any."""

    transfer: TransferRow
    store: str
    address: str
    session_id: str | None
    credited_by: str | None


async def list_payments(
    core: Core, *, store: str | None = None, standing: str | None = None, limit: int = 50
) -> list[Payment]:
    """The newest first."""
    statement = (
        select(transfers, addresses.c.store, addresses.c.address, credit_rows.c.session_id, credit_rows.c.credited_by)
        .join(addresses, addresses.c.id == transfers.c.address_id)
        .outerjoin(credit_rows, credit_rows.c.transfer_id == transfers.c.id)
        .order_by(transfers.c.first_seen_at.desc(), transfers.c.id)
        .limit(limit)
    )
    if store is not None:
        statement = statement.where(addresses.c.store == store)
    if standing is not None:
        statement = statement.where(transfers.c.standing == standing)
    async with core.database.read() as connection:
        rows = (await connection.execute(statement)).all()
    return [Payment(transfer_of(r._mapping), r.store, r.address, r.session_id, r.credited_by) for r in rows]
