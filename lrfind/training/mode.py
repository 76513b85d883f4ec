"""Modes: how the lanes of a run are trained, and what a sweep costs in that mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

OLDER_NAMES = {"usual_products": "usual_digits"}
"""What older versions called the fields of a mode -> what they are called now."""
BYTES_PER_STEP = 170
"""The approximate bytes of one step of a lane on the disk, in the database and in steps.csv together."""


@dataclass(frozen=True)
class Mode:
    """How the lanes of a run are trained. It is stored before the first lane, and `resume` uses it.

    Attributes:
        name: "single", one after another, or "stacked", many as one stacked model.
        reason: the reason for this mode, in words.
        threads: the number of threads that torch computes with.
        seconds_per_step: the measured time of a step of one lane; in a stack, the time of the stack's step
            divided by its lanes.
        stack_size: the most lanes in one stack; 1 for single lanes.
        compile: whether stacks are compiled.
        ratio: the speed of stacked lanes divided by that of single lanes; None where it was not measured.
        processes: the number of processes of this machine that train lanes at once.
        usual_digits: whether ways of computing that change the last digits are ruled out, as in every mode
            that a config names: other matrix products than torch's (`lrfind.training.kernels`), and a step
            for each lane of a stack (`lrfind.training.stack_update`).
    """

    name: Literal["single", "stacked"]
    reason: str
    threads: int
    seconds_per_step: float
    stack_size: int = 1
    compile: bool = False
    ratio: float | None = None
    processes: int = 1
    usual_digits: bool = True

    @classmethod
    def stored(cls, row: Mapping[str, Any]) -> Mode:
        """Return the mode of a row among the facts of a run, which may have older names."""
        return cls(**{OLDER_NAMES.get(name, name): value for name, value in row.items()})


@dataclass(frozen=True)
class Cost:
    """The approximate cost of a sweep.

    Attributes:
        lane_count: the number of lanes.
        steps: T, the number of steps of each lane.
        seconds: the time in all, if no lane stops early.
        bytes: the space on the disk.
    """

    lane_count: int
    steps: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class FindCost:
    """The most that a `find` may cost.

    Attributes:
        probing: the most gradient steps of all probes together.
        trainings: the number of trainings that verify the answer.
        training_steps: the number of steps of each of these trainings.
        groups: the most gradient steps of the probes of param groups, which come after the others.
        budget: the most gradient steps of probing and refinement together; None if none is given.
        seconds: the most seconds of probing and refinement together; None for no limit.
    """

    probing: int
    trainings: int
    training_steps: int
    groups: int = 0
    budget: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class StartCost:
    """What the starts of a script cost, as its first ones have shown.

    Attributes:
        until_first: the seconds from a start to its first step.
        step: the seconds of a step.
        seconds: the seconds that probing usually takes in all.
    """

    until_first: float
    step: float
    seconds: float
