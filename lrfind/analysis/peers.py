"""The methods of the peers (torch-lr-finder, fastai, Lightning, Ignite), rewritten from their behaviour.

Each `*_suggest` and `fastai_*` function returns the point that the peer chooses on the same arrays. The
function refuses if the peer would answer from non-finite values or from too few points. Each `as_*` function
turns a raw curve into the curve that the peer's own finder would have recorded: smoothed as the peer does it,
and cut where the peer would have stopped.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from lrfind.analysis.curves import Array, Curve
from lrfind.errors import NoSuggestion, counted

Float32 = NDArray[np.float32]


def _record(curve: Curve, smoothed: Array, limit: float, *, against_earlier: bool = False) -> Curve:
    """Cut `curve` after the first point whose smoothed loss exceeds `limit` times the best loss so far.

    The best loss so far includes the loss of the point itself, unless `against_earlier` is true. This makes a
    difference only if losses are negative.
    """
    best = math.inf
    for t, value in enumerate(smoothed):
        lowest = min(best, value)
        if value > limit * (best if against_earlier else lowest):
            return Curve(curve.lr[: t + 1], smoothed[: t + 1], curve.planned)
        best = lowest
    return Curve(curve.lr, smoothed, curve.planned)


def _lagging_average(loss: Array) -> Array:
    """Return the average that torch-lr-finder and Ignite use by default, without debiasing.

    s_0 = l_0, then s = .05 l + .95 s_prev.
    """
    smoothed = loss.copy()
    with np.errstate(all="ignore"):  # losses may be infinite, of both signs
        for t in range(1, loss.size):
            smoothed[t] = 0.05 * loss[t] + 0.95 * smoothed[t - 1]
    return smoothed


def _discounted_sum(loss: Array) -> Array:
    """Return the sum v = .98 v + .02 l, from v = 0, which the averages of fastai and Lightning share."""
    total, sums = 0.0, np.empty_like(loss)
    with np.errstate(all="ignore"):  # losses may be infinite, of both signs
        for t, value in enumerate(loss):
            total = 0.98 * total + 0.02 * value
            sums[t] = total
    return sums


def as_lagging(curve: Curve) -> Curve:
    """Return the curve that torch-lr-finder and Ignite would record: they stop above 5 times the best."""
    return _record(curve, _lagging_average(curve.loss), 5.0)


def as_fastai(curve: Curve) -> Curve:
    """Return the curve that fastai would record: a debiased average, stopped above 4 times the best."""
    debias = 1 - 0.98 ** np.arange(1, curve.loss.size + 1)
    return _record(curve, _discounted_sum(curve.loss) / debias, 4.0)


def as_lightning(curve: Curve) -> Curve:
    """Return the curve that Lightning would record: a sum divided by 1 - .98^(i+2), stopped as fastai does.

    Because of this divisor, the curve starts at half of the true loss.
    """
    debias = 1 - 0.98 ** np.arange(2, curve.loss.size + 2)
    return _record(curve, _discounted_sum(curve.loss) / debias, 4.0, against_earlier=True)


def _refuse_too_few(count: int, needed: int, cut: str) -> None:
    if count < needed:
        raise NoSuggestion(
            f"too few points: {cut} leaves {counted(count, 'point')}, and the method needs at"
            f" least {needed}; use more steps."
        )


def _refuse_non_finite(loss: NDArray[np.floating], method: str) -> None:
    if not np.isfinite(loss).all():
        raise NoSuggestion(
            f"the loss is not finite within the points that {method} reads, so {method} would suggest the lr"
            " where the blow-up begins; cut the curve there, or use another method."
        )


def torch_lr_finder_suggest(curve: Curve) -> int:
    """Return the point of the steepest fall per point (not per decade).

    The first 10 and the last 5 points are left out.
    """
    loss = curve.loss[10:-5]
    _refuse_too_few(loss.size, 2, "dropping the first 10 and the last 5")
    _refuse_non_finite(loss, "torch-lr-finder")
    return 10 + int(np.argmin(np.gradient(loss)))


def lightning_suggest(curve: Curve) -> int:
    """Return the point of the steepest fall against *linear* lr, in float32.

    The first 10 points, the last point and all non-finite points are left out.
    """
    loss, lr = _float32(curve.loss[10:-1]), _float32(curve.lr[10:-1])
    kept = np.flatnonzero(np.isfinite(loss))
    _refuse_too_few(kept.size, 2, "dropping the first 10, the last and all non-finite ones")
    with np.errstate(all="ignore"):
        slope = np.gradient(loss[kept], lr[kept])
    return 10 + int(kept[np.argmin(slope)])


def ignite_suggest(curve: Curve) -> int:
    """Return the point of the steepest half difference (s[i+1] - s[i-1]) / 2, in float32.

    Only the inner points up to the minimum count.
    """
    if np.isnan(curve.loss).any():
        _refuse_non_finite(curve.loss, "ignite")
    whole = _float32(curve.loss)
    loss = whole[: int(np.argmin(whole)) + 1]
    _refuse_too_few(loss.size, 3, "keeping the points up to the minimum")
    _refuse_non_finite(loss, "ignite")
    return 1 + int(np.argmin((loss[2:] - loss[:-2]) / 2))


def _float32(values: Array) -> Float32:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _fastai_slice(curve: Curve, needed: int) -> tuple[int, Float32, Float32]:
    """Return the start, the lr and the loss of fastai's slice [num_it // 10 : -5], cut at the first NaN.

    lr and loss are in float32.
    """
    start = curve.planned // 10
    loss, lr = _float32(curve.loss[start:-5]), _float32(curve.lr[start:-5])
    nan = np.flatnonzero(np.isnan(loss))
    end = int(nan[0]) if nan.size else loss.size
    _refuse_too_few(end, needed, f"fastai's slice (without the first {start} and the last 5)")
    return start, lr[:end], loss[:end]


def fastai_steep(curve: Curve) -> int:
    """Return the point of the steepest fall per unit of ln(lr): the left point of a forward difference."""
    start, lr, loss = _fastai_slice(curve, 2)
    _refuse_non_finite(loss, "fastai-steep")
    with np.errstate(all="ignore"):
        return start + int(np.argmin(np.diff(loss) / np.diff(np.log(lr))))


def fastai_minimum(curve: Curve) -> int:
    """Return the point of the lowest loss; the suggestion is a tenth of its lr."""
    start, _, loss = _fastai_slice(curve, 1)
    return start + int(np.argmin(loss))


def fastai_valley(curve: Curve) -> int:
    """Return the point two thirds into the longest strictly decreasing subsequence, as fastai counts it."""
    start, _, loss = _fastai_slice(curve, 3)
    tails: list[float] = []  # tails[k] is the least -loss that ends a falling subsequence of length k + 1
    longest, end = 0, 0
    for i, value in enumerate((-loss).tolist()):
        length = bisect_left(tails, value)
        if length < len(tails):
            tails[length] = value
        else:
            tails.append(value)
            longest, end = length + 1, i
    first = end - longest if longest > 1 else 0
    third = (end - first) / 3
    return start + first + int(third) + int(third / 2)


def fastai_slide(curve: Curve) -> int:
    """Slide an interval of 15 points from the right until the gradients at its two ends agree."""
    start, _, loss = _fastai_slice(curve, 16)
    _refuse_non_finite(loss, "fastai-slide")
    slope = np.gradient(loss)
    right, left, size = -1, -16, loss.size
    best = left
    while left >= -size and abs(slope[right] - slope[left]) > 0.005:
        best = left
        right, left = right - 1, left - 1
    return start + size + best
