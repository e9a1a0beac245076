"""Ends the process for real at every point of a scenario, starts it again, and compares what becomes of it."""
