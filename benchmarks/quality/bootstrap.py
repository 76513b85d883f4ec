"""Means over tasks, with the uncertainty about another set of tasks: the bootstrap over tasks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

DRAWS = 2000  # draws of the bootstrap


class Bootstrapped(NamedTuple):
    """The means by method, and the means over tasks that are drawn anew.

    Attributes:
        mean: the mean of each method.
        draws: the means of each method (column) in each draw (row).
    """

    mean: pd.Series
    draws: pd.DataFrame

    def of(self, method: str) -> tuple[float, float, float]:
        """Return the mean of a method and the ends of its 95 % interval."""
        return float(self.mean[method]), *interval(self.draws[method])


def bootstrap(frame: pd.DataFrame, column: str) -> Bootstrapped:
    """Draw tasks anew, the same ones for every method.

    Tasks are drawn rather than trainings, because the trainings of one task are not independent.
    """
    by_task = frame.assign(value=frame[column].astype(float)).groupby(["task", "method"], sort=False).value
    totals, counts = by_task.sum().unstack(), by_task.count().unstack()
    drawn = np.random.default_rng(0).integers(len(totals), size=(DRAWS, len(totals)))
    means = totals.to_numpy()[drawn].sum(axis=1) / counts.to_numpy()[drawn].sum(axis=1)
    return Bootstrapped(totals.sum() / counts.sum(), pd.DataFrame(means, columns=totals.columns))


def interval(draws: pd.Series) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a mean."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
