"""The two listeners: the public site, and the administrator's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog
from aiohttp import web
from sqlalchemy import select

from astrapayd.db.tables import installation
from astrapayd.news import News
from astrapayd.services.chains import chain_states
from astrapayd.services.core import Core, NotFound, TryLater
from astrapayd.web.checkout import Checkout, TermsRefused
from astrapayd.web.headers import PAGE_HEADERS, STATIC_HEADERS
from astrapayd.web.limits import Limits, TooMany
from astrapayd.web.render import STATIC_FOLDER, Pages
from astrapayd.web.routes import RouteRegistry
from astrapayd.web.views import ProblemView

MAX_BODY_BYTES = 64 * 1024

_log = structlog.get_logger("astrapayd.web")


def public_site(
    core: Core,
    news: News,
    routes: RouteRegistry,
    committed: Callable[[Iterable[str]], None],
    stopping: asyncio.Event,
) -> web.Application:
    """Checkout, static files, and the plugins' own pages."""
    pages = Pages()
    limits = Limits(core.config.server.trusted_proxies)
    app = web.Application(middlewares=[_problems(pages)], client_max_size=MAX_BODY_BYTES)
    app.add_routes(Checkout(core, pages, news, limits, routes.extras, committed, stopping).routes())
    for method, path, handler in routes.routes:
        app.router.add_route(method, path, handler)
    app.router.add_static("/static/", STATIC_FOLDER)
    app.on_response_prepare.append(_static_headers)
    return app


def admin_site(core: Core) -> web.Application:
    """Health for supervisors; the dashboard and the API come here."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)

    async def healthz(_request: web.Request) -> web.Response:
        """Alive: the loop runs and the database answers."""
        async with core.database.read() as connection:
            await connection.execute(select(installation.c.epoch))
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        """Ready: every chain's watcher is level with its node."""
        chains = [
            {"chain": c.id, "level": c.level, "head": c.head_height, "problem": c.problem}
            for c in await chain_states(core)
        ]
        ready = all(c["level"] for c in chains)
        return web.json_response(
            {"status": "ready" if ready else "behind", "chains": chains}, status=200 if ready else 503
        )

    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


def _problems(pages: Pages) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Every failure becomes a page in plain words, with the right status; a traceback goes to the log only."""

    def page(view: ProblemView) -> web.Response:
        headers = dict(PAGE_HEADERS)
        if view.retry_after_secs:
            headers["Retry-After"] = str(view.retry_after_secs)
        return web.Response(text=pages.render(view), status=view.status, content_type="text/html", headers=headers)

    @web.middleware
    async def problems(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except NotFound:
            return page(ProblemView(404))
        except TermsRefused as error:
            return page(ProblemView(error.status, error.sentence, back_url=error.back_url))
        except TooMany as error:
            return page(ProblemView(429, str(error), error.retry_after_secs))
        except TryLater as error:
            return page(ProblemView(503, str(error), error.retry_after_secs))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return page(ProblemView(error.status, error.text or "" if error.status == 403 else ""))
        except Exception:
            # The route, not the path: a session's id in the log would open its page to whoever reads it.
            route = request.match_info.route.resource
            _log.exception("request failed", method=request.method, route=route.canonical if route else "")
            return page(ProblemView(500))

    return problems


async def _static_headers(request: web.Request, response: web.StreamResponse) -> None:
    if request.path.startswith("/static/"):
        response.headers.update(STATIC_HEADERS)
