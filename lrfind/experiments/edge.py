"""The edge of stability: the largest lr that short training stands, by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lrfind.errors import NoSuggestion

TRIAL_STEPS = 100
"""Of one trial. On full-batch least squares, this many steps enlarge the error along the steepest direction
50-fold at 1.02 times the edge, and 14,000-fold at 1.05 times."""
WIDEST = 1e9  # how far from the first guess the search goes
CLOSENESS = 1.05  # of the two ends of the answer


@dataclass(frozen=True)
class Edge:
    """Where training turns from stable to diverging.

    Attributes:
        stable: the largest lr that was tried and did not diverge.
        diverging: the smallest that did.
    """

    stable: float
    diverging: float

    @property
    def lr(self) -> float:
        """The geometric mean of the two."""
        return math.sqrt(self.stable * self.diverging)


def bisect_edge(diverges: Callable[[float], bool], guess: float) -> Edge:
    """Bisect, in log lr, between rates that diverge and rates that do not.

    Args:
        diverges: whether training at a constant lr, from the initial weights, diverges. For full-batch
            gradient descent on least squares the answer is 2 / lambda_max.
        guess: where to start; the edge of a ramp is a good one, and an upper bound.

    Returns:
        Two rates no further apart than a factor of 1.05.

    Raises:
        NoSuggestion: if every lr diverges, or none.

    >>> round(bisect_edge(lambda lr: lr > 0.3, guess=2.0).lr, 2)
    0.3
    """
    stable = diverging = guess
    if diverges(guess):
        while diverges(stable := stable / 2):
            diverging = stable
            if stable < guess / WIDEST:
                raise NoSuggestion(f"training diverges at every lr tried, down to {stable:.1g}.")
    else:
        while not diverges(diverging := diverging * 2):
            stable = diverging
            if diverging > guess * WIDEST:
                raise NoSuggestion(f"training diverges at no lr tried, up to {diverging:.1g}.")
    while diverging / stable > CLOSENESS:
        middle = math.sqrt(stable * diverging)
        if diverges(middle):
            diverging = middle
        else:
            stable = middle
    return Edge(stable, diverging)
