"""Modes: how the lanes of a run are trained, and what a sweep costs in that mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BYTES_PER_STEP = 170
"""What a step of a lane takes on the disk, in the database and in steps.csv together, about."""


@dataclass(frozen=True)
class Mode:
    """How the lanes of a run are trained. It is stored before the first lane, so that `resume` does the same.

    Attributes:
        lanes: "single", one after another, or "stacked", many as one stacked model.
        reason: why, in words.
        threads: the number of threads that torch computes with.
        seconds_per_step: the measured time of a step of one lane; in a stack, its share.
        stack_size: the most lanes in one stack; 1 for single lanes.
        compile: whether stacks are compiled.
        ratio: how many times as fast as single lanes the stacked ones are; None where that was not measured.
    """

    lanes: Literal["single", "stacked"]
    reason: str
    threads: int
    seconds_per_step: float
    stack_size: int = 1
    compile: bool = False
    ratio: float | None = None


@dataclass(frozen=True)
class Cost:
    """What a sweep will take, about.

    Attributes:
        lanes: the number of lanes.
        steps: T, the number of steps of each lane.
        seconds: the time in all, if no lane stops early.
        bytes: the space on the disk.
    """

    lanes: int
    steps: int
    seconds: float
    bytes: int
