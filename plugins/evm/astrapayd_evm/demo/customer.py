"""The demo's customer, as a plugin: a wallet below each payment page that pays as customers really do.

It knows a session only as any customer does, by what its page shows, and pays over the chain's own websocket.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from enum import StrEnum
from functools import cached_property

from aiohttp import web
from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup

from astrapayd.config import Config
from astrapayd.hookspecs import PluginContext, hookimpl
from astrapayd.money import format_amount, round_up
from astrapayd.services.sessions import SessionDetails
from astrapayd.sessions import Status
from astrapayd.web.routes import RouteRegistry

from .wallet import DemoWallet, NodeRefused

NAME = "demo"
_LATE_BY_SECS = 3  # the chain must have passed the end of the window


class Action(StrEnum):
    """What the demo's customer can do."""

    EXACT = "exact"
    FEE = "fee"
    OVER = "over"
    TWICE = "twice"
    LATE = "late"
    REORG = "reorg"


class DemoCustomer:
    """Pays from a demo account. Needs the running loop; built by the demo command, started as any plugin."""

    def __init__(self, url: str, usdt: str) -> None:
        self._wallet = DemoWallet(url, usdt)
        self._seen: dict[str, SessionDetails] = {}
        self._paid: defaultdict[str, list[str]] = defaultdict(list)
        self._later: dict[str, asyncio.Task[None]] = {}
        self._notes: dict[str, str] = {}

    @hookimpl
    def astrapayd_register_routes(self, registry: RouteRegistry, config: Config) -> None:
        """The wallet's block on the session's page, and where its buttons lead."""
        registry.add_extra(self._block)
        registry.add(NAME, "POST", "/{session}", self._act)

    @hookimpl
    async def astrapayd_startup(self, context: PluginContext) -> None:
        """Connect to the chain."""
        await self._wallet.__aenter__()

    @hookimpl
    async def astrapayd_shutdown(self, context: PluginContext) -> None:
        """Drop what was still to be paid, and disconnect."""
        for task in self._later.values():
            task.cancel()
        await self._wallet.__aexit__(None, None, None)

    async def _block(self, details: SessionDetails) -> Markup | None:
        # The page is rendered from committed rows; what it asked for is what this customer pays.
        self._seen[details.row.id] = details
        asset, state = details.row.asset, details.row.state
        asked = details.asking.due_base
        shown = {
            Action.EXACT: format_amount(asked, asset.decimals),
            Action.FEE: format_amount(asked - _fee(details), asset.decimals),
            Action.OVER: format_amount(asked + _fee(details), asset.decimals),
        }
        return Markup(  # noqa: S704 - rendered with autoescape on
            self._template.render(
                session=details.row.id,
                shown=shown,
                symbol=asset.symbol,
                payable=state.status is Status.PENDING,
                whole=details.asking.purpose == "price",
                late_in=max(0, state.expires_at - int(time.time())) if details.row.id not in self._later else None,
                reorg=bool(self._paid[details.row.id]),
                note=self._notes.pop(details.row.id, ""),
            )
        )

    async def _act(self, request: web.Request) -> web.Response:
        session_id = request.match_info["session"]
        details = self._seen.get(session_id)
        form = await request.post()
        if details is None or form.get("action") not in set(Action):
            raise web.HTTPNotFound
        try:
            self._notes[session_id] = await self._do(Action(str(form["action"])), details)
        except (NodeRefused, TimeoutError, ConnectionError) as error:
            self._notes[session_id] = f"The demo chain said no: {error}."
        return web.Response(status=303, headers={"Location": f"/s/{session_id}"})

    async def _do(self, action: Action, details: SessionDetails) -> str:
        """Do it and answer what to say; empty where the page itself will tell."""
        asked, fee = details.asking.due_base, _fee(details)
        match action:
            case Action.EXACT:
                await self._pay(details, asked)
            case Action.FEE:
                await self._pay(details, asked - fee)
            case Action.OVER:
                await self._pay(details, asked + fee)
            case Action.TWICE:
                await self._pay(details, asked)
                await self._pay(details, asked)
            case Action.LATE:
                if details.row.id not in self._later:
                    self._later[details.row.id] = asyncio.create_task(self._pay_late(details))
                return "The payment is sent by itself as soon as the time is over. Keep this page open."
            case Action.REORG:
                paid = self._paid[details.row.id]
                if not paid:
                    return "There is no payment of this wallet to reorganise away."
                await self._wallet.wait_mined(paid[-1])
                await self._wallet.reorg_away(paid[-1])
                paid.pop()
                return "The chain was reorganised: the block with the payment is gone, and the money went elsewhere."
        return ""

    async def _pay(self, details: SessionDetails, amount_base: int) -> None:
        to = details.row.address
        send = self._wallet.pay_token if details.row.asset.contract else self._wallet.pay_native
        self._paid[details.row.id].append(await send(to, amount_base))

    async def _pay_late(self, details: SessionDetails) -> None:
        await asyncio.sleep(max(0, details.row.state.expires_at + _LATE_BY_SECS - time.time()))
        await self._pay(details, details.asking.due_base)

    @cached_property
    def _template(self) -> Template:
        environment = Environment(loader=PackageLoader("astrapayd_evm.demo", "templates"), autoescape=True)
        return environment.get_template("wallet.html")


def _fee(details: SessionDetails) -> int:
    """About 2 % of the price in whole price steps: what an exchange would take."""
    asset = details.row.asset
    return round_up(details.row.price_base // 50, asset.price_step_base)
