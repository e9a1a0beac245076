"""Needs a package that is not installed."""

import no_such_package_of_a_shop  # type: ignore[import-not-found]  # noqa: F401
