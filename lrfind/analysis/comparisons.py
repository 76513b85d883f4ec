"""Comparisons: which variant is best, and whether the differences are larger than the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import SETTLED, LaneResult
from lrfind.analysis.sweeps import (
    RateResult,
    beyond_noise,
    judge_in_force,
    judged,
    judged_metric,
    paired_gaps,
    rate_of,
    read_sweep,
)
from lrfind.catalog import Judge
from lrfind.errors import counted, listed

EARLY, MIDDLE = 0.1, 0.5  # the shares of the steps after which the loss is compared too


@dataclass(frozen=True)
class Standing:
    """How one variant ended, at the best of its peaks.

    All losses are means over seeds, because the gaps that are compared with the noise are differences of
    means. The losses are None unless the lanes at the best peak finished.

    Attributes:
        variant: the variant's name.
        peaks: the result at each peak; if there are several peaks, from the seeds that choose the best one.
        best: the result at the best peak, from the seeds that are compared; None if no peak finished, or if
            there is no seed yet with which the lanes of all variants have settled.
        boundary: whether the best peak is the lowest or the highest one that was tried; None if it lies
            between them.
        judge: the loss that decides.
        rank: the place among the variants, from 1; None unless the lanes at the best peak finished.
        loss: the final judged loss, which is the loss that `judge` names.
        val_loss: the final validation loss; None without a validation split.
        best_val_loss: the lowest validation loss of all evaluations; None without a validation split.
        train_loss: the training loss over the last twentieth of the steps.
        metric: the metric on the validation split, at the evaluation that decides, or else at the end; None
            if the task has none.
        early: the smoothed training loss after a tenth of the steps.
        middle: the smoothed training loss after half of the steps.
        area: the mean training loss over all steps, which is the area under its curve divided by the steps.
        spread: the lowest and the highest judged loss among the seeds; None with one seed.
        worse: whether the variant is worse than the first by more than the noise between seeds (a paired
            t-test at 95 %); None for the first variant, and with one seed.
        gaps: for each seed, the variant's judged loss minus that of the first variant; empty for the first.
    """

    variant: str
    peaks: Sequence[RateResult]
    best: RateResult | None
    boundary: Literal["low", "high"] | None
    judge: Judge
    rank: int | None = None
    loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    train_loss: float | None = None
    metric: float | None = None
    early: float | None = None
    middle: float | None = None
    area: float | None = None
    spread: tuple[float, float] | None = None
    worse: bool | None = None
    gaps: Array = field(default_factory=lambda: np.empty(0))


def tuning(results: Sequence[LaneResult], variant: str, first_tuning_seed: int) -> list[LaneResult]:
    """Return the lanes that choose a variant's peak: those of the tuning seeds, or else all its lanes."""
    lanes = [result for result in results if result.variant == variant]
    return [lane for lane in lanes if lane.seed >= first_tuning_seed] or lanes


def at_best_peak(lanes: Sequence[LaneResult], judge: Judge) -> RateResult | None:
    """Return the result at the best peak of these lanes; None if no peak finished."""
    return read_sweep(lanes, judge).best


def standings(
    results: Sequence[LaneResult], variants: Sequence[str], judge: Judge, first_tuning_seed: int
) -> list[Standing]:
    """Rank the variants: the best first, and last the variants without any finished result.

    While lanes are missing, only the seeds count with which the lanes of all variants have settled.

    Args:
        results: the lanes of all variants.
        variants: the names of the variants.
        judge: the loss that decides; if no lane has it, the training loss decides.
        first_tuning_seed: lanes with smaller seeds are compared; the other lanes choose the peaks.
    """
    judge = judge_in_force(results, judge)
    settled = [result for result in results if result.outcome in SETTLED]
    sweeps = {name: read_sweep(tuning(results, name, first_tuning_seed), judge) for name in variants}
    compared = {
        name: _at_peak(rate.lr, settled, name, first_tuning_seed)
        for name, sweep in sweeps.items()
        if (rate := sweep.best) is not None
    }
    begun = {result.variant for result in settled}
    of_each = [{lane.seed for lane in lanes} for lanes in compared.values()]
    seeds = set.intersection(*of_each) if of_each and begun.issuperset(variants) else set[int]()
    tuned = []
    for name, sweep in sweeps.items():
        lanes = [lane for lane in compared.get(name, []) if lane.seed in seeds]
        best = rate_of(lanes, judge) if lanes else None
        tuned.append(Standing(name, sweep.rates, best, sweep.boundary, judge))
    ordered = sorted(tuned, key=lambda standing: _loss(standing.best, judge))
    first = ordered[0].best
    return [_ranked(standing, rank, first) for rank, standing in enumerate(ordered, 1)]


