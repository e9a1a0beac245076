"""The plugin host against well-behaved plugins and those in ``tests/plugins/bad``."""

from __future__ import annotations

import asyncio
import importlib
import time
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import pytest
import structlog
from structlog.testing import capture_logs

from astrapayd import plugins
from astrapayd.config import ConfigRegistry
from astrapayd.events import Event, EventType
from astrapayd.hookspecs import Accepted, Delivery, Endpoint, Outcome, PluginContext, Rejected, Retry, hookimpl
from astrapayd.plugins import PluginError, PluginHost

EVENT = Event("evt_1", 1, EventType.SESSION_PAID, "shop", "ses_1", 1_800_000_000, b"{}")
DELIVERY = Delivery(id=1, subscription=1, target="t", attempt=1)


def bad(name: str) -> ModuleType:
    return importlib.import_module(f"tests.plugins.bad.{name}")


class NoEndpoints:
    async def find(self, target: str) -> Endpoint | None:
        return None


def make_context(name: str) -> PluginContext:
    http: Any = SimpleNamespace()
    return PluginContext(name, None, http, structlog.get_logger(), NoEndpoints())


class Good:
    """Does everything right, and writes down what it was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @hookimpl
    def astrapayd_add_commands(self, cli: click.Group) -> None:
        cli.add_command(click.Command("good"))

    @hookimpl
    def astrapayd_register_config(self, registry: ConfigRegistry) -> None:
        self.calls.append("config")

    @hookimpl
    async def astrapayd_startup(self, context: PluginContext) -> None:
        self.calls.append(f"startup {context.name}")

    @hookimpl
    def astrapayd_shutdown(self, context: PluginContext) -> None:
        self.calls.append("shutdown")

    @hookimpl
    async def astrapayd_event(self, event: Event, delivery: Delivery, context: PluginContext) -> Outcome:
        self.calls.append(event.id)
        return Accepted("thanks")


async def started(*modules: object, **time_outs: float) -> PluginHost:
    host = PluginHost(**time_outs)
    for number, module in enumerate(modules):
        assert host.add(f"p{number}", module), host.problems
    await host.startup(make_context)
    return host


async def test_a_good_plugin_is_called_for_everything() -> None:
    good = Good()
    host = PluginHost()
    host.add("good", good, version="1.2")
    host.register_config(ConfigRegistry())
    cli = click.Group()
    host.add_commands(cli)
    await host.startup(make_context)
    assert await host.deliver("good", EVENT, DELIVERY) == Accepted("thanks")
    await host.shutdown()
    await host.shutdown()
    assert good.calls == ["config", "startup good", "evt_1", "shutdown"]
    assert list(cli.commands) == ["good"]
    (info,) = host.listing()
    assert (info.name, info.version, info.problem) == ("good", "1.2", "")
    assert "astrapayd_event" in info.hooks


async def test_each_plugin_is_called_alone() -> None:
    one, two = Good(), Good()
    host = await started(one, two)
    await host.deliver("p1", EVENT, DELIVERY)
    assert (one.calls, two.calls) == (["startup p0"], ["startup p1", "evt_1"])


async def test_a_plugin_that_raises() -> None:
    host = await started(bad("raises"), Good())
    with capture_logs() as logs:
        outcome = await host.deliver("p0", EVENT, DELIVERY)
    assert isinstance(outcome, Retry)
    line, message = outcome.reason.split("\n")
    assert line == "ValueError at raises.py:9"  # this goes to the log …
    assert message == "ValueError: no such customer: jane@customer.example"  # … and this to the delivery log only
    assert not [entry for entry in logs if entry["log_level"] != "debug"]
    assert await host.deliver("p1", EVENT, DELIVERY) == Accepted("thanks")


async def test_a_plugin_that_exits() -> None:
    host = await started(bad("exits"))
    outcome = await host.deliver("p0", EVENT, DELIVERY)
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("SystemExit at exits.py")


async def test_a_plugin_that_hangs() -> None:
    host = await started(bad("hangs"), event_timeout_secs=0.05)
    assert await host.deliver("p0", EVENT, DELIVERY) == Retry("no answer within 0.05 s")


async def test_a_plugin_that_hangs_and_cannot_be_cancelled() -> None:
    deaf: Any = bad("deaf")
    deaf.end = False
    host = await started(deaf, Good(), event_timeout_secs=0.05)
    outcomes = await asyncio.gather(*(host.deliver("p0", EVENT, DELIVERY) for _ in range(8)))
    assert set(outcomes) == {Retry("no answer within 0.05 s")}
    refused = await host.deliver("p0", EVENT, DELIVERY)
    assert refused == Retry("not called: 8 earlier calls of the plugin have not ended")
    assert await host.deliver("p1", EVENT, DELIVERY) == Accepted("thanks")
    deaf.end = True
    await asyncio.sleep(0.2)
    assert await host.deliver("p0", EVENT, DELIVERY) == Accepted()  # and it is used again


async def test_a_plugin_that_blocks_its_thread() -> None:
    blocks: Any = bad("blocks")
    blocks.end.clear()
    host = await started(blocks, Good(), event_timeout_secs=0.2)
    began = time.monotonic()
    stuck = [asyncio.create_task(host.deliver("p0", EVENT, DELIVERY)) for _ in range(8)]
    await asyncio.sleep(0.05)
    assert await host.deliver("p1", EVENT, DELIVERY) == Accepted("thanks")
    assert time.monotonic() - began < 0.2  # while the other is still blocked
    assert set(await asyncio.gather(*stuck)) == {Retry("no answer within 0.2 s")}
    assert "8 earlier calls" in str(await host.deliver("p0", EVENT, DELIVERY))
    blocks.end.set()
    await asyncio.sleep(0.1)
    assert await host.deliver("p0", EVENT, DELIVERY) == Accepted()


@pytest.mark.parametrize(
    "answer",
    [None, 42, "ok", Accepted, Accepted(note=7), Retry("x", float("nan")), Retry("x", -1), Retry(None)],  # type: ignore[arg-type]
    ids=repr,
)
async def test_a_plugin_that_returns_nonsense(answer: object) -> None:
    nonsense: Any = bad("nonsense")
    host = await started(nonsense)
    nonsense.answer = answer
    outcome = await host.deliver("p0", EVENT, DELIVERY)
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("the plugin answered")


@pytest.mark.parametrize("answer", [Accepted(), Retry("later", 3.5), Rejected("gone", disable=True)], ids=repr)
async def test_what_a_plain_function_answers_counts(answer: Outcome) -> None:
    nonsense: Any = bad("nonsense")
    host = await started(nonsense)
    nonsense.answer = answer
    assert await host.deliver("p0", EVENT, DELIVERY) == answer


async def test_a_coroutine_from_a_plain_function_is_awaited() -> None:
    async def later() -> Outcome:
        return Accepted("later")

    nonsense: Any = bad("nonsense")
    host = await started(nonsense)
    nonsense.answer = later()
    assert await host.deliver("p0", EVENT, DELIVERY) == Accepted("later")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("misspelt", "unknown hook 'astrapayd_start_up' (did you mean 'astrapayd_startup'?)"),
        ("unmarked", "astrapayd_startup lacks the @hookimpl"),
        ("wrong_arguments", "wallet"),
    ],
)
async def test_a_plugin_that_cannot_be_used_is_left_out(name: str, reason: str) -> None:
    host = PluginHost()
    assert not host.add(name, bad(name))
    host.add("good", Good())
    (problem,) = host.problems
    assert problem.plugin == name
    assert reason in problem.reason
    assert host.names == ("good",)
    await host.startup(make_context)
    assert host.event_plugins == {"good"}


def installed(**modules: str) -> list[EntryPoint]:
    return [EntryPoint(name, module, plugins.ENTRY_POINTS) for name, module in modules.items()]


def test_a_plugin_that_fails_at_import() -> None:
    host = PluginHost()
    host.load_installed(installed(shop="tests.plugins.bad.fails_at_import", other="tests.plugins.bad.raises"))
    assert host.names == ("webhooks", "rates", "other")
    (problem,) = host.problems
    assert problem == plugins.PluginProblem(
        "shop", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package_of_a_shop'"
    )
    assert [info.name for info in host.listing()] == ["webhooks", "rates", "shop", "other"]


def test_two_plugins_of_one_name() -> None:
    host = PluginHost()
    host.load_installed(installed(webhooks="tests.plugins.bad.raises"))
    (problem,) = host.problems
    assert problem.reason == "there is already a plugin named 'webhooks'"
    assert host.names == ("webhooks", "rates")


async def test_a_plugin_that_fails_at_startup_stops_the_daemon_in_one_sentence() -> None:
    good = Good()
    host = PluginHost()
    host.add("good", good)
    host.add("shop", bad("fails_at_startup"))
    with pytest.raises(PluginError) as raised:
        await host.startup(make_context)
    assert str(raised.value) == (
        "plugin 'shop' did not start: ConnectionError: the shop does not answer (fails_at_startup.py:8)"
    )
    assert good.calls == ["startup good", "shutdown"]  # what had started is stopped again


async def test_a_plugin_that_hangs_at_startup() -> None:
    class Slow:
        @hookimpl
        async def astrapayd_startup(self, context: PluginContext) -> None:
            await asyncio.sleep(60)

    with pytest.raises(PluginError, match=r"plugin 'p0' did not start: no answer within 0.05 s"):
        await started(Slow(), start_timeout_secs=0.05)


def test_registration_from_a_coroutine() -> None:
    host = PluginHost()
    host.add("shop", bad("async_registration"))
    with pytest.raises(PluginError, match="astrapayd_register_config is async def, but must be a plain function"):
        host.register_config(ConfigRegistry())


def test_a_plugin_that_fails_at_registration() -> None:
    host = PluginHost()
    host.add("shop", bad("fails_at_registration"))
    host.add("good", Good())
    with pytest.raises(PluginError, match=r"plugin 'shop' failed in astrapayd_register_config: KeyError: 'section'"):
        host.register_config(ConfigRegistry())
    cli = click.Group()
    host.add_commands(cli)  # the CLI is how one mends things: it only lacks that plugin's commands
    assert list(cli.commands) == ["good"]


async def test_a_failed_shutdown_keeps_nobody_else_from_stopping() -> None:
    class Stubborn:
        @hookimpl
        def astrapayd_shutdown(self, context: PluginContext) -> None:
            raise OSError("no")

    good = Good()
    host = await started(good, Stubborn())
    with capture_logs() as logs:
        await host.shutdown()
    assert good.calls[-1] == "shutdown"
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["plugin did not stop cleanly"]


def test_every_hook_is_described() -> None:
    from astrapayd import hookspecs

    hooks = [getattr(hookspecs, name) for name in vars(hookspecs) if name.startswith("astrapayd_")]
    assert len(hooks) == 8
    for hook in hooks:
        arguments = hook.__code__.co_varnames[: hook.__code__.co_argcount]
        assert all(f":param {argument}:" in hook.__doc__ for argument in arguments), hook.__name__
