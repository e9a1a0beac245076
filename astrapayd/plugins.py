"""The plugin host: finds plugins, calls each one alone, and survives what they do.

A typed façade over pluggy, whose broadcast ends at the first implementation that raises and takes a coroutine for an
answer. Built in ``app.py``, never at import.

What cannot be held off in one process: an ``async def`` hook that blocks the event loop, and memory. What cannot be
loaded at all (missing dependency, misspelt hook) is a :class:`PluginProblem`: that plugin counts as not installed, its
deliveries wait, and the daemon takes payments meanwhile.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

import pluggy
import structlog

from astrapayd import __version__, hookspecs
from astrapayd.calls import CallFailed, IsolatedCalls, first_line, where
from astrapayd.chains import ChainRegistry
from astrapayd.config import Config, ConfigRegistry
from astrapayd.events import Event
from astrapayd.hookspecs import Accepted, Delivery, Outcome, PluginContext, Rejected, Retry
from astrapayd.rates import RateRegistry

if TYPE_CHECKING:
    import click

    from astrapayd.web.routes import RouteRegistry

ENTRY_POINTS: Final = "astrapayd"
"""Group of entry points that plugins are found by."""

BUILT_IN: Final = {"webhooks": "astrapayd.webhooks:WebhooksPlugin", "rates": "astrapayd.rate_sources:RatesPlugin"}
"""Plugins that come with the core, by name, written like entry points."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class PluginError(Exception):
    """A plugin failed where the daemon cannot go on. The message is one sentence for the administrator."""


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """A plugin that is installed and cannot be used. ``reason`` is one sentence."""

    plugin: str
    reason: str


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One line of ``astrapayd plugins``. ``problem`` is empty where the plugin works."""

    name: str
    version: str
    module: str
    hooks: tuple[str, ...]
    problem: str


class PluginHost:
    """Every plugin of this process. Time-outs in seconds; an event call that outlives its own is a Retry."""

    def __init__(
        self,
        *,
        event_timeout_secs: float = 30,
        start_timeout_secs: float = 60,
        stop_timeout_secs: float = 10,
    ) -> None:
        self.event_timeout_secs = event_timeout_secs
        self._start_timeout_secs = start_timeout_secs
        self._stop_timeout_secs = stop_timeout_secs
        self._manager = pluggy.PluginManager("astrapayd")
        self._manager.add_hookspecs(hookspecs)
        self._hooks = frozenset(hook for hook in vars(hookspecs) if hook.startswith("astrapayd_"))
        self._infos: dict[str, PluginInfo] = {}
        self._contexts: dict[str, PluginContext] = {}
        self._running: list[str] = []
        self._calls = IsolatedCalls()

    # -- finding ------------------------------------------------------------------------------------------------------

    def load_installed(self, installed: Iterable[EntryPoint] | None = None) -> None:
        """Load the built-in plugins and every installed one; see :attr:`problems` for those that cannot be used.

        :param installed: instead of what this Python has installed.
        """
        for name, value in BUILT_IN.items():
            self.add(name, EntryPoint(name, value, ENTRY_POINTS).load()(), version=__version__)
        for entry in entry_points(group=ENTRY_POINTS) if installed is None else installed:
            version = entry.dist.version if entry.dist is not None else ""
            try:
                plugin = entry.load()
                if inspect.isclass(plugin):  # a plugin with state of its own; a module has only globals
                    plugin = plugin()
            except (Exception, SystemExit) as error:  # whatever a third party's module does at import
                _log.debug("plugin import failed", plugin=entry.name, exc_info=error)
                self._refuse(entry.name, version, entry.module, f"cannot be imported: {first_line(error)}")
                continue
            self.add(entry.name, plugin, version=version)

    def add(self, name: str, plugin: object, *, version: str = "") -> bool:
        """Register a plugin; False where it cannot be used (it is then listed with its problem)."""
        module = getattr(plugin, "__name__", type(plugin).__module__)
        if name in self._infos:
            self._refuse(f"{name} ({module})", version, module, f"there is already a plugin named {name!r}")
            return False
        try:
            self._manager.register(plugin, name)
            self._check(name, plugin)
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            self._refuse(name, version, module, first_line(error) if isinstance(error, ValueError) else str(error))
            return False
        callers = self._manager.get_hookcallers(plugin) or []
        self._infos[name] = PluginInfo(name, version, module, tuple(sorted(caller.name for caller in callers)), "")
        return True

    def _check(self, name: str, plugin: object) -> None:
        """:raises pluggy.PluginValidationError: for a hook that would never be called."""
        for caller in self._manager.get_hookcallers(plugin) or []:
            optional = all(impl.optionalhook for impl in caller.get_hookimpls() if impl.plugin_name == name)
            if not caller.has_spec() and not optional:
                raise pluggy.PluginValidationError(plugin, f"implements {self._unknown(caller.name)}")
        for attribute, value in inspect.getmembers(plugin, inspect.isroutine):
            if attribute in self._hooks and not hasattr(value, "astrapayd_impl"):
                raise pluggy.PluginValidationError(plugin, f"{attribute} lacks the @hookimpl that makes it a hook")
        self._manager.check_pending()  # nothing is left over, whatever pluggy itself may think of

    def _unknown(self, hook: str) -> str:
        close = difflib.get_close_matches(hook, self._hooks, n=1)
        return f"an unknown hook {hook!r}" + (f" (did you mean {close[0]!r}?)" if close else "")

    def _refuse(self, name: str, version: str, module: str, reason: str) -> None:
        _log.error("plugin cannot be used", plugin=name, module=module, reason=reason)
        self._infos[name] = PluginInfo(name, version, module, (), reason)

    @property
    def names(self) -> tuple[str, ...]:
        """Every plugin that can be used."""
        return tuple(info.name for info in self._infos.values() if not info.problem)

    @property
    def problems(self) -> tuple[PluginProblem, ...]:
        """Every plugin that is installed and cannot be used, with the reason."""
        return tuple(PluginProblem(info.name, info.problem) for info in self._infos.values() if info.problem)

    @property
    def event_plugins(self) -> frozenset[str]:
        """The plugins that take events."""
        return frozenset(name for name, _ in self._each("astrapayd_event"))

    def listing(self) -> tuple[PluginInfo, ...]:
        """What ``astrapayd plugins`` prints: the broken ones too."""
        return tuple(self._infos.values())

    # -- registration -------------------------------------------------------------------------------------------------

    def add_commands(self, cli: click.Group) -> None:
        """Let plugins add commands; one that fails loses its own only, since the CLI is how one mends things."""
        for name, caller in self._each("astrapayd_add_commands"):
            try:
                self._register(name, caller, cli=cli)
            except PluginError as error:
                _log.error("plugin commands missing", plugin=name, reason=str(error))

    def register_config(self, registry: ConfigRegistry) -> None:
        """Collect the sections that plugins declare.

        :raises PluginError: if a plugin fails, as in the other registrations.
        """
        for name, caller in self._each("astrapayd_register_config"):
            self._register(name, caller, registry=registry)

    def register_chains(self, registry: ChainRegistry, config: Config) -> None:
        """Collect the chains that plugins serve; ``registry.problems`` holds what they found wrong."""
        for name, caller in self._each("astrapayd_register_chains"):
            self._register(name, caller, registry=registry, config=config)

    def register_rate_sources(self, registry: RateRegistry, config: Config) -> None:
        """Collect the sources of rates."""
        for name, caller in self._each("astrapayd_register_rate_sources"):
            self._register(name, caller, registry=registry, config=config)

    def register_routes(self, registry: RouteRegistry, config: Config) -> None:
        """Collect the pages of plugins."""
        for name, caller in self._each("astrapayd_register_routes"):
            self._register(name, caller, registry=registry, config=config)

    def _register(self, name: str, caller: pluggy.HookCaller, **arguments: object) -> None:
        try:
            answers = caller(**arguments)
        except (Exception, SystemExit) as error:
            raise PluginError(f"plugin {name!r} failed in {caller.name}: {_sentence(error)}") from error
        for answer in answers:
            if inspect.isawaitable(answer):
                if inspect.iscoroutine(answer):
                    answer.close()
                raise PluginError(f"plugin {name!r}: {caller.name} is async def, but must be a plain function")

    # -- running ------------------------------------------------------------------------------------------------------

    async def startup(self, make_context: Callable[[str], PluginContext]) -> None:
        """Start every plugin, one after the other; if one fails, stop those that run and raise.

        :param make_context: answers a plugin's own view of the daemon by its name.
        :raises PluginError: with one sentence that names the plugin.
        """
        for name in self.names:
            self._contexts[name] = make_context(name)
        startups = dict(self._each("astrapayd_startup"))
        for name in self.names:
            if name in startups:
                try:
                    await self._calls.call(name, startups[name], self._start_timeout_secs, context=self._contexts[name])
                except CallFailed as failed:
                    await self.shutdown()
                    raise PluginError(
                        f"plugin {name!r} did not start: {_sentence(failed.__cause__ or failed)}"
                    ) from failed
            self._running.append(name)

    async def shutdown(self) -> None:
        """Stop every plugin that was started, the last one first; one that fails is logged. Safe to call twice."""
        shutdowns = dict(self._each("astrapayd_shutdown"))
        while self._running:
            name = self._running.pop()
            if name in shutdowns:
                try:
                    await self._calls.call(name, shutdowns[name], self._stop_timeout_secs, context=self._contexts[name])
                except CallFailed as failed:
                    _log.error("plugin did not stop cleanly", plugin=name, reason=failed.reason)
        self._calls.abandon()

    async def deliver(self, plugin: str, event: Event, delivery: Delivery) -> Outcome:
        """Hand one event to one plugin. Whatever the plugin does, the answer is an outcome.

        :raises KeyError: if the plugin takes no events or was not started; see :attr:`event_plugins`.
        """
        context = self._contexts[plugin]
        caller = dict(self._each("astrapayd_event"))[plugin]
        try:
            answer = await self._calls.call(
                plugin, caller, self.event_timeout_secs, event=event, delivery=delivery, context=context
            )
        except CallFailed as failed:
            if failed.__cause__ is not None:  # the message may hold anything: only the place is logged as a warning
                _log.debug("plugin raised", plugin=plugin, exc_info=failed.__cause__)
            return Retry(failed.reason)
        return _outcome(answer)

    def _each(self, hook: str) -> Iterator[tuple[str, pluggy.HookCaller]]:
        """(plugin's name, caller of that plugin alone), in the order of registration."""
        implemented = {impl.plugin_name: impl.plugin for impl in getattr(self._manager.hook, hook).get_hookimpls()}
        for name in self.names:
            if name in implemented:
                others = [plugin for other, plugin in implemented.items() if other != name]
                yield name, self._manager.subset_hook_caller(hook, remove_plugins=others)


def _sentence(error: BaseException) -> str:
    """What an administrator reads: a plugin's own sentence as it is, anything else with its kind and place."""
    if isinstance(error, PluginError | CallFailed):
        return first_line(error)
    return f"{first_line(error)} ({where(error)})"


def _outcome(answer: Any) -> Outcome:
    """The answer, if it is one in every part; else a Retry that says so."""
    match answer:
        case Accepted(note=str()) | Rejected(reason=str(), disable=bool()) | Retry(reason=str(), after_secs=None):
            return answer
        case Retry(reason=str(), after_secs=int() | float() as after) if 0 <= after < float("inf"):
            return answer
        case Accepted() | Rejected() | Retry():
            return Retry(f"the plugin answered with a malformed {type(answer).__name__}")
        case _:
            return Retry(f"the plugin answered {type(answer).__name__} instead of Accepted, Retry or Rejected")
