"""From a committed event to a real HTTP receiver on loopback, through outbox, dispatcher and plugin host."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import orjson
import pytest
import structlog
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from astrapayd import signing
from astrapayd.config import Section
from astrapayd.db.endpoints import DeliveryRow, EndpointRow
from astrapayd.db.engine import Database
from astrapayd.db.outbox import DeliveryState
from astrapayd.db.tables import webhook_endpoints
from astrapayd.dispatcher import Dispatcher
from astrapayd.egress import EgressRules, guarded_session
from astrapayd.events import Event, EventType
from astrapayd.hookspecs import Accepted, Endpoint, Outcome, PluginContext, Retry
from astrapayd.plugins import PluginHost
from astrapayd.services import endpoints
from astrapayd.services.core import Core, NotFound
from astrapayd.webhooks import WebhookSender, WebhooksPlugin, WebhooksSection
from tests.databases import both_engines
from tests.delivery import FakeClock, append, core_on, fresh_database

pytestmark = both_engines

STORY = [EventType.SESSION_PAID, EventType.SESSION_REVERTED, EventType.SESSION_RESTORED, EventType.SESSION_FINAL]


@dataclass(frozen=True, slots=True)
class Received:
    body: bytes
    headers: dict[str, str]

    @property
    def type(self) -> str:
        return str(orjson.loads(self.body)["type"])


class Receiver:
    """A shop's server. ``answer`` makes the answer to each request; what came is in ``received``."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], Awaitable[web.StreamResponse]] | None = None
        self.url = ""
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(await request.read(), {key.lower(): value for key, value in request.headers.items()})
        self.received.append(received)
        return await self.answer(received) if self.answer is not None else web.Response(text="thanks")

    def answers(self, *responses: tuple[int, dict[str, str]] | int) -> None:
        """Answer one after the other; the last one for ever."""
        left = list(responses)

        async def answer(received: Received) -> web.StreamResponse:
            response = left.pop(0) if len(left) > 1 else left[0]
            status, headers = (response, {}) if isinstance(response, int) else response
            return web.Response(status=status, headers=headers)

        self.answer = answer

    async def start(self, tls: ssl.SSLContext | None = None) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=tls)
        await site.start()
        self.port = runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/hook"
        return runner


@dataclass(slots=True)
class Shop:
    """A daemon's delivering half, and services on its database."""

    core: Core
    database: Database
    dispatcher: Dispatcher
    clock: FakeClock

    async def add(self, url: str) -> EndpointRow:
        return await endpoints.add_endpoint(self.core, url=url)

    async def deliver(self, *, after_secs: float = 0) -> None:
        self.clock.now += after_secs
        await self.dispatcher.settle()

    async def last(self) -> DeliveryRow:
        return (await endpoints.list_deliveries(self.core, limit=1))[0]

    async def reason(self) -> str:
        return (await self.last()).log[-1].note


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    runner = await receiver.start()
    yield receiver
    await runner.cleanup()


OpenShop = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def open_shop(tmp_path: Path) -> AsyncIterator[OpenShop]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(fresh_database(tmp_path))
        http = await stack.enter_async_context(aiohttp.ClientSession())

        async def make(section: Section | None = None, plugin: WebhooksPlugin | None = None) -> Shop:
            host = PluginHost(event_timeout_secs=25)
            assert host.add("webhooks", plugin or WebhooksPlugin())
            view = endpoints.StoredEndpoints(database)
            await host.startup(lambda name: PluginContext(name, section, http, structlog.get_logger(), view))
            stack.push_async_callback(host.shutdown)
            clock = FakeClock()
            clock.now = time.time()  # signatures carry the real time
            dispatcher = Dispatcher(database, host, clock=clock, chance=lambda: 0, stop_grace_secs=0)
            return Shop(core_on(database, clock, tmp_path), database, dispatcher, clock)

        yield make


@pytest.fixture
async def shop(open_shop: OpenShop) -> Shop:
    return await open_shop(WebhooksSection(allow_private=("127.0.0.1",), timeout_secs=0.5, connect_timeout_secs=0.5))


async def test_a_webhook_verifies_with_the_reference_library(shop: Shop, receiver: Receiver) -> None:
    endpoint = await shop.add(receiver.url)
    event = await append(shop.database)
    await shop.deliver()
    (got,) = receiver.received
    assert got.body == event.body
    assert Webhook(endpoint.secrets[0]).verify(got.body, got.headers)["id"] == event.id
    assert got.headers["webhook-id"] == event.id
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("astrapayd/")
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(got.body, got.headers)
    row = await shop.last()
    assert (row.state, row.log[0].note) == (DeliveryState.ACCEPTED, "HTTP 200\nthanks")


