"""Make, find and switch links."""

from __future__ import annotations

import secrets

from sqlalchemy.exc import IntegrityError

from astrapayd.db import links as link_queries
from astrapayd.db import outbox
from astrapayd.db import sessions as session_queries
from astrapayd.db.outbox import NewEvent
from astrapayd.events import EventType, iso_time
from astrapayd.ids import new_id
from astrapayd.links import (
    DraftError,
    FieldProblem,
    Link,
    LinkDraft,
    LinkStatus,
    Unavailable,
    availability,
    check_draft,
    slug_stem,
)
from astrapayd.services.core import Core, NotFound

_SLUG_ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"


async def create_link(core: Core, draft: LinkDraft, *, source: str) -> Link:
    """Make a link and tell of it; nothing is written where anything is wrong.

    :raises NotFound: if the store does not exist.
    :raises DraftError: with everything that is wrong with the draft.
    """
    now = core.now()
    offered = core.assets_of(draft.store)
    convertible = {asset.id for asset in offered if core.quotes.covers(draft.currency, asset)}
    assets = check_draft(draft, offered, now, core.minimums, convertible)
    link = Link(
        id=new_id("lnk"),
        store=draft.store,
        slug=draft.slug or f"{slug_stem(draft.title)}-{''.join(secrets.choice(_SLUG_ALPHABET) for _ in range(6))}",
        source=source,
        status=LinkStatus.ACTIVE,
        title=draft.title.strip(),
        description=draft.description,
        instructions=draft.instructions,
        price=draft.price,
        currency=draft.currency,
        amount_rules=draft.amount_rules,
        assets=tuple(asset.id for asset in assets),
        max_uses=draft.max_uses,
        expires_at=draft.expires_at,
        back_url=draft.back_url,
        metadata=draft.metadata,
        revision=1,
        created_at=now,
    )
    async with core.database.write() as tx:
        try:
            async with tx.begin_nested():
                await link_queries.insert_link(tx, link)
        except IntegrityError:
            raise DraftError([FieldProblem("slug", f"{link.slug!r} is taken: choose another")]) from None
        created = NewEvent(EventType.LINK_CREATED, link.id, link.revision, {"link": link_data(core, link)})
        await outbox.append_events(tx, [created], store=link.store, created_at=now)
    return link


async def find_link(core: Core, key: str) -> tuple[Link, Unavailable | None]:
    """The link with that id or slug, and why it cannot be paid now, if so.

    :raises NotFound: if there is none.
    """
    async with core.database.read() as connection:
        link = await link_queries.load_link(connection, key)
        if link is None:
            raise NotFound(f"there is no link {key!r}")
        uses = await session_queries.uses_of_link(connection, link.id) if link.max_uses is not None else 0
    return link, availability(link, uses, core.now())


async def list_links(core: Core, store: str | None, limit: int) -> list[Link]:
    """The newest links first."""
    async with core.database.read() as connection:
        return await link_queries.load_links(connection, store, limit)


async def set_status(core: Core, key: str, status: LinkStatus) -> Link:
    """Pause, archive or offer a link again. Open sessions go on.

    :raises NotFound: if there is none.
    """
    async with core.database.write() as tx:
        link = await link_queries.load_link(tx, key, lock=True)
        if link is None:
            raise NotFound(f"there is no link {key!r}")
        await link_queries.set_link_status(tx, link.id, status)
    return (await find_link(core, link.id))[0]


def link_url(core: Core, link: Link) -> str:
    """What a merchant shares."""
    return f"{core.config.server.public_url.rstrip('/')}/l/{link.slug}"


def link_data(core: Core, link: Link) -> dict[str, object]:
    """A link as API, events and CLI show it."""
    return {
        "id": link.id,
        "store": link.store,
        "url": link_url(core, link),
        "slug": link.slug,
        "source": link.source,
        "status": link.status,
        "title": link.title,
        "description": link.description,
        "instructions": link.instructions,
        "price": {"amount": link.price, "currency": link.currency},
        "amount_rules": {
            "least": link.amount_rules.least,
            "most": link.amount_rules.most,
            "presets": list(link.amount_rules.presets),
        },
        "assets": list(link.assets),
        "max_uses": link.max_uses,
        "expires_at": iso_time(link.expires_at) if link.expires_at is not None else None,
        "back_url": link.back_url,
        "metadata": dict(link.metadata),
        "revision": link.revision,
        "created_at": iso_time(link.created_at),
    }
