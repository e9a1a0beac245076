"""The hooks: everything a plugin can do. Built-in plugins use them like anyone else's.

Registration hooks are plain functions that run at start, in the order of registration; ``astrapayd_startup``,
``astrapayd_shutdown`` and ``astrapayd_event`` may be coroutines. Each plugin is called alone, with a time-out, and one
that raises stops neither the daemon nor another plugin (but a failed start stops the daemon, loudly).

An ``async def`` runs on the daemon's event loop and must not block it; a plain function runs in a thread of its own,
where it may. What needs the loop (``context.http``) is therefore written as ``async def``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pluggy

from astrapayd.chains import ChainRegistry
from astrapayd.config import Config, ConfigRegistry, Section
from astrapayd.events import Event
from astrapayd.rates import RateRegistry

if TYPE_CHECKING:  # heavy to import, and a plugin without pages or commands never needs them
    import click
    from aiohttp import ClientSession
    from structlog.typing import FilteringBoundLogger

    from astrapayd.web.routes import RouteRegistry

hookspec = pluggy.HookspecMarker("astrapayd")
hookimpl = pluggy.HookimplMarker("astrapayd")
"""Put this on a function of your plugin that implements a hook."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one subscription. ``attempt`` counts from 1; ``target`` is the plugin's own key
    (for webhooks the endpoint's id)."""

    id: int
    subscription: int
    target: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receiver has the event; it is not sent again."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. ``after_secs`` is the receiver's wish (``Retry-After``); None leaves it to the schedule.

    The first line of ``reason`` goes to the daemon's log, so it holds no secret and nothing of a customer; further
    lines are kept in the delivery log only.
    """

    reason: str
    after_secs: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never: the delivery is parked at once. ``disable`` switches the subscription off (HTTP 410).

    ``reason`` as in :class:`Retry`.
    """

    reason: str
    disable: bool = False


Outcome = Accepted | Retry | Rejected


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a webhook goes. ``secrets`` are ``whsec_…``, newest first; two while they are rotated."""

    id: str
    url: str
    secrets: tuple[str, ...] = field(repr=False)


class EndpointView(Protocol):
    """Read-only view of the merchant's webhook endpoints, asked at each delivery so that a change counts at once."""

    async def find(self, target: str) -> Endpoint | None:
        """The endpoint with that id, or None where it was removed."""
        ...


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What a running plugin gets: its own section, an HTTP client, a logger, and read-only views."""

    name: str
    section: Section | None
    http: ClientSession
    log: FilteringBoundLogger
    endpoints: EndpointView


@hookspec
def astrapayd_add_commands(cli: click.Group) -> None:
    """Add commands to the CLI.

    :param cli: the root group, ``astrapayd``.
    """


@hookspec
def astrapayd_register_config(registry: ConfigRegistry) -> None:
    """Declare the plugin's own tables of the configuration file.

    :param registry: takes the model of ``[plugins.NAME]`` and of ``[chains.ID]`` with ``plugin = "NAME"``.
    """


@hookspec
def astrapayd_register_chains(registry: ChainRegistry, config: Config) -> None:
    """Register the chains that this plugin serves.

    :param registry: takes one :class:`~astrapayd.chains.Chain` for each section, and problems found in it.
    :param config: the whole configuration.
    """


@hookspec
def astrapayd_register_rate_sources(registry: RateRegistry, config: Config) -> None:
    """Register sources of rates, for prices in another currency than the asset.

    :param registry: takes :class:`~astrapayd.rates.RateSource` objects, each with a name.
    :param config: the whole configuration.
    """


@hookspec
def astrapayd_register_routes(registry: RouteRegistry, config: Config) -> None:
    """Add pages of the plugin's own under ``/x/NAME/``, and extras to the payment page.

    :param registry: takes aiohttp handlers.
    :param config: the whole configuration.
    """


@hookspec
def astrapayd_startup(context: PluginContext) -> Awaitable[None] | None:
    """Called once before the first update; raising stops the daemon.

    :param context: the plugin's own view of the daemon.
    """


@hookspec
def astrapayd_shutdown(context: PluginContext) -> Awaitable[None] | None:
    """Called once when the daemon stops; the last chance to close what startup opened.

    :param context: the plugin's own view of the daemon.
    """


@hookspec
def astrapayd_event(event: Event, delivery: Delivery, context: PluginContext) -> Awaitable[Outcome] | Outcome:
    """Called after commit, from the outbox, at least once for each delivery addressed to this plugin.

    :param event: the committed event; send its ``body`` as it is.
    :param delivery: which subscription and attempt this is.
    :param context: the plugin's own view of the daemon.
    """
    raise NotImplementedError  # a specification: pluggy never calls it
