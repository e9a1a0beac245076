"""`astrapayd demo --selftest`: one payment from link to signed webhook, through every part that a merchant runs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, CookieJar, web

from astrapayd.app import Daemon, assemble, prepare_database
from astrapayd.links import LinkDraft
from astrapayd.money import parse_amount
from astrapayd.services.endpoints import add_endpoint
from astrapayd.services.links import create_link, link_url

from .surroundings import (
    STORE,
    USDT,
    DemoError,
    demo_chain,
    free_port,
    free_ports,
    wait_until_open,
    write_configuration,
)
from .wallet import DemoWallet

_PAID_TIMEOUT_SECS = 60


class Receiver:
    """A shop's webhook receiver on this machine, which verifies what it gets."""

    def __init__(self) -> None:
        self.secret = ""
        self.url = ""
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve until the block ends."""
        app = web.Application()
        app.router.add_post("/hook", self._receive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}/hook"
        try:
            yield
        finally:
            await runner.cleanup()

    async def until(self, event_type: str) -> list[dict[str, Any]]:
        """Every event up to and with the first of that type."""
        events = []
        while True:
            events.append(await self._events.get())
            if events[-1]["type"] == event_type:
                return events

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not _is_signed(request, body, self.secret):
            return web.Response(status=401)
        self._events.put_nowait(json.loads(body))
        return web.Response(status=204)


def _is_signed(request: web.Request, body: bytes, secret: str) -> bool:
    """Standard Webhooks: HMAC-SHA256 over id, timestamp and body."""
    signed = b".".join((request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), body))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return any(hmac.compare_digest(expected, s) for s in request.headers["webhook-signature"].split())


async def run_selftest() -> dict[str, Any]:
    """Open a link, pay, wait for the signed ``session.paid``; what happened, with timings in seconds.

    :raises DemoError: with one sentence, if anything is not as it should be.
    """
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    receiver = Receiver()
    with tempfile.TemporaryDirectory(prefix="astrapayd-selftest-") as folder:
        async with receiver.listening(), demo_chain() as chain, _daemon(Path(folder), chain, receiver) as url:
            seconds["chain_and_daemon_ready"] = time.perf_counter() - started
            async with DemoWallet(chain.url, chain.usdt) as wallet:
                address, due_base = await _open(url, seconds)
                paid_at = time.perf_counter()
                transaction = await wallet.pay_token(address, due_base)
                await wallet.wait_mined(transaction)
                mined_at = time.perf_counter()
                seconds["paid_to_mined"] = mined_at - paid_at
                try:
                    events = await asyncio.wait_for(receiver.until("session.paid"), _PAID_TIMEOUT_SECS)
                except TimeoutError:
                    raise DemoError(f"no session.paid came within {_PAID_TIMEOUT_SECS} s of the payment") from None
                seconds["mined_to_session_paid_webhook"] = time.perf_counter() - mined_at
    seconds["in_all"] = time.perf_counter() - started
    session = events[-1]["data"]["session"]
    if (session["received"], session["status"]) != (session["due"], "paid"):
        raise DemoError(f"received {session['received']} of {session['due']}, status {session['status']}")
    return {
        "ok": True,
        "session": session["id"],
        "received": session["received"],
        "events": [event["type"] for event in events],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


@asynccontextmanager
async def _daemon(folder: Path, chain: Any, receiver: Receiver) -> AsyncIterator[str]:
    """The daemon with one link and one webhook endpoint; the link's address."""
    listeners = [f"127.0.0.1:{port}" for port in free_ports(2)]
    path = write_configuration(folder, chain, public=listeners[0], admin=listeners[1], webhooks=True)
    assembly = assemble(path)
    core = assembly.core
    await prepare_database(core, may_upgrade=True)
    endpoint = await add_endpoint(core, store=STORE, url=receiver.url)
    receiver.secret = endpoint.secrets[0]
    link = await create_link(core, LinkDraft(STORE, "Self-test", "25.00", "USDT"), source="demo")
    daemon = Daemon(assembly)
    ready = asyncio.Event()
    running = asyncio.create_task(daemon.run(ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        await wait_until_open(core)
        yield link_url(core, link)
    finally:
        waiting.cancel()
        daemon.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _open(url: str, seconds: dict[str, float]) -> tuple[str, int]:
    """Open the link as a browser does; the address to pay to and the exact amount, read off the page."""
    begun = time.perf_counter()
    async with (
        ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser,
        browser.post(url, data={"asset": USDT}) as answer,
    ):
        page = await answer.text()
        if answer.status != 200 or not answer.url.path.startswith("/s/"):
            raise DemoError(f"opening the link answered {answer.status}")
    seconds["link_to_payment_page"] = time.perf_counter() - begun
    uri = re.search(r"ethereum:0x[0-9a-fA-F]{40}@\d+/transfer\?address=(0x[0-9a-fA-F]{40})&amp;uint256=(\d+)", page)
    if uri is None:
        raise DemoError("the payment page holds no wallet address")
    return uri[1], parse_amount(uri[2], 0)
