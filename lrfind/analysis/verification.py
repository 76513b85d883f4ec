"""Verification: whole trainings at a rate, at a third of it and at three times it, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.noise import successive_noise
from lrfind.analysis.recommendation import no_answer, rounded
from lrfind.analysis.sweeps import RateResult, beyond_noise, by_lr, judge_in_force, rate_of
from lrfind.catalog import Judge
from lrfind.errors import counted, listed

FACTORS = (1 / 3, 1.0, 3.0)
USABLE = 0.1
"""The share of the fall of the loss that a rate may lose against a better one and not be refuted."""

LEARNED, CERTAIN, LEAST = 0.01, 10.0, 1e-4
"""Trainings learned if the loss falls by the first share of it, or by so many noises and the second share.

The noises count because a loss may have a large constant in it, which no training lowers.
"""

VERDICTS = {"stands": "the rate stands", "moves": "the rate moves", "refuted": "the rate is refuted"}
"""The verdicts in words."""

VERIFY = "verify"
"""The `variant` of the lanes that verify a rate."""


def verified_lrs(lr: float, beyond: float | None = None) -> list[float]:
    """Return the rates at which whole trainings verify a rate.

    Args:
        lr: the rate.
        beyond: a further rate, as a multiple of the rate above 3, which shows how near instability is.

    >>> verified_lrs(0.3), verified_lrs(0.3, beyond=5)
    ([0.1, 0.3, 0.9], [0.1, 0.3, 0.9, 1.5])
    """
    factors = FACTORS if beyond is None else (*FACTORS, beyond)
    return [rounded(lr * factor) for factor in factors]


def verify_count(beyond: float | None, seeds: int) -> int:
    """Return the number of trainings that verify a rate; see `verified_lrs`."""
    return len(verified_lrs(1.0, beyond)) * seeds


@dataclass(frozen=True)
class Verdict:
    """The verdict of whole trainings on a rate.

    Attributes:
        verdict: "stands" if no other rate ended lower; "moves" if another rate did; "refuted" if it ended
            lower by more than the noise and by more than `USABLE`, or if nothing was learned.
        lr: the rate to use; None if no training learned anything.
        reason: the verdict's reason, in words.
        judge: the loss that decided.
        within_noise: whether the verified rate ended higher than `lr` by no more than the noise between
            seeds; False if that is not known.
    """

    verdict: Literal["stands", "moves", "refuted"]
    lr: float | None
    reason: str
    judge: Judge
    within_noise: bool = False


def verdict_on(lr: float, results: Sequence[LaneResult], judge: Judge) -> Verdict:
    """Judge a rate by its own lanes and those of its neighbours.

    All lanes of one seed have the same weights and batches.

    Args:
        lr: the rate.
        results: the settled lanes of all rates, each rate with the same seeds.
        judge: the loss that should decide; see `judge_in_force`.
    """
    judge = judge_in_force(results, judge)
    rates = [rate_of(lanes, judge) for lanes in by_lr(results)]
    judged = next(rate for rate in rates if rate.lr == lr)
    finished = sorted((r for r in rates if r.loss is not None), key=lambda r: (r.loss, r is not judged))
    others = listed([f"at {_times(rate.lr / lr)}" for rate in rates if rate is not judged])
    if not finished:
        return Verdict("refuted", None, f"no training finished: neither at the rate nor {others}", judge)
    best, *worse = finished
    assert best.loss is not None
    first = fmean(float(lane.loss[0]) for lane in judged.lanes.values())
    fall = first - best.loss
    if not visibly_fell(fall, first, [lane for rate in rates for lane in rate.lanes.values()]):
        reason = f"no rate visibly lowered the loss from {first:.4g}: {_end_of(best)}"
        return Verdict("refuted", None, reason, judge)
    stability = _stability(rates, lr, first, fall)
    if judged.loss is None:
        reason = f"the rate {judged.outcome}, while {_end_of(best)}{stability}"
        return Verdict("refuted", best.lr, reason, judge)
    if best is judged:
        reason = f"{_end_of(judged)}, lower than {others}"
        if worse:
            reason += f"; the next lowest, lr {worse[0].lr:.3g}, {_loss_of_fall(worse[0], best, fall, judge)}"
        return Verdict("stands", lr, f"{reason}{stability}", judge)
    lost = (judged.loss - best.loss) / fall
    reason = f"{_end_of(judged)} and {_end_of(best)}; lr {lr:.3g} {_loss_of_fall(judged, best, fall, judge)}"
    within_noise = beyond_noise(judged, best, judge) is False
    moves = within_noise or lost <= USABLE
    return Verdict("moves" if moves else "refuted", best.lr, f"{reason}{stability}", judge, within_noise)


def visibly_fell(fall: float, first: float, results: Iterable[LaneResult]) -> bool:
    """Return whether trainings lowered the loss at all; see `LEARNED`.

    Args:
        fall: how far the best of them lowered the loss.
        first: the loss before the first step.
        results: the trainings.
    """
    return fall > LEARNED * abs(first) or fall > max(CERTAIN * noise_of(results), LEAST * abs(first))


def noise_of(results: Iterable[LaneResult]) -> float:
    """Return the least deviation of a training's loss between batches; see `successive_noise`."""
    return min((successive_noise(r.loss) for r in results if len(r.loss) > 1), default=math.inf)


