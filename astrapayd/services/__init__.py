"""What CLI, API and dashboard share: each function is one thing that a merchant or customer does."""
