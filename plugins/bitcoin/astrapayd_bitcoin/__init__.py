"""Payments on Bitcoin. Only hooks here; what they need is imported when they are called."""
