"""Queries on links."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db.tables import links
from astrapayd.links import AmountRules, Link, LinkStatus


async def insert_link(tx: AsyncConnection, link: Link) -> None:
    """A new link.

    :raises sqlalchemy.exc.IntegrityError: if the slug is taken.
    """
    await tx.execute(
        insert(links).values(
            {
                "id": link.id,
                "store": link.store,
                "slug": link.slug,
                "source": link.source,
                "status": link.status,
                "title": link.title,
                "description": link.description,
                "instructions": link.instructions,
                "price": link.price,
                "currency": link.currency,
                "amount_rules": {
                    "least": link.amount_rules.least,
                    "most": link.amount_rules.most,
                    "presets": list(link.amount_rules.presets),
                },
                "assets": list(link.assets),
                "form": [],
                "max_uses": link.max_uses,
                "expires_at": link.expires_at,
                "back_url": link.back_url,
                "metadata": dict(link.metadata),
                "revision": link.revision,
                "created_at": link.created_at,
            }
        )
    )


async def load_link(connection: AsyncConnection, key: str, *, lock: bool = False) -> Link | None:
    """The link with that id (``lnk_…``) or slug; ``lock`` holds its row until the transaction ends."""
    statement = select(links).where(links.c.id == key if key.startswith("lnk_") else links.c.slug == key)
    if lock:
        statement = statement.with_for_update(key_share=True)
    row = (await connection.execute(statement)).one_or_none()
    return _link(row) if row is not None else None


async def load_links(connection: AsyncConnection, store: str | None, limit: int) -> list[Link]:
    """The newest links first, of one store or of all."""
    statement = select(links).order_by(links.c.created_at.desc(), links.c.id).limit(limit)
    if store is not None:
        statement = statement.where(links.c.store == store)
    return [_link(row) for row in await connection.execute(statement)]


async def set_link_status(tx: AsyncConnection, link_id: str, status: LinkStatus) -> None:
    """Pause, archive or offer it again."""
    await tx.execute(update(links).where(links.c.id == link_id).values(status=status, revision=links.c.revision + 1))


def _link(row: Any) -> Link:
    return Link(
        id=row.id,
        store=row.store,
        slug=row.slug,
        source=row.source,
        status=LinkStatus(row.status),
        title=row.title,
        description=row.description,
        instructions=row.instructions,
        price=row.price,
        currency=row.currency,
        amount_rules=AmountRules(
            row.amount_rules["least"], row.amount_rules["most"], tuple(row.amount_rules["presets"])
        ),
        assets=tuple(row.assets),
        max_uses=row.max_uses,
        expires_at=row.expires_at,
        back_url=row.back_url,
        metadata=row.metadata,
        revision=row.revision,
        created_at=row.created_at,
    )
