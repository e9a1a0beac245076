"""The outbox worker: hands committed events to plugins, at least once, in order for each subscription and subject.

One turn:

1. take the outcomes of the calls that have ended;
2. in one transaction write them down (accepted, next attempt, parked, switched off) and claim what is due, as far as
   there is room; the attempt is counted with the claim, so that one that kills the process is counted too;
3. after the commit start one call for each claim; no plugin ever runs inside a transaction;
4. sleep until woken: by a commit of this process (:meth:`Dispatcher.wake`), by a call that ends, or after a second,
   which is how commits of other processes and attempts that have become due are noticed.

A stop between 2 and the receiver's answer leaves the claim without an outcome. The next start records it as an attempt
that failed and tries again on the schedule: a receiver may see an event twice, with the same ``webhook-id``.

Nobody waits for another's receiver: a subscription has one call at a time until one is accepted, then a few, and all
those whose last call failed share half of the places, so that the other half stays free.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.db import outbox
from astrapayd.db.engine import Database, DatabaseError, uninterrupted
from astrapayd.db.outbox import Attempt, AttemptOutcome, Claim
from astrapayd.events import Event
from astrapayd.hookspecs import Accepted, Delivery, Outcome, Rejected, Retry

RETRY_DELAYS_SECS: Final = (
    5,
    5 * 60,
    30 * 60,
    2 * 3600,
    5 * 3600,
    10 * 3600,
    14 * 3600,
    20 * 3600,
    24 * 3600,
)
"""After each failed attempt the pause until the next; after the last attempt (the tenth) a delivery is parked."""

JITTER: Final = 0.1
"""A pause is longer by up to this share, so that what failed together does not come back together."""

LONGEST_WAIT_SECS: Final = 24 * 3600
"""As long as a receiver's ``Retry-After`` is honoured."""

_POLL_SECS: Final = 1.0
_PAGE: Final = 200
_LEASE_MARGIN_SECS: Final = 30
_NOTE_CHARS: Final = 4_000

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class EventPlugins(Protocol):
    """Who takes events: :class:`~astrapayd.plugins.PluginHost`."""

    @property
    def event_plugins(self) -> frozenset[str]:
        """The plugins that can be called."""
        ...

    @property
    def event_timeout_secs(self) -> float:
        """The longest that :meth:`deliver` takes, but for a second."""
        ...

    async def deliver(self, plugin: str, event: Event, delivery: Delivery) -> Outcome:
        """Hand over one event; never raises for what the plugin does."""
        ...


@dataclass(slots=True)
class _Lane:
    """One subscription's calls. ``works`` as its last outcome says; None before the first."""

    under_way: int = 0
    works: bool | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    claim: Claim
    started_at: int
    duration_ms: int
    outcome: Outcome


