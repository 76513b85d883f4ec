"""Successive halving over the lanes of one seed: when to compare the lanes, and which ones to stop.

This is Jamieson and Talwalkar 2016 (arXiv:1502.07943), with one difference: nothing is pruned before a
quarter of the steps. Early losses favour large lrs, whose losses fall fast and end high. When halving began
at step 25 of 400, it lost the best lr of every linear regression that we tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

FIRST_RUNG = 0.25  # share of the steps
RECENT = 0.2  # share of the steps so far; a lane is judged by its mean loss over the last of these steps


def rungs(steps: int) -> tuple[int, ...]:
    """Return the numbers of steps after which the lanes are halved: a quarter and a half of the steps.

    >>> rungs(400)
    (100, 200)
    """
    first = math.ceil(FIRST_RUNG * steps)
    return tuple(sorted({rung for rung in (first, 2 * first) if 0 < rung < steps}))


def recent_loss(losses: Sequence[float]) -> float:
    """Return the mean of the last fifth of a lane's losses.

    In these steps, all lanes of one seed saw the same batches.
    """
    return float(np.mean(losses[-math.ceil(RECENT * len(losses)) :]))


def survivors(losses: Sequence[float], total: int, rung: int) -> list[int]:
    """Return the lanes that continue: the best half at the first rung, the best quarter at the second.

    Args:
        losses: the losses of the lanes that are still training, by which they are compared.
        total: the number of lanes that started.
        rung: the number of the rung, from 0.

    Returns:
        The places of these lanes in `losses`, ascending.

    >>> survivors([0.3, 0.1, 0.2], total=4, rung=0)
    [1, 2]
    """
    places = np.argsort(np.asarray(losses, dtype=np.float64), kind="stable")
    return sorted(places[: math.ceil(total / 2 ** (rung + 1))].tolist())
