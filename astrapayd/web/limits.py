"""Limits on what the public may ask, per client address.

Openings are not counted here: customers behind one proxy or Tor exit share an address, and a number per address would
shut out real ones. What they can take is bounded by the amount space itself.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence

from aiohttp import web
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from astrapayd.services.core import TryLater

VERIFICATIONS = parse("20/minute")
"""Codes tried by one client: 35 random bits outlast that by far."""


CLAIMS = parse("10/minute")
"""Claims made by one client: each may ask a node about a signature."""


class TooMany(TryLater):
    """The client asks too often."""


class Limits:
    """Counts requests by client address in a moving window, in memory."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        """:param trusted_proxies: networks whose ``X-Forwarded-For`` is believed."""
        self._proxies = [ipaddress.ip_network(p, strict=False) for p in trusted_proxies]
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, request: web.Request, limit: RateLimitItem, what: str) -> None:
        """Count one request.

        :raises TooMany: if it is one too many.
        """
        client = self.client(request)
        if not self._limiter.hit(limit, what, client):
            reset = self._limiter.get_window_stats(limit, what, client).reset_time
            raise TooMany("too many requests from your address", max(1, round(reset - time.time())))

    def client(self, request: web.Request) -> str:
        """The client's address: the last one in ``X-Forwarded-For`` that no trusted proxy of ours wrote."""
        hops = [request.remote or ""]
        if self._proxies:
            forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
            hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()] + hops
        for hop in reversed(hops):
            if not self._is_proxy(hop):
                return hop
        return hops[0]

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)
