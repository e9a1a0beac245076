"""Bitcoin Core's ZeroMQ notifications: what they tell first, and whether some were lost.

They are lossy: a slow reader, a reconnect or a restart of the node leaves a hole. Each topic has a counter of its own
(32 bits, from 0 at each start of the node), and whatever does not follow the last number means that something is
missing. So does each new connection, since a restart can look like a plain gap, or like none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from astrapayd.wakeup import Wakeup

TOPICS = ("rawtx", "sequence", "hashblock")

_MOST_WAITING = 20_000  # frames; a block's transactions are all announced at once
_COUNTERS = 2**32
_SETTLED_SECS = 1.0  # a subscription reaches the node a moment after the connection stands


class Notifications:
    """A subscription to all endpoints of one node. Nothing is connected until :meth:`open`."""

    def __init__(self, endpoints: Sequence[str], heard: Callable[[str, bytes], None]) -> None:
        """:param endpoints: such as ``tcp://127.0.0.1:28332``.
        :param heard: takes topic and body of each frame; runs on the loop and must be quick.
        """
        self._endpoints = endpoints
        self._heard = heard
        self._sockets: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._last: dict[str, int] = {}
        self.lost = True
        """Something may be missing. Set False by whoever looks at everything, before looking."""
        self.wakeup = Wakeup()
        """Set by each frame, and by each new connection."""

    async def open(self) -> None:
        """Connect, now or as soon as the node is there. Safe to call when open."""
        if self._sockets:
            return
        import zmq
        import zmq.asyncio

        # One context for the process: ending one waits for its sockets, and would hold up the whole loop.
        subscriber = zmq.asyncio.Context.instance().socket(zmq.SUB)
        subscriber.setsockopt(zmq.RCVHWM, _MOST_WAITING)
        subscriber.setsockopt(zmq.TCP_KEEPALIVE, 1)
        subscriber.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
        for topic in TOPICS:
            subscriber.subscribe(topic)
        monitor = subscriber.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._sockets = [monitor, subscriber]
        for endpoint in self._endpoints:
            subscriber.connect(endpoint)
        self._tasks = [
            asyncio.create_task(self._read(subscriber)),
            asyncio.create_task(self._notice_connections(monitor)),
        ]

    async def close(self) -> None:
        """Disconnect. Safe to call twice; may be opened again."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            one.close(linger=0)
        self._last.clear()
        self.lost = True

    def take(self, topic: str, body: bytes, count: bytes) -> None:
        """One frame."""
        number = int.from_bytes(count, "little")
        last = self._last.get(topic)
        self._last[topic] = number
        if last is None or number != (last + 1) % _COUNTERS:
            self.lost = True
        self._heard(topic, body)
        self.wakeup.notify()

    async def _read(self, subscriber: Any) -> None:
        while True:
            parts = await subscriber.recv_multipart()
            if len(parts) == 3 and len(parts[2]) == 4:
                self.take(parts[0].decode(errors="replace"), parts[1], parts[2])
            else:
                self.lost = True
                self.wakeup.interrupt()

    async def _notice_connections(self, monitor: Any) -> None:
        while True:
            await monitor.recv_multipart()
            self.lost = True
            self.wakeup.interrupt()
            await asyncio.sleep(_SETTLED_SECS)
            self.lost = True
            self.wakeup.interrupt()
