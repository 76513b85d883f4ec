"""The tasks that finders are judged on, and what is known of them: `tasks.yaml`, `truth.csv`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml

from lrfind.analysis.curves import Array
from lrfind.config.experiment import Experiment, check
from lrfind.config.sections import Component

HERE = Path(__file__).parent
LONG = 3000  # steps of the long trainings
SCHEDULES = ("constant", "cosine")
OPTIMIZERS: dict[str, dict[str, Any]] = {"momentum": {"name": "sgd", "args": {"momentum": 0.9}}}

Split = Literal["design", "judged", "judging"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Task:
    """Something to train.

    Attributes:
        name: of the task.
        split: whether it may be looked at while a method is designed.
        experiment: model, data, loss and optimizer.
        steps: of its short trainings.
        low: the lowest lr of the truth's first grid, as a power of ten.
        long: whether it is trained for `LONG` steps too.
        plateau: whether its outcome hangs on rounding.
    """

    name: str
    split: Split
    experiment: Experiment
    steps: int
    low: float
    long: bool = False
    plateau: bool = False

    @property
    def lengths(self) -> list[int]:
        """How many steps it is trained for."""
        return [self.steps, LONG] if self.long else [self.steps]


def read_tasks(*splits: Split) -> list[Task]:
    """The tasks of `tasks.yaml`, of some splits or of all, in their order."""
    document = yaml.safe_load((HERE / "tasks.yaml").read_text())
    return [
        _task(name, kind, **fields)
        for kind, tasks in document.items()
        for name, fields in tasks.items()
        if kind in (splits or SPLITS)
    ]


def _task(name: str, split: Split, *, steps: int, low: float, optimizer: str, **fields: Any) -> Task:
    marks = {mark: fields.pop(mark) for mark in ("long", "plateau") if mark in fields}
    described = OPTIMIZERS.get(optimizer, {"name": optimizer})
    config = {"optimizer": described, "training": {"steps": steps}, "looks": 0, **fields}
    return Task(name, split, check(json.dumps(config), source=name), steps, low, **marks)


def schedule_of(name: str, steps: int) -> Component:
    """`cosine` is with a warmup of 5 %, at least 10 steps."""
    return Component(name=name, args={"warmup": max(10, steps // 20)} if name == "cosine" else {})


def grid(low: float, points: int, per_decade: int) -> Array:
    """Rates that are exact powers of ten, upward from 10^low."""
    return np.array(10 ** (low + np.arange(points) / per_decade))
