"""The decisions of probing: which rate is probed next, for how many steps, and when probing ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.divergence import HUGE
from lrfind.analysis.noise import SAME, deviation
from lrfind.analysis.probing import (
    BLOWN_UP,
    ENOUGH,
    FEWEST_STEPS,
    FIRST_STEPS,
    HIGHEST,
    LOWEST,
    MOST_STEPS,
    SIGNIFICANT,
    GridPlace,
    Probe,
    ProbeResult,
    place_of,
    rate,
    tail,
)

FEWEST_RATES = 4  # the budget must allow `FIRST_STEPS` at so many rates, so that the best has both neighbours
NULL = 0.1  # a change of the loss by fewer noises, if it is not significant, is none
WIDE = 5  # the number of rates that are probed first if probes are stacked


class Prober(Protocol):
    """Trains the probes of one seed."""

    def untouched(self, steps: int) -> Array:
        """Return (steps,) the losses of the model before any update, on the batches that the probes see."""
        ...

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        """Train new probes, or continue old ones, until each has `steps` steps.

        Args:
            lrs: the lr of each probe.
            steps: the number of steps of each probe, counted from its first step.
            ceiling: (steps,) a loss above it ends a probe.
        """
        ...

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        """Return whether budget and memory allow `steps` steps for these rates and for `more` others."""
        ...


class ProbeSearch:
    """Decides which rates one seed's prober tries, and for how many steps.

    Args:
        prober: trains the probes.
        seed: the prober's seed, for the result.
        longest: the most steps of a probe; at least `FEWEST_STEPS`.

    Attributes:
        result: the measurements so far.
    """

    def __init__(self, prober: Prober, *, seed: int = 0, longest: int = MOST_STEPS) -> None:
        self._prober, self._longest = prober, longest
        self.result = ProbeResult(seed)

    def run(self, start: float, *, wide: bool = False) -> ProbeResult:
        """Look for the lr that learns fastest.

        Short probes go from rate to rate until they find the one with the lowest loss. The probes at this
        rate and at its neighbours are continued to twice the steps. This is repeated until the loss has
        fallen far enough to tell the rates apart. Whenever the best rate is the lowest or the highest one,
        the next rate beyond it is probed too. While hardly anything is learned, the order of the rates is
        noise. In that case, higher and higher rates are probed until one harms, and the highest harmless
        rates are continued.

        Args:
            start: the lr to begin with.
            wide: whether to begin with five rates, which can be trained as one stack, instead of two.

        Returns:
            The result. It has no probe if the budget allows none, or if the untouched loss is not finite.
        """
        if not self._finite(FEWEST_STEPS) or not self._begin(start, wide):
            return self.result
        return self.go_on()

    def go_on(self) -> ProbeResult:
        """Continue from the rates that are probed, as far as the budget goes, which may have grown."""
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
        """Probe the first rates for as many steps as possible; return False if no probe is possible.

        The budget and the batches limit the steps.
        """
        middle = place_of(start)
        first = range(middle - WIDE // 2, middle + WIDE // 2 + 1) if wide else range(middle, middle + 2)
        first = range(max(first.start, LOWEST), min(first.stop, HIGHEST + 1))
        further = max(FEWEST_RATES - len(first), 0)
        first_steps = min(FIRST_STEPS, self._longest)
        shorter = min((FIRST_STEPS + FEWEST_STEPS) // 2, first_steps)
        for steps, more in ((first_steps, further), (shorter, further), (FEWEST_STEPS, 0)):
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
            if not self.result.harmless or (self._nothing_falls() and not self._null(low, low + 1)):
                further = low - 1
            elif best == high:
                further = high + 1
            elif best == low and not self._null(low, low + 1):
                further = low - 1
            else:
                return
            if not LOWEST <= further <= HIGHEST or not self._affords([further], self.result.steps):
                return
            self._bring([further])

    def _nothing_falls(self) -> bool:
        """Return whether no rate lowers the loss below that of the untouched model."""
        return self.result.scores[self.result.best] >= self.result.untouched

    def _null(self, *places: GridPlace) -> bool:
        """Return whether these rates were compared and change hardly anything, so that lower ones do less."""
        result = self.result
        return all(
            place in result.scores
            and abs(result.untouched - result.scores[place]) < NULL * result.noise
            and result.certainty(place) < SIGNIFICANT
            for place in places
        )

    def _enough(self) -> bool:
        """Return whether longer probes would not help, or are not possible."""
        result = self.result
        if result.steps >= self._longest or result.cut or result.broken or result.indifferent:
            return True
        return any(result.steps >= steps and result.gain >= gain for steps, gain in ENOUGH.items())

    def _survivors(self) -> list[GridPlace]:
        """Return the rates worth continuing; on a plateau, first probe higher rates until one harms."""
        if not self.result.learns:
            while (top := self.result.harmless) and top[-1] == max(self.result.scores) < HIGHEST:
                if not self._affords([top[-1] + 1], self.result.steps):
                    break
                self._bring([top[-1] + 1])
            return self.result.harmless[-3:]
        scores, best, untouched = self.result.scores, self.result.best, self.result.untouched
        return [place for place in range(best - 1, best + 2) if scores.get(place, math.inf) < untouched]

    def _bring(self, places: Iterable[GridPlace]) -> None:
        """Probe these rates, or continue their probes, up to `result.steps` steps; then score them."""
        ordered, result = sorted(places), self.result
        ceiling = ceiling_over(self._untouched(result.steps))
        probes = self._prober.probe([rate(place) for place in ordered], result.steps, ceiling)
        new = dict(zip(ordered, probes, strict=True))
        scores = {place: math.inf if probe.stopped else tail(probe.loss) for place, probe in new.items()}
        self.result = replace(result, probes={**result.probes, **new}, scores={**result.scores, **scores})

    def _affords(self, places: Iterable[GridPlace], steps: int, more: int = 0) -> bool:
        """Return whether these rates and `more` others can have `steps` steps; if not, probing is cut."""
        within = self._prober.affords([rate(place) for place in places], steps, more)
        self.result = replace(self.result, cut=self.result.cut or not within)
        return within

    def _finite(self, steps: int) -> bool:
        """Return whether the untouched model's losses on the first `steps` batches are finite."""
        return bool(np.isfinite(self._untouched(steps)).all())

    def _untouched(self, steps: int) -> Array:
        """Return (steps,) the untouched losses, and keep the longest such array in the result."""
        untouched = self._prober.untouched(steps)
        if len(untouched) > len(self.result.untouched_loss):
            self.result = replace(self.result, untouched_loss=untouched)
        return untouched


def ceiling_over(untouched: Array) -> Array:
    """Return (steps,) the losses above which a probe stops.

    Each is the untouched loss on the same batch plus `BLOWN_UP` noises, or plus half the size of the loss if
    that is more: an output that hardly differs between inputs, such as that of tiny ones, has hardly any
    noise. If all batches have the same loss, the margin is twice the size of the loss.
    """
    noise, size = deviation(untouched), abs(float(untouched[0]))
    room = max(BLOWN_UP * noise, size / 2) if noise > SAME * size else 2 * size
    return np.minimum(untouched + room, HUGE)