def _loss_of_fall(rate: RateResult, best: RateResult, fall: float, judge: Judge) -> str:
    """Say how much of the fall of the loss a rate loses against the best one, and how sure that is."""
    assert rate.loss is not None
    assert best.loss is not None
    share = (rate.loss - best.loss) / fall
    lost = f"loses {f'{share:.1%}' if share >= 0.001 else 'less than 0.1%'} of the fall of the loss"
    seeds, sure = len(rate.lanes), beyond_noise(rate, best, judge)
    if sure is None:
        return f"{lost}, measured with {counted(seeds, 'seed')}; more verifying seeds show the noise"
    if sure:
        return f"{lost}, which is more than the noise between {counted(seeds, 'seed')}"
    more = f"{2 * seeds} verifying seeds could tell them apart"
    return f"{lost}, which is within the noise between {counted(seeds, 'seed')}; {more}"


def _stability(rates: Sequence[RateResult], lr: float, first: float, fall: float) -> str:
    """Say what training far above a rate shows, if a rate beyond three times it was trained.

    Training that breaks down at five to ten times the best rate is a sign of instability (Godbole et al.,
    2023, Deep Learning Tuning Playbook).

    Args:
        rates: the results of all rates, ascending.
        lr: the rate.
        first: the loss at the first step.
        fall: the most that any rate lowered it.
    """
    highest = rates[-1]
    if highest.lr <= lr * FACTORS[-1] * 1.01:
        return ""
    at, diverged = _times(highest.lr / lr), sum(r.outcome == "diverged" for r in highest.lanes.values())
    if diverged:
        broke = f"{diverged} of {counted(len(highest.lanes), 'training')} diverged"
    elif highest.loss is None:
        broke = "no training finished"
    elif first - highest.loss < fall / 2:
        broke = f"training broke down (it ended at {highest.loss:.4g})"
    else:
        return f". At {at}, training still ended at {highest.loss:.4g}: there is no sign of instability"
    return f". At {at}, {broke}, a sign of instability: warmup or gradient clipping could help"


def _times(factor: float) -> str:
    """Return a multiple of a rate in words.

    >>> _times(1 / 3), _times(3.0), _times(5.0)
    ('a third of it', 'three times it', '5 times it')
    """
    words = {round(1 / 3, 2): "a third of it", 3.0: "three times it"}
    return words.get(round(factor, 2), f"{factor:.2g} times it")


def moved_answer(verdict: Verdict, verified: float, lrs: Sequence[float]) -> dict[str, Any]:
    """Return what whole trainings change of an answer, where they favour another rate than the verified one.

    Args:
        verdict: their verdict.
        verified: the rate that they verified.
        lrs: all rates that were trained, ascending.

    Returns:
        `lr`, `low`, `high`, `confidence`, `risk` (None: it is known for the answers of probes only) and
        `reason`; all but the reason are None if nothing was learned.
    """
    if verdict.lr is None:
        return no_answer(f"{verdict.reason}.")
    moved = "moved" if verdict.verdict == "moves" else "refuted"
    place = lrs.index(verdict.lr)
    below, above = lrs[max(place - 1, 0)], lrs[min(place + 1, len(lrs) - 1)]
    low, high = rounded(math.sqrt(below * verdict.lr)), rounded(math.sqrt(above * verdict.lr))
    if verdict.within_noise:  # then the verified rate is about as good
        low, high = min(low, verified), max(high, verified)
    answer = {
        "lr": verdict.lr,
        "low": low,
        "high": high,
        "confidence": "moderate",
        "risk": None,
    }
    reason = f"Verification {moved} the rate {verified:.3g}: {verdict.reason}."
    if verdict.lr in (lrs[0], lrs[-1]):
        side, beyond = ("lowest", "lower") if verdict.lr < verified else ("highest", "higher")
        answer["confidence"] = "low"
        reason += (
            f" This rate is the {side} of the {len(lrs)} that verify the answer, so it is not known whether a"
            f" {beyond} one is better."
        )
    return answer | {"reason": reason}


def _end_of(rate: RateResult) -> str:
    return f"lr {rate.lr:.3g} ended at {rate.loss:.4g}"
