"""Schedules: pure functions from the step, or from the measurements so far, to a multiplier of the lr."""
