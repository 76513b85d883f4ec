"""Probing: short trainings at several constant learning rates, to see which rate learns fastest.

A probe is a short training at a constant lr. All probes of one seed start from the same weights and see the
same batches, so that their losses differ by the lr alone. There is no ramp: on a ramp every loss is the work
of all the rates before it.

`ProbeSearch` decides which rates are probed next and for how long; a `Prober` trains them; `ProbeResult` is
what came of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from lrfind.analysis.curves import HUGE, Array

METHOD_VERSION = 1
"""The version of probing and recommendation; it is raised whenever the same probes give another lr."""

PER_DECADE = 2  # rates of a decade that are probed
LOWEST, HIGHEST = -16, 6  # the lowest and the highest `Place`: lr 1e-8 and 1e3
FIRST_STEPS = 16  # steps of a probe before any probe is continued
FEWEST_STEPS = 8  # steps of a probe where the training, the budget or the batches allow no more
FEWEST_RATES = 4  # rates that the budget must allow `FIRST_STEPS` each, so that the best has both neighbours
ENOUGH = {FIRST_STEPS: 0.5, 2 * FIRST_STEPS: 0.25}  # steps -> the gain after so many steps that ends probing
MOST_STEPS = 128  # steps of a probe on a plateau, at most
MOST_COST = 800  # gradient steps for one seed, at most, where no budget is given
TYPICAL_COST = 95  # gradient steps that one seed usually takes
WIDE = 5  # rates that are probed first where probes are stacked
TAIL = 2  # the score of a probe is the mean loss over the last 1/TAIL of its steps
NOT_LEARNING = 0.15  # a gain below this is a plateau, on which the order of the rates is noise
HARMLESS = 0.02  # a rate is harmless if its loss exceeds the untouched model's by at most this share of it
SHARPNESS = 0.15  # how fast a rate that learns less loses its weight, as a share of the gain

Place = int
"""A rate on the grid of rates: lr = 10^(place / PER_DECADE)."""


def rate(place: Place) -> float:
    """Return the lr at a place.

    >>> rate(-3), rate(0)
    (0.0316228, 1.0)
    """
    return float(f"{10 ** (place / PER_DECADE):.6g}")


def place_of(lr: float) -> Place:
    """Return the place whose lr is nearest in log lr."""
    return min(max(round(PER_DECADE * math.log10(lr)), LOWEST), HIGHEST)


class Probe(NamedTuple):
    """A short training at a constant lr.

    Attributes:
        lr: the lr of every step.
        loss: (t,) the loss before each update, in train mode.
        stopped: whether the last loss exceeds the ceiling or is not finite, which ended the probe.
    """

    lr: float
    loss: Array
    stopped: bool


def tail(loss: Array) -> float:
    """Return the score of a probe: the mean loss over the last half of its steps."""
    return float(np.mean(loss[-max(len(loss) // TAIL, 1) :]))


class Prober(Protocol):
    """Trains the probes of one seed."""

    def untouched(self, steps: int) -> Array:
        """Return (steps,) the losses of the model before any update, on the batches that the probes see."""
        ...

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        """Train probes until they have so many steps, new probes or old ones.

        Args:
            lrs: one probe each.
            steps: the number of steps, from the first one on.
            ceiling: (steps,) a loss above it ends a probe.
        """
        ...

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        """Return whether the budget and the memory allow so many steps for these rates and `more` others."""
        ...


UNTOUCHED = 0.0
"""The lr of the lane that holds the losses of the untouched model: at lr 0 no update changes anything."""


@dataclass(frozen=True)
class ProbeResult:
    """What probing with one seed measured.

    Attributes:
        seed: the seed of the weights, the batches and the dropout masks.
        untouched_loss: (n,) the losses of the model before any update, on the batches that the probes saw.
        steps: the number of steps that the probes in `scores` have.
        scores: place -> the mean loss over the last half of these steps, for the rates that are still
            compared; infinite for a probe that was stopped.
        probes: place -> the probe, for all rates, as far as they went.
        cut: whether the budget ended probing before it was done.
        broken: whether it ended because the untouched model's loss is not finite on a later batch.
    """

    seed: int = 0
    untouched_loss: Array = field(default_factory=lambda: np.zeros(0))
    steps: int = FIRST_STEPS
    scores: Mapping[Place, float] = field(default_factory=dict)
    probes: Mapping[Place, Probe] = field(default_factory=dict)
    cut: bool = False
    broken: bool = False

    @property
    def untouched(self) -> float:
        """The score of the untouched model, on the same batches as `scores`."""
        return tail(self.untouched_loss[: self.steps])

    @property
    def best(self) -> Place:
        """The rate with the lowest score, the lower of two that are equal."""
        return min(self.scores, key=lambda place: (self.scores[place], place))

    @property
    def gain(self) -> float:
        """By what share of the untouched model's loss the best rate lowers it."""
        untouched = self.untouched
        return (untouched - self.scores[self.best]) / (abs(untouched) or 1.0)

    @property
    def middle(self) -> float:
        """Log10 of the lr that learns fastest: the mean of the compared rates by their weights."""
        return sum(place * weight for place, weight in self.weights.items()) / PER_DECADE

    @property
    def breadth(self) -> float:
        """How many decades around `middle` learn about as fast: the deviation of the weighted rates."""
        middle = self.middle
        variance = sum(w * (place / PER_DECADE - middle) ** 2 for place, w in self.weights.items())
        return math.sqrt(variance)

    @property
    def wild(self) -> float:
        """The lowest lr above the best rate whose probe was stopped; infinite if there is none."""
        best = self.probes[self.best].lr
        return min((p.lr for p in self.probes.values() if p.stopped and p.lr > best), default=math.inf)

    @property
    def bracketed(self) -> bool:
        """Whether both a lower and a higher rate than the best were probed."""
        return min(self.probes) < self.best < max(self.probes)

    @property
    def indifferent(self) -> bool:
        """Whether several rates were compared and none of them changes the loss at all."""
        return len(self.scores) > 1 and {*self.scores.values()} == {self.untouched}

    @property
    def learns(self) -> bool:
        """Whether any rate lowers the loss by more than happens on a plateau."""
        return self.gain >= NOT_LEARNING

    @property
    def on_a_plateau(self) -> bool:
        """Whether no rate learns although the probes are long enough to tell (`FIRST_STEPS`)."""
        return not self.learns and self.steps >= FIRST_STEPS

    @property
    def harmless(self) -> list[Place]:
        """The compared rates that do not raise the loss, ascending."""
        untouched = self.untouched
        ceiling = untouched + HARMLESS * abs(untouched)
        return sorted(place for place, score in self.scores.items() if score <= ceiling)

    @property
    def weights(self) -> dict[Place, float]:
        """The share of each compared rate in `middle`; the nearer its score to the best, the larger."""
        if not self.scores:
            return {}
        untouched, lowest = self.untouched, self.scores[self.best]
        if math.isinf(lowest):
            return {}
        if self.on_a_plateau and self.harmless:
            highest = self.harmless[-3:]
            return {place: float(place in highest) / len(highest) for place in self.scores}
        scale = SHARPNESS * max(untouched - lowest, 1e-300)
        weights = {
            place: math.exp(-min((score - lowest) / scale, 60.0)) for place, score in self.scores.items()
        }
        return {place: weight / sum(weights.values()) for place, weight in weights.items()}


