"""One measured figure beside its baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` and ``baseline`` in ``unit``; ``ratio`` is what to compare between machines."""

    name: str
    value: float
    unit: str
    baseline: float
    baseline_name: str

    @property
    def ratio(self) -> float:
        """How many times the baseline."""
        return self.value / self.baseline


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; ``share`` 0.99 for p99."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle one (the lower of two)."""
    return percentile(values, 0.5)
