"""Learning rates as functions of what was measured so far.

A reaction takes what was measured, oldest first, and the peak lr; it returns the multiplier of the peak for
what comes next. It keeps no state: the whole past is its argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrfind.schedules.functions import require

SMALLEST_CHANGE = 1e-8  # of the lr: torch's `eps`


def reduce_on_plateau(
    val_losses: Sequence[float],
    peak: float,
    *,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    cooldown: int = 0,
    min_lr: float = 0.0,
) -> float:
    """Multiply the lr by `factor` whenever the loss has stopped falling.

    torch's `ReduceLROnPlateau` in mode "min" with a relative threshold, evaluation for evaluation. So a loss
    counts as an improvement below best * (1 - threshold), and where the best is negative, one that is hardly
    worse counts too. NaN is no improvement.

    Args:
        val_losses: of every evaluation so far.
        peak: the lr that is reduced, before any reduction.
        factor: of each reduction, above 0 and below 1.
        patience: how many evaluations without an improvement are let pass; the next one reduces.
        threshold: relative fall of the loss that is an improvement, from 0 to below 1.
        cooldown: how many evaluations after a reduction do not count.
        min_lr: the lr is not reduced below it.

    Returns:
        The multiplier of the peak after these evaluations.

    >>> reduce_on_plateau([3.0, 2.0, 2.0, 2.0], 0.1, factor=0.5, patience=1)
    0.5
    """
    require("factor", factor, 0 < factor < 1, "above 0 and below 1")
    require("min_lr", min_lr, 0 <= min_lr < math.inf, "a learning rate, at least 0")
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
    """Whether the last `patience` evaluations brought nothing, so that a run may stop early.

    None of them is below best - threshold * |best|, where `best` is the lowest loss before them. NaN is never
    lower, and before the first number any number is. Keras's `EarlyStopping` at `threshold=0` (its
    `min_delta`, which is absolute); with a threshold it measures from the last loss that was lower by that
    much, we from the lowest.

    Args:
        val_losses: of every evaluation so far.
        patience: at least 1.
        threshold: relative fall of the loss that is an improvement, from 0 to below 1.

    >>> plateaued([3.0, 2.0, 2.1, 2.0], patience=2), plateaued([3.0, 2.0, 2.1, 1.9], patience=2)
    (True, False)
    """
    _require_count("patience", patience, least=1)
    _require_threshold(threshold)
    before, last = val_losses[:-patience], val_losses[-patience:]
    best = min((loss for loss in before if loss == loss), default=math.inf)
    bar = best - threshold * abs(best) if math.isfinite(best) else best
    return len(last) == patience and not any(loss < bar for loss in last)


def grad_norm(norms: Sequence[float], peak: float, *, percentile: float = 10.0, window: int = 1000) -> float:
    """Lower the lr where the gradient is larger than it mostly was.

    min(1, p / n), where n is the last of the `norms` and p their percentile, the last included: the rule by
    which AutoClip scales the gradient (Seetharaman et al. 2020, arXiv:2007.14469), applied to the lr instead.
    For plain SGD the two are the same update; with momentum or Adam they are not, as the state sees the whole
    gradient here. Where the paper looks back to the first step, we look back `window` steps.

    Args:
        norms: of the whole gradient at every step so far, this one last.
        peak: the lr that is lowered; the answer does not depend on it.
        percentile: from 0 to 100; the lower, the more is lowered.
        window: how many of the last norms count, at least 1.

    Returns:
        The multiplier of the peak for this step. It is 1 where the gradient is zero, and where its norm is
        not finite: that is for the rule on divergence to see. Norms before that are not finite do not count.

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
    require(name, value, value >= least and value % 1 == 0, f"a whole number, at least {least}")


def _require_threshold(threshold: float) -> None:
    require("threshold", threshold, 0 <= threshold < 1, "a share of the loss, from 0 to below 1")
