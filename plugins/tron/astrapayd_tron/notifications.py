"""java-tron's event queue (ZeroMQ, ``native.useNativeQueue = true``): each frame wakes, and nothing is read from it.

It is lossy and has no counter: a slow reader misses frames beyond the high-water mark, and a restart of the node is
noticed only by the new connection. So whoever waits here looks at the head every few seconds as well.
"""

from __future__ import annotations

import asyncio
from typing import Any

from astrapayd.wakeup import Wakeup

TOPICS = ("blockTrigger", "solidityTrigger")

_MOST_WAITING = 1_000  # frames: all of them say the same
_SETTLED_SECS = 1.0  # a subscription reaches the node a moment after the connection stands


class Notifications:
    """A subscription to one node's event queue. Nothing is connected until :meth:`open`."""

    def __init__(self, endpoint: str) -> None:
        """:param endpoint: such as ``tcp://127.0.0.1:5555``."""
        self.wakeup = Wakeup()
        """Set by each frame, and by each new connection."""
        self.connected = asyncio.Event()
        """Set once a connection stood."""
        self._endpoint = endpoint
        self._sockets: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []

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
        subscriber.connect(self._endpoint)
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
        self.connected.clear()

    async def _read(self, subscriber: Any) -> None:
        while True:
            await subscriber.recv_multipart()
            self.wakeup.notify()

    async def _notice_connections(self, monitor: Any) -> None:
        while True:
            await monitor.recv_multipart()
            self.connected.set()
            self.wakeup.interrupt()
            await asyncio.sleep(_SETTLED_SECS)
            self.wakeup.interrupt()
