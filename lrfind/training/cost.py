"""Costs: what a run is expected to cost, which is told before it trains."""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_STEP = 170
"""The approximate bytes of one step of a lane on the disk, in the database and in steps.csv together."""


@dataclass(frozen=True)
class SweepCost:
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
        groups: the most gradient steps for the rates of param groups, which come after the common rate.
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
