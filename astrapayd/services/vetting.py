"""Whether a derived address was used before: asked of the merchant's own node, and remembered for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from astrapayd.chains import Chain
from astrapayd.transfers import WatcherError

REMEMBERED_SECS = 600
"""An answer is as old as this at most: the merchant's wallet may give out addresses of the same account."""

_ANSWER_SECS = 5.0


class Vetting:
    """What the nodes said of addresses that were never given out here. ``now`` answers Unix seconds."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._said: dict[tuple[str, str], tuple[bool, int]] = {}  # used, and when that was said

    def is_used(self, chain_id: str, address: str) -> bool | None:
        """What the node said lately, or None: it must be asked."""
        used, said_at = self._said.get((chain_id, address), (None, 0))
        return used if self._now() - said_at <= REMEMBERED_SECS else None

    async def ask(self, chain: Chain, addresses: Sequence[str]) -> None:
        """Ask the chain's nodes, outside of any transaction.

        :raises WatcherError: if none answers in time.
        """
        now = self._now()
        watcher = chain.watcher()
        try:
            async with asyncio.timeout(_ANSWER_SECS):
                used = await watcher.used(addresses)
        except TimeoutError:
            raise WatcherError(f"chains.{chain.id}.nodes: none answered within {_ANSWER_SECS:g} s") from None
        finally:
            await watcher.close()
        self._said = {key: said for key, said in self._said.items() if now - said[1] <= REMEMBERED_SECS}
        self._said |= {(chain.id, address): (address in used, now) for address in addresses}
