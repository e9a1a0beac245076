"""Tells waiting pages of this process that something was committed. A hint to look again, never the news itself."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class News:
    """Wakes who waits for a subject: a session's id, or ``chain:ID`` at each of its blocks.

    Nothing is queued: a late listener reads the database.
    """

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.listening = 0
        """How many listen now."""

    def publish(self, subjects: Iterable[str]) -> None:
        """These have changed; call after the commit."""
        for subject in subjects:
            for listener in self._listeners.get(subject, ()):
                listener.set()

    def publish_all(self) -> None:
        """Anything may have changed: a connection over which news come was away."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.set()

    @contextmanager
    def listen(self, *subjects: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change of any of the subjects; clear it before reading the database, so that no
        change is missed."""
        listener = asyncio.Event()
        for subject in subjects:
            self._listeners[subject].add(listener)
        self.listening += 1
        try:
            yield listener
        finally:
            self.listening -= 1
            for subject in subjects:
                self._listeners[subject].discard(listener)
                if not self._listeners[subject]:
                    del self._listeners[subject]
