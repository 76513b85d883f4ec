"""Verification: whole trainings at a third of a rate, at the rate and at three times the rate; a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.sweeps import RateResult, beyond_noise, by_lr, rate_of
from lrfind.catalog import Judge
from lrfind.errors import counted

FACTORS = (1 / 3, 1.0, 3.0)
USABLE = 0.1
"""The most that a rate may lose against a better one and not be refuted, as a share of the possible fall."""

LEARNED = 0.01
"""The share of the first loss by which the best rate must lower the loss; otherwise, nothing was learned."""

VERDICTS = {"stands": "it stands", "moves": "it moves", "refuted": "refuted"}
"""The verdicts in words."""

VERIFY = "verify"
"""The `variant` of the lanes that verify a rate."""


def verified_lrs(lr: float) -> list[float]:
    """Return the rates at which whole trainings verify a rate.

    >>> verified_lrs(0.3)
    [0.1, 0.3, 0.9]
    """
    return [float(f"{lr * factor:.3g}") for factor in FACTORS]


@dataclass(frozen=True)
class Verdict:
    """The verdict of whole trainings on a rate.

    Attributes:
        verdict: "stands" if no other rate ended lower; "moves" if another rate did; "refuted" if it ended
            lower by more than the noise and by more than `USABLE`, or if nothing was learned.
        lr: the rate to use; None if no training learned anything.
        reason: the verdict's reason, in words.
        judge: the loss that decided.
    """

    verdict: Literal["stands", "moves", "refuted"]
    lr: float | None
    reason: str
    judge: Judge


def judge_of(results: Sequence[LaneResult], judge: Judge) -> Judge:
    """Return the loss that decides: `judge`, or the training loss if lanes have no validation loss."""
    return judge if not results or any(result.val_loss is not None for result in results) else "train_loss"


def verdict_on(lr: float, results: Sequence[LaneResult], judge: Judge) -> Verdict:
    """Judge a rate by its own lanes and those of its neighbours.

    All lanes of one seed have the same weights and batches.

    Args:
        lr: the rate.
        results: the settled lanes of all rates, each rate with the same seeds.
        judge: the loss that should decide; see `judge_of`.
    """
    judge = judge_of(results, judge)
    rates = [rate_of(lanes, judge) for lanes in by_lr(results)]
    judged = next(rate for rate in rates if rate.lr == lr)
    best = min(
        (r for r in rates if r.loss is not None), key=lambda r: (r.loss, r is not judged), default=None
    )
    if best is None or best.loss is None:
        reason = "no training finished: neither at the rate nor at a third of it nor at three times it"
        return Verdict("refuted", None, reason, judge)
    first = fmean(float(lane.loss[0]) for lane in judged.lanes.values())
    if not first - best.loss > LEARNED * abs(first):
        return Verdict("refuted", None, f"no rate lowered the loss from {first:.4g}: {_end_of(best)}", judge)
    if judged.loss is None:
        return Verdict("refuted", best.lr, f"the rate {judged.outcome}, while {_end_of(best)}", judge)
    if best is judged:
        reason = f"{_end_of(judged)}, lower than at a third of it and at three times it"
        return Verdict("stands", lr, reason, judge)
    lost = (judged.loss - best.loss) / (first - best.loss)
    against = f"{_end_of(judged)} and {_end_of(best)}, so the rate loses {lost:.1%} of the possible fall"
    if beyond_noise(judged, best, judge) is False:
        seeds = counted(len(judged.lanes), "seed")
        unsure = f"{against}; this is within the noise between {seeds}, and more seeds could tell them apart"
        return Verdict("moves", best.lr, unsure, judge)
    return Verdict("moves" if lost <= USABLE else "refuted", best.lr, against, judge)


def moved_answer(verdict: Verdict, verified: float) -> dict[str, Any]:
    """Return what whole trainings change of an answer, where they favour another rate than the verified one.

    Returns:
        `lr`, `low`, `high`, `confidence` and `reason`; all but the reason are None if nothing was learned.
    """
    if verdict.lr is None:
        nothing = {"lr": None, "low": None, "high": None, "confidence": None}
        return nothing | {"reason": f"{verdict.reason}."}
    halfway = float(f"{math.sqrt(verified * verdict.lr):.3g}")
    moved = "moved" if verdict.verdict == "moves" else "refuted"
    side = "lowest" if verdict.lr < verified else "highest"
    return {
        "lr": verdict.lr,
        "low": min(halfway, verdict.lr),
        "high": max(halfway, verdict.lr),
        "confidence": "low",
        "reason": f"Whole trainings {moved} the rate of the probes: {verdict.reason}. This"
        f" rate is the {side} of the three that were trained; nothing is known of rates beyond it.",
    }


def _end_of(rate: RateResult) -> str:
    return f"lr {rate.lr:.3g} ended at {rate.loss:.4g}"
