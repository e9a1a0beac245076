"""The built-in plugin ``webhooks``: each event as a signed POST, after Standard Webhooks (standardwebhooks.com).

2xx accepts, 410 switches the endpoint off, everything else (redirects too) is tried again on the dispatcher's schedule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from astrapayd import __version__
from astrapayd.config import ConfigRegistry, Network, Section
from astrapayd.egress import AddressRefused, EgressRules, guarded_session
from astrapayd.events import Event
from astrapayd.hookspecs import Accepted, Delivery, Endpoint, Outcome, PluginContext, Rejected, Retry, hookimpl
from astrapayd.signing import signed_headers

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

PLUGIN: Final = "webhooks"
_ANSWER_BYTES: Final = 2_000  # of the receiver's answer that the delivery log keeps


class WebhooksSection(Section):
    """``[plugins.webhooks]``: time-outs in seconds, and whether receivers may stand in a private network.

    ``allow_private`` is false (public addresses only), true (anywhere), or a list of networks such as
    ``["192.168.1.0/24"]`` (a shop on the same LAN).
    """

    allow_private: bool | tuple[Network, ...] = False
    timeout_secs: Annotated[float, Field(gt=0, le=25)] = 20.0
    connect_timeout_secs: Annotated[float, Field(gt=0, le=25)] = 5.0


class WebhookSender:
    """Posts events over one HTTP client, which it closes in the end."""

    def __init__(self, session: ClientSession, clock: Callable[[], float] = time.time) -> None:
        self._session = session
        self._clock = clock

    async def send(self, event: Event, endpoint: Endpoint) -> Outcome:
        """One attempt. Any failure of network, TLS or receiver is an outcome, never an exception."""
        import aiohttp

        headers = signed_headers(event.id, int(self._clock()), event.body, endpoint.secrets)
        try:
            async with self._session.post(
                endpoint.url,
                data=event.body,
                headers={"Content-Type": "application/json", **headers},
                allow_redirects=False,
            ) as response:
                return await self._judge(response)
        except TimeoutError:
            return Retry("no answer in time")
        except aiohttp.ClientConnectorCertificateError:
            return Retry("the TLS certificate is not valid")
        except aiohttp.ClientConnectorDNSError:
            return Retry("the host name is not known")
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                return Retry("the address is private; [plugins.webhooks] allow_private can allow it")
            if isinstance(error, aiohttp.ClientSSLError):
                return Retry("TLS failed")
            return Retry("cannot connect")
        except (aiohttp.ClientError, ValueError) as error:  # disconnected, not HTTP, a URL that nobody can use
            return Retry(f"failed: {type(error).__name__}")

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _judge(self, response: ClientResponse) -> Outcome:
        # An answer's text can hold anything, a customer's data too: it goes below the first line (see Retry).
        said = await self._first_bytes(response)
        summary = f"HTTP {response.status}" + (f"\n{said}" if said else "")
        match response.status:
            case status if 200 <= status < 300:
                return Accepted(summary)
            case 410:
                return Rejected(summary, disable=True)
            case status if 300 <= status < 400:
                return Retry(f"HTTP {status}, and redirects are not followed")
            case _:
                return Retry(summary, after_secs=self._retry_after(response.headers.get("Retry-After", "")))

    @staticmethod
    async def _first_bytes(response: ClientResponse) -> str:
        """The beginning of the answer; the status counts even where the rest never comes."""
        import aiohttp

        said = bytearray()
        try:
            async with asyncio.timeout(2):
                while len(said) < _ANSWER_BYTES and (chunk := await response.content.read(_ANSWER_BYTES - len(said))):
                    said += chunk
        except (TimeoutError, aiohttp.ClientError):
            pass
        return said.decode("utf-8", errors="replace").replace("\0", "").strip()

    def _retry_after(self, value: str) -> float | None:
        """Seconds from now, from either form of ``Retry-After`` (RFC 9110, 10.2.3); None for anything else."""
        value = value.strip()
        if value.isascii() and value.isdigit() and len(value) < 10:
            return float(value)
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return max((at - datetime.fromtimestamp(self._clock(), UTC)).total_seconds(), 0.0)


class WebhooksPlugin:
    """The hooks. ``sender`` stands in for the one that a start makes (tests)."""

    def __init__(self, sender: WebhookSender | None = None) -> None:
        self._sender = sender

    @hookimpl
    def astrapayd_register_config(self, registry: ConfigRegistry) -> None:
        registry.add_plugin_section(PLUGIN, WebhooksSection)

    @hookimpl
    async def astrapayd_startup(self, context: PluginContext) -> None:
        section = context.section if isinstance(context.section, WebhooksSection) else WebhooksSection()
        if self._sender is None:
            self._sender = WebhookSender(
                guarded_session(
                    egress_rules(section),
                    user_agent=f"astrapayd/{__version__}",
                    total_secs=section.timeout_secs,
                    connect_secs=section.connect_timeout_secs,
                )
            )

    @hookimpl
    async def astrapayd_shutdown(self, context: PluginContext) -> None:
        if self._sender is not None:
            await self._sender.close()
            self._sender = None

    @hookimpl
    async def astrapayd_event(self, event: Event, delivery: Delivery, context: PluginContext) -> Outcome:
        endpoint = await context.endpoints.find(delivery.target)
        if endpoint is None:
            return Rejected("the endpoint was removed")
        if self._sender is None:
            return Retry("the plugin is stopping")
        return await self._sender.send(event, endpoint)


def egress_rules(section: WebhooksSection) -> EgressRules:
    """Where webhooks may go, after the section."""
    if isinstance(section.allow_private, bool):
        return EgressRules(everything=section.allow_private)
    return EgressRules(section.allow_private)
