"""The outbox worker with a clock that moves when told and receivers in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, text
from structlog.testing import capture_logs

from astrapayd.db.engine import Database
from astrapayd.db.outbox import DeliveryState
from astrapayd.db.tables import deliveries
from astrapayd.dispatcher import JITTER, LONGEST_WAIT_SECS, RETRY_DELAYS_SECS, Dispatcher
from astrapayd.events import Event, EventType
from astrapayd.hookspecs import Accepted, Delivery, Outcome, Rejected, Retry
from astrapayd.services import endpoints
from astrapayd.services.core import Core
from tests.databases import both_engines
from tests.delivery import NOW, FakeClock, FakePlugins, append, core_on, fresh_database, subscribe

pytestmark = both_engines


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path) as database:
        yield database


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def plugins() -> FakePlugins:
    return FakePlugins()


@pytest.fixture
def dispatcher(database: Database, plugins: FakePlugins, clock: FakeClock) -> Dispatcher:
    return Dispatcher(database, plugins, clock=clock, chance=lambda: 0.0)


@pytest.fixture
def core(database: Database, clock: FakeClock, tmp_path: Path) -> Core:
    return core_on(database, clock, tmp_path)


async def states(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.execute(select(deliveries.c.state).order_by(deliveries.c.id))).scalars())


def types(plugins: FakePlugins, target: str = "shop") -> list[str]:
    return [type for told, _, type, _ in plugins.told if told == target]


async def fail(event: Event, delivery: Delivery) -> Outcome:
    return Retry("HTTP 500")


STORY = [EventType.SESSION_PAID, EventType.SESSION_REVERTED, EventType.SESSION_RESTORED, EventType.SESSION_FINAL]


async def test_500_then_200(database: Database, plugins: FakePlugins, dispatcher: Dispatcher, clock: FakeClock) -> None:
    answers: list[Outcome] = [Retry("HTTP 500"), Accepted("HTTP 200")]

    async def receiver(event: Event, delivery: Delivery) -> Outcome:
        return answers.pop(0)

    plugins.receivers["shop"] = receiver
    await subscribe(database, "shop")
    await append(database)
    await dispatcher.settle()
    clock.now += 4
    await dispatcher.settle()
    assert len(plugins.told) == 1
    clock.now += 1
    await dispatcher.settle()
    assert plugins.told == [("shop", "ses_1", "session.paid", 1), ("shop", "ses_1", "session.paid", 2)]
    assert await states(database) == ["accepted"]


async def test_paid_reverted_restored_final_in_order_for_a_slow_receiver(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher
) -> None:
    async def slow(event: Event, delivery: Delivery) -> Outcome:
        await asyncio.sleep(0.05)
        return Accepted()

    plugins.receivers["shop"] = slow
    await subscribe(database, "shop")
    for type in STORY:
        await append(database, type=type)
    await dispatcher.settle()
    assert types(plugins) == [type.value for type in STORY]
    assert plugins.most["shop"] == 1


async def test_receiver_down_for_a_day(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher, clock: FakeClock
) -> None:
    got: list[tuple[str, str]] = []

    async def receiver(event: Event, delivery: Delivery) -> Outcome:
        if clock.now < NOW + 86_400:
            return Retry("cannot connect")
        got.append((event.subject, event.type.value))
        return Accepted()

    plugins.receivers["shop"] = receiver
    await subscribe(database, "shop")
    for number in range(20):
        for type in STORY[: 1 + number % 4]:
            await append(database, f"ses_{number}", type)
    for _ in range(3 * 24 * 4):
        clock.now += 900
        await dispatcher.settle()
    assert len(got) == len(set(got)) == 50  # each once …
    for number in range(20):
        assert [type for subject, type in got if subject == f"ses_{number}"] == STORY[: 1 + number % 4]  # … in order
    assert set(await states(database)) == {"accepted"}


async def test_parked_after_the_tenth_attempt_and_the_next_goes(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher, clock: FakeClock, core: Core
) -> None:
    async def receiver(event: Event, delivery: Delivery) -> Outcome:
        return Accepted() if event.type is EventType.SESSION_FINAL else Retry("HTTP 500")

    plugins.receivers["shop"] = receiver
    await subscribe(database, "shop")
    await append(database)
    await append(database, type=EventType.SESSION_FINAL)
    await dispatcher.settle()
    for pause in RETRY_DELAYS_SECS:
        assert len(types(plugins)) == len(set(plugins.told))
        clock.now += pause
        await dispatcher.settle()
    assert types(plugins) == ["session.paid"] * 10 + ["session.final"]
    assert await states(database) == ["parked", "accepted"]
    parked = await endpoints.find_delivery(core, 1)
    assert [line.attempt for line in parked.log] == list(range(1, 11))
    times = [line.started_at for line in parked.log]
    assert [after - before for before, after in itertools.pairwise(times)] == list(RETRY_DELAYS_SECS)
    assert sum(RETRY_DELAYS_SECS) > 3 * 86_400


async def test_jitter_makes_pauses_longer_only(
    database: Database, plugins: FakePlugins, clock: FakeClock, core: Core
) -> None:
    dispatcher = Dispatcher(database, plugins, clock=clock, chance=lambda: 1.0)
    plugins.receivers["shop"] = fail
    await subscribe(database, "shop")
    await append(database)
    await dispatcher.settle()
    assert (await endpoints.find_delivery(core, 1)).next_attempt_at == NOW + 6  # 5.5, rounded up
    clock.now += 6
    await dispatcher.settle()
    assert (await endpoints.find_delivery(core, 1)).next_attempt_at == NOW + 6 + 300 * (1 + JITTER)


@pytest.mark.parametrize(
    ("wish", "pause"), [(1.0, 5), (120.0, 120), (1e9, LONGEST_WAIT_SECS)], ids=["sooner", "later", "for ever"]
)
async def test_retry_after_is_honoured_within_bounds(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher, core: Core, wish: float, pause: int
) -> None:
    async def receiver(event: Event, delivery: Delivery) -> Outcome:
        return Retry("HTTP 503", after_secs=wish)

    plugins.receivers["shop"] = receiver
    await subscribe(database, "shop")
    await append(database)
    await dispatcher.settle()
    assert (await endpoints.find_delivery(core, 1)).next_attempt_at == NOW + pause


async def test_410_switches_the_subscription_off(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher
) -> None:
    async def receiver(event: Event, delivery: Delivery) -> Outcome:
        return Rejected("HTTP 410", disable=True)

    plugins.receivers["shop"] = receiver
    await subscribe(database, "shop")
    await subscribe(database, "other")
    await append(database)
    await append(database, type=EventType.SESSION_FINAL)
    await dispatcher.settle()
    await append(database, "ses_2")
    await dispatcher.settle()
    assert types(plugins) == ["session.paid"]
    assert len(types(plugins, "other")) == 3
    assert await states(database) == ["parked", "accepted", "parked", "accepted", "accepted"]


async def test_rejected_is_parked_at_once(database: Database, plugins: FakePlugins, dispatcher: Dispatcher) -> None:
    async def receiver(event: Event, delivery: Delivery) -> Outcome:
        return Rejected("no such order") if event.type is EventType.SESSION_PAID else Accepted()

    plugins.receivers["shop"] = receiver
    await subscribe(database, "shop")
    await append(database)
    await append(database, type=EventType.SESSION_FINAL)
    await dispatcher.settle()
    assert await states(database) == ["parked", "accepted"]


async def test_dead_endpoints_delay_no_other(database: Database, plugins: FakePlugins, clock: FakeClock) -> None:
    dispatcher = Dispatcher(database, plugins, clock=clock, most_calls=40, most_calls_each=4, stop_grace_secs=0)
    timed_out = asyncio.Event()

    async def hang(event: Event, delivery: Delivery) -> Outcome:
        if not timed_out.is_set():
            await timed_out.wait()
            return Retry("no answer in time")
        await asyncio.Event().wait()
        raise AssertionError

    async def told(good: int) -> None:
        async with asyncio.timeout(10):
            while sum(target.startswith("good") for target, *_ in plugins.told) < good:
                await asyncio.sleep(0.01)

    for number in range(30):
        plugins.receivers[f"dead{number}"] = hang
        await subscribe(database, f"dead{number}")
    for number in range(10):
        await subscribe(database, f"good{number}")
    for number in range(6):
        await append(database, f"ses_{number}")
    run = asyncio.create_task(dispatcher.run())
    await told(60)
    assert sum(plugins.under_way.values()) == 30  # not one of them has answered yet

    timed_out.set()
    await asyncio.sleep(0.2)
    await append(database, "ses_7")
    dispatcher.wake()
    await told(70)
    assert sum(plugins.under_way.values()) == 20  # now that it is known that they fail: half of the places
    assert plugins.most_in_all <= 40
    assert max(plugins.most[f"dead{number}"] for number in range(30)) == 1
    assert max(plugins.most[f"good{number}"] for number in range(10)) <= 4
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


async def test_another_subject_does_not_wait(database: Database, plugins: FakePlugins, dispatcher: Dispatcher) -> None:
    async def receiver(event: Event, delivery: Delivery) -> Outcome:
        return Retry("HTTP 422") if event.subject == "ses_1" else Accepted()

    plugins.receivers["shop"] = receiver
    await subscribe(database, "shop")
    for subject in ("ses_1", "ses_1", "ses_2", "ses_3"):
        await append(database, subject, type=STORY[len(await states(database))])
    await dispatcher.settle()
    assert await states(database) == ["pending", "pending", "accepted", "accepted"]


async def test_a_backlog_of_one_does_not_hide_others(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher, clock: FakeClock
) -> None:
    stuck = asyncio.Event()

    async def hang(event: Event, delivery: Delivery) -> Outcome:
        await stuck.wait()
        await asyncio.sleep(0.001)
        return Accepted()

    plugins.receivers["busy"] = hang
    await subscribe(database, "busy", store="shop")
    for number in range(250):
        await append(database, f"ses_{number}")
    await subscribe(database, "fresh")
    await append(database, "ses_x")
    await dispatcher.turn()
    await asyncio.sleep(0)
    assert [target for target, *_ in plugins.told] == ["busy", "fresh"]
    stuck.set()
    await dispatcher.settle()
    assert plugins.most == {"busy": 4, "fresh": 1}


async def run_until_told(dispatcher: Dispatcher, plugins: FakePlugins, count: int, secs: float = 5) -> None:
    """Run as the daemon does, and stop once ``count`` calls were made."""
    run = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(secs):
        while len(plugins.told) < count:
            await asyncio.sleep(0.01)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


async def test_crash_between_commit_and_send(database: Database, plugins: FakePlugins, dispatcher: Dispatcher) -> None:
    await subscribe(database, "shop")
    await append(database)  # and the daemon is gone; the next one finds the row
    await run_until_told(dispatcher, plugins, 1)
    assert await states(database) == ["accepted"]


async def test_crash_between_send_and_mark(
    database: Database, plugins: FakePlugins, clock: FakeClock, core: Core
) -> None:
    """SQLite's next daemon knows that the last one is gone. On PostgreSQL it may be another, alive: its claim has to
    end first."""

    async def no_answer(event: Event, delivery: Delivery) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    plugins.receivers["shop"] = no_answer
    await subscribe(database, "shop")
    await append(database)
    await append(database, type=EventType.SESSION_FINAL)
    killed = Dispatcher(database, plugins, clock=clock, stop_grace_secs=0)
    await run_until_told(killed, plugins, 1)
    assert (await endpoints.find_delivery(core, 1)).under_way
    del plugins.receivers["shop"]

    next_one = Dispatcher(database, plugins, clock=clock, chance=lambda: 0)
    run = asyncio.create_task(next_one.run())
    await asyncio.sleep(0.1)
    assert len(plugins.told) == 1  # not at once: had that event killed us, it would do it again and again
    clock.now += 5 if database.is_sqlite else plugins.event_timeout_secs + 30
    next_one.wake()
    async with asyncio.timeout(5):
        while await states(database) != ["accepted", "accepted"]:
            await asyncio.sleep(0.01)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    assert plugins.told == [
        ("shop", "ses_1", "session.paid", 1),
        ("shop", "ses_1", "session.paid", 2),
        ("shop", "ses_1", "session.final", 1),
    ]
    first = await endpoints.find_delivery(core, 1)
    stopped = ["the daemon stopped before the answer was known"] if database.is_sqlite else []
    assert [line.note for line in first.log] == [*stopped, ""]


async def test_a_stop_waits_for_what_is_under_way(database: Database, plugins: FakePlugins, clock: FakeClock) -> None:
    async def slow(event: Event, delivery: Delivery) -> Outcome:
        await asyncio.sleep(0.1)
        return Accepted()

    plugins.receivers["shop"] = slow
    await subscribe(database, "shop")
    await append(database)
    await run_until_told(Dispatcher(database, plugins, clock=clock), plugins, 1)
    assert await states(database) == ["accepted"]


async def test_woken_at_once_and_otherwise_idle(database: Database, plugins: FakePlugins) -> None:
    dispatcher = Dispatcher(database, plugins)
    await subscribe(database, "shop")
    run = asyncio.create_task(dispatcher.run())
    await asyncio.sleep(0.2)
    await append(database)
    began = time.monotonic()
    dispatcher.wake()
    while not plugins.told:
        await asyncio.sleep(0.001)
    assert time.monotonic() - began < 0.5
    plugins.asked = 0
    await append(database, "ses_2")  # by another process: nobody wakes us
    await asyncio.sleep(2.2)
    assert len(plugins.told) == 2
    assert plugins.asked <= 6  # a look a second, and one for the call that ended
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


async def test_database_trouble_is_survived(database: Database, plugins: FakePlugins) -> None:
    dispatcher = Dispatcher(database, plugins)
    await subscribe(database, "shop")
    run = asyncio.create_task(dispatcher.run())
    await asyncio.sleep(0.1)
    with capture_logs() as logs:
        async with database.write() as tx:
            await tx.execute(text("ALTER TABLE deliveries RENAME TO gone"))
        dispatcher.wake()
        await asyncio.sleep(0.2)
        async with database.write() as tx:
            await tx.execute(text("ALTER TABLE gone RENAME TO deliveries"))
        await append(database)
        async with asyncio.timeout(5):
            while not plugins.told:
                await asyncio.sleep(0.01)
    assert [entry["event"] for entry in logs if "database" in entry["event"]] == [
        "outbox cannot use the database; trying again",
        "outbox uses the database again",
    ]
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


async def test_a_plugin_that_is_missing_is_said_once(database: Database, plugins: FakePlugins) -> None:
    await subscribe(database, "order", plugin="shop-of-tomorrow")
    await subscribe(database, "shop")
    await append(database)
    with capture_logs() as logs:
        await run_until_told(Dispatcher(database, plugins), plugins, 1)
    said = [entry for entry in logs if "not installed" in entry["event"]]
    assert [entry["plugin"] for entry in said] == ["shop-of-tomorrow"]
    assert await states(database) == ["pending", "accepted"]


async def test_nothing_below_the_first_line_is_logged(database: Database, plugins: FakePlugins, core: Core) -> None:
    async def talkative(event: Event, delivery: Delivery) -> Outcome:
        return Retry("HTTP 500\nno order of jane@customer.example")

    plugins.receivers["shop"] = talkative
    await subscribe(database, "shop")
    await append(database)
    with capture_logs() as logs:
        await Dispatcher(database, plugins).settle()
    assert "jane" not in repr(logs)
    assert "HTTP 500" in repr(logs)
    assert "jane" in (await endpoints.find_delivery(core, 1)).log[0].note


async def parked_then_accepted(database: Database, plugins: FakePlugins, dispatcher: Dispatcher) -> None:
    """``session.paid`` is parked (delivery 1), and ``session.reverted`` accepted after it (delivery 2)."""

    async def receiver(event: Event, delivery: Delivery) -> Outcome:
        return Rejected("not now") if event.type is EventType.SESSION_PAID else Accepted()

    plugins.receivers["shop"] = receiver
    await subscribe(database, "shop")
    await append(database)
    await append(database, type=EventType.SESSION_REVERTED)
    await dispatcher.settle()
    assert await states(database) == ["parked", "accepted"]
    del plugins.receivers["shop"]
    plugins.told.clear()


async def test_redelivery_by_hand(database: Database, plugins: FakePlugins, dispatcher: Dispatcher, core: Core) -> None:
    await parked_then_accepted(database, plugins, dispatcher)
    done = await endpoints.redeliver(core, [1, 2, 99])
    assert (done.resent, done.superseded, done.unknown) == ((2,), (1,), (99,))
    await dispatcher.settle()
    assert types(plugins) == ["session.reverted"]


async def test_forced_redelivery_of_a_superseded_event(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher, core: Core, clock: FakeClock
) -> None:
    await parked_then_accepted(database, plugins, dispatcher)
    plugins.receivers["shop"] = fail
    assert (await endpoints.redeliver(core, [1], forced=True)).resent == (1,)
    await dispatcher.settle()
    assert types(plugins) == ["session.paid"]
    del plugins.receivers["shop"]
    await append(database, type=EventType.SESSION_FINAL)  # what is forced holds up nothing new
    await dispatcher.settle()
    assert types(plugins) == ["session.paid", "session.final"]
    clock.now += 5
    await dispatcher.settle()
    assert types(plugins) == ["session.paid", "session.final", "session.paid"]
    assert await states(database) == ["accepted", "accepted", "accepted"]


async def test_an_event_sent_again_waits_for_the_later_one_under_way(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher, core: Core
) -> None:
    await parked_then_accepted(database, plugins, dispatcher)
    answer = asyncio.Event()

    async def slow(event: Event, delivery: Delivery) -> Outcome:
        await answer.wait()
        return Accepted()

    plugins.receivers["shop"] = slow
    await append(database, type=EventType.SESSION_RESTORED)
    await dispatcher.turn()
    await asyncio.sleep(0)
    assert (await endpoints.redeliver(core, [2])).resent == (2,)  # nothing later is accepted yet …
    await dispatcher.turn()
    answer.set()
    await dispatcher.settle()
    assert types(plugins) == ["session.restored"]  # … but when its turn comes there is
    assert await states(database) == ["parked", "superseded", "accepted"]


async def test_redelivery_in_the_middle_of_an_attempt_or_to_nobody(
    database: Database, plugins: FakePlugins, dispatcher: Dispatcher, core: Core
) -> None:
    endpoint = await endpoints.add_endpoint(core, url="https://shop.example/hook")
    answer = asyncio.Event()

    async def slow(event: Event, delivery: Delivery) -> Outcome:
        await answer.wait()
        return Accepted()

    plugins.receivers[endpoint.id] = slow
    await append(database)
    await dispatcher.turn()
    assert (await endpoints.redeliver(core, [1])).under_way == (1,)
    assert await endpoints.remove_endpoint(core, endpoint.id) == 1
    assert (await endpoints.redeliver(core, [1])).switched_off == (1,)
    answer.set()
    await dispatcher.settle()
    assert await states(database) == ["accepted"]
    (row,) = await endpoints.list_deliveries(core, endpoint_id=endpoint.id, state=DeliveryState.ACCEPTED)
    assert (row.event_type, row.attempts, row.under_way) == ("session.paid", 1, False)


async def test_two_workers_share_the_work_and_keep_each_subjects_order(
    database: Database, plugins: FakePlugins, clock: FakeClock
) -> None:
    """Eight subjects of ten events each and two workers, as two processes would be: each event once, and in order."""
    other = Database(database.url)
    await subscribe(database, "shop")
    for ordinal in range(10):
        for subject in range(8):
            await append(database, f"ses_{subject}", ordinal=ordinal)
    told: list[tuple[int, str, int]] = []
    both_work = asyncio.Event()

    def worker(number: int, through: Database) -> Dispatcher:
        mine = FakePlugins()

        async def receive(event: Event, delivery: Delivery) -> Outcome:
            told.append((number, event.subject, event.sequence))
            if {worker for worker, *_ in told} == {0, 1}:
                both_work.set()
            await both_work.wait()  # else the first would be through before the other looks
            return Accepted()

        mine.receivers["shop"] = receive
        return Dispatcher(through, mine, clock=clock, chance=lambda: 0.0)

    runs = [asyncio.create_task(worker(i, through).run()) for i, through in enumerate((database, other))]
    async with asyncio.timeout(20):
        while set(await states(database)) != {"accepted"}:
            await asyncio.sleep(0.02)
    for run in runs:
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)
    await other.close()
    assert len(told) == 80
    for subject in range(8):
        sequences = [sequence for _, whose, sequence in told if whose == f"ses_{subject}"]
        assert sequences == sorted(set(sequences))
