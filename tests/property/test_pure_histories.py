"""What must always hold, over generated histories of the pure core: no database, thousands of them."""

from __future__ import annotations

from hypothesis import settings

from tests.hypothesis_profiles import histories
from tests.property.histories import STEPS, Histories

TestPureHistories = Histories.TestCase
TestPureHistories.settings = settings(max_examples=histories("pure", 2_000), stateful_step_count=STEPS, deadline=None)
