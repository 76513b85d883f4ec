"""Numbers only: curves, lanes, suggestions, probing, sweeps. Pure functions; nothing here imports torch."""
