"""How a notification wakes a watcher: that something happened, never what."""

from __future__ import annotations

import asyncio
import contextlib


class Wakeup:
    """Told that something happened, any number of times; waited for by one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.notifications = 0
        """How many have come, ever: tells a silent subscription from a quiet chain."""

    def notify(self) -> None:
        """Something happened."""
        self.notifications += 1
        self._event.set()

    def interrupt(self) -> None:
        """Wake the one who waits without claiming that a notification came: the connection is gone."""
        self._event.set()

    async def wait(self, at_most_secs: float) -> bool:
        """Wait for the next notification, or one that came since the last wait; False when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_secs):
                await self._event.wait()
        was_set = self._event.is_set()
        self._event.clear()
        return was_set
