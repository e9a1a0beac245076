"""Pre-filled checkout: the stores' signing secrets, addresses that are signed here, and those that come in."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence

from astrapayd.db import signing_keys as queries
from astrapayd.db.engine import Database
from astrapayd.links import Link, why_not_payable
from astrapayd.prefill import KEY_PREFIX, PrefillRefused, Terms, Why, signed_query, verify
from astrapayd.services.core import Core
from astrapayd.services.links import find_link, link_url

_SECRET_BYTES = 32


class RotationError(ValueError):
    """A store's secret cannot be rotated now. The message is one sentence for the merchant."""


async def signing_secrets(core: Core, store: str) -> tuple[str, ...]:
    """The secrets with which a store's addresses may be signed, newest first; the first one is made when asked for.

    :raises NotFound: if there is no such store.
    """
    core.store(store)
    known = await _known(core.database, store)
    if known:
        return known
    async with core.database.write() as tx:
        await queries.lock_signing_secrets(tx, store)
        known = await queries.load_signing_secrets(tx, store)
        if not known:
            known = (_new_secret(),)
            await queries.save_signing_secrets(tx, store, known)
    return known


async def rotate_signing_secret(core: Core, store: str) -> tuple[str, ...]:
    """Give a store a new secret; signatures by either count until :func:`end_signing_rotation`.

    :raises NotFound: if there is no such store.
    :raises RotationError: if it is being rotated already.
    """
    core.store(store)
    async with core.database.write() as tx:
        await queries.lock_signing_secrets(tx, store)
        known = await queries.load_signing_secrets(tx, store)
        if len(known) > 1:
            raise RotationError(
                f"the secret of store {store!r} is being rotated already: once your shop has the new one, end that "
                "with --end"
            )
        changed = (_new_secret(), *known)
        await queries.save_signing_secrets(tx, store, changed)
    return changed


async def end_signing_rotation(core: Core, store: str) -> tuple[str, ...]:
    """Let only the newest secret's signatures count; does nothing where there is but one, or none.

    :raises NotFound: if there is no such store.
    """
    core.store(store)
    async with core.database.write() as tx:
        await queries.lock_signing_secrets(tx, store)
        known = await queries.load_signing_secrets(tx, store)
        if len(known) > 1:
            await queries.save_signing_secrets(tx, store, known[:1])
    return known[:1]


async def signed_url(core: Core, link_key: str, terms: Terms) -> str:
    """The whole address of a link with these terms, signed by its store.

    :raises NotFound: if there is no such link.
    :raises PrefillRefused: if the terms would not count.
    """
    link, _ = await find_link(core, link_key)
    if terms.until is not None and terms.until <= core.now():
        raise PrefillRefused(Why.EXPIRED, "the time until which it counts has passed already: choose a later one")
    _check(core, link, terms)
    secret = (await signing_secrets(core, link.store))[0]
    return f"{link_url(core, link)}?{signed_query(secret, link.slug, terms)}"


async def read_terms(core: Core, link: Link, given: Sequence[tuple[str, str]]) -> Terms | None:
    """What the parameters of a link's address say, once the store's signature is found right; None if nothing.

    :raises PrefillRefused: if they do not count.
    """
    terms = verify(await _known(core.database, link.store), link.slug, given, core.now())
    if terms is not None:
        _check(core, link, terms)
    return terms


def _check(core: Core, link: Link, terms: Terms) -> None:
    """That the link lets the shop say this: an amount only where none is fixed, an order never without its amount."""
    if terms.amount and link.price:
        raise PrefillRefused(
            Why.UNUSABLE,
            f"an amount was given for a link whose price is fixed at {link.price} {link.currency}: "
            "it counts only on a link with an open amount",
        )
    if terms.order and not terms.amount and not link.price:
        # Else the customer would choose what the order costs.
        raise PrefillRefused(Why.UNUSABLE, "an order was given without its amount, and this link leaves that open")
    if terms.amount:
        assets = [asset for asset in core.assets_of(link.store) if asset.id in link.assets]
        why = why_not_payable(link, assets, terms.amount, core.minimums)
        if why:
            raise PrefillRefused(Why.UNUSABLE, f"this amount cannot be asked for: {why}")


async def _known(database: Database, store: str) -> tuple[str, ...]:
    async with database.read() as connection:
        return await queries.load_signing_secrets(connection, store)


def _new_secret() -> str:
    """``lnksec_`` and 256 random bits in base64."""
    return KEY_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
