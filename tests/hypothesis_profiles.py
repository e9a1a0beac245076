"""How hard hypothesis tries: a moderate profile for every run, and one for hours (HYPOTHESIS_PROFILE=soak)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Verbosity, settings

slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile(
    "soak", deadline=None, print_blob=True, max_examples=100_000, suppress_health_check=slow, verbosity=Verbosity.normal
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)


def examples(moderate: int) -> int:
    """Number of examples of an expensive test: ``moderate`` in an ordinary run, the profile's own in a soak."""
    return moderate if PROFILE == "default" else settings.get_profile(PROFILE).max_examples


def histories(kind: str, ordinary: int) -> int:
    """How many histories of a kind: ``ASTRAPAYD_PURE_HISTORIES`` and ``ASTRAPAYD_ENGINE_HISTORIES``, else as said."""
    return int(os.environ.get(f"ASTRAPAYD_{kind.upper()}_HISTORIES", ordinary))
