"""Loads the hypothesis profile."""

from __future__ import annotations

import tests.hypothesis_profiles  # noqa: F401 - importing it is what loads the profile
