"""The noise of a loss between batches, and how certain a fall of the loss is beside it."""

from __future__ import annotations

import math

import numpy as np

from lrfind.analysis.curves import Array

SAME = 1e-7  # share of a loss below which a difference is rounding


def deviation(losses: Array) -> float:
    """Return the standard deviation of losses; infinite where their squares are."""
    with np.errstate(over="ignore"):
        return float(np.std(losses))


def successive_noise(loss: Array) -> float:
    """Return the deviation of a loss between batches, from the differences of successive losses.

    The estimate is that of von Neumann 1941. A slow fall of the loss hardly counts in it.
    """
    return math.sqrt(float(np.mean(np.diff(loss) ** 2)) / 2)


def certainty_of(falls: Array) -> float:
    """Return the mean of the falls of a loss, one for each batch, divided by its standard error.

    It is 0 if there are fewer than two, or if one is not finite.

    >>> certainty_of(np.array([1.0, 0.5, 1.0, 1.0])), certainty_of(np.array([1.0]))
    (7.0, 0.0)
    """
    if len(falls) < 2 or not np.isfinite(falls).all():
        return 0.0
    mean = float(falls.mean())
    return mean / max(float(falls.std(ddof=1)) / math.sqrt(len(falls)), SAME * abs(mean), 1e-300)
