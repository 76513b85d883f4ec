"""The real edge of stability, by bisection: the largest lr at which short training stays finite and calm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lrfind.curves import DivergenceRule
from lrfind.errors import NoSuggestion
from lrfind.problem import Problem
from lrfind.train import train

WIDEST = 1e9  # how far from the first guess the search goes


@dataclass(frozen=True)
class Edge:
    """Where training turns from stable to diverging.

    Attributes:
        stable: the largest lr that was tried and did not diverge.
        diverging: the smallest that did.
        cost: gradient steps spent.
    """

    stable: float
    diverging: float
    cost: int

    @property
    def lr(self) -> float:
        """The geometric mean of the two."""
        return math.sqrt(self.stable * self.diverging)


def find_edge(problem: Problem, seed: int, guess: float, *, steps: int = 100, ratio: float = 1.05) -> Edge:
    """Bisect, in log lr, between rates that diverge and rates that do not.

    Every probe starts from the initial weights of `seed`, sees the same batches, and trains at a constant lr
    until it diverges (`DivergenceRule`) or has taken `steps` steps. For full-batch gradient descent on least
    squares the answer is 2 / lambda_max: at 1.02 times that, 100 steps enlarge the error along the steepest
    direction 50-fold, at 1.05 times 14,000-fold.

    Args:
        problem: what to train.
        seed: of the weights, batches and dropout masks.
        guess: where to start; the edge of a ramp is a good one, and an upper bound.
        steps: of one probe, at most.
        ratio: how close the two ends of the answer shall be.

    Raises:
        NoSuggestion: if every lr diverges, or none.
    """
    cost = 0

    def diverges(lr: float) -> bool:
        nonlocal cost
        rule = DivergenceRule()
        for step in train(problem.setup(seed), np.full(steps, lr)):
            cost += 1
            if rule.diverges(step.loss):
                return True
        return False

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
    while diverging / stable > ratio:
        middle = math.sqrt(stable * diverging)
        if diverges(middle):
            diverging = middle
        else:
            stable = middle
    return Edge(stable, diverging, cost)
