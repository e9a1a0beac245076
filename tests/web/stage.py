"""A small server that plays the handlers' part: sample views on loopback, under the daemon's own headers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from astrapayd.web.headers import PAGE_HEADERS, STATIC_HEADERS
from astrapayd.web.render import STATIC_FOLDER, Locale, Pages, live_event
from astrapayd.web.views import PaidView, PaymentView
from tests.web.sample_views import SAMPLES


class Stage:
    """Shows any sample under ``/sample/NAME``, and one session under ``/s/ID`` that a test can move on."""

    def __init__(self) -> None:
        self.pages = Pages()
        self.session: PaymentView | PaidView | None = None
        self.base = ""
        self.streams_opened = 0
        self._moved = asyncio.Condition()
        self._streams: list[web.Request] = []

    async def show(self, view: PaymentView | PaidView) -> None:
        """Move the session on and tell every open page."""
        async with self._moved:
            self.session = view
            self._moved.notify_all()

    def cut(self) -> None:
        """Drop every live connection without a word, as a proxy does."""
        for request in tuple(self._streams):
            if request.transport is not None:
                request.transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Stage"]:
        """Serve until the block ends."""
        app = web.Application()
        app.router.add_get("/sample/{name}", self._sample)
        app.router.add_get("/s/{id}", self._page)
        app.router.add_get("/s/{id}/live", self._live)
        app.router.add_get("/s/{id}/status", self._status)
        app.router.add_get("/static/{name}", self._static)
        # aiohttp takes 0 for "wait for ever".
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.base = f"http://{host}:{port}"
        try:
            yield self
        finally:
            self.cut()
            await runner.cleanup()

    async def _sample(self, request: web.Request) -> web.Response:
        locale = Locale("ar", "rtl") if request.query.get("dir") == "rtl" else Locale()
        html = self.pages.render(SAMPLES[request.match_info["name"]], locale)
        return web.Response(text=html, content_type="text/html", headers=PAGE_HEADERS)

    async def _page(self, _request: web.Request) -> web.Response:
        if self.session is None:
            raise web.HTTPNotFound
        return web.Response(text=self.pages.render(self.session), content_type="text/html", headers=PAGE_HEADERS)

    async def _status(self, _request: web.Request) -> web.Response:
        if self.session is None:
            raise web.HTTPNotFound
        return web.Response(text=self.pages.live(self.session), content_type="text/html", headers=PAGE_HEADERS)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        self.streams_opened += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        with suppress(ConnectionError):  # the browser has left
            await self._follow(request, response)
        return response

    async def _follow(self, request: web.Request, response: web.StreamResponse) -> None:
        await response.prepare(request)
        self._streams.append(request)
        told: PaymentView | PaidView | None = None
        try:
            while True:
                async with self._moved:
                    while self.session is told is not None:
                        await self._moved.wait()
                    told = self.session
                if told is None:
                    # A sample page: nothing to say, but the stream stays open.
                    await response.write(b"event: ping\ndata:\n\n")
                    await asyncio.sleep(15)
                else:
                    await response.write(live_event(self.pages.live(told), told.revision))
        finally:
            self._streams.remove(request)

    async def _static(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC_FOLDER / request.match_info["name"], headers=STATIC_HEADERS)
