"""What must always hold, over generated histories on a real database that is compared with the book at each step.

The machine for another engine is a subclass of :class:`OnADatabase` that makes that engine's databases.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.hypothesis_profiles import histories
from tests.property.histories import ENGINE_STEPS
from tests.property.on_a_database import OnADatabase

TestHistoriesOnSqlite = OnADatabase.TestCase
TestHistoriesOnSqlite.settings = settings(
    max_examples=histories("engine", 200),
    stateful_step_count=ENGINE_STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
