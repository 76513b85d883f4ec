"""`lrfind script`: probes of a training script that nobody edits, each in a process of its own."""

HELD = "LRFIND_SCRIPT"
"""The environment variable that says to a script that `lrfind script` has started it and holds its lr."""
