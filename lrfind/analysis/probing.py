"""Probing: which rates are tried for a few steps, and for how many, to see which of them learns fastest.

A probe is a short training at a constant lr. All probes of a search start from the same weights and see the
same batches, so that their losses differ by the lr alone. There is no ramp, on which every loss is the work
of all the rates before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from lrfind.analysis.curves import HUGE, Array
from lrfind.analysis.lanes import LaneResult

PER_DECADE = 2  # rates that are probed, of a decade
LOWEST, HIGHEST = -16, 6  # of `Place`: lr 1e-8 and 1e3
FIRST_STEPS = 16  # of a probe, before any is continued
FEWEST_STEPS = 8  # where the training, the budget or the batches allow no more
FEWEST_RATES = 4  # that the budget must allow `FIRST_STEPS` each, so that the best has both neighbours
ENOUGH = {FIRST_STEPS: 0.5, 2 * FIRST_STEPS: 0.25}  # after so many steps a gain that ends probing
MOST_STEPS = 128  # of a probe, on a plateau
MOST_COST = 800  # gradient steps of a search, where no budget is given
TYPICAL_COST = 95  # what most searches take
WIDE = 5  # rates that a search begins with, where probes are stacked
TAIL = 2  # one part in so many of a probe's steps, at its end, is what its score is the mean of
NOT_LEARNING = 0.15  # a gain below this is a plateau, on which the order of the rates is noise
HARMLESS = 0.02  # a loss that is higher than the untouched model's by no more than this share of it
SHARPNESS = 0.15  # of the gain: how fast a rate that learns less loses its weight

Place = int
"""A rate on the grid of a search: lr = 10^(place / PER_DECADE)."""


def rate(place: Place) -> float:
    """The lr at a place.

    >>> rate(-3), rate(0)
    (0.0316228, 1.0)
    """
    return float(f"{10 ** (place / PER_DECADE):.6g}")


def place_of(lr: float) -> Place:
    """The place of the lr that is nearest in log lr."""
    return min(max(round(PER_DECADE * math.log10(lr)), LOWEST), HIGHEST)


class Probe(NamedTuple):
    """A short training at a constant lr.

    Attributes:
        lr: at every step.
        loss: (t,) before each update, in train mode.
        stopped: whether the last of these is beyond the ceiling, or not finite.
    """

    lr: float
    loss: Array
    stopped: bool


def tail(loss: Array) -> float:
    """The score of a probe: the mean loss over the last half of its steps."""
    return float(np.mean(loss[-max(len(loss) // TAIL, 1) :]))


class Prober(Protocol):
    """Trains the probes of one seed."""

    def untouched(self, steps: int) -> Array:
        """(steps,) the losses of the model before any update, on the batches that the probes see."""
        ...

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        """Bring probes to so many steps, new ones or old; a loss above the ceiling (steps,) ends one."""
        ...

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        """Whether the budget, and the memory for batches, allow these, and more rates, so many steps."""
        ...


UNTOUCHED = 0.0
"""The lr of the lane that keeps the losses of the untouched model: no update changes anything."""


@dataclass(frozen=True)
class Recorded:
    """A prober that trains nothing: it has the probes of an earlier search, and affords no others.

    Attributes:
        untouched_losses: (n,) of the model before any update.
        probes: by lr, as far as they went.
    """

    untouched_losses: Array
    probes: Mapping[float, Probe]

    @classmethod
    def of(cls, lanes: Sequence[LaneResult]) -> Recorded:
        """The lanes of one seed's search, one of them at lr 0."""
        losses = next((lane.loss for lane in lanes if lane.peak == UNTOUCHED), np.zeros(0))
        probes = {
            lane.peak: Probe(lane.peak, lane.loss, lane.outcome == "diverged")
            for lane in lanes
            if lane.peak != UNTOUCHED
        }
        return cls(losses, probes)

    def untouched(self, steps: int) -> Array:
        """(steps,) the losses of the model before any update."""
        return self.untouched_losses[:steps]

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        """The first steps of probes, as they were when they had no more."""
        found = [self.probes[lr] for lr in lrs]
        return [Probe(p.lr, p.loss[:steps], p.stopped and len(p.loss) <= steps) for p in found]

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        """Whether all of these were brought to so many steps, or the batches were what ended the search."""
        if not np.isfinite(self.untouched_losses[:steps]).all():
            return True
        return steps <= len(self.untouched_losses) and all(
            lr in self.probes and (self.probes[lr].stopped or len(self.probes[lr].loss) >= steps)
            for lr in lrs
        )


