"""Proof on request: whether whole trainings at a third, at once and at three times a rate bear it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.sweeps import Rate, beyond_noise, by_lr, rate_of
from lrfind.catalog import Judge

FACTORS = (1 / 3, 1.0, 3.0)
NEGLIGIBLE, USABLE = 0.05, 0.1
"""Shares of the drop from the first loss to the best, that a rate may lose and still stand, or be usable."""

LEARNED = 0.01
"""Share of the first loss that the best rate has to take away."""

VERDICTS = {"stands": "it stands", "moves": "it moves", "refuted": "refuted"}
"""In words."""

VERIFY = "verify"
"""The variant of lanes that verify."""


def verified_lrs(lr: float) -> list[float]:
    """The rates that are trained.

    >>> verified_lrs(0.3)
    [0.1, 0.3, 0.9]
    """
    return [float(f"{lr * factor:.3g}") for factor in FACTORS]


@dataclass(frozen=True)
class Verdict:
    """What whole trainings say of a rate.

    Attributes:
        verdict: it stands; it moves, to a rate that is better, by more than the noise where that is known; it
            is refuted, since it lost more than `USABLE` to such a rate, or nothing was learned.
        lr: the rate to use; None where no training learned anything.
        reason: in words.
    """

    verdict: Literal["stands", "moves", "refuted"]
    lr: float | None
    reason: str


def verdict_on(lr: float, results: Sequence[LaneResult], judge: Judge) -> Verdict:
    """Judge a rate by its lanes and its neighbours'; for a seed all had the same weights and batches.

    Args:
        lr: the rate.
        results: lanes of all rates that have settled, of the same seeds each.
        judge: the loss that decides; the training loss where there is no validation split.
    """
    if not any(result.val_loss is not None for result in results):
        judge = "train_loss"
    rates = [rate_of(lanes, judge) for lanes in by_lr(results)]
    own = next(rate for rate in rates if rate.lr == lr)
    best = min((r for r in rates if r.loss is not None), key=lambda r: (r.loss, r is not own), default=None)
    if best is None or best.loss is None:
        return Verdict("refuted", None, "neither it nor a third of it nor three times it came to its end")
    first = fmean(float(lane.loss[0]) for lane in own.lanes.values())
    if not first - best.loss > LEARNED * abs(first):
        return Verdict("refuted", None, f"no rate learned anything from {first:.4g} on: {_said(best)}")
    if own.loss is None:
        return Verdict("refuted", best.lr, f"it {own.outcome}, where {_said(best)}")
    if best is own:
        return Verdict("stands", lr, f"{_said(own)}, lower than at a third and at three times that")
    lost = (own.loss - best.loss) / (first - best.loss)
    against = f"{_said(own)}, {_said(best)}, so it loses {lost:.1%} of what the loss can fall"
    if lost <= NEGLIGIBLE:
        return Verdict("stands", lr, f"{against}: negligible")
    if beyond_noise(own, best, judge) is False:
        return Verdict("stands", lr, f"{against}: not told apart by {len(own.lanes)} seeds")
    return Verdict("moves" if lost <= USABLE else "refuted", best.lr, against)


def _said(rate: Rate) -> str:
    return f"lr {rate.lr:.3g} ended at {rate.loss:.4g}"
