"""What will be run, and what came of it: lanes, each one training run with its column of the lr table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from lrfind.analysis.curves import Array, Curve
from lrfind.analysis.health import LayerHealth

Outcome = Literal["finished", "diverged", "pruned", "failed", "interrupted"]
SETTLED: tuple[Outcome, ...] = ("finished", "diverged", "pruned", "failed")
"""Outcomes that stand; an interrupted lane runs again on resume."""
TAIL = 0.05  # share of a lane's steps, at its end, that its final training loss is the mean of


class Reaction(NamedTuple):
    """A part of the lr that depends on how the training goes.

    Attributes:
        to: what it watches: the validation losses so far, or the norms of the gradient so far.
        multiplier: of the planned lr, from these and the peak; see `lrfind.schedules.reactive`.
    """

    to: Literal["val_loss", "grad_norm"]
    multiplier: Callable[[Sequence[float], float], float]


@dataclass(frozen=True)
class Shape:
    """What a schedule makes of T steps, whatever its peak is.

    Attributes:
        multiplier: (T,) of the peak; 0 or more.
        momentum: (T,) of the optimizer, where the schedule moves it too.
        reaction: what else the lr is multiplied with on the way.
    """

    multiplier: Array
    momentum: Array | None = None
    reaction: Reaction | None = None


@dataclass(frozen=True)
class Lane:
    """One training run.

    Attributes:
        lane: its number in the run, from 0.
        seed: of the initial weights, the batch order and the dropout masks.
        lr: (T,) the lr of each step; with a reaction, before that.
        peak: what the schedule's multipliers are multiples of; the largest lr when omitted: for a ramp, its
            end.
        variant: what it is a variant of, where a run compares several: a schedule, an optimizer.
        momentum: (T,) of the optimizer at each step, where the schedule moves it.
        reaction: what the lr is multiplied with on the way.
    """

    lane: int
    seed: int
    lr: Array
    peak: float = math.nan
    variant: str = ""
    momentum: Array | None = None
    reaction: Reaction | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.peak):
            object.__setattr__(self, "peak", float(self.lr.max()))


class Evaluation(NamedTuple):
    """What the validation split said after `step` updates; metric is None where the task has none."""

    step: int
    val_loss: float
    metric: float | None


@dataclass(frozen=True)
class LaneResult:
    """What one lane measured.

    Attributes:
        lane: the lane's number.
        seed: its seed.
        planned: T, the steps it would have taken without stopping early.
        peak: of its schedule; the largest lr planned (for a ramp, its end).
        outcome: finished, diverged (a result, at the last step), pruned, failed or interrupted.
        lr: (t,) the lr that the optimizer used, t <= T.
        loss: (t,) measured before the update that uses lr[t].
        held_out_loss: (t,) loss on the fixed held-out batch, before the update; None where not asked for.
        grad_norm: (t,) Euclidean norm of the gradient at step t; None where not asked for.
        evaluations: on the validation split, in order of their steps.
        rung: at which rung a pruned lane ended, from 0.
        seconds: how long it took; of lanes that trained together, each its share.
        error: the exception's text, for a failed lane.
        variant: see `Lane`.
        momentum: (t,) of the optimizer, where the schedule moves it.
        skipped: (t,) 1 where the step was not taken, since float16 overflowed; None in other precisions.
        health: looks at its layers, in order of their steps, and of the layers within.
    """

    lane: int
    seed: int
    planned: int
    peak: float
    outcome: Outcome
    lr: Array
    loss: Array
    held_out_loss: Array | None = None
    grad_norm: Array | None = None
    evaluations: tuple[Evaluation, ...] = ()
    rung: int | None = None
    seconds: float = 0.0
    error: str | None = None
    variant: str = ""
    momentum: Array | None = None
    skipped: Array | None = None
    health: tuple[LayerHealth, ...] = ()

    @cached_property
    def curve(self) -> Curve:
        """Loss against lr, as the suggestion methods read it."""
        return Curve(self.lr, self.loss, self.planned)

    @property
    def complete(self) -> bool:
        """Whether it came to its end, and was not cut off by force."""
        return self.outcome in ("finished", "diverged")

    @property
    def train_loss(self) -> float | None:
        """A finished lane's final training loss: the mean over the last twentieth of its steps."""
        if self.outcome != "finished":
            return None
        return float(np.mean(self.loss[-math.ceil(TAIL * self.loss.size) :]))

    @property
    def val_loss(self) -> float | None:
        """A finished lane's final loss on the validation split; None without one, or if it is not finite."""
        return self._final(self.evaluations[-1].val_loss) if self.evaluations else None

    @property
    def metric(self) -> float | None:
        """A finished lane's final metric on the validation split."""
        return self._final(self.evaluations[-1].metric) if self.evaluations else None

    def _final(self, value: float | None) -> float | None:
        known = self.outcome == "finished" and value is not None and math.isfinite(value)
        return value if known else None


def range_test_lanes(lr: Array, seed: int, seeds: int, first: int = 0, variant: str = "") -> list[Lane]:
    """One ramping lane per seed: `seed`, `seed + 1`, ..., numbered from `first`."""
    return [Lane(first + i, seed + i, lr, variant=variant) for i in range(seeds)]


class PlannedLane(NamedTuple):
    """A lane that shall be run, without its lrs: these follow from its peak and the shape of its variant."""

    lane: int
    seed: int
    peak: float
    variant: str = ""

    def shaped(self, shape: Shape) -> Lane:
        """The lane itself."""
        lr = self.peak * shape.multiplier
        return Lane(self.lane, self.seed, lr, self.peak, self.variant, shape.momentum, shape.reaction)


def planned_lanes(
    peaks: Mapping[str, Sequence[float]], seed: int, seeds: int, first: int = 0
) -> list[PlannedLane]:
    """One lane per seed, variant and peak: all those of `seed`, then of `seed + 1`, ...

    Args:
        peaks: of each variant.
        seed: of the first lanes.
        seeds: how many seeds.
        first: number of the first lane.

    >>> [(lane.lane, lane.seed, lane.peak) for lane in planned_lanes({"": [0.1, 0.2]}, seed=7, seeds=2)]
    [(0, 7, 0.1), (1, 7, 0.2), (2, 8, 0.1), (3, 8, 0.2)]
    """
    each = [(variant, peak) for variant, of_it in peaks.items() for peak in of_it]
    return [
        PlannedLane(first + i * len(each) + k, seed + i, peak, variant)
        for i in range(seeds)
        for k, (variant, peak) in enumerate(each)
    ]
