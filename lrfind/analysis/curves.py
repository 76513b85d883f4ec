"""Curves of loss against learning rate: when they diverge, and how they are smoothed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappush, heappushpop
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfind.errors import UsageError, counted, listed

Array = NDArray[np.float64]

ON_A_RAMP = 1.0  # times the drop: the loss is back where it began, and the lr still rises
AT_A_CONSTANT_LR = 2.0  # times the drop: a loss that swings back to where it began may still come down
NOISE = 4.0  # times the 90th percentile of the changes: 9 standard deviations if the noise is normal
FLOOR = 0.002  # times the first loss: gives a scale to a curve that neither falls nor shakes
FIRST_CHECK = 10  # the first step that is checked: before it, too few changes are known to estimate the noise
HUGE = 1e100  # a loss beyond this counts as not finite, so that squares of losses do not overflow

MOST_PLACES = 8  # places of skipped points that a note lists
WINDOWS = (5, 7, 9, 13, 17, 25)  # the numbers of points that `smooth` can choose for its local fit
FEWEST_TO_SMOOTH = 16  # with fewer points, nothing is smoothed
BLOCK = 65_536  # the points that are fitted at once


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
    _changes: _RunningPercentile = field(default_factory=lambda: _RunningPercentile(0.9))

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
        return median > self.ceiling

    @property
    def ceiling(self) -> float:
        """Return the value above which a median of three losses counts as diverged."""
        drop = self.factor * (self.first - self.best)
        return self.best + max(drop, NOISE * self._changes.value, FLOOR * abs(self.first))


class _RunningPercentile:
    """A percentile of all numbers so far: of n sorted numbers, the one at the place int(share * (n - 1)).

    A number more costs O(log n), because two heaps hold the numbers up to the percentile and those above it.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._up_to: list[float] = []  # a heap of the negated numbers: the percentile is on top
        self._above: list[float] = []

    @property
    def count(self) -> int:
        """Return how many numbers there are."""
        return len(self._up_to) + len(self._above)

    @property
    def value(self) -> float:
        """Return the percentile of the numbers so far."""
        return -self._up_to[0]

    def add(self, number: float) -> None:
        """Take one number more."""
        if int(self._share * self.count) < len(self._up_to):  # the percentile keeps its place
            heappush(self._above, -heappushpop(self._up_to, -number))
        else:
            heappush(self._up_to, -heappushpop(self._above, number))


