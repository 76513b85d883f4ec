"""The tasks that finders are judged on, as they stand in `tasks.yaml`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml

from lrfind.analysis.curves import Array
from lrfind.config.experiment import Experiment, check
from lrfind.config.sections import Component

HERE = Path(__file__).parent
LONG, LONGEST = 3000, 10_000  # steps of the long trainings
SEEDS, PLATEAU_SEEDS = 3, 6  # of each short training, if its line names no other number
SCHEDULES = ("constant", "cosine")
OPTIMIZERS: dict[str, dict[str, Any]] = {"momentum": {"name": "sgd", "args": {"momentum": 0.9}}}

Split = Literal["design", "judging"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Task:
    """Something to train.

    Attributes:
        name: the name of the task.
        split: the part of the tasks that it belongs to. Only those of `design` may be used to design a
            method.
        experiment: the model, data, loss and optimizer.
        steps: the number of steps of its short trainings.
        low: the lowest lr of the truth's first grid, as a power of ten.
        long: the schedules with which it is also trained for `LONG` steps.
        longest: the schedules with which it is also trained for `LONGEST` steps.
        plateau: whether its outcome depends on rounding.
        per_decade: the number of rates in a decade of the truth's grid for the short trainings.
        seeds: the number of seeds of each short training.
    """

    name: str
    split: Split
    experiment: Experiment
    steps: int
    low: float
    long: Sequence[str] = ()
    longest: Sequence[str] = ()
    plateau: bool = False
    per_decade: int = 4
    seeds: int = SEEDS

    @property
    def trainings(self) -> list[tuple[str, int]]:
        """The schedule and the number of steps of each of its trainings."""
        lengths = ((SCHEDULES, self.steps), (self.long, LONG), (self.longest, LONGEST))
        return [(schedule, steps) for schedules, steps in lengths for schedule in schedules]


def read_tasks(*splits: Split) -> list[Task]:
    """Read the tasks of `tasks.yaml` in their order, those of some splits or all."""
    document = yaml.safe_load((HERE / "tasks.yaml").read_text())
    return [
        _task(name, split, **fields)
        for split, tasks in document.items()
        for name, fields in tasks.items()
        if split in (splits or SPLITS)
    ]


def _task(name: str, split: Split, *, steps: int, low: float, optimizer: str, **fields: Any) -> Task:
    plateau, per_decade = fields.pop("plateau", False), fields.pop("per_decade", 4)
    seeds = fields.pop("seeds", PLATEAU_SEEDS if plateau else SEEDS)
    long, longest = (_schedules(fields.pop(mark, ())) for mark in ("long", "longest"))
    component = OPTIMIZERS.get(optimizer, {"name": optimizer}) | {
        "param_groups": fields.pop("optimizer_groups", [])
    }
    config = {"optimizer": component, "training": {"steps": steps}, "looks": 0, **fields}
    return Task(
        name,
        split,
        check(json.dumps(config), source=name),
        steps,
        low,
        long,
        longest,
        plateau,
        per_decade,
        seeds,
    )


def _schedules(marked: str | Sequence[str]) -> Sequence[str]:
    return SCHEDULES if marked == "both" else [marked] if isinstance(marked, str) else marked


def schedule_of(name: str, steps: int) -> Component:
    """Return the schedule of that name; `cosine` has a warmup of 5 %, at least 10 steps."""
    return Component(name=name, args={"warmup": max(10, steps // 20)} if name == "cosine" else {})


def grid(low: float, points: int, per_decade: int) -> Array:
    """Return rates 10^low, 10^(low + 1 / per_decade), ..., ascending."""
    return np.array(10 ** (low + np.arange(points) / per_decade))