def _at_peak(
    peak: float, settled: Sequence[LaneResult], variant: str, first_tuning_seed: int
) -> list[LaneResult]:
    """Return the settled lanes of a variant at this peak, with the seeds that are compared."""
    return [
        lane
        for lane in settled
        if lane.variant == variant and lane.seed < first_tuning_seed and lane.peak == peak
    ]


def _loss(best: RateResult | None, judge: Judge) -> float:
    """Return the mean judged loss over seeds; infinite unless every seed finished with such a loss."""
    if best is None or best.outcome != "finished":
        return math.inf
    losses = [judged(lane, judge) for lane in best.lanes.values()]
    return float(np.mean([math.inf if loss is None else loss for loss in losses]))


def _ranked(standing: Standing, rank: int, first: RateResult | None) -> Standing:
    """Add the rank and the losses to a variant whose lanes at the best peak finished.

    Args:
        standing: the variant.
        rank: its place.
        first: the result of the best variant at its best peak.
    """
    best, judge = standing.best, standing.judge
    loss = _loss(best, judge)
    if best is None or first is None or not math.isfinite(loss):
        return standing
    lanes = [*best.lanes.values()]

    def mean(value: Callable[[LaneResult], float | None]) -> float | None:
        values = [number for lane in lanes if (number := value(lane)) is not None]
        return float(np.mean(values)) if values else None

    losses = [final for lane in lanes if (final := judged(lane, judge)) is not None]
    return replace(
        standing,
        rank=rank,
        loss=loss,
        val_loss=mean(lambda lane: lane.val_loss),
        train_loss=mean(lambda lane: lane.train_loss),
        best_val_loss=mean(lambda lane: lane.best_val_loss),
        metric=mean(lambda lane: judged_metric(lane, judge)),
        early=mean(lambda lane: smoothed_at(lane, EARLY)),
        middle=mean(lambda lane: smoothed_at(lane, MIDDLE)),
        area=mean(lambda lane: float(np.mean(lane.loss))),
        spread=(min(losses), max(losses)) if len(losses) > 1 else None,
        worse=None if best is first else beyond_noise(best, first, judge),
        gaps=np.empty(0) if best is first else paired_gaps(best, first, judge),
    )


def smoothed_at(lane: LaneResult, share: float) -> float:
    """Return a lane's smoothed training loss after this share of its planned steps, or at its end."""
    at = min(round(share * lane.planned), lane.curve.length - 1)
    return float(lane.curve.smoothed[at])


def verdict(ranking: Sequence[Standing], seeds: int | None = None) -> str:
    """Return the verdict as one sentence: which variant is best, and how sure that is.

    Args:
        ranking: the variants, the best first.
        seeds: the number of seeds that are to be compared; when omitted, all of them have been.
    """
    done = [standing for standing in ranking if standing.rank is not None]
    if not done:
        return "Nothing finished."
    first, others = done[0], done[1:]
    beaten = [f"'{standing.variant}'" for standing in others if standing.worse]
    same = [f"'{standing.variant}'" for standing in others if not standing.gaps.any()]
    others = [standing for standing in others if standing.gaps.any()]
    tied = [f"'{standing.variant}'" for standing in others if standing.worse is False]
    unknown = [f"'{standing.variant}'" for standing in others if standing.worse is None]
    untuned = [f"'{standing.variant}'" for standing in done if standing.boundary and len(standing.peaks) > 1]
    by_lowest = first.judge == "best_val_loss"
    lowest = "reached the lowest validation loss" if by_lowest else "ended with the lowest loss"
    parts = [f"'{first.variant}' {lowest}"]
    compared = 0 if first.best is None else len(first.best.lanes)
    if seeds is not None and compared < seeds:
        parts[0] += f" so far, with {compared} of {counted(seeds, 'seed')}"
    if first.best is not None and first.best.overfits and not by_lowest:
        parts.append("but training overfits with it")
    if beaten:
        parts.append(f"the difference to {listed(beaten)} is larger than the noise between seeds")
    if tied:
        parts.append(
            f"with {counted(compared, 'seed')}, the difference to {listed(tied)} is within the noise, and"
            " more seeds would tell"
        )
    if same:
        parts.append(f"{listed(same)} ended with exactly the same losses")
    if unknown:
        parts.append(f"with one seed, nothing is known of the noise in the difference to {listed(unknown)}")
    if untuned:
        parts.append(f"{listed(untuned)} may do better at peaks further out, which were not tried")
    return "; ".join(parts) + "."
