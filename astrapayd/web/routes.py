"""What plugins may add to the public site: pages under their own prefix, and a block on a session's page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from markupsafe import Markup

from astrapayd.services.sessions import SessionDetails

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Extra = Callable[[SessionDetails], Awaitable[Markup | None]]


@dataclass(slots=True)
class RouteRegistry:
    """Collects routes; given to ``astrapayd_register_routes``."""

    routes: list[tuple[str, str, Handler]] = field(default_factory=list)
    extras: list[Extra] = field(default_factory=list)

    def add(self, plugin: str, method: str, path: str, handler: Handler) -> None:
        """Serve ``/x/PLUGIN/path`` on the public listener. ``path`` may hold ``{names}`` as aiohttp knows them."""
        self.routes.append((method, f"/x/{plugin}/{path.lstrip('/')}", handler))

    def add_extra(self, extra: Extra) -> None:
        """Add a block below the payment and paid pages. The function answers escaped HTML, or None for nothing."""
        self.extras.append(extra)
