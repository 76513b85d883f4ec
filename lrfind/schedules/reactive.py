"""Learning rates as functions of the measurements so far.

A reaction takes the measurements, oldest first, and the peak lr. It returns the multiplier of the peak for
the next steps. It keeps no state, because its argument is the whole past.

Every reaction has the argument `warmup`, which means the same as in `lrfind.schedules.functions`: the lr
first rises to the peak, and the schedule itself begins there. So a reaction gets only the measurements after
the warmup, and does not use `warmup` itself; `lrfind.config.shapes` plans the lrs of the warmup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrfind.schedules.functions import require

SMALLEST_CHANGE = 1e-8  # an lr that would change by no more stays as it is; torch's `eps`


def reduce_on_plateau(
    val_losses: Sequence[float],
    peak: float,
    *,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    cooldown: int = 0,
    min_lr: float = 0.0,
    warmup: int | float = 0,
) -> float:
    """Multiply the lr by `factor` whenever the loss has stopped falling.

    This equals torch's `ReduceLROnPlateau` in mode "min" with a relative threshold, evaluation for
    evaluation. A loss is an improvement if it is below best * (1 - threshold). So if the best loss is
    negative, a loss that is slightly higher is an improvement too. NaN is no improvement.

    Args:
        val_losses: the loss of every evaluation so far, without those during the warmup.
        peak: the lr before any reduction.
        factor: the factor of each reduction, above 0 and below 1.
        patience: the number of evaluations without an improvement that are allowed; the next one reduces
            the lr.
        threshold: the relative fall of the loss that counts as an improvement, at least 0 and below 1.
        cooldown: the number of evaluations after a reduction that do not count.
        min_lr: the lowest lr; a reduction stops there.
        warmup: the length of the warmup; see the module's docstring.

    Returns:
        The multiplier of the peak after these evaluations.

    >>> reduce_on_plateau([3.0, 2.0, 2.0, 2.0], 0.1, factor=0.5, patience=1)
    0.5
    """
    require("factor", factor, 0 < factor < 1, "above 0 and below 1")
    require("min_lr", min_lr, 0 <= min_lr < math.inf, "a learning rate of at least 0")
    _require_peak(peak)
    _require_count("patience", patience)
    _require_count("cooldown", cooldown)
    _require_threshold(threshold)
    lr, best, idle, resting = peak, math.inf, 0, 0
    for loss in val_losses:
        improved = loss < best * (1 - threshold)
        best = loss if improved else best
        idle = 0 if improved or resting else idle + 1
        resting = max(0, resting - 1)
        if idle > patience:
            reduced = max(lr * factor, min_lr)
            lr = reduced if lr - reduced > SMALLEST_CHANGE else lr
            idle, resting = 0, cooldown
    return lr / peak


def plateaued(val_losses: Sequence[float], *, patience: int, threshold: float = 1e-4) -> bool:
    """Return whether the last `patience` evaluations show no improvement, so that a run may stop early.

    This is the case if none of these losses is below best - threshold * |best|, where `best` is the lowest
    loss before them. NaN is never an improvement. If there is no number before them, any number is an
    improvement. With `threshold=0` this equals Keras's `EarlyStopping`, whose `min_delta` is absolute. With a
    threshold, Keras measures from the last loss that was lower by that much; we measure from the lowest loss.

    Args:
        val_losses: the loss of every evaluation so far.
        patience: the number of evaluations, at least 1.
        threshold: the relative fall of the loss that counts as an improvement, at least 0 and below 1.

    >>> plateaued([3.0, 2.0, 2.1, 2.0], patience=2), plateaued([3.0, 2.0, 2.1, 1.9], patience=2)
    (True, False)
    """
    _require_count("patience", patience, least=1)
    _require_threshold(threshold)
    before, last = val_losses[:-patience], val_losses[-patience:]
    best = min((loss for loss in before if loss == loss), default=math.inf)
    limit = best - threshold * abs(best) if math.isfinite(best) else best
    return len(last) == patience and not any(loss < limit for loss in last)


def grad_norm(
    norms: Sequence[float],
    peak: float,
    *,
    percentile: float = 10.0,
    window: int = 1000,
    warmup: int | float = 0,
) -> float:
    """Lower the lr at steps whose gradient is larger than usual.

    The multiplier is min(1, p / n), where n is the last of the `norms` and p is their percentile, with the
    last one included. AutoClip scales the gradient by this rule (Seetharaman et al. 2020, arXiv:2007.14469);
    here it scales the lr. For plain SGD, both give the same update. With momentum or Adam they do not,
    because here the state of the optimizer sees the whole gradient. The paper looks back to the first step;
    we look back `window` steps.

    Args:
        norms: the norms of the whole gradient at every step after the warmup, with this step last.
        peak: the lr that is lowered; the answer does not depend on it.
        percentile: the percentile of the norms, from 0 to 100; a lower one lowers the lr more.
        window: the number of the last norms that count, at least 1.
        warmup: the length of the warmup; see the module's docstring.

    Returns:
        The multiplier of the peak for this step. It is 1 if the gradient is zero. It is also 1 if the norm is
        not finite, because the divergence rule handles that case. Earlier norms that are not finite do not
        count.

    >>> grad_norm([1.0, 1.0, 1.0, 4.0], 0.1, percentile=50)
    0.25
    """
    _require_peak(peak)
    require("percentile", percentile, 0 <= percentile <= 100, "from 0 to 100")
    _require_count("window", window, least=1)
    recent = np.asarray(norms[-window:], np.float64)
    if not recent.size or not 0 < recent[-1] < math.inf:
        return 1.0
    return min(1.0, float(np.percentile(recent[np.isfinite(recent)], percentile) / recent[-1]))


def _require_peak(peak: float) -> None:
    require("peak", peak, 0 < peak < math.inf, "a positive learning rate")


def _require_count(name: str, value: int, *, least: int = 0) -> None:
    require(name, value, value >= least and value % 1 == 0, f"a whole number of at least {least}")


def _require_threshold(threshold: float) -> None:
    require("threshold", threshold, 0 <= threshold < 1, "a share of the loss, at least 0 and below 1")
