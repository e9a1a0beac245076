"""How a notification wakes a watcher: that something happened, never what; and how a dead subscription is noticed."""

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


_SILENT_HEADS = 3
"""Heads found by looking only, before a subscription counts as dead."""


class Silence:
    """Notices a subscription that died without a word: heads go on coming, and it tells of none."""

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._heard: int | None = None  # None until the first look, which fills whatever gap there is
        self._unheard_heads = 0

    def is_dead(self, *, moved: bool) -> bool:
        """After each look, with whether it found another head: whether several in a row were found by looking only."""
        heard = self._wakeup.notifications
        if heard != self._heard:
            self._unheard_heads = 0
        elif moved:
            self._unheard_heads += 1
        self._heard = heard
        if self._unheard_heads < _SILENT_HEADS:
            return False
        self._unheard_heads = 0
        return True
