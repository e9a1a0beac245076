"""Whose signature a text bears, asked of a chain; and what such a text says of a session."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TypedDict

import structlog

from astrapayd.chains import Chain
from astrapayd.db.sessions import SessionRow
from astrapayd.services.core import Core, TryLater
from astrapayd.transfers import WatcherError

_ANSWER_SECS = 15.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class SessionWords(TypedDict):
    """What a text to be signed names, so that its signature is good for one session at one shop."""

    host: str
    store: str
    session_id: str
    address: str
    code: str


def words_of(core: Core, row: SessionRow) -> SessionWords:
    """The session's, as its customer sees them."""
    return SessionWords(
        host=core.config.server.public_url.rstrip("/"),
        store=core.config.stores[row.store].name,
        session_id=row.id,
        address=core.registry[row.chain].display_address(row.address),
        code=row.code,
    )


async def signers(chain: Chain, addresses: Collection[str], message: str, signature: str) -> set[str]:
    """Those of the addresses (canonical) whose holder has signed exactly this text.

    :raises TryLater: if only a node could tell, and none answers.
    """
    watcher = chain.watcher()
    try:
        async with asyncio.timeout(_ANSWER_SECS):
            return {one for one in sorted(addresses) if await watcher.signed_by(one, message, signature)}
    except (WatcherError, TimeoutError) as error:
        _log.warning("a signature cannot be checked", chain=chain.id, reason=str(error) or "no answer in time")
        raise TryLater("the shop's node does not answer at the moment, so a signature cannot be checked", 30) from None
    finally:
        await watcher.close()
