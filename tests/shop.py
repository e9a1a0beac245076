"""A whole shop for tests and benchmarks: the daemon as a process of its own beside a node, and a verifying receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, CookieJar

from astrapayd.app import assemble, prepare_database
from astrapayd.links import LinkDraft
from astrapayd.money import parse_amount
from astrapayd.services.core import Core
from astrapayd.services.endpoints import add_endpoint
from astrapayd.services.links import create_link, link_url
from astrapayd_evm.demo.selftest import Receiver
from astrapayd_evm.demo.surroundings import free_ports
from tests.databases import database_url

START_TIMEOUT_SECS = 30
USDT, COIN = "usdt", "coin"
_TOKEN_URI = re.compile(r"ethereum:0x[0-9a-fA-F]{40}@\d+/transfer\?address=(0x[0-9a-fA-F]{40})&amp;uint256=(\d+)")
_COIN_URI = re.compile(r"ethereum:(0x[0-9a-fA-F]{40})@\d+\?value=(\d+)")
_BITCOIN_URI = re.compile(r"bitcoin:([0-9a-zA-Z]+)\?amount=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a payment page asks for, as read off the page. ``due_base`` in base units."""

    session_id: str
    address: str
    due_base: int


@dataclass(slots=True)
class Shop:
    """A merchant's machine: configuration, database, webhook receiver, and the daemon's process."""

    config: Path
    core: Core
    receiver: Receiver
    browser: ClientSession
    process: asyncio.subprocess.Process | None = None
    ready_secs: float = 0.0
    log: Path = field(default_factory=Path)

    async def start(self) -> None:
        """Start the daemon and wait until it says that it is ready, as systemd would."""
        self.process = await self.start_process()

    async def start_process(self, *arguments: str) -> asyncio.subprocess.Process:
        """As :meth:`start`, with more arguments: one of several. Whoever calls it ends it."""
        path = self.config.with_name("notify.sock")
        path.unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(path))
        notify.setblocking(False)
        begun = time.perf_counter()
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "astrapayd", "run", "--config", str(self.config), *arguments),
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(path)},
            )
        ended = asyncio.create_task(process.wait())
        try:
            async with asyncio.timeout(START_TIMEOUT_SECS):
                while True:
                    said = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(notify, 4096))
                    await asyncio.wait({said, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if not said.done():
                        said.cancel()
                        raise AssertionError(f"the daemon ended: {self.log.read_text()[-4000:]}")
                    if b"READY=1" in said.result():
                        break
        finally:
            ended.cancel()
            notify.close()
        self.ready_secs = time.perf_counter() - begun
        return process

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon; SIGKILL for a crash."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        await asyncio.wait_for(self.process.wait(), 20)

    async def link(self, price: str, currency: str) -> str:
        """A new payment link's URL."""
        return link_url(
            self.core, await create_link(self.core, LinkDraft("shop", "Coffee", price, currency), source="cli")
        )

    async def open(self, url: str, asset: str) -> Asked:
        """Open a link as a browser without JavaScript does, and read what its payment page asks for.

        Tries again on 503, as the page says: just after its start a daemon is not level with the node yet.
        """
        async with asyncio.timeout(START_TIMEOUT_SECS):
            while True:
                async with self.browser.post(url, data={"asset": asset, "form_token": secrets.token_hex(8)}) as answer:
                    page = await answer.text()
                    if answer.status == 200:
                        break
                    assert answer.status == 503, (answer.status, page)
                await asyncio.sleep(0.05)
        return _asked(answer.url.name, page)

    async def read(self, session_id: str) -> Asked:
        """What a session's page asks for now."""
        return _asked(session_id, await self.pay_page(session_id))

    async def run(self, *arguments: str) -> Any:
        """The JSON that a command of the command line prints, while the daemon runs."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "astrapayd", *arguments, "--json", "--config", str(self.config)),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        return json.loads(out)

    async def pay_page(self, session_id: str) -> str:
        """The HTML of a session's page now."""
        async with self.browser.get(f"{self.core.config.server.public_url}/s/{session_id}") as answer:
            assert answer.status == 200
            return await answer.text()

    async def until(self, event_type: str, timeout_secs: float = 30) -> list[dict[str, Any]]:
        """Every webhook up to and with the first of that type; each was verified."""
        return await asyncio.wait_for(self.receiver.until(event_type), timeout_secs)


def _asked(session_id: str, page: str) -> Asked:
    if bitcoin := _BITCOIN_URI.search(page):
        return Asked(session_id, bitcoin[1], parse_amount(bitcoin[2], 8))
    found = _TOKEN_URI.search(page) or _COIN_URI.search(page)
    assert found is not None, page
    return Asked(session_id, found[1], int(found[2]))


@asynccontextmanager
async def a_shop(
    folder: Path,
    *,
    url: str,
    chain_id: int,
    usdt: str,
    more_urls: Sequence[str] = (),
    confirmations: str = "1",
    final: str = '"finalized"',
    settings: str = "",
    account: str = "",
    token: str = "decimals = 6",
    store: str = "",
) -> AsyncIterator[Shop]:
    """A shop beside its nodes, ready to :meth:`Shop.start`; whatever runs is ended.

    ``confirmations`` and ``final`` are TOML values, ``settings`` more lines for the chain's table, ``account``
    what the store is paid on instead of one random address, ``token`` the numbers of the asset ``usdt``, ``store`` more
    lines for the store's table.
    """
    urls = ", ".join(f'"{one}"' for one in (url, *more_urls))
    tables = f"""\
[chains.test]
plugin = "evm"
chain_id = {chain_id}
nodes = [{urls}]
confirmations = {confirmations}
final = {final}
testnet = true
{settings}

[assets.{USDT}]
chain = "test"
symbol = "USDT"
contract = "{usdt}"
{token}

[assets.{COIN}]
chain = "test"
symbol = "ETH"
decimals = 18
price_decimals = 6

[stores.shop]
name = "The shop"
{store}

[stores.shop.accounts.test]
{account or f'addresses = ["0x{secrets.token_hex(20)}"]'}
"""
    async with a_shop_on(folder, tables) as shop:
        yield shop


@asynccontextmanager
async def a_shop_on(folder: Path, tables: str) -> AsyncIterator[Shop]:
    """A shop with these tables of chains, assets and stores, ready to :meth:`Shop.start`; whatever runs is ended."""
    public, admin = free_ports(2)
    config = folder / "astrapayd.toml"
    config.write_text(f"""\
[server]
public = "127.0.0.1:{public}"
admin = "127.0.0.1:{admin}"
public_url = "http://127.0.0.1:{public}"

[database]
url = "{database_url(folder, "astrapayd.db")}"

[log]
format = "json"

{tables}
[plugins.webhooks]
allow_private = true
""")
    config.chmod(0o600)
    receiver = Receiver()
    core = assemble(config).core
    await prepare_database(core, may_upgrade=True)
    async with receiver.listening(), ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:
        receiver.secret = (await add_endpoint(core, store="shop", url=receiver.url)).secrets[0]
        shop = Shop(config, core, receiver, browser, log=folder / "daemon.log")
        try:
            yield shop
        finally:
            if shop.process is not None and shop.process.returncode is None:
                await shop.stop()
            await core.database.close()
