"""Divergence: the rule that says when a loss has diverged, by step, by block, and for losses all known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappush, heappushpop

import numpy as np
from numpy.typing import NDArray

ON_A_RAMP = 1.0  # times the drop: the loss is back where it began, and the lr still rises
AT_A_CONSTANT_LR = 2.0  # times the drop: a loss that swings back to where it began may still come down
SHARE = 0.9  # the percentile of the changes that stands for the noise
NOISE = 4.0  # times the 90th percentile of the changes: 9 standard deviations if the noise is normal
FLOOR = 0.002  # times the first loss: gives a scale to a curve that neither falls nor shakes
FIRST_CHECK = 10  # the first step that is checked: before it, too few changes are known to estimate the noise
HUGE = 1e100  # a loss beyond this counts as not finite, so that squares of losses do not overflow


@dataclass
class DivergenceRule:
    """The rule that watches one lane's losses and says when they have diverged.

    Let m_t be the median of the last three losses at step t. A loss diverges at step t if it is not finite.
    From step 10 on, it also diverges if m_t rises above

        best + max(factor * (first - best), 4 * noise, 0.002 * |first|)

    Here `first` is the median of the first three losses, `best` is the lowest m so far, and `noise` is the
    90th percentile of the absolute changes between consecutive losses so far. `factor` is 1 on a ramp and 2
    at a constant lr.

    The scale is the *drop* from the first loss to the best. The peers, such as fastai, use the best loss
    itself as the scale (`loss > 4 * best`). A drop does not change when a constant is added to the loss. So
    the rule works the same for negative losses, for losses with an offset (of up to 500 times the drop,
    because of the last term) and for losses that reach the rounding floor. In these cases, `4 * best` stops
    at once or never. Because of the medians, one wild batch is not a divergence. The noise term keeps a flat,
    noisy start from looking like a divergence. The last term gives a scale to a curve that neither falls nor
    shakes.

    >>> rule = DivergenceRule()
    >>> losses = [1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.3, 0.5, 7.0, 90.0]
    >>> [rule.diverges(loss) for loss in losses][-3:]
    [False, False, True]
    """

    factor: float = ON_A_RAMP
    first: float = math.nan
    best: float = math.inf
    _last: tuple[float, float] = (math.nan, math.nan)  # the last two losses
    _changes: _RunningPercentile = field(default_factory=lambda: _RunningPercentile(SHARE))

    def diverges(self, loss: float) -> bool:
        """Take the next loss and return whether the lane has diverged at it."""
        if not -HUGE < loss < HUGE:
            return True
        second_last, last = self._last
        self._last = last, loss
        if last == last:  # not NaN: there is a last loss
            self._changes.add(abs(loss - last))
        if second_last != second_last:  # NaN: fewer than three losses have no median
            return False
        median = max(min(second_last, last), min(max(second_last, last), loss))
        if self._changes.count == 2:
            self.first = median
        if median < self.best:
            self.best = median
        if median <= self.first or self._changes.count < FIRST_CHECK:
            return False  # the ceiling is never below `first`
        return median > self._ceiling_without_noise and median > self.ceiling

    @property
    def ceiling(self) -> float:
        """Return the value above which a median of three losses counts as diverged."""
        return max(self._ceiling_without_noise, self.best + NOISE * self._changes.value)

    @property
    def _ceiling_without_noise(self) -> float:
        return self.best + max(self.factor * (self.first - self.best), FLOOR * abs(self.first))


class _RunningPercentile:
    """A percentile of all numbers so far: of n sorted numbers, the one at the place int(share * (n - 1)).

    A number more costs O(log n), because two heaps hold the numbers up to the percentile and those above it.
    They take it when the percentile is asked for, which most curves never need.

    Attributes:
        count: how many numbers there are.
    """

    def __init__(self, share: float) -> None:
        self.count = 0
        self._share = share
        self._up_to: list[float] = []  # a heap of the negated numbers: the percentile is on top
        self._above: list[float] = []
        self._waiting: list[float] = []

    @property
    def value(self) -> float:
        """Return the percentile of the numbers so far."""
        for number in self._waiting:
            self._place(number)
        self._waiting = []
        return -self._up_to[0]

    def add(self, number: float) -> None:
        """Take one number more."""
        self.count += 1
        self._waiting.append(number)

    def _place(self, number: float) -> None:
        placed = len(self._up_to) + len(self._above)
        if int(self._share * placed) < len(self._up_to):  # the percentile keeps its place
            heappush(self._above, -heappushpop(self._up_to, -number))
        else:
            heappush(self._up_to, -heappushpop(self._above, number))


class Suspicion:
    """Says of many lanes at once, block after block of their losses, which of them may have diverged.

    It compares with a ceiling that is never above that of `DivergenceRule`, because it takes a lower bound
    for the noise. So a lane that it does not suspect has not diverged by the rule.

    Args:
        factor: the factor of the rule.
        lanes: K, the number of lanes.
    """

    def __init__(self, factor: float, lanes: int) -> None:
        self._factor = factor
        self._steps = 0  # the number of losses of a lane
        self._last = np.empty((0, lanes))  # the last two losses
        self._first = np.full(lanes, np.nan)
        self._best = np.full(lanes, np.inf)
        self._changes = [np.empty((0, lanes))]  # (n, K) in blocks
        self._noise = np.zeros(lanes)  # the lower bound, which holds while there are at most so many changes:
        self._holds = 0

    def suspects(self, losses: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Take the losses of the next steps (T, K), and return which lanes may have diverged at one, (K,).

        Of a lane that has diverged, the answer means nothing.
        """
        known = np.concatenate([self._last, losses])
        medians = _medians(known)
        suspected: NDArray[np.bool_] = ~np.asarray((np.abs(losses) < HUGE).all(axis=0))
        with np.errstate(invalid="ignore", over="ignore"):  # of lanes that have diverged
            changes = np.abs(np.diff(known[-1 - len(losses) :], axis=0))
            if medians.size:
                if self._steps <= 2:
                    self._first = medians[0]
                best = np.minimum(np.minimum.accumulate(medians), self._best)
                drop = self._factor * (self._first - best)
                risen = medians > best + np.maximum(drop, FLOOR * np.abs(self._first))
                before = sum(map(len, self._changes))
                risen[: max(0, FIRST_CHECK - (self._steps + len(losses) - len(medians)))] = False
                if risen.any():
                    risen &= medians > best + NOISE * self._least_noise(before, before + len(changes))
                suspected |= risen.any(axis=0)
                self._best = best[-1]
        self._changes.append(changes)
        self._last, self._steps = known[-2:], self._steps + len(losses)
        return suspected

    def _least_noise(self, before: int, after: int) -> NDArray[np.float64]:
        """Return a lower bound for the noise (K,), from the first changes, until there are more of them.

        Among `ahead` changes more, the number at the place p is at least the one at the place p - ahead now.
        It is looked for anew when the changes have become half as many more, so that it costs little.
        """
        if after > self._holds:
            ahead = max(after - before, before // 2)
            place = _place(before + ahead) - ahead
            if place >= 0:
                self._changes = [np.concatenate(self._changes)]
                self._noise = np.partition(self._changes[0], place, axis=0)[place]
                self._holds = before + ahead
        return self._noise

    def keep(self, index: Sequence[int]) -> None:
        """Keep only the lanes at these places."""
        places = [*index]
        self._last, self._first, self._best = self._last[:, places], self._first[places], self._best[places]
        self._changes, self._noise = [part[:, places] for part in self._changes], self._noise[places]


def first_divergence(
    loss: NDArray[np.float64], factor: float = ON_A_RAMP, *, for_good: bool = False
) -> int | None:
    """Return the first step at which `DivergenceRule` says that losses diverge; None if there is none.

    All losses are judged at once, which takes a fiftieth of the time that asking the rule takes.

    Args:
        loss: (T,) finite losses.
        factor: the factor of the rule.
        for_good: leave out a step if a later median of three losses falls to the lowest one up to the step.
    """
    if loss.size <= FIRST_CHECK:
        return None
    medians = _medians(loss)  # that of step t is medians[t - 2]
    first, best = medians[0], np.minimum.accumulate(medians)
    risen = medians > best + np.maximum(factor * (first - best), FLOOR * abs(first))
    risen &= medians > first
    risen[: FIRST_CHECK - 2] = False
    if for_good:
        lowest_later = np.append(np.minimum.accumulate(medians[::-1])[::-1][1:], np.inf)
        risen &= lowest_later > best
    changes, steps = np.abs(np.diff(loss)), np.flatnonzero(risen) + 2
    while steps.size:
        # At step t, the noise is the number at the place p(t) of the first t changes in order. Up to step u,
        # u - t more changes come in. So it is at least the number at the place p(u) - (u - t).
        step = int(steps[0])
        ordered = np.sort(changes[:step])
        if medians[step - 2] > best[step - 2] + NOISE * ordered[_place(step)]:
            return step
        near = steps[1 : np.searchsorted(steps, 2 * step)]
        places = (SHARE * (near - 1)).astype(int) - (near - step)
        least = np.where(places < 0, 0.0, ordered[places])
        doubtful = np.flatnonzero(medians[near - 2] > best[near - 2] + NOISE * least)
        steps = steps[1 + (int(doubtful[0]) if doubtful.size else near.size) :]
    return None


def ceiling_at(loss: NDArray[np.float64], step: int, factor: float) -> float:
    """Return the ceiling of `DivergenceRule` after a step, which is 10 or later, of finite losses (T,)."""
    medians, changes = _medians(loss[: step + 1]), np.abs(np.diff(loss[: step + 1]))
    first, best, place = float(medians[0]), float(medians.min()), _place(step)
    noise = float(np.partition(changes, place)[place])
    return best + max(factor * (first - best), NOISE * noise, FLOOR * abs(first))


def _medians(loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the medians of three consecutive losses, (T - 2,)."""
    a, b, c = loss[:-2], loss[1:-1], loss[2:]
    medians: NDArray[np.float64] = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return medians


def _place(count: int) -> int:
    """Return the place of the percentile among so many changes in order."""
    return int(SHARE * (count - 1))
