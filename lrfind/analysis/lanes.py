"""Lanes: a lane is one training run, with its column of the table lr[step, lane] and its measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from lrfind.analysis.curves import Array, Curve
from lrfind.analysis.health import LayerHealth

Outcome = Literal["finished", "diverged", "pruned", "failed", "interrupted"]
SETTLED: tuple[Outcome, ...] = ("finished", "diverged", "pruned", "failed")
"""The outcomes that are final; an interrupted lane runs again when its run is resumed."""
TAIL = 0.05  # the final training loss of a lane is the mean over this last share of its steps


class Reaction(NamedTuple):
    """The part of a schedule that depends on how the training goes.

    Attributes:
        to: the measurements that it watches: the validation losses or the norms of the gradient, so far.
        multiplier: the function that takes these measurements and the peak, and returns a factor of the
            planned lr; see `lrfind.schedules.reactive`.
    """

    to: Literal["val_loss", "grad_norm"]
    multiplier: Callable[[Sequence[float], float], float]


@dataclass(frozen=True)
class Shape:
    """A schedule over T steps, for any peak.

    Attributes:
        multiplier: (T,) the lr of each step as a multiple of the peak; 0 or more.
        momentum: (T,) the optimizer's momentum at each step; None if the schedule does not move it.
        reaction: computes a factor of the lr from the measurements during the training; None if the lr
            depends only on the step.
        of_scheduler: whether it is the course of a scheduler of torch.
    """

    multiplier: Array
    momentum: Array | None = None
    reaction: Reaction | None = None
    of_scheduler: bool = False

    @property
    def mean_multiplier(self) -> float:
        """The mean lr divided by the peak."""
        return float(self.multiplier.mean())

    def compressed(self, steps: int) -> Shape:
        """Return the same course in fewer steps, each of which stands for several.

        Args:
            steps: S, the number of steps.

        >>> Shape(np.array([1.0, 0.8, 0.6, 0.4])).compressed(2).multiplier.tolist()
        [0.8, 0.4]
        """
        return self if steps >= len(self.multiplier) else self.resampled(steps)

    def resampled(self, steps: int) -> Shape:
        """Return the same course in another number of steps."""
        length = len(self.multiplier)
        places = ((np.arange(steps) + 0.5) * length / steps).astype(int)
        momentum = None if self.momentum is None else self.momentum[places]
        return replace(self, multiplier=self.multiplier[places], momentum=momentum)


@dataclass(frozen=True)
class Lane:
    """One training run.

    Attributes:
        lane: the lane's number in the run, from 0.
        seed: the seed of the initial weights, the batch order and the dropout masks.
        lr: (T,) the lr of each step, before any reaction.
        peak: the lr that is multiplied by the schedule's multipliers. When omitted, it is the largest lr; for
            a ramp, this is the last lr.
        variant: the name of the variant (a schedule, an optimizer) where a run compares several.
        momentum: (T,) the optimizer's momentum at each step; None if the schedule does not move it.
        reaction: computes a factor of the lr from the measurements during the training; None for a
            schedule that depends only on the step.
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


Watch = Callable[[Sequence[Lane], int, Sequence[float]], None]
"""A function of (lanes, step, losses before the update), called after every step that these lanes took
together.

It must return quickly.
"""


class Evaluation(NamedTuple):
    """The validation loss and the metric after `step` updates; the metric is None if the task has none."""

    step: int
    val_loss: float
    metric: float | None