class Dispatcher:
    """See the module. Times come from ``clock`` (Unix seconds), jitter from ``chance`` (0 … 1)."""

    def __init__(
        self,
        database: Database,
        plugins: EventPlugins,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        most_calls: int = 400,
        most_calls_each: int = 4,
        stop_grace_secs: float = 3.0,
    ) -> None:
        """:param most_calls: at once, over all subscriptions.
        :param most_calls_each: at once, to one subscription that works.
        :param stop_grace_secs: how long a stop waits for calls that are under way."""
        self._database = database
        self._plugins = plugins
        self._clock = clock
        self._chance = chance
        self._most_calls = most_calls
        self._most_calls_each = most_calls_each
        self._stop_grace_secs = stop_grace_secs
        self._woken = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._ended: list[_Ended] = []
        self._lanes: dict[int, _Lane] = {}
        self._busy_subjects: set[tuple[int, str]] = set()

    def wake(self) -> None:
        """There may be something to do. Called after every commit of this process that appends events."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled. A stop waits shortly for calls under way and writes down how they ended."""
        await uninterrupted(self._recover())
        in_trouble = False
        try:
            while True:
                self._woken.clear()
                try:
                    await uninterrupted(self.turn())
                except (SQLAlchemyError, DatabaseError) as error:  # locked, disk full, server gone
                    if not in_trouble:
                        _log.error("outbox cannot use the database; trying again", error=type(error).__name__)
                    in_trouble = True
                    await asyncio.sleep(_POLL_SECS)  # whatever wakes us: not at full speed
                    continue
                if in_trouble:
                    _log.info("outbox uses the database again")
                    in_trouble = False
                # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the wake-up, and
                # the daemon would never stop.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECS):
                        await self._woken.wait()
        finally:
            await self._stop()

    async def turn(self) -> bool:
        """Steps 1 to 3. Answers whether anything moved; :meth:`run` calls it, and tests do."""
        now = int(self._clock())
        plugins = self._plugins.event_plugins
        if not self._ended:
            async with self._database.read() as connection:
                due = await outbox.due_subjects(
                    connection, now=now, plugins=plugins, limit=len(self._busy_subjects) + 1
                )
            if due <= self._busy_subjects:
                return False  # the lock of the one writer is left to those who have something to write
        ended, self._ended = self._ended, []
        try:
            async with self._database.write() as tx:
                await self._record(tx, ended)
                claims, moved = await self._claim(tx, now, plugins)
        except BaseException:
            self._ended = ended + self._ended  # not written: the next turn does it
            raise
        for one in ended:
            _log_outcome(one)
        for claim in claims:
            self._start(claim)
        return bool(ended) or moved

    async def settle(self) -> None:
        """Turn until nothing is due and no call is under way (tests; :meth:`run` must not be running)."""
        while await self.turn() or self._calls or self._ended:
            if self._calls and not self._ended:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)

    # -- step 2 -------------------------------------------------------------------------------------------------------

    async def _record(self, tx: AsyncConnection, ended: Sequence[_Ended]) -> None:
        await outbox.record_attempts(tx, [_attempt(one) for one in ended])
        now = int(self._clock())
        # In one order, so that two who write deliveries cannot wait for each other: by subscription, whose own row
        # comes first where it is switched off.
        for one in sorted(ended, key=_place):
            delivery_id, attempt = one.claim.delivery_id, one.claim.attempt
            match one.outcome:
                case Accepted():
                    await outbox.accept(tx, delivery_id, now=now)
                case Rejected(disable=disable):
                    if disable:
                        await outbox.switch_off(tx, one.claim.subscription_id, now=now)
                    else:
                        await outbox.park(tx, delivery_id, now=now, attempt=attempt)
                case Retry(after_secs=wish):
                    await self._retry_or_park(tx, delivery_id, one.claim.attempt, wish)
                case _:
                    assert_never(one.outcome)

    async def _retry_or_park(self, tx: AsyncConnection, delivery_id: int, attempt: int, wish: float | None) -> None:
        now = self._clock()
        if attempt > len(RETRY_DELAYS_SECS):
            await outbox.park(tx, delivery_id, now=int(now), attempt=attempt)
            return
        pause = RETRY_DELAYS_SECS[attempt - 1] * (1 + JITTER * self._chance())
        if wish is not None:  # later than planned if the receiver asks for it; sooner would only use up the attempts
            pause = max(pause, min(wish, LONGEST_WAIT_SECS))
        await outbox.retry(tx, delivery_id, at=math.ceil(now + pause), attempt=attempt)

    async def _claim(self, tx: AsyncConnection, now: int, plugins: frozenset[str]) -> tuple[list[Claim], bool]:
        """What is due, as far as there is room, and whether anything was claimed or set aside."""
        until = now + math.ceil(self._plugins.event_timeout_secs) + _LEASE_MARGIN_SECS
        room = _Room(self._lanes, self._most_calls, self._most_calls_each)
        claims: list[Claim] = []
        moved = False
        while room.total > 0:
            limit = min(room.total, _PAGE)
            due = await outbox.find_due(tx, now=now, plugins=plugins, busy=room.full, limit=limit)
            # A subject that is under way here is claimed in the database too; but an earlier event of it that
            # somebody sends again meanwhile is not, and must wait.
            free = [one for one in due if (one.subscription_id, one.event.subject) not in self._busy_subjects]
            gone = [one.delivery_id for one in free if one.superseded]
            taken = [one for one in free if not one.superseded and room.take(one.subscription_id)]
            await outbox.set_aside(tx, gone, now=now)
            claims += await outbox.claim(tx, taken, until=until)
            moved = moved or bool(gone or taken)
            if len(due) < limit or not (gone or taken or room.full_grew()):
                break
        return claims, moved

    # -- step 3 -------------------------------------------------------------------------------------------------------

    def _start(self, claim: Claim) -> None:
        self._lanes.setdefault(claim.subscription_id, _Lane()).under_way += 1
        self._busy_subjects.add((claim.subscription_id, claim.event.subject))
        call = asyncio.create_task(self._deliver(claim), name=f"delivery {claim.delivery_id}")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _deliver(self, claim: Claim) -> None:
        lane = self._lanes[claim.subscription_id]
        started_at, began = int(self._clock()), time.monotonic()
        delivery = Delivery(claim.delivery_id, claim.subscription_id, claim.target, claim.attempt)
        try:
            outcome = await self._plugins.deliver(claim.plugin, claim.event, delivery)
            lane.works = isinstance(outcome, Accepted)
            self._ended.append(_Ended(claim, started_at, round((time.monotonic() - began) * 1000), outcome))
        finally:
            lane.under_way -= 1
            self._busy_subjects.discard((claim.subscription_id, claim.event.subject))
            self._woken.set()

    # -- start and stop -----------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Put right what the last process left: claims without an outcome, times in a future that was none."""
        now = int(self._clock())
        if self._database.is_sqlite:  # elsewhere another worker may be alive, and claims end by themselves
            async with self._database.write() as tx:
                await outbox.bring_forward(tx, latest=now + math.ceil(LONGEST_WAIT_SECS * (1 + JITTER)))
                for delivery_id, attempt in await outbox.interrupted(tx):
                    note = "the daemon stopped before the answer was known"
                    line = Attempt(delivery_id, attempt, now, 0, AttemptOutcome.RETRY, note)
                    await outbox.record_attempts(tx, [line])
                    await self._retry_or_park(tx, delivery_id, attempt, None)
        async with self._database.read() as connection:
            subscribed = await outbox.subscribed_plugins(connection)
        for plugin in sorted(subscribed - self._plugins.event_plugins):
            _log.warning("plugin is subscribed but not installed: its deliveries wait", plugin=plugin)

    async def _stop(self) -> None:
        if self._calls:
            await asyncio.wait(self._calls, timeout=self._stop_grace_secs)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        if self._ended:
            try:
                async with self._database.write() as tx:
                    await self._record(tx, self._ended)
                self._ended = []
            except (SQLAlchemyError, DatabaseError) as error:
                _log.error("last outcomes not written: these events go out again", error=type(error).__name__)


