"""Lines for a training script: the optimizer and the scheduler of an experiment, at the lr that was found.

They are text: nothing of torch is imported here. Where torch has the schedule, they need no lrfind.
"""
