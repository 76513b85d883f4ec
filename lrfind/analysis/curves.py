"""Curves of loss against learning rate: when they diverge, and how they are smoothed."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfind.errors import UsageError

Array = NDArray[np.float64]

ON_A_RAMP = 1.0  # times the drop: the loss has lost all it gained, and the lr still rises
AT_A_CONSTANT_LR = 2.0  # and as much again: a loss that swings back to where it began may still come down
NOISE = 4.0  # times the 90th percentile of the changes: 9 deviations, were they normal
FLOOR = 0.002  # of the first loss: so that a curve that neither falls nor shakes has a scale too
FIRST_CHECK = 10  # before this step, so few changes say little of the noise
HUGE = 1e100  # a loss beyond this counts as not finite: its square would be

WINDOWS = (5, 7, 9, 13, 17, 25)  # points of the local fit that `smooth` chooses from
FEWEST_TO_SMOOTH = 16  # below this every point counts by itself


@dataclass
class DivergenceRule:
    """Watches one lane's losses and says when they have diverged.

    A loss diverges at step t when it is not finite or, from step 10 on, when m_t, the median of the last
    three losses, rises above

        best + max(factor * (first - best), 4 * noise, 0.002 * |first|)

    where `first` is the median of the first three losses, `best` the lowest m so far, and `noise` the 90th
    percentile of the absolute changes between consecutive losses so far; `factor` is 1 on a ramp, 2 at a
    constant lr. The scale is the *drop* from the first loss to the best, not the best itself as in the peers
    (`loss > 4 * best`): a drop does not change when a constant is added to the loss, so the rule means the
    same for negative losses, losses with an offset (of up to 500 times the drop: see the last term) and
    losses that reach the rounding floor, where 4 * best stops at once or never. The medians let one wild
    batch pass; the noise term keeps a flat, noisy start from looking like a divergence; the last term gives
    a scale to a curve that neither falls nor shakes.

    >>> rule = DivergenceRule()
    >>> losses = [1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.3, 0.5, 7.0, 90.0]
    >>> [rule.diverges(loss) for loss in losses][-3:]
    [False, False, True]
    """

    factor: float = ON_A_RAMP
    first: float = math.nan
    best: float = math.inf
    _last: tuple[float, float] = (math.nan, math.nan)  # the two losses before
    _changes: list[float] = field(default_factory=list)  # sorted

    def diverges(self, loss: float) -> bool:
        """Take the next loss; True when the lane has diverged at it."""
        if not -HUGE < loss < HUGE:
            return True
        before, last = self._last
        self._last = last, loss
        if last == last:
            insort(self._changes, abs(loss - last))
        if before != before:
            return False  # fewer than three losses have no median
        middle = max(min(before, last), min(max(before, last), loss))
        if len(self._changes) == 2:
            self.first = middle
        if middle < self.best:
            self.best = middle
        if middle <= self.first or len(self._changes) < FIRST_CHECK:
            return False  # the ceiling is never below the first
        return middle > self.ceiling

    @property
    def ceiling(self) -> float:
        """The median of three losses above which the lane counts as diverged."""
        noise = self._changes[int(0.9 * (len(self._changes) - 1))]
        drop = self.factor * (self.first - self.best)
        return self.best + max(drop, NOISE * noise, FLOOR * abs(self.first))


@dataclass(frozen=True)
class Curve:
    """Loss against learning rate, in the order measured.

    Attributes:
        lr: (T,) positive and strictly increasing; lr[t] is what the optimizer used at step t.
        loss: (T,) measured at step t *before* the update that uses lr[t]; may end in non-finite values.
        planned: how many points the test would have had without stopping early; T or more.
    """

    lr: Array
    loss: Array
    planned: int

    @classmethod
    def of(cls, lr: ArrayLike, loss: ArrayLike, planned: int | None = None) -> Curve:
        """Build a curve from anything array-like; `planned` is the number of points when omitted.

        Raises:
            UsageError: if the two do not fit together, or lr is not positive and strictly increasing.
        """
        lr, loss = _array("lr", lr), _array("loss", loss)
        if lr.ndim != 1 or lr.shape != loss.shape:
            raise UsageError(
                f"lr and loss must be two lists of the same length; found shapes {lr.shape} and {loss.shape}."
            )
        if lr.size and not (np.isfinite(lr).all() and (lr > 0).all()):
            at = int(np.flatnonzero(~(np.isfinite(lr) & (lr > 0)))[0])
            raise UsageError(f"every lr must be a positive number; lr {at} is {lr[at]}.")
        if (np.diff(lr) <= 0).any():
            at = int(np.flatnonzero(np.diff(lr) <= 0)[0])
            raise UsageError(
                f"lr must increase from point to point; point {at + 1} has {lr[at + 1]:g} after {lr[at]:g}."
            )
        return cls(lr, loss, lr.size if planned is None else planned)

    @cached_property
    def length(self) -> int:
        """How many points come before the first non-finite loss."""
        bad = np.flatnonzero(~(np.abs(self.loss) < HUGE))
        return int(bad[0]) if bad.size else self.loss.size

    @cached_property
    def divergence(self) -> int | None:
        """The step at which the loss diverged by `DivergenceRule`, or None."""
        rule = DivergenceRule()
        return next((t for t, loss in enumerate(self.loss) if rule.diverges(float(loss))), None)

    @cached_property
    def smoothed(self) -> Array:
        """(T,) the loss smoothed by `smooth`; NaN from the first non-finite loss on."""
        return np.concatenate([self._smooth.values, np.full(self.loss.size - self.length, np.nan)])

    @property
    def standard_error(self) -> Array:
        """(n,) of the smoothed loss, from the noise around it; n points come before a non-finite loss."""
        return self._smooth.standard_error

    @cached_property
    def _smooth(self) -> Smoothed:
        return smooth(self.loss[: self.length])


def _array(name: str, values: Any) -> Array:
    """Anything array-like, a torch tensor too, as float64."""
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
        standard_error: (T,) of each value, from the noise around it.
        error: mean squared error in predicting each point from the others.
    """

    values: Array
    standard_error: Array
    error: float


