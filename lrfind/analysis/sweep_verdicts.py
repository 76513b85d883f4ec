"""What a sweep shows about each rate: one verdict a rate, and the doubt about the rate that it answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from lrfind.analysis.lanes import Outcome
from lrfind.analysis.sweeps import RateResult, SweepResult, beyond_noise, judged

Doubt = Literal[
    "no fall", "hardly fell", "learned less", "overfits everywhere", "overfits", "one seed", "tied"
]
"""Why the answered rate may not be called the best one, or not without a qualification.

- no fall: even at the answered rate, the loss did not fall by more than its noise.
- hardly fell: even at the answered rate, the training loss fell by less than its noise between batches, or
  by less than 6 noises while something is wrong with the gradients.
- learned less: every rate that learned something overfits; the answered rate is none of them.
- overfits everywhere: every rate that learned something overfits, and the answered rate is one of them.
- overfits: training overfits at the answered rate.
- one seed: the noise between seeds is not known.
- tied: other rates are tied with it; see `tied`.
"""

FLAWS: tuple[Doubt, ...] = ("no fall", "hardly fell", "learned less", "overfits everywhere", "overfits")
"""The doubts with which the answered rate may not be called the best one."""

NO_ANSWER: tuple[Doubt, ...] = ("no fall", "hardly fell")
"""The doubts with which no rate is answered."""

RateVerdict = Literal[
    "best", "best, tied", "lowest", "overfits", "tied", "usable", "maybe worse", "worse", "close", "higher",
    "rose", "no fall", "not finite", Outcome,
]  # fmt: skip
"""The verdict on one rate; see `rate_verdict`."""


HARDLY, HARDLY_IN_TROUBLE = 1.0, 6.0
"""The noises by which the loss must fall, also while something is wrong with the gradients."""


def doubt_about(sweep: SweepResult) -> Doubt | None:
    """Return the gravest doubt about the answered rate; None if it is the best one that was tried.

    Overfitting is no doubt if the lowest validation loss of all evaluations decides.
    """
    best = sweep.best
    if best is None:
        return None
    if flaw := _flaw(sweep, best):
        return flaw
    if len(best.lanes) == 1 and len(sweep.rates) > 1:
        return "one seed"
    return "tied" if tied(sweep) else None


def answered(sweep: SweepResult) -> RateResult | None:
    """Return the rate that a sweep answers; None if its doubt allows no answer, or if no rate finished."""
    best = sweep.best
    return None if best is None or _flaw(sweep, best) in NO_ANSWER else best


def _flaw(sweep: SweepResult, best: RateResult) -> Doubt | None:
    """Return the gravest of the `FLAWS` of the answered rate; None if there is none."""
    if not sweep.fell:
        return "no fall"
    if sweep.fall < (HARDLY_IN_TROUBLE if sweep.troubled else HARDLY):
        return "hardly fell"
    if sweep.judge != "best_val_loss" and sweep.overfits_everywhere:
        return "overfits everywhere" if sweep.overfits_at(best) else "learned less"
    if sweep.judge != "best_val_loss" and sweep.overfits_at(best):
        return "overfits"
    return None


def tied(sweep: SweepResult) -> list[RateResult]:
    """Return the rates that are tied with the answered one, which has the lowest median loss of them.

    Such a rate is within the noise between seeds, and its loss is nearly as low: it loses no more of the
    fall of the loss than the tolerance of the usable range. Noise alone makes no tie: the losses of a rate
    that is nearly unstable differ so much between seeds that hardly any difference exceeds them.
    """
    return [rate for rate in _others(sweep) if _is_close(rate, sweep) and _within_noise(rate, sweep)]


def close(sweep: SweepResult) -> list[RateResult]:
    """Return the other rates whose loss is nearly as low as that of the answered one, by the tolerance."""
    return [rate for rate in _others(sweep) if _is_close(rate, sweep)]


def maybe_worse(sweep: SweepResult) -> list[RateResult]:
    """Return the rates whose loss is clearly higher than that of the answered one, but within the noise."""
    return [rate for rate in _others(sweep) if not _is_close(rate, sweep) and _within_noise(rate, sweep)]


def rate_verdict(rate: RateResult, sweep: SweepResult) -> RateVerdict:
    """Return the verdict on one rate.

    Returns:
        For a rate that did not finish, its outcome; "not finite" if it finished without a finite loss.
        For the answered rate, "best", "best, tied", or "lowest" if there is a graver doubt about it.
        For another rate, "overfits" if that is so and final losses decide; "no fall" if the loss of not even
        the answered rate fell by more than its noise; "rose" if its training loss rose further than that
        of the answered rate fell. Otherwise, with one seed, "close" if its loss is within the tolerance, or
        else "higher". With several seeds, within the tolerance, "tied" if its difference to the answered rate
        is within the noise, or else "usable"; beyond the tolerance, "maybe worse" if it is within the noise,
        or else "worse".
    """
    if rate.outcome != "finished":
        return rate.outcome
    if rate.loss is None:
        return "not finite"
    if rate is sweep.best:
        doubt = doubt_about(sweep)
        return "best" if doubt is None else "best, tied" if doubt == "tied" else "lowest"
    if sweep.overfits_at(rate) and sweep.judge != "best_val_loss":
        return "overfits"
    if sweep.best is not None and answered(sweep) is None:
        return "no fall"
    if sweep.rises_at(rate):
        return "rose"
    near, within = _is_close(rate, sweep), _within_noise(rate, sweep)
    if within is None:
        return "close" if near else "higher"
    if near:
        return "tied" if within else "usable"
    return "maybe worse" if within else "worse"


def seeds_outside(sweep: SweepResult) -> list[int]:
    """Return the seeds whose lowest loss is not at a rate from `low` to `high` of the sweep.

    Such a seed ended lower at a rate that diverged, was pruned or failed with other seeds, or nowhere.
    """
    lowest: dict[int, tuple[float, float]] = {}
    for rate in sweep.rates:
        for seed, lane in rate.lanes.items():
            loss = judged(lane, sweep.judge)
            lowest[seed] = min(
                lowest.get(seed, (math.inf, math.inf)), (math.inf if loss is None else loss, rate.lr)
            )
    low, high = sweep.low or math.nan, sweep.high or math.nan
    return [seed for seed, (loss, lr) in lowest.items() if not (math.isfinite(loss) and low <= lr <= high)]


def _others(sweep: SweepResult) -> Sequence[RateResult]:
    return [rate for rate in sweep.rates if rate.loss is not None and rate is not sweep.best]


def _is_close(rate: RateResult, sweep: SweepResult) -> bool:
    return sweep.ceiling is not None and rate.loss is not None and rate.loss <= sweep.ceiling


def _within_noise(rate: RateResult, sweep: SweepResult) -> bool | None:
    """Return whether the noise between seeds hides the difference to the answered rate; None if not known."""
    if sweep.rises_at(rate):
        return False
    worse = None if sweep.best is None else beyond_noise(rate, sweep.best, sweep.judge)
    return None if worse is None else not worse
