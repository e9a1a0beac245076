"""What a watcher says while it fills a long gap."""

from __future__ import annotations

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

_SAID_EVERY_SECS = 10


class CatchingUp:
    """Says now and then how far a long gap is filled, and once when it is."""

    def __init__(self, log: FilteringBoundLogger, start: int, now: Callable[[], float], *, long_blocks: int) -> None:
        """:param start: the height it begins at.
        :param now: Unix seconds.
        :param long_blocks: a gap of so many blocks at most is not worth a word when it is filled."""
        self._log = log
        self._start = start
        self._now = now
        self._long_blocks = long_blocks
        self._begun = self._said = now()

    def at(self, height: int, head: int) -> None:
        """After each step."""
        done = height >= head
        long = height - self._start > self._long_blocks
        if (done and long) or (not done and self._now() - self._said >= _SAID_EVERY_SECS):
            self._said = self._now()
            seconds = max(self._now() - self._begun, 0.001)
            self._log.info(
                "caught up" if done else "catching up",
                height=height,
                blocks_left=head - height,
                blocks_per_sec=round((height - self._start) / seconds),
            )
