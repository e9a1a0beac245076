"""Measurements against a baseline in the same run: `make bench`. Nothing here passes or fails."""