class _Room:
    """How many calls may still be started in one turn, in all and for each subscription."""

    def __init__(self, lanes: dict[int, _Lane], most: int, most_each: int) -> None:
        self._lanes = {subscription: (lane.under_way, lane.works) for subscription, lane in lanes.items()}
        self._most_each = most_each
        self._for_failing = most // 2 - sum(calls for calls, works in self._lanes.values() if works is False)
        self.total = most - sum(calls for calls, _ in self._lanes.values())
        self.full = {one for one, (calls, works) in self._lanes.items() if calls >= self._width(works)}
        if self._for_failing <= 0:
            self._close_to_failing()
        self._grown = False

    def take(self, subscription: int) -> bool:
        """Reserve a call, if there is room."""
        if self.total <= 0 or subscription in self.full:
            return False
        calls, works = self._lanes.get(subscription, (0, None))
        self._lanes[subscription] = calls + 1, works
        self.total -= 1
        if calls + 1 >= self._width(works):
            self.full.add(subscription)
            self._grown = True
        if works is False:
            self._for_failing -= 1
            if self._for_failing <= 0:
                self._close_to_failing()
        return True

    def full_grew(self) -> bool:
        """Whether another look may find what the last one did not, since more is left out of it."""
        grown, self._grown = self._grown, False
        return grown

    def _close_to_failing(self) -> None:
        self.full |= {one for one, (_, works) in self._lanes.items() if works is False}
        self._grown = True

    def _width(self, works: bool | None) -> int:
        return self._most_each if works else 1


def _place(one: _Ended) -> tuple[int, bool, int]:
    switches_off = isinstance(one.outcome, Rejected) and one.outcome.disable
    return one.claim.subscription_id, not switches_off, one.claim.delivery_id


def _attempt(one: _Ended) -> Attempt:
    """The line of the delivery log."""
    match one.outcome:
        case Accepted(note=note):
            outcome = AttemptOutcome.ACCEPTED
        case Retry(reason=note):
            outcome = AttemptOutcome.RETRY
        case Rejected(reason=note):
            outcome = AttemptOutcome.REJECTED
        case _:
            assert_never(one.outcome)
    claim = one.claim
    return Attempt(claim.delivery_id, claim.attempt, one.started_at, one.duration_ms, outcome, note[:_NOTE_CHARS])


def _log_outcome(one: _Ended) -> None:
    """The daemon's log gets the first line of a reason only: the rest may quote a receiver."""
    attempt = _attempt(one)
    log = _log.bind(
        event_id=one.claim.event.id,
        type=one.claim.event.type.value,
        plugin=one.claim.plugin,
        target=one.claim.target,
        attempt=attempt.attempt,
        duration_ms=attempt.duration_ms,
    )
    if isinstance(one.outcome, Accepted):
        log.info("event delivered")
        return
    reason = attempt.note.partition("\n")[0]
    if isinstance(one.outcome, Rejected) and one.outcome.disable:
        log.warning("subscription switched off by its receiver", reason=reason)
    elif isinstance(one.outcome, Rejected) or attempt.attempt > len(RETRY_DELAYS_SECS):
        log.warning("event parked", reason=reason)
    else:
        log.info("event not delivered yet", reason=reason)
