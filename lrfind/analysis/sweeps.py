"""Reading a sweep: the best lr, what else would do, how sensitive the task is, where training breaks down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import SETTLED, LaneResult, Outcome
from lrfind.analysis.statistics import half_width
from lrfind.catalog import Judge


@dataclass(frozen=True)
class Rate:
    """What the lanes of one lr came to.

    Attributes:
        lr: their lr.
        outcome: diverged if any of them did; else failed or interrupted if any was; else finished if more
            than half of them finished, or else pruned.
        lanes: by seed.
        loss: the judged loss, the median over seeds; a pruned lane counts as infinitely bad. None unless
            finished.
        val_loss: the median on the validation split; None unless finished.
        train_loss: the median of the final training losses; None unless finished.
        metric: the median over the lanes that finished; None unless finished, or where the task has none.
    """

    lr: float
    outcome: Outcome
    lanes: Mapping[int, LaneResult]
    loss: float | None
    val_loss: float | None
    train_loss: float | None
    metric: float | None


@dataclass(frozen=True)
class Reading:
    """What a sweep says.

    Attributes:
        rates: ascending in lr.
        judge: the loss that decides; train_loss where there is no validation split.
        best: the finished rate of the lowest loss; None if none finished.
        low: lowest of the lrs that are best for one seed; None with one seed.
        high: highest of them.
        usable: (lowest, highest) lr around the best that loses at most `tolerance` of the drop.
        first_loss: median over lanes of the loss at step 0.
        sensitivity: see `lr_sensitivity`.
        edge: see `sweep_edge`.
        boundary: the end of the range that the best lr sits at, if it does.
    """

    rates: Sequence[Rate]
    judge: Judge
    best: Rate | None
    low: float | None
    high: float | None
    usable: tuple[float, float] | None
    first_loss: float
    sensitivity: float | None
    edge: float | None
    boundary: Literal["low", "high"] | None


def read_sweep(results: Sequence[LaneResult], judge: Judge, tolerance: float = 0.05) -> Reading:
    """Read a sweep's lanes; any of them may be missing or cut off, see `comparable`.

    Args:
        results: the lanes.
        judge: the loss that decides; the training loss does where no lane has a validation loss.
        tolerance: of the usable range; see `SweepSection`.
    """
    results = comparable(results)
    if not any(result.val_loss is not None for result in results):
        judge = "train_loss"
    rates = [rate_of(lanes, judge) for lanes in by_lr(results)]
    finished = [rate for rate in rates if rate.loss is not None]
    best = min(finished, key=lambda rate: rate.loss or 0.0, default=None)
    starts = [float(result.loss[0]) for result in results if np.isfinite(result.loss[:1]).any()]
    first = float(np.median(starts)) if starts else math.nan
    winners = best_by_seed(finished, judge)
    several = best is not None and len(winners) > 1
    around = [*winners, best.lr] if best else []
    return Reading(
        rates=rates,
        judge=judge,
        best=best,
        low=min(around) if several else None,
        high=max(around) if several else None,
        usable=usable_range(rates, best, first, tolerance) if best else None,
        first_loss=first,
        sensitivity=lr_sensitivity(rates, first),
        edge=sweep_edge(rates),
        boundary=_boundary(rates, best),
    )


def comparable(results: Sequence[LaneResult]) -> list[LaneResult]:
    """The lanes of an unfinished sweep that may be held against each other.

    These are the settled lanes of the seeds for which every lr has settled; without such a seed, all that
    have settled; without any, all.
    """
    settled = [result for result in results if result.outcome in SETTLED]
    lrs = {result.peak for result in results}
    done = {
        seed
        for seed in {result.seed for result in settled}
        if {result.peak for result in settled if result.seed == seed} == lrs
    }
    return [result for result in settled if result.seed in done] or settled or list(results)


def by_lr(results: Sequence[LaneResult]) -> list[list[LaneResult]]:
    """The lanes of each lr, ascending in lr."""
    lrs = sorted({result.peak for result in results})
    return [[result for result in results if result.peak == lr] for lr in lrs]


def rate_of(lanes: Sequence[LaneResult], judge: Judge) -> Rate:
    """What the lanes of one lr came to together."""
    outcomes = [lane.outcome for lane in lanes]
    outcome: Outcome = "finished" if outcomes.count("finished") > len(outcomes) / 2 else "pruned"
    bad: tuple[Outcome, ...] = ("diverged", "failed", "interrupted")
    outcome = next((kind for kind in bad if kind in outcomes), outcome)

    def median(values: Sequence[float | None], missing: float) -> float | None:
        if outcome != "finished" or all(value is None for value in values):
            return None
        found = float(np.median([missing if value is None else value for value in values]))
        return found if math.isfinite(found) else None

    val_loss = median([lane.val_loss for lane in lanes], math.inf)
    train_loss = median([lane.train_loss for lane in lanes], math.inf)
    return Rate(
        lr=lanes[0].peak,
        outcome=outcome,
        lanes={lane.seed: lane for lane in lanes},
        loss=val_loss if judge == "val_loss" else train_loss,
        val_loss=val_loss,
        train_loss=train_loss,
        metric=median([lane.metric for lane in lanes if lane.metric is not None], math.nan),
    )


def judged(lane: LaneResult, judge: Judge) -> float | None:
    """The loss of a lane that decides; None unless it finished."""
    return lane.val_loss if judge == "val_loss" else lane.train_loss


def best_by_seed(finished: Sequence[Rate], judge: Judge) -> list[float]:
    """For each seed, the lr whose lane ended lowest, of the rates that finished."""
    lowest: dict[int, tuple[float, float]] = {}
    for rate in finished:
        for seed, lane in rate.lanes.items():
            loss = judged(lane, judge)
            if loss is not None:
                lowest[seed] = min(lowest.get(seed, (math.inf, rate.lr)), (loss, rate.lr))
    return [lr for _, lr in lowest.values()]


def usable_range(
    rates: Sequence[Rate], best: Rate, first_loss: float, tolerance: float
) -> tuple[float, float] | None:
    """The lowest and the highest lr of the rates next to the best that are almost as good.

    Almost: the loss is above the best by at most `tolerance` of the drop from the first loss to the best,
    which means the same whatever constant is added to the loss.
    """
    assert best.loss is not None
    ceiling = best.loss + tolerance * max(first_loss - best.loss, 0.0)
    good = [rate.loss is not None and rate.loss <= ceiling for rate in rates]
    at = next(i for i, rate in enumerate(rates) if rate is best)
    low = high = at
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(rates) - 1 and good[high + 1]:
        high += 1
    return rates[low].lr, rates[high].lr


def lr_sensitivity(rates: Sequence[Rate], first_loss: float) -> float | None:
    """How much loss a badly chosen lr costs on average: E[min(loss(lr), first loss)] - lowest loss.

    Wortsman et al. 2023 (arXiv:2309.14322), section 2.2. The expectation is over lrs spread evenly in log lr
    over the range that was tried: each rate weighs as much as its distance to its neighbours in log lr, which
    for an even grid is the paper's plain mean. A diverged lr counts as the first loss.

    Returns:
        In units of the loss; None with fewer than two rates, or if some were pruned, failed or cut off, so
        that their loss is not known.

    """
    known = [rate for rate in rates if rate.outcome in ("finished", "diverged")]
    losses = [min(first_loss if rate.loss is None else rate.loss, first_loss) for rate in known]
    if len(known) < len(rates) or len(rates) < 2 or all(rate.loss is None for rate in rates):
        return None
    if not math.isfinite(first_loss):
        return None
    log = np.log([rate.lr for rate in rates])
    gaps = np.diff(log)
    width = np.concatenate([gaps[:1], (gaps[1:] + gaps[:-1]) / 2, gaps[-1:]])
    if not width.sum() > 0:  # lrs that cannot be told apart
        return None
    return float(np.average(losses, weights=width) - min(losses))


def sweep_edge(rates: Sequence[Rate]) -> float | None:
    """Where training breaks down: between the first diverged lr and the last finished one below it.

    Returns:
        Their geometric mean; None if no lr diverged, or none below finished.
    """
    first = next((rate.lr for rate in rates if rate.outcome == "diverged"), None)
    if first is None:
        return None
    below = [rate.lr for rate in rates if rate.outcome == "finished" and rate.lr < first]
    return math.sqrt(below[-1] * first) if below else None


def _boundary(rates: Sequence[Rate], best: Rate | None) -> Literal["low", "high"] | None:
    if best is None or len(rates) < 2:
        return None
    if best is rates[0]:
        return "low"
    return "high" if best is rates[-1] else None


def beyond_noise(rate: Rate, best: Rate, judge: Judge) -> bool | None:
    """Whether an lr is worse than the best by more than the noise between seeds.

    A paired t-test at 95 %: of one seed, both lanes had the same weights and batches, so their difference is
    free of what these contribute. Not corrected for the number of lrs.

    Returns:
        None with fewer than two seeds that both finished.
    """
    gaps = paired_gaps(rate, best, judge)
    width = half_width(gaps)
    return None if width is None else bool(gaps.mean() > width)


def paired_gaps(rate: Rate, best: Rate, judge: Judge) -> Array:
    """How much more loss a rate ended with than the best did, for each seed that both finished."""
    pairs = [
        (judged(rate.lanes[s], judge), judged(best.lanes[s], judge)) for s in rate.lanes if s in best.lanes
    ]
    gaps: Array = np.array([worse - loss for worse, loss in pairs if worse is not None and loss is not None])
    return gaps
