"""Overfitting: the training loss of a lane falls, and its validation loss does not follow."""

from __future__ import annotations

import math

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import TAIL, LaneResult

FOLLOWED = 0.5
"""The share of the fall of the training loss by which the validation loss must fall too."""
ROSE = 0.05
"""How far the validation loss may end above its lowest value, as a share of its fall to that value."""
NOISE = 2.0
"""How many standard deviations of the loss of one batch a fall must exceed."""


def overfits(lane: LaneResult) -> bool:
    """Return whether a lane overfits, as far as its evaluations show.

    A lane overfits if its training loss fell and its validation loss fell by less than half as much
    (`FOLLOWED`). It also overfits if the validation loss rose again by more than `ROSE` of its fall, while
    the training loss fell further. The answer does not change if a constant is added to the loss.

    Returns:
        False for a lane that did not finish, or that has no validation loss.
    """
    train, val, lowest = lane.train_loss, lane.val_loss, lane.lowest_evaluation
    if train is None or val is None or lowest is None:
        return False
    first = float(lane.loss[0])
    learned = first - train
    if not learned > NOISE * batch_noise(lane.loss):
        return False
    start = max(first, lane.evaluations[0].val_loss)
    if start - val < FOLLOWED * learned:
        return True
    rose = val - lowest.val_loss > ROSE * (start - lowest.val_loss)
    count = math.ceil(TAIL * lane.loss.size)
    return rose and train < float(np.mean(lane.loss[max(0, lowest.step - count) : lowest.step]))


def batch_noise(loss: Array) -> float:
    """Return the standard deviation of the loss of one batch, (T,) losses, whatever their trend.

    It is estimated from the second differences, which vanish on a straight line; their median resists
    outliers.

    >>> batch_noise(np.linspace(3.0, 1.0, 50)) < 1e-12
    True
    """
    bends = np.abs(np.diff(loss, 2))
    return 1.4826 * float(np.median(bends)) / math.sqrt(6) if bends.size else 0.0