class ProbeSearch:
    """Decides which rates one seed's prober tries, and for how many steps.

    Args:
        prober: trains the probes.
        seed: the prober's seed, for the result.
        longest: the most steps of a probe; at least `FEWEST_STEPS`.

    Attributes:
        result: what was measured so far.
    """

    def __init__(self, prober: Prober, *, seed: int = 0, longest: int = MOST_STEPS) -> None:
        self._prober, self._longest = prober, longest
        self.result = ProbeResult(seed)

    def run(self, start: float, *, wide: bool = False) -> ProbeResult:
        """Look for the lr that learns fastest.

        Short probes climb to the rate of the lowest loss. That rate and its neighbours are continued to twice
        the steps, and again, with a further neighbour wherever the best is at an end, until the loss has
        fallen far enough to tell them apart. While hardly anything is learned, the order of the rates is
        noise: then rates go up until one harms, and the highest harmless ones are continued.

        Args:
            start: the lr to begin with.
            wide: begin with five rates at once, which can be trained as one stack, instead of two.

        Returns:
            The result; without any probe if the budget allows none or the untouched loss is not finite.
        """
        if not self._finite(FEWEST_STEPS) or not self._begin(start, wide):
            return self.result
        self._climb()
        while not self._enough():
            keep, steps = self._survivors(), min(2 * self.result.steps, self._longest)
            if not keep or not self._affords(keep, steps):
                break
            if not self._finite(steps):
                self.result = replace(self.result, broken=True)
                break
            self.result = replace(self.result, steps=steps, scores={})
            self._bring(keep)
            self._climb()
        return self.result

    def _begin(self, start: float, wide: bool) -> bool:
        """Probe the first rates, for as many steps as the budget and the batches allow; False if for none."""
        middle = place_of(start)
        first = range(middle - WIDE // 2, middle + WIDE // 2 + 1) if wide else range(middle, middle + 2)
        first = range(max(first.start, LOWEST), min(first.stop, HIGHEST + 1))
        further = max(FEWEST_RATES - len(first), 0)
        for steps, more in ((min(FIRST_STEPS, self._longest), further), (FEWEST_STEPS, 0)):
            if not self._affords(first, steps, more):
                continue
            if self._finite(steps):
                self.result = replace(self.result, steps=steps)
                self._bring(first)
                return True
            self.result = replace(self.result, broken=True)
        return False

    def _climb(self) -> None:
        """Probe further rates until the best has a neighbour on either side, or no rate changes anything."""
        while not self.result.indifferent:
            scores, best = self.result.scores, self.result.best
            low, high = min(scores), max(scores)
            if math.isinf(scores[best]):
                further = low - 1
            elif best == high:
                further = high + 1
            elif best == low:
                further = low - 1
            else:
                return
            if not LOWEST <= further <= HIGHEST or not self._affords([further], self.result.steps):
                return
            self._bring([further])

    def _enough(self) -> bool:
        """Return whether longer probes would bring nothing, or are not possible."""
        result = self.result
        if result.steps >= self._longest or result.cut or result.broken or result.indifferent:
            return True
        return any(result.steps >= steps and result.gain >= gain for steps, gain in ENOUGH.items())

    def _survivors(self) -> list[Place]:
        """Return the rates that are worth continuing; on a plateau, go up first until a rate harms."""
        if not self.result.learns:
            while (top := self.result.harmless) and top[-1] == max(self.result.scores) < HIGHEST:
                if not self._affords([top[-1] + 1], self.result.steps):
                    break
                self._bring([top[-1] + 1])
            return self.result.harmless[-3:]
        scores, best, untouched = self.result.scores, self.result.best, self.result.untouched
        return [place for place in range(best - 1, best + 2) if scores.get(place, math.inf) < untouched]

    def _bring(self, places: Iterable[Place]) -> None:
        """Probe these rates, or continue their probes, to the steps of the result; then score them."""
        ordered, result = sorted(places), self.result
        probes = self._prober.probe([rate(place) for place in ordered], result.steps, self._ceiling())
        new = dict(zip(ordered, probes, strict=True))
        scores = {place: math.inf if probe.stopped else tail(probe.loss) for place, probe in new.items()}
        self.result = replace(result, probes={**result.probes, **new}, scores={**result.scores, **scores})

    def _ceiling(self) -> Array:
        """Return (steps,) the losses above which a probe stops.

        That is the untouched loss on the same batch plus twice the first untouched loss, or plus four
        deviations between batches where these are more than the loss itself.
        """
        untouched = self._untouched(self.result.steps)
        room = 2 * max(abs(float(untouched[0])), 2 * float(np.std(untouched)))
        return np.minimum(untouched + room, HUGE)

    def _affords(self, places: Iterable[Place], steps: int, more: int = 0) -> bool:
        """Return whether these rates and `more` others can have so many steps; if not, probing is cut."""
        within = self._prober.affords([rate(place) for place in places], steps, more)
        self.result = replace(self.result, cut=self.result.cut or not within)
        return within

    def _finite(self, steps: int) -> bool:
        """Return whether the untouched model's losses on so many batches are finite."""
        return bool(np.isfinite(self._untouched(steps)).all())

    def _untouched(self, steps: int) -> Array:
        """Return (steps,) the untouched losses, and keep the longest such array in the result."""
        untouched = self._prober.untouched(steps)
        if len(untouched) > len(self.result.untouched_loss):
            self.result = replace(self.result, untouched_loss=untouched)
        return untouched


def probe_rows(results: Sequence[ProbeResult]) -> list[dict[str, object]]:
    """Return the probes of all seeds as plain data: a row a probe, by seed, then ascending in lr.

    A row has `seed`, `lr`, `steps`, `score` (the mean loss over the last half of the steps; None if the probe
    was stopped), `untouched` (the same of the untouched model on the same batches), `stopped`, and `weight`
    (its share in the lr that learns fastest; None for a rate that was not continued).
    """
    return [
        {
            "seed": result.seed,
            "lr": probe.lr,
            "steps": len(probe.loss),
            "score": None if probe.stopped else tail(probe.loss),
            "untouched": tail(result.untouched_loss[: len(probe.loss)]),
            "stopped": probe.stopped,
            "weight": weights.get(place),
        }
        for result in results
        for weights in [result.weights]
        for place, probe in sorted(result.probes.items())
    ]
