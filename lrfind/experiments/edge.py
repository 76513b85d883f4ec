"""The edge of stability, by bisection: the largest lr at which a short training does not diverge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lrfind.errors import NoSuggestion

TRIAL_STEPS = 100
"""The number of steps of one trial.

On full-batch least squares, this many steps enlarge the error along the steepest direction 50-fold at 1.02
times the edge, and 14,000-fold at 1.05 times the edge.
"""
WIDEST_FACTOR = 1e9  # the largest factor between the first guess and a rate that is tried
CLOSEST_FACTOR = 1.05  # the largest factor between the two ends of the answer


@dataclass(frozen=True)
class Edge:
    """The two lrs between which training turns from stable to diverging.

    Attributes:
        stable: the largest lr that was tried and did not diverge.
        diverging: the smallest lr that was tried and diverged.
    """

    stable: float
    diverging: float

    @property
    def lr(self) -> float:
        """Return the geometric mean of the two lrs."""
        return math.sqrt(self.stable * self.diverging)


def bisect_edge(diverges: Callable[[float], bool], guess: float) -> Edge:
    """Bisect, in log lr, between lrs that diverge and lrs that do not.

    For full-batch gradient descent on least squares, the answer is 2 / lambda_max.

    Args:
        diverges: a function that says whether training from the initial weights diverges at a constant lr.
        guess: the lr to start with; the edge of a ramp is a good guess, and an upper bound.

    Returns:
        Two lrs that differ by a factor of at most 1.05.

    Raises:
        NoSuggestion: if every lr diverges, or if no lr diverges.

    >>> round(bisect_edge(lambda lr: lr > 0.3, guess=2.0).lr, 2)
    0.3
    """
    stable = diverging = guess
    if diverges(guess):
        while diverges(stable := stable / 2):
            diverging = stable
            if stable < guess / WIDEST_FACTOR:
                raise NoSuggestion(f"training diverges at every lr tried, down to {stable:.1g}.")
    else:
        while not diverges(diverging := diverging * 2):
            stable = diverging
            if diverging > guess * WIDEST_FACTOR:
                raise NoSuggestion(f"training diverges at no lr tried, up to {diverging:.1g}.")
    while diverging / stable > CLOSEST_FACTOR:
        middle = math.sqrt(stable * diverging)
        if diverges(middle):
            diverging = middle
        else:
            stable = middle
    return Edge(stable, diverging)
