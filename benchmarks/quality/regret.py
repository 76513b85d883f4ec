"""The regret of any rate in each training of a quality task, according to the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tasks import Task
from truth import mean_losses

from lrfind.analysis.curves import Array

WORTH = 0.02  # if the best rate lowers the initial loss by a smaller share, there is nothing to find
PER_DECADE_ABOVE = 2.0  # regret added for each decade above the highest rate of the truth
FAILED = 0.1  # the regret above which an answer fails


@dataclass(frozen=True)
class Cell:
    """One training of a task, with the regret of every rate in it.

    Attributes:
        task: the name of the task.
        schedule: the name of the training's schedule.
        steps: the number of the training's steps.
        log_lr: (N,) log10 of the rates in the truth, ascending.
        regrets: (N,) the regrets of these rates.
        initial: the loss of the untouched model, as a mean over seeds.
        best: the lowest loss of these rates, as a mean over seeds.
    """

    task: str
    schedule: str
    steps: int
    log_lr: Array
    regrets: Array
    initial: float
    best: float

    @property
    def name(self) -> tuple[str, str, int]:
        """The task, schedule and steps, which together identify the training."""
        return self.task, self.schedule, self.steps

    @property
    def drop(self) -> float:
        """The share by which the best rate lowers the initial loss."""
        return (self.initial - self.best) / abs(self.initial)

    def regret(self, log_lr: Array | float) -> Array:
        """Return the regret of a rate: linear between the rates of the truth, and rising outside of them."""
        x, regrets = self.log_lr, self.regrets
        slope = max((regrets[0] - regrets[1]) / (x[1] - x[0]), 0.0)
        below = slope * np.maximum(x[0] - log_lr, 0)
        above = PER_DECADE_ABOVE * np.maximum(log_lr - x[-1], 0)
        return np.minimum(np.interp(log_lr, x, regrets) + below + above, 1.0)

    def regret_of_loss(self, loss: float) -> float:
        """Return the regret of a training by its final loss: 0 if it is better than at the best rate."""
        share = (loss - self.best) / ((self.initial - self.best) or 1.0)
        return min(max(share, 0.0), 1.0) if math.isfinite(share) else 1.0


def cell_of(rows: pd.DataFrame) -> Cell:
    """Return the training that these rows of the truth describe, with the mean over the seeds in them."""
    losses, initial = mean_losses(rows.values).astype(float), float(rows.first_loss.mean())
    best = float(losses.min())
    regrets = np.clip((losses - best) / ((initial - best) or 1.0), 0, 1).to_numpy()
    log_lr = np.log10(losses.index.to_numpy(dtype=np.float64))
    task, schedule, steps = rows[["task", "schedule", "steps"]].iloc[0]
    return Cell(task, schedule, int(steps), log_lr, regrets, initial, best)


def read_cells(path: Path, tasks: Sequence[Task]) -> list[Cell]:
    """Read the truth about these tasks, in their order."""
    frame = pd.read_csv(path)
    cells = []
    for task in tasks:
        task_rows = frame[frame.task == task.name]
        cells += [cell_of(rows) for _, rows in task_rows.groupby(["steps", "schedule"], sort=True)]
    return cells
