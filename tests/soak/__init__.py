"""What runs for hours: ``make soak``, ``make faults``. Reports lie under ``build/soak``."""
