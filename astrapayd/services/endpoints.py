"""Webhook endpoints: make, list, remove, rotate their secrets; the delivery log; test and redelivery.

Nothing here sends anything: it writes rows, and the dispatcher (of this process or another) finds them in a second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db import endpoints as queries
from astrapayd.db import outbox
from astrapayd.db.endpoints import DeliveryRow, EndpointRow
from astrapayd.db.engine import Database, uninterrupted
from astrapayd.db.outbox import DeliveryState, NewEvent
from astrapayd.events import EventType
from astrapayd.hookspecs import Endpoint
from astrapayd.ids import new_id
from astrapayd.services.core import Core, NotFound
from astrapayd.signing import new_secret

MOST_DELIVERIES = 200
"""Of the log at once."""

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\\]")


class EndpointError(ValueError):
    """An endpoint cannot be made or used like that. The message is one sentence for who asked."""


@dataclass(frozen=True, slots=True)
class Redelivery:
    """What became of the deliveries that were to go again, by id.

    ``superseded``: the receiver has accepted later news of the same subject, and was not told again (see ``forced``);
    ``under_way``: being sent at this moment; ``switched_off``: the endpoint was removed or has answered 410.
    """

    resent: tuple[int, ...]
    superseded: tuple[int, ...]
    under_way: tuple[int, ...]
    switched_off: tuple[int, ...]
    unknown: tuple[int, ...]


class StoredEndpoints:
    """What the webhook plugin sees of the endpoints (:class:`~astrapayd.hookspecs.EndpointView`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, target: str) -> Endpoint | None:
        """The endpoint as it is now, or None where it was removed."""
        row = await uninterrupted(self._load(target))  # a delivery may be cancelled at any moment
        return Endpoint(row.id, row.url, row.secrets) if row is not None else None

    async def _load(self, target: str) -> EndpointRow | None:
        async with self._database.read() as connection:
            return await queries.load_endpoint(connection, target)


async def add_endpoint(
    core: Core, *, url: str, store: str = "", description: str = "", event_types: Sequence[str] = ()
) -> EndpointRow:
    """Make an endpoint, with a secret of its own, that is told of everything from now on.

    :param store: empty for every store.
    :param event_types: empty for every type.
    :raises NotFound: if there is no such store.
    :raises EndpointError: if URL, description or a type cannot be used.
    """
    if store:
        core.store(store)
    url = check_url(url)
    if len(description) > 200:
        raise EndpointError("the description is longer than 200 characters")
    types = _check_types(event_types)
    endpoint_id = new_id("whk")
    async with core.database.write() as tx:
        await queries.insert_endpoint(
            tx,
            id=endpoint_id,
            store=store,
            url=url,
            description=description.strip(),
            event_types=types,
            secrets=[new_secret()],
            now=core.now(),
        )
        return await _existing(tx, endpoint_id)


async def list_endpoints(core: Core, store: str | None = None) -> tuple[EndpointRow, ...]:
    """Every endpoint, or those that are told of one store."""
    async with core.database.read() as connection:
        return tuple(await queries.load_endpoints(connection, store))


async def find_endpoint(core: Core, endpoint_id: str) -> EndpointRow:
    """:raises NotFound: if there is none, or it was removed."""
    async with core.database.read() as connection:
        return await _existing(connection, endpoint_id)


async def remove_endpoint(core: Core, endpoint_id: str) -> int:
    """Remove an endpoint and park what still waits for it; answers how many deliveries that were.

    :raises NotFound: if there is none.
    """
    now = core.now()
    async with core.database.write() as tx:
        endpoint = await _existing(tx, endpoint_id, lock=True)
        await queries.mark_removed(tx, endpoint_id, now=now)
        return await outbox.switch_off(tx, endpoint.subscription_id, now=now)


async def enable_endpoint(core: Core, endpoint_id: str) -> EndpointRow:
    """Use an endpoint again that was switched off by its 410. What was parked meanwhile goes only by hand.

    :raises NotFound: if there is none.
    """
    async with core.database.write() as tx:
        endpoint = await _existing(tx, endpoint_id, lock=True)
        await queries.activate(tx, endpoint.subscription_id)
        return await _existing(tx, endpoint_id)


async def rotate_secret(core: Core, endpoint_id: str) -> EndpointRow:
    """Give an endpoint a new secret; both sign until :func:`end_rotation`, so that the receiver changes at leisure.

    :raises NotFound: if there is none.
    :raises EndpointError: if it is being rotated already: the receiver may still use the older of the two.
    """
    async with core.database.write() as tx:
        endpoint = await _existing(tx, endpoint_id, lock=True)
        if len(endpoint.secrets) > 1:
            raise EndpointError(
                f"{endpoint_id} is being rotated already: once its receiver has the new secret, end that with --end"
            )
        await queries.update_secrets(tx, endpoint_id, [new_secret(), *endpoint.secrets])
        return await _existing(tx, endpoint_id)