def test_the_reference_library_signs_as_we_do() -> None:
    secret = signing.new_secret()
    at = datetime.now(UTC)
    assert Webhook(secret).sign("evt_1", at, '{"a":"ä"}') == signing.sign(
        secret, "evt_1", int(at.timestamp()), '{"a":"ä"}'.encode()
    )


async def test_two_signatures_while_the_secret_is_rotated(shop: Shop, receiver: Receiver) -> None:
    old = await shop.add(receiver.url)
    new = await endpoints.rotate_secret(shop.core, old.id)
    with pytest.raises(endpoints.EndpointError, match="rotated already"):
        await endpoints.rotate_secret(shop.core, old.id)
    await append(shop.database, ordinal=1)
    await shop.deliver()
    for secret in (old.secrets[0], new.secrets[0]):
        Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
    await endpoints.end_rotation(shop.core, old.id)
    await append(shop.database, ordinal=2)
    await shop.deliver()
    Webhook(new.secrets[0]).verify(receiver.received[1].body, receiver.received[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old.secrets[0]).verify(receiver.received[1].body, receiver.received[1].headers)


async def test_500_then_200(shop: Shop, receiver: Receiver) -> None:
    receiver.answers(500, 200)
    await shop.add(receiver.url)
    await append(shop.database)
    await shop.deliver()
    assert (await shop.last()).state is DeliveryState.PENDING
    await shop.deliver(after_secs=6)
    first, second = receiver.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert [line.note for line in (await shop.last()).log] == ["HTTP 500", "HTTP 200"]


async def test_duplicate_event_ignored_by_the_shop(shop: Shop, receiver: Receiver) -> None:
    """A shop that has handled an event and loses its answer gets it again; by its id it ships once, as the docs say."""
    handled: set[str] = set()
    shipped: list[str] = []

    async def ship_once(received: Received) -> web.StreamResponse:
        if received.headers["webhook-id"] not in handled:
            handled.add(received.headers["webhook-id"])
            shipped.append(received.type)
        return web.Response(status=500 if len(receiver.received) == 1 else 200)  # the first answer is lost on the way

    receiver.answer = ship_once
    await shop.add(receiver.url)
    await append(shop.database)
    await append(shop.database, type=EventType.SESSION_FINAL)
    await shop.deliver()
    await shop.deliver(after_secs=6)
    assert [got.type for got in receiver.received] == ["session.paid", "session.paid", "session.final"]
    assert shipped == ["session.paid", "session.final"]


async def test_slow(shop: Shop, receiver: Receiver) -> None:
    async def slow(received: Received) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return web.Response(status=204)

    receiver.answer = slow
    await shop.add(receiver.url)
    await append(shop.database)
    await shop.deliver()
    row = await shop.last()
    assert row.state is DeliveryState.ACCEPTED
    assert row.log[0].duration_ms >= 200


async def test_hangs(shop: Shop, receiver: Receiver) -> None:
    async def hang(received: Received) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    receiver.answer = hang
    await shop.add(receiver.url)
    await append(shop.database)
    await shop.deliver()
    assert await shop.reason() == "no answer in time"


async def test_accepts_and_then_never_ends_its_answer(shop: Shop, receiver: Receiver) -> None:
    async def endless(received: Received) -> web.StreamResponse:
        return web.Response(body=b"x" * 50_000_000)

    receiver.answer = endless
    await shop.add(receiver.url)
    await append(shop.database)
    await shop.deliver()
    row = await shop.last()
    assert row.state is DeliveryState.ACCEPTED
    assert len(row.log[0].note) < 2_100


async def test_redirect(shop: Shop, receiver: Receiver) -> None:
    receiver.answers((307, {"Location": receiver.url + "/elsewhere"}))
    await shop.add(receiver.url)
    await append(shop.database)
    await shop.deliver()
    assert len(receiver.received) == 1
    assert await shop.reason() == "HTTP 307, and redirects are not followed"


async def test_410(shop: Shop, receiver: Receiver) -> None:
    receiver.answers(410)
    endpoint = await shop.add(receiver.url)
    await append(shop.database)
    await append(shop.database, "ses_2")
    await shop.deliver()
    assert not (await endpoints.find_endpoint(shop.core, endpoint.id)).active
    await append(shop.database, "ses_3")
    await shop.deliver(after_secs=86_400)
    assert len(receiver.received) == 1
    with pytest.raises(endpoints.EndpointError, match="astrapayd webhook enable"):
        await endpoints.send_test(shop.core, endpoint.id)
    receiver.answers(200)
    await endpoints.enable_endpoint(shop.core, endpoint.id)
    await append(shop.database, "ses_4")
    await shop.deliver()
    assert len(receiver.received) == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after(shop: Shop, receiver: Receiver, form: str) -> None:
    at = datetime.fromtimestamp(shop.clock.now, UTC) + timedelta(seconds=100)
    value = "100" if form == "seconds" else at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    receiver.answers((503, {"Retry-After": value}))
    await shop.add(receiver.url)
    await append(shop.database)
    before = time.time()
    await shop.deliver()
    assert 95 <= (await shop.last()).next_attempt_at - before <= 105


@pytest.fixture
def self_signed(tmp_path: Path, missing: Callable[[str], NoReturn]) -> ssl.SSLContext:
    openssl = shutil.which("openssl") or missing("openssl, which makes a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([openssl, *made, "-keyout", key, "-out", certificate, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_wrong_tls(shop: Shop, self_signed: ssl.SSLContext) -> None:
    receiver = Receiver()
    runner = await receiver.start(self_signed)
    await shop.add(receiver.url)
    await append(shop.database)
    await shop.deliver()
    assert await shop.reason() == "the TLS certificate is not valid"
    assert receiver.received == []
    await runner.cleanup()


async def test_https_url_of_a_server_without_tls(shop: Shop, receiver: Receiver) -> None:
    await shop.add(receiver.url.replace("http:", "https:"))
    await append(shop.database)
    await shop.deliver()
    assert await shop.reason() == "TLS failed"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0"])
async def test_private_address_refused(open_shop: OpenShop, receiver: Receiver, host: str) -> None:
    shop = await open_shop(None)  # the default of an installation that says nothing
    await shop.add(f"http://{host}:{receiver.port}/hook")
    await append(shop.database)
    await shop.deliver()
    row = await shop.last()
    assert row.state is DeliveryState.PENDING
    assert receiver.received == []
    if host in {"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"}:  # the others some resolvers do not even read
        assert await shop.reason() == "the address is private; [plugins.webhooks] allow_private can allow it"


class ChangingResolver(AbstractResolver):
    """A name server whose answer changes after the first look: what a rebinding attack does."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=6, flags=0)]

    async def close(self) -> None:
        pass


async def test_private_address_refused_after_the_name_changed(receiver: Receiver) -> None:
    def sender(*answers: str, allowed: tuple[str, ...]) -> WebhookSender:
        resolver = ChangingResolver(*answers)
        return WebhookSender(
            guarded_session(EgressRules(allowed), user_agent="t", total_secs=2, connect_secs=1, resolver=resolver)
        )

    event = Event("evt_1", 1, EventType.SESSION_PAID, "shop", "ses_1", 0, b"{}")
    endpoint = Endpoint("whk_1", f"http://shop.example:{receiver.port}/hook", (signing.new_secret(),))

    async def outcome(sender: WebhookSender) -> Outcome:
        try:
            return await sender.send(event, endpoint)
        finally:
            await sender.close()

    assert isinstance(await outcome(sender("127.0.0.1", allowed=("127.0.0.1",))), Accepted)
    refused = await outcome(sender("127.0.0.1", allowed=("127.0.0.2",)))
    assert isinstance(refused, Retry)
    assert "private" in refused.reason
    assert len(receiver.received) == 1


async def test_receiver_down_for_a_day(shop: Shop) -> None:
    receiver = Receiver()
    runner = await receiver.start()
    await runner.cleanup()  # the port is known, and nobody listens
    await shop.add(receiver.url)
    for number in range(3):
        for type in STORY:
            await append(shop.database, f"ses_{number}", type)
    for _ in range(24):
        await shop.deliver(after_secs=3_600)
    tried = await endpoints.find_delivery(shop.core, 1)
    assert {line.note for line in tried.log} == {"cannot connect"}
    assert len(tried.log) == 7  # 0, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h: the next one is 14 h later
    runner = await receiver.start()
    for _ in range(24):
        await shop.deliver(after_secs=3_600)
    assert len(receiver.received) == len({got.headers["webhook-id"] for got in receiver.received}) == 12
    for number in range(3):
        of_one = [got.type for got in receiver.received if orjson.loads(got.body)["subject"] == f"ses_{number}"]
        assert of_one == STORY
    await runner.cleanup()


async def test_order_kept_per_session_with_an_unsteady_receiver(shop: Shop, receiver: Receiver) -> None:
    receiver.answers(200, 500, 502, 200, 500, 200)
    await shop.add(receiver.url)
    for type in STORY:
        await append(shop.database, type=type)
    for _ in range(5):
        await shop.deliver(after_secs=400)
    paid, reverted, restored, final = STORY
    assert [got.type for got in receiver.received] == [paid, reverted, reverted, reverted, restored, restored, final]


async def test_redelivery_by_hand_and_forced_redelivery_of_a_superseded_event(shop: Shop, receiver: Receiver) -> None:
    await shop.add(receiver.url)
    for type in STORY[:2]:
        await append(shop.database, type=type)
    await shop.deliver()
    paid, reverted = reversed(await endpoints.list_deliveries(shop.core))
    assert (await endpoints.redeliver(shop.core, [reverted.id])).resent == (reverted.id,)
    await shop.deliver()
    assert (await endpoints.redeliver(shop.core, [paid.id])).superseded == (paid.id,)
    await shop.deliver()
    assert (await endpoints.redeliver(shop.core, [paid.id], forced=True)).resent == (paid.id,)
    await shop.deliver()
    assert [got.type for got in receiver.received] == [*STORY[:2], STORY[1], STORY[0]]
    assert receiver.received[0].body == receiver.received[3].body


async def test_crash_between_send_and_mark(open_shop: OpenShop, receiver: Receiver) -> None:
    async def take_and_say_nothing(received: Received) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    receiver.answer = take_and_say_nothing
    section = WebhooksSection(allow_private=True)
    shop = await open_shop(section)
    await shop.add(receiver.url)
    await append(shop.database)
    run = asyncio.create_task(shop.dispatcher.run())
    async with asyncio.timeout(5):
        while not receiver.received:
            await asyncio.sleep(0.01)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    receiver.answer = None
    again = await open_shop(section)
    run = asyncio.create_task(again.dispatcher.run())
    await asyncio.sleep(0.1)
    # On PostgreSQL the worker that made the claim may be another process, alive: it has to end by itself.
    again.clock.now += 6 if shop.database.is_sqlite else 60
    again.dispatcher.wake()
    async with asyncio.timeout(5):
        while (await shop.last()).state is not DeliveryState.ACCEPTED:
            await asyncio.sleep(0.01)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]  # which is how a shop knows it has it


async def test_a_test_goes_to_one_endpoint_at_once(shop: Shop, receiver: Receiver) -> None:
    await shop.add(receiver.url)
    endpoint = await endpoints.add_endpoint(shop.core, url=receiver.url, store="shop", event_types=["session.paid"])
    delivery = await endpoints.send_test(shop.core, endpoint.id)
    await shop.deliver()
    (got,) = receiver.received
    assert got.type == "webhook.test"
    Webhook(endpoint.secrets[0]).verify(got.body, got.headers)
    assert (await endpoints.find_delivery(shop.core, delivery)).state is DeliveryState.ACCEPTED


async def test_removed_endpoint(shop: Shop, receiver: Receiver) -> None:
    endpoint = await shop.add(receiver.url)
    await append(shop.database)
    assert await endpoints.remove_endpoint(shop.core, endpoint.id) == 1
    await shop.deliver()
    assert receiver.received == []
    assert await endpoints.list_endpoints(shop.core) == ()
    with pytest.raises(NotFound):
        await endpoints.find_endpoint(shop.core, endpoint.id)
    async with shop.database.read() as connection:
        assert (await connection.execute(select(webhook_endpoints.c.secrets))).scalar_one() == []


async def test_no_secret_and_no_customer_in_the_log(shop: Shop, receiver: Receiver) -> None:
    async def quote(received: Received) -> web.StreamResponse:
        return web.Response(status=400, text="jane@customer.example is not known")

    receiver.answer = quote
    with capture_logs() as logs:
        endpoint = await shop.add(receiver.url)
        await append(shop.database)
        await shop.deliver()
    said = repr(logs) + repr(endpoint)
    assert "HTTP 400" in said
    assert "jane" not in said
    assert "whsec_" not in said
    assert receiver.received[0].headers["webhook-signature"] not in said
    assert "jane" in await shop.reason()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://shop.example/hook", "does not begin with http"),
        ("shop.example/hook", "does not begin with http"),
        ("https://user:secret@shop.example/", "user name or password"),
        ("https:///hook", "no proper host"),
        ("https://shop.example:0/", "no proper host"),
        ("https://shop.example:99999/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
        ("https://shop.example/a b", "blanks"),
        ("https://shop.example/\r\nX-Evil: 1", "blanks"),
        ("https://shop.example\\@127.0.0.1/", "blanks or unprintable"),
        ("https://shop.example/#frag", "fragment"),
        ("https://shop.example/" + "x" * 2000, "longer"),
    ],
)
async def test_a_url_that_cannot_be_used(shop: Shop, url: str, reason: str) -> None:
    with pytest.raises(endpoints.EndpointError, match=reason):
        await shop.add(url)
    assert await endpoints.list_endpoints(shop.core) == ()


async def test_unknown_store_and_type(shop: Shop) -> None:
    with pytest.raises(NotFound):
        await endpoints.add_endpoint(shop.core, url="https://a.example", store="nobody")
    with pytest.raises(endpoints.EndpointError, match=r"no event type 'session.payed'"):
        await endpoints.add_endpoint(shop.core, url="https://a.example", event_types=["session.payed"])


def test_a_new_secret_is_256_random_bits() -> None:
    secrets: Any = {signing.new_secret() for _ in range(10)}
    assert len(secrets) == 10
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in secrets} == {32}