@dataclass
class Search:
    """The probes of one seed: while they are made, and what they came to.

    Attributes:
        prober: trains them.
        steps: n, that the probes of `scores` have.
        scores: of the rates that are still compared, the mean loss over the last half of n steps; infinite
            for one that was stopped.
        probes: all of them, as far as they went.
        cut: whether the budget ended the search before it was done.
        broken: whether batches did, on which the untouched model's loss is not finite.
    """

    prober: Prober
    steps: int = FIRST_STEPS
    scores: dict[Place, float] = field(default_factory=dict)
    probes: dict[Place, Probe] = field(default_factory=dict)
    cut: bool = False
    broken: bool = False

    @property
    def untouched(self) -> float:
        """What a score would be without any update."""
        return tail(self.prober.untouched(self.steps))

    def finite(self, steps: int) -> bool:
        """Whether the untouched model's losses on so many batches are."""
        return bool(np.isfinite(self.prober.untouched(steps)).all())

    @property
    def best(self) -> Place:
        """The rate of the lowest score, the lower of two that are equal."""
        return min(self.scores, key=lambda place: (self.scores[place], place))

    @property
    def gain(self) -> float:
        """By what share of the untouched model's loss the best rate lowers it."""
        untouched = self.untouched
        return (untouched - self.scores[self.best]) / (abs(untouched) or 1.0)

    @property
    def middle(self) -> float:
        """Log10 of the lr that learns fastest: the mean of the rates that are compared, by their weights."""
        return sum(place * weight for place, weight in self.weights.items()) / PER_DECADE

    @property
    def breadth(self) -> float:
        """Decades around `middle` that learn about as fast: the deviation of the weighted rates."""
        middle = self.middle
        away = sum(w * (place / PER_DECADE - middle) ** 2 for place, w in self.weights.items())
        return math.sqrt(away)

    @property
    def wild(self) -> float:
        """The lowest lr above the best whose probe was stopped; infinite where none was."""
        best = self.probes[self.best].lr
        return min((p.lr for p in self.probes.values() if p.stopped and p.lr > best), default=math.inf)

    @property
    def bracketed(self) -> bool:
        """Whether a lower and a higher rate than the best were probed."""
        return min(self.probes) < self.best < max(self.probes)

    @property
    def indifferent(self) -> bool:
        """Whether no rate of several changes the loss at all."""
        return len(self.scores) > 1 and {*self.scores.values()} == {self.untouched}

    @property
    def learns(self) -> bool:
        """Whether any rate lowers the loss by more than a plateau does."""
        return self.gain >= NOT_LEARNING

    @property
    def on_a_plateau(self) -> bool:
        """Whether none does although there was time to; in fewer than `FIRST_STEPS` there was not."""
        return not self.learns and self.steps >= FIRST_STEPS

    def harmless(self) -> list[Place]:
        """The rates that are still compared and do not raise the loss, ascending."""
        untouched = self.untouched
        ceiling = untouched + HARMLESS * abs(untouched)
        return sorted(place for place, score in self.scores.items() if score <= ceiling)

    def bring(self, places: Iterable[Place], steps: int) -> None:
        """Probe rates, or go on with them, and score them."""
        wanted = sorted(places)
        ceiling = self._ceiling(steps)
        for place, probe in zip(
            wanted, self.prober.probe([rate(p) for p in wanted], steps, ceiling), strict=True
        ):
            self.probes[place] = probe
            self.scores[place] = math.inf if probe.stopped else tail(probe.loss)

    def affords(self, places: Iterable[Place], steps: int, more: int = 0) -> bool:
        """Whether the budget allows these rates, and more, so many steps; if not, the search is cut."""
        within = self.prober.affords([rate(place) for place in places], steps, more)
        self.cut = self.cut or not within
        return within

    @property
    def weights(self) -> dict[Place, float]:
        """The share of each rate that is still compared in `middle`, by how near its score is to the best."""
        if not self.scores:
            return {}
        untouched, lowest = self.untouched, self.scores[self.best]
        if math.isinf(lowest):
            return {}
        if self.on_a_plateau and self.harmless():
            highest = self.harmless()[-3:]
            return {place: float(place in highest) / len(highest) for place in self.scores}
        scale = SHARPNESS * max(untouched - lowest, 1e-300)
        weights = {
            place: math.exp(-min((score - lowest) / scale, 60.0)) for place, score in self.scores.items()
        }
        return {place: weight / sum(weights.values()) for place, weight in weights.items()}

    def _ceiling(self, steps: int) -> Array:
        """(steps,) what stops a probe: the untouched loss on the same batch, and twice the first one more.

        Or four deviations between batches more, where these are more than the loss itself.
        """
        untouched = self.prober.untouched(steps)
        room = 2 * max(abs(float(untouched[0])), 2 * float(np.std(untouched)))
        return np.minimum(untouched + room, HUGE)