async def end_rotation(core: Core, endpoint_id: str) -> EndpointRow:
    """Sign with the newest secret only; does nothing where there is but one.

    :raises NotFound: if there is none.
    """
    async with core.database.write() as tx:
        endpoint = await _existing(tx, endpoint_id, lock=True)
        await queries.update_secrets(tx, endpoint_id, endpoint.secrets[:1])
        return await _existing(tx, endpoint_id)


async def send_test(core: Core, endpoint_id: str) -> int:
    """Send a ``webhook.test`` to one endpoint, whatever types it asked for; answers the delivery's id to follow.

    :raises NotFound: if there is none.
    :raises EndpointError: if it is switched off.
    """
    now = core.now()
    async with core.database.write() as tx:
        endpoint = await _existing(tx, endpoint_id, lock=True)
        if not endpoint.active:
            raise EndpointError(
                f"{endpoint_id} is switched off since it answered 410: astrapayd webhook enable {endpoint_id} mends it"
            )
        # A subject of its own: a test neither waits for what came before it nor holds up what comes after.
        test = NewEvent(
            EventType.WEBHOOK_TEST, new_id("test"), 1, {"endpoint": {"id": endpoint.id, "url": endpoint.url}}
        )
        return await outbox.append_event_for(tx, endpoint.subscription_id, test, store=endpoint.store, created_at=now)


async def list_deliveries(
    core: Core,
    *,
    endpoint_id: str | None = None,
    state: DeliveryState | None = None,
    before: int | None = None,
    limit: int = 50,
) -> tuple[DeliveryRow, ...]:
    """The delivery log with every attempt, newest first; ``before`` is the last id of the page before."""
    async with core.database.read() as connection:
        return tuple(
            await queries.load_deliveries(
                connection, target=endpoint_id, state=state, before=before, limit=min(max(limit, 1), MOST_DELIVERIES)
            )
        )


async def find_delivery(core: Core, delivery_id: int) -> DeliveryRow:
    """:raises NotFound: if there is none."""
    async with core.database.read() as connection:
        rows = await queries.load_deliveries_by_id(connection, [delivery_id])
    if not rows:
        raise NotFound(f"there is no delivery {delivery_id}")
    return rows[0]


async def redeliver(core: Core, delivery_ids: Sequence[int], *, forced: bool = False) -> Redelivery:
    """Send deliveries again, at once and with the whole schedule before them, whether they were accepted or parked.

    One that the receiver has later news about (a ``session.paid`` after its ``session.reverted``) would turn the
    receiver back, and stays unless ``forced``. Forced ones keep order among themselves and hold up nothing.
    """
    outcome: dict[str, list[int]] = {"resent": [], "superseded": [], "under_way": [], "switched_off": []}
    async with core.database.write() as tx:
        await queries.lock_deliveries(tx, list(delivery_ids))
        rows = await queries.load_deliveries_by_id(tx, list(delivery_ids))
        for row in rows:
            if not await queries.is_active(tx, row.subscription_id):
                fate = "switched_off"
            elif row.under_way:
                fate = "under_way"
            elif not forced and await queries.is_superseded(tx, row):
                fate = "superseded"
            else:
                fate = "resent"
                await queries.make_pending(tx, row.id, forced=forced)
            outcome[fate].append(row.id)
    known = {row.id for row in rows}
    unknown = tuple(delivery_id for delivery_id in dict.fromkeys(delivery_ids) if delivery_id not in known)
    return Redelivery(**{fate: tuple(ids) for fate, ids in outcome.items()}, unknown=unknown)


def check_url(text: str) -> str:
    """A URL that webhooks can go to, without blanks around it.

    Whether its address is private is judged when it is connected to, since names change theirs.

    :raises EndpointError: with one sentence that says what is wrong.
    """
    text = text.strip()
    example = 'such as "https://shop.example/astrapay"'
    if len(text) > 2000:
        raise EndpointError("the URL is longer than 2000 characters")
    if _UNPRINTABLE.search(text):
        raise EndpointError(f"the URL has blanks or unprintable characters in it: write one {example}")
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise EndpointError(f"the URL cannot be read: write one {example}") from None
    if url.scheme not in {"http", "https"}:
        raise EndpointError(f"the URL does not begin with http:// or https://: write one {example}")
    if "@" in url.netloc:
        raise EndpointError("the URL has a user name or password in it: the signature is what tells who is calling")
    if not host or port == 0:
        raise EndpointError(f"the URL has no proper host: write one {example}")
    if "#" in text:
        raise EndpointError("the URL has a #fragment, which is never sent: leave it out")
    return text


def _check_types(event_types: Sequence[str]) -> list[str]:
    choices = [type.value for type in EventType if type is not EventType.WEBHOOK_TEST]
    for event_type in event_types:
        if event_type not in choices:
            raise EndpointError(f"there is no event type {event_type!r}; there are: {', '.join(choices)}")
    return list(dict.fromkeys(event_types))


async def _existing(connection: AsyncConnection, endpoint_id: str, *, lock: bool = False) -> EndpointRow:
    endpoint = await queries.load_endpoint(connection, endpoint_id, lock=lock)
    if endpoint is None:
        raise NotFound(f"there is no webhook endpoint {endpoint_id!r}")
    return endpoint
