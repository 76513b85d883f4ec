"""The search among learning rates by probes: which rate is probed next, how long, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from lrfind.analysis.curves import HUGE, Array
from lrfind.analysis.probing import (
    ENOUGH,
    FEWEST_STEPS,
    FIRST_STEPS,
    HIGHEST,
    LOWEST,
    MOST_STEPS,
    GridPlace,
    Probe,
    ProbeResult,
    place_of,
    rate,
    tail,
)

FEWEST_RATES = 4  # rates that the budget must allow `FIRST_STEPS` each, so that the best has both neighbours
WIDE = 5  # rates that are probed first where probes are stacked


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

    def _survivors(self) -> list[GridPlace]:
        """Return the rates that are worth continuing; on a plateau, go up first until a rate harms."""
        if not self.result.learns:
            while (top := self.result.harmless) and top[-1] == max(self.result.scores) < HIGHEST:
                if not self._affords([top[-1] + 1], self.result.steps):
                    break
                self._bring([top[-1] + 1])
            return self.result.harmless[-3:]
        scores, best, untouched = self.result.scores, self.result.best, self.result.untouched
        return [place for place in range(best - 1, best + 2) if scores.get(place, math.inf) < untouched]

    def _bring(self, places: Iterable[GridPlace]) -> None:
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

    def _affords(self, places: Iterable[GridPlace], steps: int, more: int = 0) -> bool:
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
