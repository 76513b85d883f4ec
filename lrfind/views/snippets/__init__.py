"""Lines for a training script: the optimizer and the scheduler of an experiment, at the lr of its answer.

The lines are text, so nothing here imports torch. Where torch has the schedule, the lines do not
import lrfind.
"""
