"""One process of the store: it ingests, delivers to a plugin, and ends itself with SIGKILL where it is told to.

A point is a statement (before and after its execution), a commit, or a hook call (before the plugin has done anything,
and after it has, while nobody knows yet). What a kill leaves is what is in the files; so a kill after a commit is the
one before the next statement.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import event, insert, update
from sqlalchemy.engine import Engine

from astrapayd.db import chains as chain_queries
from astrapayd.db.tables import subscriptions
from astrapayd.dispatcher import Dispatcher
from astrapayd.events import Event
from astrapayd.hookspecs import Accepted, Delivery, Outcome, PluginContext, hookimpl
from astrapayd.plugins import PluginHost
from astrapayd.testing import FakeChain
from astrapayd.transfers import ChainUpdate
from tests.faults.scenario import PAYMENTS, scenario
from tests.shopfront import Shopfront, shopfront

RETRY_SECS = 20
"""Longer than the first pause after a failed attempt."""


@dataclass
class Points:
    """Counts points and ends the process at number ``last`` (0: never); ``kinds`` are those that went by."""

    last: int = 0
    kinds: list[str] = field(default_factory=list)

    def reach(self, kind: str) -> None:
        """The process gets here."""
        self.kinds.append(kind)
        if len(self.kinds) == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def listen(self) -> None:
        """On every engine of this process, the readers' too."""
        event.listen(Engine, "before_cursor_execute", lambda *_: self.reach("statement"))
        event.listen(Engine, "after_cursor_execute", lambda *_: self.reach("statement done"))
        event.listen(Engine, "commit", lambda *_: self.reach("commit"))


class Recorder:
    """A plugin like a webhook's receiver: a line in a file for each event, written at once."""

    def __init__(self, file: Path, points: Points) -> None:
        self.file = file
        self.points = points

    @hookimpl
    async def astrapayd_event(self, event: Event, delivery: Delivery, context: PluginContext) -> Outcome:
        """The outside world changes between the two points."""
        self.points.reach("hook call")
        line = {"id": event.id, "sequence": event.sequence, "subject": event.subject, "body": event.body.decode()}
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, orjson.dumps(line) + b"\n")
        os.close(handle)
        self.points.reach("hook call done")
        return Accepted()


async def prepare(folder: Path) -> None:
    """A store with open sessions, and the recorder as its subscriber."""
    async with shopfront(folder) as front:
        async with front.core.database.write() as tx:
            await tx.execute(update(subscriptions).values(active=False))
            row = {"plugin": "recorder", "target": "all", "store": "", "event_types": [], "active": True}
            await tx.execute(insert(subscriptions).values(**row, created_at=0))
        link = await front.link()
        due = [(await front.open(link)).due_base for _ in range(PAYMENTS)]
    (folder / "due.txt").write_text("\n".join(map(str, due)))


async def live(folder: Path, points: Points) -> None:
    """Goes on from what is committed to the end of the scenario, and until everything is delivered."""
    chain = FakeChain()
    script = chain.script
    genesis = script.tip
    steps = scenario(script, [int(line) for line in (folder / "due.txt").read_text().split()])
    script.tip = genesis
    # The middle of what is free: a repeated step reserves the same tail.
    async with shopfront(folder, chain=chain, pick=lambda below: below // 2) as front:
        points.listen()
        host = PluginHost()
        host.add("recorder", Recorder(folder / "received.jsonl", points))
        no_context: Any = None
        await host.startup(lambda _name: no_context)
        clock = _DeliveryClock()
        dispatcher = Dispatcher(front.core.database, host, clock=clock, chance=lambda: 0.0)
        await dispatcher._recover()
        for step in await _not_committed(front, steps):
            script.tip = step.head  # the clock follows the chain
            await front.apply(replace(step, watch_version=script.watch_version))
            await dispatcher.settle()
        script.tip = steps[-1].head
        await dispatcher.settle()
        clock.secs += RETRY_SECS  # what the last process had begun to send is tried again
        await dispatcher.settle()
        await host.shutdown()


class _DeliveryClock:
    """The dispatcher's own: it stands still within a process, and is the same in the next one."""

    def __init__(self) -> None:
        self.secs = 1_900_000_000.0

    def __call__(self) -> float:
        return self.secs


async def _not_committed(front: Shopfront, steps: list[ChainUpdate]) -> list[ChainUpdate]:
    """What a watcher would still send; what only waited in the node's memory is sent again."""
    async with front.core.database.read() as connection:
        committed = await chain_queries.head_block(connection, front.chain.id)
    assert committed is not None
    done = [i for i, step in enumerate(steps) if step.head.hash == committed.hash]
    if not done or committed.height == 0:
        return steps
    return steps[done[-1] + 1 :]
