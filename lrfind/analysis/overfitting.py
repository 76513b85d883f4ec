"""Whether the loss of a lane fell at all, and overfitting: whether its validation loss followed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrfind.analysis.curves import batch_noise
from lrfind.analysis.lanes import TAIL, LaneResult

FOLLOWED = 0.5
"""The share of the fall of the training loss by which the validation loss must fall too."""
ROSE = 0.05
"""How far the validation loss may end above its lowest value, as a share of its fall to that value."""
SURE = 3.0
"""How many standard errors a fall must exceed, so that a rate counts as one that learned."""
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


def fell(lanes: Sequence[LaneResult], fall: float, noise: float) -> bool:
    """Return whether the loss of one rate fell by more than its noise.

    Either the fall exceeds the noise of the first batches, one for each lane, or the smoothed training loss
    fell by more than its standard errors: over many steps, it shows a fall that one batch would hide.

    Args:
        lanes: the lanes of the rate.
        fall: the fall from the first loss to the final judged one, in the median over seeds; it may be
            negative where the validation rows are harder.
        noise: the deviation of the loss of one batch.
    """
    if fall > SURE * noise / math.sqrt(len(lanes)):
        return True
    curves = [lane.curve for lane in lanes if lane.curve.length > 1]
    sure = [
        curve.smoothed[0] - curve.smoothed[-1]
        > SURE * math.hypot(curve.standard_error[0], curve.standard_error[-1])
        for curve in curves
    ]
    return bool(sum(sure) > len(lanes) / 2)


def falls_in_noises(lanes: Sequence[LaneResult], noise: float) -> float:
    """Return how far the training loss of one rate fell, in units of the noise between batches.

    The fall goes from the first steps of a lane to its last ones, as many each; the median over the lanes
    counts. It is infinite if there is no noise, and NaN if no lane finished.
    """
    falls = []
    for lane in lanes:
        if lane.train_loss is not None:
            count = max(1, math.ceil(TAIL * lane.loss.size))
            falls.append(float(np.mean(lane.loss[:count])) - lane.train_loss)
    if not falls:
        return math.nan
    fall = float(np.median(falls))
    return fall / noise if noise else math.copysign(math.inf, fall)
