"""What will be run, and what came of it: lanes, each one training run with its column of the lr table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lrfind.curves import Array, Curve

Outcome = Literal["finished", "diverged", "interrupted", "failed"]


@dataclass(frozen=True)
class Lane:
    """One training run.

    Attributes:
        lane: its number in the run, from 0.
        seed: of the initial weights, the batch order and the dropout masks.
        lr: (T,) the lr of each step.
    """

    lane: int
    seed: int
    lr: Array


@dataclass(frozen=True)
class LaneResult:
    """What one lane measured.

    Attributes:
        lane: the lane's number.
        seed: its seed.
        planned: T, the steps it would have taken without stopping early.
        peak: the largest lr planned (for a ramp, its end).
        outcome: finished, diverged (a result, at the last step), interrupted or failed.
        lr: (t,) the lr that the optimizer used, t <= T.
        loss: (t,) measured before the update that uses lr[t].
        probe_loss: (t,) loss on the fixed probe batch, before the update; None where not asked for.
        grad_norm: (t,) Euclidean norm of the gradient at step t; None where not asked for.
        seconds: how long it took.
        error: the exception's text, for a failed lane.
    """

    lane: int
    seed: int
    planned: int
    peak: float
    outcome: Outcome
    lr: Array
    loss: Array
    probe_loss: Array | None = None
    grad_norm: Array | None = None
    seconds: float = 0.0
    error: str | None = None

    @cached_property
    def curve(self) -> Curve:
        """Loss against lr, as the suggestion methods read it."""
        return Curve(self.lr, self.loss, self.planned)

    @property
    def complete(self) -> bool:
        """Whether it came to its end, and was not cut off by force."""
        return self.outcome in ("finished", "diverged")


def range_test_lanes(lr: Array, seed: int, seeds: int) -> list[Lane]:
    """One ramping lane per seed: `seed`, `seed + 1`, ..."""
    return [Lane(i, seed + i, lr) for i in range(seeds)]
