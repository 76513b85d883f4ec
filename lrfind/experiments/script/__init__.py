"""`lrfind script`: probes of a training script that nobody edits, each in a process of its own."""
