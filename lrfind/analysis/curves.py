"""Curves of loss against learning rate, and how they are smoothed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfind.analysis.divergence import AT_A_CONSTANT_LR, FIRST_CHECK, HUGE, ceiling_at, first_divergence
from lrfind.errors import UsageError, counted, listed

Array = NDArray[np.float64]

MOST_PLACES = 8  # places of skipped points that a note lists
WINDOWS = (5, 7, 9, 13, 17, 25)  # the numbers of points that `smooth` can choose for its local fit
FEWEST_TO_SMOOTH = 16  # with fewer points, nothing is smoothed


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
        lines: (T,) the line of each point in its file; None if the curve is from no file.
    """

    lr: Array
    loss: Array
    planned: int
    diverged: bool | None = None
    remark: str = ""
    lines: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        lr: ArrayLike,
        loss: ArrayLike,
        planned: int | None = None,
        lines: NDArray[np.int64] | None = None,
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
        return cls(lr, loss, lr.size if planned is None else planned, lines=lines)

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
            word, places = ("point", self.gaps) if self.lines is None else ("line", self.lines[self.gaps])
            more = places.size - MOST_PLACES
            first = [f"{word} {place}" for place in places[:MOST_PLACES].tolist()]
            shown = listed([*first, *([f"{more} more"] if more > 0 else [])])
            was = "was" if places.size == 1 else "were"
            notes.append(
                f"{counted(places.size, 'point')} without a finite loss {was} skipped ({shown}), because the"
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
        step = first_divergence(self.loss[: self.length], for_good=True)
        return self.length if step is None and self.length < self.loss.size else step

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
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            return values.astype(np.float64)
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
        # The noise is doubled, because so few points say little about it.
        return Smoothed(loss.copy(), np.full_like(loss, 2 * batch_noise(loss)), 0.0)
    capped = without_blow_up(loss)
    fits = (_local_parabola(capped, window) for window in WINDOWS if window <= loss.size // 2)
    best = min(fits, key=lambda fit: fit.error)
    deviation = 1.4826 * np.median(best.left_out_error)  # a robust estimate of the deviation of normal noise
    noise_share = np.sqrt(np.sum(_weights_by_place(best.window) ** 2, axis=1))  # what remains after the fit
    standard_error = deviation * _at_each_point(noise_share, loss.size)
    return Smoothed(_within_windows(best.values, capped, best.window), standard_error, best.error)


def batch_noise(loss: Array) -> float:
    """Return the standard deviation of the loss of one batch, (T,) losses, whatever their trend.

    It is estimated from the second differences, which vanish on a straight line, and whose deviation is
    sqrt(6) times that of the noise; their median resists outliers.

    >>> batch_noise(np.linspace(3.0, 1.0, 50)) < 1e-12
    True
    """
    bends = np.abs(np.diff(loss, 2))
    return 1.4826 * float(np.median(bends)) / math.sqrt(6) if bends.size else 0.0


def without_blow_up(loss: Array) -> Array:
    """Return finite losses, (T,), in which those above the ceiling of `DivergenceRule` are lowered to it."""
    if loss.size <= FIRST_CHECK:
        return loss.copy()
    step = first_divergence(loss, AT_A_CONSTANT_LR)
    ceiling = ceiling_at(loss, loss.size - 1 if step is None else step, AT_A_CONSTANT_LR)
    return np.minimum(loss, ceiling)


@dataclass(frozen=True)
class _Fit:
    """A fit through a window around each of T points: its values, (T,), and how well they predict the points.

    `left_out_error`, (T,), is the distance of each point from its prediction by the others of its window, and
    `error` is the mean of the squares.
    """

    window: int
    values: Array
    left_out_error: Array
    error: float


def _local_parabola(y: Array, window: int) -> _Fit:
    """Fit a weighted parabola around each point of y (T,).

    The windows of the points are equal but for the place of the point in them, so a fit is a row of weights
    for each of the W places. All points but those at the ends have the place in the middle.
    """
    weights, half = _weights_by_place(window), window // 2
    windows = np.lib.stride_tricks.as_strided(y, (y.size - window + 1, window), 2 * y.strides)
    begin = np.einsum("pw,w->p", weights[:half], y[:window])
    middle = np.einsum("w,tw->t", weights[half], windows)
    end = np.einsum("pw,w->p", weights[half + 1 :], y[-window:])
    fit = np.concatenate([begin, middle, end])
    own_weight = _at_each_point(weights.diagonal(), y.size)
    left_out_error = np.abs((y - fit) / (1 - own_weight))
    return _Fit(window, fit, left_out_error, float(np.mean(left_out_error**2)))


def _at_each_point(by_place: Array, size: int) -> Array:
    """Return a value for each point, (T,), from the values for the W places of a point in its window."""
    half = by_place.size // 2
    middle = np.full(size - 2 * half, by_place[half])
    return np.concatenate([by_place[:half], middle, by_place[half + 1 :]])


def _within_windows(fit: Array, y: Array, window: int) -> Array:
    """Return a fit, (T,), that leaves the range of no window: a parabola overshoots at a cliff."""
    half, last = window // 2, y.size - window
    shifted = [y[offset : offset + last + 1] for offset in range(window)]
    lowest, highest = reduce(np.minimum, shifted), reduce(np.maximum, shifted)
    start = np.clip(np.arange(y.size) - half, 0, last)
    return np.clip(fit, lowest[start], highest[start])


@lru_cache(maxsize=len(WINDOWS))
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
