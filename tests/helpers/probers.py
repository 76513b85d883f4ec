"""Probers that train nothing: the losses of a probe are a formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.probe_search import ProbeSearch
from lrfind.analysis.probing import MOST_STEPS, Probe, ProbeResult


def probed(prober: Formula, start: float, *, longest: int = MOST_STEPS, wide: bool = False) -> ProbeResult:
    """Probe with one seed."""
    return ProbeSearch(prober, longest=longest).run(start, wide=wide)


class Formula:
    """Trains nothing: the losses of a probe are a formula of lr and step."""

    def __init__(self, loss: Callable[[float, Array], Array], budget: float = math.inf) -> None:
        self._loss, self._budget = loss, budget
        self.taken: dict[float, Probe] = {}
        self.asked: list[tuple[list[float], int]] = []

    def untouched(self, steps: int) -> Array:
        return self._loss(0.0, np.arange(steps))

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        self.asked.append(([*lrs], steps))
        for lr in lrs:
            loss = self._loss(lr, np.arange(steps))
            bad = ~(loss <= ceiling[: len(loss)])
            end = int(bad.argmax()) + 1 if bad.any() else steps
            self.taken[lr] = Probe(lr, loss[:end], bool(bad.any()))
        return [self.taken[lr] for lr in lrs]

    @property
    def cost(self) -> int:
        return sum(len(probe.loss) for probe in self.taken.values())

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        left = sum(steps - len(self.taken[lr].loss) if lr in self.taken else steps for lr in lrs)
        return self.cost + left + more * steps <= self._budget


def descent(curvature: float) -> Callable[[float, Array], Array]:
    """Gradient descent on a parabola: quickest at lr = 1 / curvature, unstable beyond 2 / curvature."""
    with np.errstate(over="ignore"):
        return lambda lr, step: (1 - lr * curvature) ** (2 * step.astype(float)) * 0.5 + 0.1