@dataclass(frozen=True)
class Curve:
    """Loss against learning rate, in the order in which they were measured.

    Attributes:
        lr: (T,) the lrs, positive and strictly increasing; the optimizer used lr[t] at step t.
        loss: (T,) the losses, measured at step t *before* the update that uses lr[t]; they may end in
            non-finite values, and they may have gaps (see `gaps`).
        planned: the number of points that the test would have had without stopping early; T or more.
        diverged: whether the training that measured the curve diverged at the last point; None if that is
            not known, so that the losses have to show it. If it is False and the last loss is not finite,
            `remark` says why.
        remark: what something else than the lr did to the curve, in a sentence; "" if nothing is known.
        places: (T,) the place of each point in a file, such as "line 12"; empty if the curve is from no file.
    """

    lr: Array
    loss: Array
    planned: int
    diverged: bool | None = None
    remark: str = ""
    places: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, lr: ArrayLike, loss: ArrayLike, planned: int | None = None, places: tuple[str, ...] = ()
    ) -> Curve:
        """Build a curve from anything array-like; when omitted, `planned` is the number of points.

        Raises:
            UsageError: if lr and loss do not fit together, or lr is not positive and strictly increasing.
        """
        lr, loss = _array("lr", lr), _array("loss", loss)
        if lr.ndim != 1 or lr.shape != loss.shape:
            raise UsageError(
                f"lr and loss must be two lists of the same length; found shapes {lr.shape} and {loss.shape}."
            )
        if lr.size and not (np.isfinite(lr).all() and (lr > 0).all()):
            index = int(np.flatnonzero(~(np.isfinite(lr) & (lr > 0)))[0])
            raise UsageError(f"every lr must be a positive number; lr {index} is {lr[index]}.")
        if (np.diff(lr) <= 0).any():
            index = int(np.flatnonzero(np.diff(lr) <= 0)[0])
            raise UsageError(
                f"lr must increase from point to point; point {index + 1} has {lr[index + 1]:g} after"
                f" {lr[index]:g}."
            )
        return cls(lr, loss, lr.size if planned is None else planned, places=places)

    @cached_property
    def length(self) -> int:
        """Return the number of points before the first non-finite loss."""
        nonfinite = np.flatnonzero(~(np.abs(self.loss) < HUGE))
        return int(nonfinite[0]) if nonfinite.size else self.loss.size

    @cached_property
    def gaps(self) -> NDArray[np.intp]:
        """Return the points, ascending, whose loss is missing or not finite although training went on well.

        Training went on well if a later loss is no higher than the highest loss before. A lane of lrfind has
        no gaps, because it ends at the first loss that is not finite.
        """
        finite = np.abs(self.loss) < HUGE
        highest_before = np.maximum.accumulate(np.where(finite, self.loss, -np.inf))
        lowest_after = np.minimum.accumulate(np.where(finite, self.loss, np.inf)[::-1])[::-1]
        recovers = (lowest_after <= highest_before) | np.isneginf(highest_before)
        return np.flatnonzero(~finite & recovers & np.isfinite(lowest_after))

    @property
    def notes(self) -> list[str]:
        """Return what the reader of an answer from this curve should know of its points, in sentences."""
        notes = [self.remark] if self.remark else []
        if self.gaps.size:
            places = [self.places[t] if self.places else f"point {t}" for t in self.gaps.tolist()]
            more = len(places) - MOST_PLACES
            shown = listed([*places[:MOST_PLACES], *([f"{more} more"] if more > 0 else [])])
            was = "was" if len(places) == 1 else "were"
            notes.append(
                f"{counted(len(places), 'point')} without a finite loss {was} skipped ({shown}), because the"
                " losses after that are finite and no higher than those before."
            )
        return notes

    @cached_property
    def without_gaps(self) -> Curve:
        """The curve without the points of its gaps; itself if it has none."""
        if not self.gaps.size:
            return self
        lr, loss = np.delete(self.lr, self.gaps), np.delete(self.loss, self.gaps)
        return Curve(lr, loss, self.planned - self.gaps.size, self.diverged, self.remark)

    @cached_property
    def divergence(self) -> int | None:
        """Return the step at which the loss diverged; None if it did not.

        Where it is not known how the training ended (`diverged`), this is the first step at which
        `DivergenceRule` says so and after which the loss never comes back: a loss that rises and later falls
        below its lowest value before the rise (as medians of three) has not diverged.
        """
        if self.diverged is not None:
            return self.loss.size - 1 if self.diverged and self.loss.size else None
        rule = DivergenceRule()
        finite = self.loss[: self.length]
        medians = np.median([finite[:-2], finite[1:-1], finite[2:]], axis=0)  # medians[t - 2] is that of t
        lowest_later = np.append(np.minimum.accumulate(medians[::-1])[::-1], np.inf)
        for t, loss in enumerate(self.loss):
            if rule.diverges(float(loss)) and not (t < self.length and lowest_later[t - 1] <= rule.best):
                return t
        return None

    @cached_property
    def smoothed(self) -> Array:
        """Return the loss smoothed by `smooth`, (T,); it is NaN from the first non-finite loss on."""
        return np.concatenate([self._smooth.values, np.full(self.loss.size - self.length, np.nan)])

    @property
    def standard_error(self) -> Array:
        """Return the standard error of the smoothed loss, (n,), from the noise around it; n is `length`."""
        return self._smooth.standard_error

    @cached_property
    def _smooth(self) -> Smoothed:
        return smooth(self.loss[: self.length])