@dataclass(frozen=True)
class LaneResult:
    """The measurements of one lane.

    Attributes:
        lane: the lane's number.
        seed: the lane's seed.
        planned: T, the number of steps that the lane would have taken without stopping early.
        peak: the peak of the lane's schedule; for a ramp its end.
        outcome: finished, diverged (at the last step; this is also a result), pruned, failed or interrupted.
        lr: (t,) the lr that the optimizer used, t <= T.
        loss: (t,) the loss before the update that uses lr[t].
        held_out_loss: (t,) the loss on the fixed held-out batch before the update; None if not asked for.
        grad_norm: (t,) the Euclidean norm of the gradient at step t; None if not asked for.
        evaluations: the evaluations on the validation split, in the order of their steps.
        rung: the rung, from 0, at which a pruned lane ended; None for any other lane.
        seconds: the time that the lane took; lanes that trained together share their time equally.
        error: the explanation of the exception that ended a failed lane; for a ramp that finished or
            diverged, what its data or its type of number did to the loss; None where there is neither.
        variant: see `Lane`.
        momentum: (t,) the optimizer's momentum; None if the schedule does not move it.
        skipped: (t,) 1 for a step that was skipped because float16 overflowed; None in other precisions.
        health: the looks at the layers, sorted by step; those of one step are in the order of the layers.
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
        """The loss against lr, as the suggestion methods read it."""
        diverged = self.outcome == "diverged" if self.complete else None
        return Curve(self.lr, self.loss, self.planned, diverged, (self.error or "") if self.complete else "")

    @property
    def complete(self) -> bool:
        """Whether the lane finished or diverged, and nothing cut it off before."""
        return self.outcome in ("finished", "diverged")

    @property
    def train_loss(self) -> float | None:
        """The final training loss, the mean over the last twentieth of the steps; None unless finished."""
        if self.outcome != "finished":
            return None
        return float(np.mean(self.loss[-math.ceil(TAIL * self.loss.size) :]))

    @property
    def val_loss(self) -> float | None:
        """The final validation loss; None unless the lane finished and the loss is finite."""
        return self._final(self.evaluations[-1].val_loss) if self.evaluations else None

    @property
    def lowest_evaluation(self) -> Evaluation | None:
        """The evaluation with the lowest finite validation loss; None without one, or unless finished."""
        finite = [evaluation for evaluation in self.evaluations if math.isfinite(evaluation.val_loss)]
        if self.outcome != "finished" or not finite:
            return None
        return min(finite, key=lambda evaluation: evaluation.val_loss)

    @property
    def best_val_loss(self) -> float | None:
        """The lowest validation loss of all evaluations; None unless the lane finished."""
        return None if self.lowest_evaluation is None else self.lowest_evaluation.val_loss

    @property
    def metric(self) -> float | None:
        """The final metric on the validation split; None unless the lane finished and it is finite."""
        return self._final(self.evaluations[-1].metric) if self.evaluations else None

    def _final(self, value: float | None) -> float | None:
        known = self.outcome == "finished" and value is not None and math.isfinite(value)
        return value if known else None


def range_test_lanes(lr: Array, seed: int, seeds: int, first: int = 0, variant: str = "") -> list[Lane]:
    """Return one ramping lane for each of the seeds `seed`, `seed + 1`, ..., numbered from `first`."""
    return [Lane(first + i, seed + i, lr, variant=variant) for i in range(seeds)]


class PlannedLane(NamedTuple):
    """A lane that is to be run; its lrs follow from its peak and the shape of its variant."""

    lane: int
    seed: int
    peak: float
    variant: str = ""

    def shaped(self, shape: Shape) -> Lane:
        """Return the lane with the lrs that this shape gives."""
        lr = self.peak * shape.multiplier
        return Lane(self.lane, self.seed, lr, self.peak, self.variant, shape.momentum, shape.reaction)


def planned_lanes(
    peaks: Mapping[str, Sequence[float]], seed: int, seeds: int, first: int = 0
) -> list[PlannedLane]:
    """Plan a lane for each seed, variant and peak: all lanes of `seed`, then all of `seed + 1`, ...

    Args:
        peaks: variant -> its peaks.
        seed: the first seed.
        seeds: the number of seeds.
        first: the number of the first lane.

    >>> [(lane.lane, lane.seed, lane.peak) for lane in planned_lanes({"": [0.1, 0.2]}, seed=7, seeds=2)]
    [(0, 7, 0.1), (1, 7, 0.2), (2, 8, 0.1), (3, 8, 0.2)]
    """
    of_a_seed = [(variant, peak) for variant, lrs in peaks.items() for peak in lrs]
    return [
        PlannedLane(first + i * len(of_a_seed) + k, seed + i, peak, variant)
        for i in range(seeds)
        for k, (variant, peak) in enumerate(of_a_seed)
    ]