def search(prober: Prober, start: float, *, longest: int = MOST_STEPS, wide: bool = False) -> Search:
    """Look for the lr that learns fastest.

    Short probes climb to the rate of the lowest loss. It and its neighbours are continued to twice the steps,
    and again, with a further neighbour wherever the best is at an end, until the loss has fallen far enough
    to tell them apart. As long as hardly anything is learned, the order of the rates is noise: then rates go
    up until one harms, and the highest harmless ones are continued.

    Args:
        prober: trains the probes.
        start: the lr to begin with.
        longest: steps of a probe, at most; at least `FEWEST_STEPS`.
        wide: begin with five rates at once, which can be trained as one stack, instead of two.

    Returns:
        The search; with no probe in it where the budget allows none, or the untouched loss is not finite.
    """
    found = Search(prober)
    if not found.finite(FEWEST_STEPS):
        return found
    middle = place_of(start)
    first = range(middle - WIDE // 2, middle + WIDE // 2 + 1) if wide else range(middle, middle + 2)
    first = range(max(first.start, LOWEST), min(first.stop, HIGHEST + 1))
    for steps, more in ((min(FIRST_STEPS, longest), max(FEWEST_RATES - len(first), 0)), (FEWEST_STEPS, 0)):
        if not found.affords(first, steps, more):
            continue
        if found.finite(steps):
            found.steps = steps
            break
        found.broken = True
    else:
        return found
    found.bring(first, found.steps)
    _climb(found)
    while not _enough(found, longest):
        keep, steps = _survivors(found), min(2 * found.steps, longest)
        if not keep or not found.affords(keep, steps):
            break
        if not found.finite(steps):
            found.broken = True
            break
        found.steps = steps
        found.scores.clear()
        found.bring(keep, found.steps)
        _climb(found)
    return found


def _enough(found: Search, longest: int) -> bool:
    if found.steps >= longest or found.cut or found.broken or found.indifferent:
        return True
    return any(found.steps >= steps and found.gain >= gain for steps, gain in ENOUGH.items())


def _survivors(found: Search) -> list[Place]:
    """The rates that are worth going on with."""
    if not found.learns:
        while (top := found.harmless()) and top[-1] == max(found.scores) < HIGHEST:
            if not found.affords([top[-1] + 1], found.steps):
                break
            found.bring([top[-1] + 1], found.steps)
        return found.harmless()[-3:]
    untouched = found.untouched
    near = range(found.best - 1, found.best + 2)
    return [place for place in near if found.scores.get(place, math.inf) < untouched]


def _climb(found: Search) -> None:
    """Probe further rates until the best has one on either side, or none of them changes anything."""
    while not found.indifferent:
        best, low, high = found.best, min(found.scores), max(found.scores)
        if math.isinf(found.scores[best]):
            further = low - 1
        elif best == high:
            further = high + 1
        elif best == low:
            further = low - 1
        else:
            return
        if not LOWEST <= further <= HIGHEST or not found.affords([further], found.steps):
            return
        found.bring([further], found.steps)
