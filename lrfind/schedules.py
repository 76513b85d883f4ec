"""Learning rates as functions of the step."""

from __future__ import annotations

import numpy as np

from lrfind.catalog import Shape
from lrfind.curves import Array


def ramp(start_lr: float, end_lr: float, steps: int, *, shape: Shape = "exponential") -> Array:
    """Rise from `start_lr` to `end_lr`, both reached exactly (Smith 2015, arXiv:1506.01186).

    Args:
        start_lr: lr of step 0, positive.
        end_lr: lr of step `steps - 1`, above `start_lr`.
        steps: T, at least 2.
        shape: "exponential" (equal ratios, as fastai made usual) or "linear" (equal differences, as in
            the paper).

    Returns:
        (T,) lrs, strictly increasing.

    >>> ramp(1e-3, 1e-1, 3)
    array([0.001, 0.01 , 0.1  ])
    """
    if shape == "linear":
        return np.linspace(start_lr, end_lr, steps, dtype=np.float64)
    return np.geomspace(start_lr, end_lr, steps, dtype=np.float64)
