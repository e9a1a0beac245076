"""What is done while a node is down: wait longer each time, and say so once a minute and once when it is over."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

SAY_EVERY_SECS = 60.0


class Backoff:
    """Growing pauses with jitter, so that many daemons do not come back to a restarted node in the same instant."""

    def __init__(self, first_secs: float, longest_secs: float, rng: random.Random | None = None) -> None:
        self._first_secs = first_secs
        self._longest_secs = longest_secs
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, hides nothing
        self._tries = 0

    def next_secs(self) -> float:
        """The next pause: doubles up to the longest, then varied by half to the whole of itself."""
        pause_secs: float = min(self._longest_secs, self._first_secs * 2 ** min(self._tries, 20))
        self._tries += 1
        return pause_secs * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """All is well again: begin with the first pause."""
        self._tries = 0


class Outage:
    """The log of one trouble that comes, lasts and goes: a first line, one a minute, and one at its end."""

    def __init__(
        self, log: FilteringBoundLogger, trouble: str, over: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """:param trouble: the event logged while it lasts; ``over``: the one logged when it has ended."""
        self._log = log
        self._trouble = trouble
        self._over = over
        self._clock = clock
        self._since: float | None = None
        self._said = 0.0
        self.reason = ""
        """Why, as last said; empty when all is well."""

    @property
    def lasting_secs(self) -> float:
        """For how long; 0 when all is well."""
        return 0.0 if self._since is None else self._clock() - self._since

    def down(self, reason: str) -> None:
        """It is there, or still there."""
        now = self._clock()
        self.reason = reason
        if self._since is None:
            self._since = now
        elif now - self._said < SAY_EVERY_SECS:
            return
        self._said = now
        self._log.warning(self._trouble, reason=reason, for_secs=round(now - self._since))

    def up(self) -> None:
        """It is over, or never was."""
        if self._since is None:
            return
        self._log.info(self._over, after_secs=round(self._clock() - self._since))
        self._since, self.reason = None, ""
