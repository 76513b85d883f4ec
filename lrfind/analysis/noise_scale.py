"""The gradient noise scale: its estimate from the gradients of several batches, and what it implies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.statistics import t_95
from lrfind.errors import UsageError

NO_NOISE = 1e-10  # share of the squared gradient; less than this is no noise (float32 rounding: about 1e-13)
WHOLE = (
    "the batch is the whole training set, whose gradient has no noise to measure; give a smaller"
    " data.batch_size"
)


@dataclass(frozen=True)
class NoiseScale:
    """The noise scale at one moment of a training; a figure that the batches cannot show is None.

    Attributes:
        step: the number of updates before this moment.
        scale: B_simple = trace / gradient, in rows.
        low: the lower end of an approximate 95 % interval of the scale.
        high: the upper end of this interval; None if there is no bound.
        gradient: |G|^2, the squared norm of the true gradient; an estimate, which may be negative.
        trace: tr(Sigma), the variance of one row's gradient, summed over all parameters.
        rows: the number of rows of each batch.
        batches: the number of batches that were measured.
        note: why a figure is missing.
    """

    step: int
    scale: float | None
    low: float | None
    high: float | None
    gradient: float | None
    trace: float | None
    rows: int
    batches: int
    note: str | None = None


def estimate(products: Array, rows: int, step: int = 0) -> NoiseScale:
    """Estimate the noise scale from the gradients of n batches at the same weights.

    |G|^2 and tr(Sigma) are the unbiased estimators of McCandlish et al. 2018 (arXiv:1812.06162), appendix
    A.1. B_small is the number of rows of one batch; for it, the squared norm is a mean over all batches.
    B_big is the number of rows of all batches together. Batches without a common row, such as those of one
    epoch, are not quite independent. For such batches, |G| is the norm of the gradient over the distribution
    from which the training set was drawn, and not over the training set.

    The interval is a jackknife over batches, with Student's t. It is computed for the inverse,
    |G|^2 / tr(Sigma), and then inverted. Nearly all of the error is in |G|^2, so the error of the
    inverse is close to symmetric. If |G|^2 could be zero, the scale has no upper bound, as it should.

    Args:
        products: (n, n) the inner products of the gradients; n is at least 4.
        rows: B, the number of rows of each batch.
        step: the step of the training at which the gradients were measured.

    Raises:
        UsageError: if the gradients are all the same.
    """
    n = len(products)
    if not np.isfinite(products).all():
        note = "the gradient is not finite"
        return NoiseScale(step, None, None, None, None, None, rows, n, note)
    gradient, trace = _moments(products, rows)
    size = float(products.trace()) / n
    if size == 0:
        note = "the gradient is zero on every batch"
        return NoiseScale(step, None, None, None, gradient, trace, rows, n, note)
    if trace <= NO_NOISE * size * rows:
        raise UsageError(f"every batch has the same gradient: {WHOLE}.")
    kept = [np.delete(np.arange(n), i) for i in range(n)]
    without = np.array([np.divide(*_moments(products[np.ix_(rest, rest)], rows)) for rest in kept])
    error = math.sqrt((n - 1) * float(np.var(without)))
    reach = t_95(n - 1) * error
    inverse = gradient / trace
    low = 1 / (inverse + reach) if inverse + reach > 0 else None
    high = 1 / (inverse - reach) if inverse - reach > 0 else None
    if gradient <= 0:
        note = "it is too large to measure with so few batches, because noise hides the gradient"
        return NoiseScale(step, None, low, None, gradient, trace, rows, n, note)
    return NoiseScale(step, trace / gradient, low, high, gradient, trace, rows, n)


def _moments(products: Array, rows: int) -> tuple[float, float]:
    """Return |G|^2 and tr(Sigma) from the (n, n) inner products of the gradients of n batches."""
    n = len(products)
    small = float(products.trace()) / n  # |G|^2 + tr(Sigma) / B, on average
    big = float(products.mean())  # |G|^2 + tr(Sigma) / (n B), on average
    return (n * big - small) / (n - 1), rows * (small - big) * n / (n - 1)


def implication(measured: NoiseScale, batch: int, to_batch: int | None = None) -> list[str]:
    """Return what a noise scale implies for the batch size in use and for another batch size, in sentences.

    At the batch size B and the noise scale B_noise, a training takes S_min (1 + B_noise / B) steps and
    E_min (1 + B / B_noise) examples; S_min and E_min are the fewest that are possible. This is the curve of
    McCandlish et al. 2018 (arXiv:1812.06162), eq. 2.11.
    """
    caution = (
        "The noise scale usually grows during training, and this simple noise scale ignores the curvature, so"
        " only its order of magnitude is reliable."
    )
    if measured.scale is None:
        bound = "" if measured.low is None else f"; it is probably above {measured.low:.3g}"
        return [f"The noise scale is not known at step {measured.step}: {measured.note}{bound}."]
    scale = measured.scale
    sentences = [
        f"A batch of {batch} is {_place(batch, scale)}: training takes {1 + scale / batch:.3g} times the"
        f" fewest possible steps and {1 + batch / scale:.3g} times the fewest possible examples."
    ]
    if to_batch is not None and to_batch != batch:
        steps = (1 + scale / to_batch) / (1 + scale / batch)
        examples = (1 + to_batch / scale) / (1 + batch / scale)
        sentences.append(
            f"A batch of {to_batch} is {_place(to_batch, scale)}: it takes {steps:.3g} times the steps and"
            f" {examples:.3g} times the examples that a batch of {batch} takes."
        )
    return [*sentences, caution]


def _place(batch: int, scale: float) -> str:
    """Compare a batch size with the noise scale, and say what a larger batch would change."""
    if batch < scale / 3:
        return "below the noise scale, where a larger batch needs almost proportionally fewer steps"
    if batch <= scale * 3:
        return "near the noise scale, where a larger batch still needs fewer steps, but more examples"
    return "above the noise scale, where a larger batch saves hardly any steps and wastes computation"
