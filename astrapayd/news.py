"""Tells waiting pages of this process that something was committed. A hint to look again, never the news itself."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class News:
    """Wakes who waits for a subject (a session's id). Nothing is queued: a late listener reads the database."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def publish(self, subjects: Iterable[str]) -> None:
        """These have changed; call after the commit."""
        for subject in subjects:
            for listener in self._listeners.get(subject, ()):
                listener.set()

    @contextmanager
    def listen(self, subject: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change; clear it before reading the database, so that no change is missed."""
        listener = asyncio.Event()
        self._listeners[subject].add(listener)
        try:
            yield listener
        finally:
            self._listeners[subject].discard(listener)
            if not self._listeners[subject]:
                del self._listeners[subject]

    @property
    def listening(self) -> int:
        """How many listeners there are now."""
        return sum(len(listeners) for listeners in self._listeners.values())
