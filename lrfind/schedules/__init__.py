"""Schedules: pure functions from the step, or from the validation losses so far, to a multiplier."""
