"""The run directory: what a run measured and answered, and the tables and summaries made of it."""