def _array(name: str, values: Any) -> Array:
    """Return anything array-like, also a torch tensor, as float64."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu().tolist()
        return np.array([float(value) for value in values] if np.ndim(values) == 1 else values, np.float64)
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        raise UsageError(f"{name} must be a list of numbers: {error}.") from None


@dataclass(frozen=True)
class Smoothed:
    """A smoothed loss.

    Attributes:
        values: (T,) the smoothed loss.
        standard_error: (T,) the standard error of each value, estimated from the noise around it.
        error: the mean squared error of predicting each point from the others.
    """

    values: Array
    standard_error: Array
    error: float


def smooth(loss: ArrayLike) -> Smoothed:
    """Smooth a finite loss without lag, as strongly as its noise requires.

    At each point, a parabola is fitted to the nearest points with tricube weights (local regression:
    Cleveland 1979, without its robust pass). The width is the one of `WINDOWS` with the least leave-one-out
    error, so a clean curve stays as it is. A running average, which the peers use, lags behind the lr and
    moves every minimum to the right. Losses far above the first one are lowered before the fit, so that a
    blow-up does not leak into the points before it. Fewer than 16 points are left as they are.

    Args:
        loss: (T,) finite losses at evenly spaced steps.
    """
    loss = np.asarray(loss, dtype=np.float64)
    if loss.size < FEWEST_TO_SMOOTH:
        bends = np.abs(np.diff(loss, 2))  # on a straight line, their deviation is sqrt(6) times the noise's
        noise = 1.4826 * float(np.median(bends)) / math.sqrt(6) if bends.size else 0.0
        # The noise is doubled, because so few points say little about it.
        return Smoothed(loss.copy(), np.full_like(loss, 2 * noise), 0.0)
    capped = without_blow_up(loss)
    fits = [_local_parabola(capped, window) for window in WINDOWS if window <= loss.size // 2]
    return min(fits, key=lambda fit: fit.error)


def without_blow_up(loss: Array) -> Array:
    """Return finite losses, (T,), in which those above the ceiling of `DivergenceRule` are lowered to it."""
    if loss.size <= FIRST_CHECK:
        return loss.copy()
    rule = DivergenceRule(AT_A_CONSTANT_LR)
    for value in loss:
        if rule.diverges(float(value)):
            break
    return np.minimum(loss, rule.ceiling)


def _local_parabola(y: Array, window: int) -> Smoothed:
    """Fit a weighted parabola around each point of y (T,).

    The windows of the points are equal but for the place of the point in them, so a fit is a row of weights
    for each of the W places. The points are taken in blocks, so that the memory beyond O(T) is bounded.
    """
    size = y.size
    start = np.clip(np.arange(size) - window // 2, 0, size - window)
    place = np.arange(size) - start  # of each point in its window
    weights = _weights_by_place(window)
    windows = np.lib.stride_tricks.sliding_window_view(y, window)  # (T - W + 1, W)
    fit, lowest, highest = np.empty((3, size))
    for begin in range(0, size, BLOCK):
        block = slice(begin, begin + BLOCK)
        losses = windows[start[block]]  # (block, W)
        fit[block] = np.einsum("tw,tw->t", weights[place[block]], losses)
        lowest[block], highest[block] = losses.min(axis=1), losses.max(axis=1)
    own_weight = weights[np.arange(window), np.arange(window)][place]
    left_out_error = np.abs((y - fit) / (1 - own_weight))
    deviation = 1.4826 * np.median(left_out_error)  # a robust estimate of the deviation of normal noise
    noise_share = np.sqrt(np.sum(weights**2, axis=1))[place]  # of the noise, what remains after the fit
    clipped = np.clip(fit, lowest, highest)  # a parabola overshoots at a cliff
    return Smoothed(clipped, deviation * noise_share, float(np.mean(left_out_error**2)))


def _weights_by_place(window: int) -> Array:
    """Return the weights (W, W) of a window's losses in the fit at each place in the window."""
    offset = np.arange(window)[None, :] - np.arange(window)[:, None].astype(np.float64)
    reach = np.abs(offset).max(axis=1, keepdims=True) + 1
    weight = (1 - (np.abs(offset) / reach) ** 3) ** 3
    basis = np.stack([np.ones_like(offset), offset, offset**2], axis=-1)  # (W, W, 3)
    normal = np.einsum("twi,tw,twj->tij", basis, weight, basis)
    # The fit at offset 0 is the first coefficient: a row of weights on the window's losses.
    rows: Array = np.einsum("ti,twi,tw->tw", np.linalg.inv(normal)[:, 0, :], basis, weight)
    return rows