def smooth(loss: ArrayLike) -> Smoothed:
    """Smooth a finite loss without lag, as much as the loss itself calls for.

    At each point, a parabola is fitted to the nearest points with tricube weights (local regression:
    Cleveland 1979, without its robust pass); the width is the one of `WINDOWS` whose leave-one-out error is
    least, so a clean curve stays as it is. A running average, as the peers use, lags behind the lr and moves
    every minimum to the right. Losses far above the first one are lowered first: a blow-up must not leak into
    the points before it. Fewer than 16 points are left as they are.

    Args:
        loss: (T,) finite, at evenly spaced steps.
    """
    loss = np.asarray(loss, dtype=np.float64)
    if loss.size < FEWEST_TO_SMOOTH:
        bend = np.abs(np.diff(loss, 2))  # on a straight line, of deviation sqrt(6) times the noise's
        noise = 1.4826 * float(np.median(bend)) / math.sqrt(6) if bend.size else 0.0
        return Smoothed(loss.copy(), np.full_like(loss, 2 * noise), 0.0)  # doubled: so few say little of it
    rule = DivergenceRule(AT_A_CONSTANT_LR)
    for value in loss:
        if rule.diverges(float(value)):
            break
    capped = np.minimum(loss, rule.ceiling)
    fits = [_local_parabola(capped, window) for window in WINDOWS if window <= loss.size // 2]
    return min(fits, key=lambda fit: fit.error)


def _local_parabola(y: Array, window: int) -> Smoothed:
    """Fit a weighted parabola around each point of y (T,)."""
    size, half = y.size, window // 2
    start = np.clip(np.arange(size) - half, 0, size - window)
    index = start[:, None] + np.arange(window)  # (T, W)
    offset = (index - np.arange(size)[:, None]).astype(np.float64)
    reach = np.abs(offset).max(axis=1, keepdims=True) + 1
    weight = (1 - (np.abs(offset) / reach) ** 3) ** 3
    basis = np.stack([np.ones_like(offset), offset, offset**2], axis=-1)  # (T, W, 3)
    normal = np.einsum("twi,tw,twj->tij", basis, weight, basis)
    # The fit at offset 0 is the first coefficient: a row of weights on the window's losses.
    row = np.einsum("ti,twi,tw->tw", np.linalg.inv(normal)[:, 0, :], basis, weight)
    fit = np.einsum("tw,tw->t", row, y[index])
    own = row[np.arange(size), np.arange(size) - start]
    left_out = np.abs((y - fit) / (1 - own))
    deviation = 1.4826 * np.median(left_out)  # of the noise, were it normal; robust
    passed = np.sqrt(np.sum(row**2, axis=1))  # the share of it that goes through the fit
    inside = np.clip(fit, y[index].min(axis=1), y[index].max(axis=1))  # a cliff makes a parabola overshoot
    return Smoothed(inside, deviation * passed, float(np.mean(left_out**2)))
