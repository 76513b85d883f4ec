"""What the truth says of any rate: the regret, in each training of a quality task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tasks import Task
from truth import mean_losses

from lrfind.analysis.curves import Array

WORTH = 0.02  # share of the initial loss that the best rate takes away, below which there is nothing to find
PER_DECADE_ABOVE = 2.0  # regret beyond the highest rate of the truth
FAILED = 0.1  # regret


@dataclass(frozen=True)
class Cell:
    """What every rate comes to in one training of a task.

    Attributes:
        task: its name.
        schedule: of the training.
        steps: of the training.
        log_lr: (N,) ascending.
        regrets: (N,) of these.
        drop: share of the initial loss that the best of them takes away.
    """

    task: str
    schedule: str
    steps: int
    log_lr: Array
    regrets: Array
    drop: float

    @property
    def name(self) -> tuple[str, str, int]:
        """What tells it from the others."""
        return self.task, self.schedule, self.steps

    def regret(self, log_lr: Array | float) -> Array:
        """Linear between the rates that are known; outside of them it goes on upward."""
        x, known = self.log_lr, self.regrets
        slope = max((known[0] - known[1]) / (x[1] - x[0]), 0.0)
        below = slope * np.maximum(x[0] - log_lr, 0)
        above = PER_DECADE_ABOVE * np.maximum(log_lr - x[-1], 0)
        return np.minimum(np.interp(log_lr, x, known) + below + above, 1.0)


def read_cells(path: Path, tasks: Sequence[Task]) -> list[Cell]:
    """The truth about these tasks, in their order."""
    frame = pd.read_csv(path)
    cells = []
    for task in tasks:
        of_it = frame[frame.task == task.name]
        for (steps, schedule), rows in of_it.groupby(["steps", "schedule"], sort=True):
            losses, initial = mean_losses(rows.values).astype(float), float(rows.first_loss.mean())
            gain = initial - losses.min()
            regrets = np.clip((losses - losses.min()) / (gain or 1.0), 0, 1).to_numpy()
            log_lr = np.log10(losses.index.to_numpy(dtype=np.float64))
            cells.append(Cell(task.name, schedule, steps, log_lr, regrets, gain / abs(initial)))
    return cells
