"""Reading a sweep: the best lr, the usable range, the sensitivity to the lr, and the edge of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median as median_of
from statistics import median_low
from typing import Literal

import numpy as np

from lrfind.analysis.curves import Array, batch_noise
from lrfind.analysis.lanes import SETTLED, LaneResult, Outcome
from lrfind.analysis.overfitting import FOLLOWED, falls_in_noises, fell, overfits
from lrfind.analysis.statistics import half_width
from lrfind.catalog import Judge


@dataclass(frozen=True)
class RateResult:
    """The result of all lanes of one lr together.

    Attributes:
        lr: the lr of the lanes.
        outcome: diverged if any lane diverged; else failed or interrupted if any lane was; else finished if
            more than half of the lanes finished; else pruned.
        lanes: the lanes by their seeds.
        loss: the loss that decides, as the median over seeds; a pruned lane counts as infinitely bad. None
            unless the outcome is finished.
        val_loss: the median loss on the validation split; None unless the outcome is finished.
        train_loss: the median of the final training losses; None unless the outcome is finished.
        best_val_loss: the median over seeds of the lowest validation loss of all evaluations; None unless the
            outcome is finished.
        best_val_step: the step of that lowest loss, the (lower) median over seeds; None without such a loss.
        metric: the median metric over the lanes that finished, at the evaluation that decides, or else at the
            end; None if the outcome is not finished, or if the task has no metric.
    """

    lr: float
    outcome: Outcome
    lanes: Mapping[int, LaneResult]
    loss: float | None
    val_loss: float | None
    train_loss: float | None
    best_val_loss: float | None
    best_val_step: int | None
    metric: float | None

    @property
    def overfits(self) -> bool:
        """Whether more than half of the lanes overfit; see `analysis.overfitting.overfits`."""
        return self.outcome == "finished" and sum(map(overfits, self.lanes.values())) > len(self.lanes) / 2


@dataclass(frozen=True)
class SweepResult:
    """The conclusions from a sweep.

    Attributes:
        rates: the result of each lr, ascending in lr.
        judge: the loss that decides; train_loss if there is no validation split.
        best: the finished rate with the lowest loss; None if no rate finished.
        low: the lowest of the lrs that are best for one seed; None with one seed.
        high: the highest of the lrs that are best for one seed; None with one seed.
        usable: the lowest and the highest lr of the range around the best in which every lr is good enough;
            see `usable_range`. None if there is no best, or if its loss did not fall by more than its noise.
        ceiling: the highest loss that is good enough; None with no usable range.
        fell: whether the loss of the best rate fell surely; see `analysis.overfitting.fell`.
        fall: the fall of the training loss at the best rate, in units of its noise between batches; NaN if no
            rate finished.
        troubled: whether something is wrong with the gradients at the best rate, as far as it was looked at.
        first_loss: the median over lanes of the loss at step 0.
        sensitivity: the cost of a badly chosen lr; see `lr_sensitivity`.
        edge: where training breaks down: it diverges, or `rises_at` the lr; see `sweep_edge`.
        boundary: the end of the range at which the best lr lies; None if it lies inside.
        overfitting: the rates that learned something and overfit, ascending in lr; see `rates_that_learned`.
        overfits_everywhere: whether these are all rates that learned something.
    """

    rates: Sequence[RateResult]
    judge: Judge
    best: RateResult | None
    low: float | None
    high: float | None
    usable: tuple[float, float] | None
    ceiling: float | None
    fell: bool
    fall: float
    troubled: bool = field(default=False, kw_only=True)
    first_loss: float
    sensitivity: float | None
    edge: float | None
    boundary: Literal["low", "high"] | None
    overfitting: Sequence[RateResult]
    overfits_everywhere: bool

    def overfits_at(self, rate: RateResult) -> bool:
        """Return whether a rate is one of those that overfit."""
        return any(rate is other for other in self.overfitting)

    def rises_at(self, rate: RateResult) -> bool:
        """Return whether the loss rose further at a rate above the best one than it fell at the best."""
        return _rose(rate, self.best, self.first_loss)


def read_sweep(results: Sequence[LaneResult], judge: Judge, tolerance: float = 0.05) -> SweepResult:
    """Draw the conclusions from a sweep's lanes; any lane may be missing or cut off, see `comparable`.

    Args:
        results: the lanes.
        judge: the loss by which the lrs are ranked; if no lane has this loss, it is the training loss.
        tolerance: the tolerance of the usable range; see `SweepSection`.
    """
    results = comparable(results)
    judge = judge_in_force(results, judge)
    rates = [rate_of(lanes, judge) for lanes in by_lr(results)]
    finished = [rate for rate in rates if rate.loss is not None]
    best = min(finished, key=lambda rate: rate.loss or 0.0, default=None)
    starts = [float(result.loss[0]) for result in results if np.isfinite(result.loss[:1]).any()]
    first = float(np.median(starts)) if starts else math.nan
    winners = best_by_seed(finished, judge)
    several = best is not None and len(winners) > 1
    around = [*winners, best.lr] if best else []
    # A wild lane shows its own swings, and a quiet one the noise between batches.
    noise = min(
        (float(np.median([batch_noise(lane.loss) for lane in rate.lanes.values()])) for rate in finished),
        default=0.0,
    )
    has_fallen = best is not None and fell([*best.lanes.values()], first - (best.loss or 0.0), noise)
    ceiling = _ceiling(best, first, tolerance) if has_fallen else None
    learned = rates_that_learned(rates, first)
    overfitting = [rate for rate in learned if rate.overfits]
    return SweepResult(
        rates=rates,
        judge=judge,
        best=best,
        low=min(around) if several else None,
        high=max(around) if several else None,
        usable=usable_range(rates, best, ceiling) if best and ceiling is not None else None,
        ceiling=ceiling,
        fell=has_fallen,
        fall=falls_in_noises([*best.lanes.values()], noise) if best else math.nan,
        first_loss=first,
        sensitivity=lr_sensitivity(rates, first),
        edge=sweep_edge(rates, best, first),
        boundary=_boundary(rates, best),
        overfitting=overfitting,
        overfits_everywhere=bool(overfitting) and len(overfitting) == len(learned),
    )


def judge_in_force(results: Sequence[LaneResult], judge: Judge) -> Judge:
    """Return the loss that decides: `judge`, or the training loss if there are lanes, but none has it."""
    has_it = not results or any(judged(result, judge) is not None for result in results)
    return judge if has_it else "train_loss"


def comparable(results: Sequence[LaneResult]) -> list[LaneResult]:
    """Return the lanes of an unfinished sweep that may be compared with each other.

    A lane has settled if its outcome is final (`SETTLED`). If all lanes of some seeds have
    settled, return the lanes of these seeds. If not, return all settled lanes; if there are none, all lanes.
    """
    settled = [result for result in results if result.outcome in SETTLED]
    lrs, settled_lrs = {result.peak for result in results}, dict[int, set[float]]()
    for result in settled:
        settled_lrs.setdefault(result.seed, set()).add(result.peak)
    complete_seeds = {seed for seed, its_lrs in settled_lrs.items() if its_lrs == lrs}
    return [result for result in settled if result.seed in complete_seeds] or settled or list(results)


def by_lr(results: Sequence[LaneResult]) -> list[list[LaneResult]]:
    """Group the lanes by lr, ascending in lr."""
    groups: dict[float, list[LaneResult]] = {}
    for result in results:
        groups.setdefault(result.peak, []).append(result)
    return [groups[lr] for lr in sorted(groups)]


def rate_of(lanes: Sequence[LaneResult], judge: Judge) -> RateResult:
    """Combine the lanes of one lr into their common result."""
    outcomes = [lane.outcome for lane in lanes]
    outcome: Outcome = "finished" if outcomes.count("finished") > len(outcomes) / 2 else "pruned"
    bad: tuple[Outcome, ...] = ("diverged", "failed", "interrupted")
    outcome = next((kind for kind in bad if kind in outcomes), outcome)

    def median(values: Sequence[float | None], missing: float) -> float | None:
        if outcome != "finished" or all(value is None for value in values):
            return None
        result = median_of(missing if value is None else value for value in values)
        return result if math.isfinite(result) else None

    lowest = [point for lane in lanes if (point := lane.lowest_evaluation) is not None]
    best_val_loss = median([lane.best_val_loss for lane in lanes], math.inf)
    metrics = [judged_metric(lane, judge) for lane in lanes]
    return RateResult(
        lr=lanes[0].peak,
        outcome=outcome,
        lanes={lane.seed: lane for lane in lanes},
        loss=median([judged(lane, judge) for lane in lanes], math.inf),
        val_loss=median([lane.val_loss for lane in lanes], math.inf),
        train_loss=median([lane.train_loss for lane in lanes], math.inf),
        best_val_loss=best_val_loss,
        best_val_step=None if best_val_loss is None else median_low(point.step for point in lowest),
        metric=median([value for value in metrics if value is not None], math.nan),
    )


def judged(lane: LaneResult, judge: Judge) -> float | None:
    """Return the loss of this lane that `judge` names; None unless the lane finished."""
    if judge == "best_val_loss":
        return lane.best_val_loss
    return lane.val_loss if judge == "val_loss" else lane.train_loss


def judged_metric(lane: LaneResult, judge: Judge) -> float | None:
    """Return the metric of this lane at the evaluation that `judge` names, or else at the end."""
    if judge == "best_val_loss":
        return None if lane.lowest_evaluation is None else lane.lowest_evaluation.metric
    return lane.metric


def best_by_seed(finished: Sequence[RateResult], judge: Judge) -> list[float]:
    """Return, for each seed, the lr whose lane ended with the lowest loss, among the rates that finished."""
    lowest: dict[int, tuple[float, float]] = {}
    for rate in finished:
        for seed, lane in rate.lanes.items():
            loss = judged(lane, judge)
            if loss is not None:
                lowest[seed] = min(lowest.get(seed, (math.inf, rate.lr)), (loss, rate.lr))
    return [lr for _, lr in lowest.values()]


def _ceiling(best: RateResult | None, first_loss: float, tolerance: float) -> float | None:
    """Return the highest loss that is good enough.

    It exceeds the best loss by `tolerance` of the drop from the first loss to the best. If there is no such
    drop, no loss is good enough, and the result is None.
    """
    if best is None or best.loss is None or not best.loss < first_loss:
        return None
    return best.loss + tolerance * (first_loss - best.loss)


def _rose(rate: RateResult, best: RateResult | None, first_loss: float) -> bool:
    """Return whether the loss rose further at a rate above the best one than it fell at the best.

    A rate below the best one is not too high: if its loss is above the first one, the first batch was easy.
    """
    if best is None or best.train_loss is None or rate.train_loss is None or rate.lr <= best.lr:
        return False
    return rate.train_loss > max(2 * first_loss - best.train_loss, first_loss)


def usable_range(rates: Sequence[RateResult], best: RateResult, ceiling: float) -> tuple[float, float]:
    """Return the lowest and the highest lr of the unbroken row of rates around the best up to this loss."""
    good = [rate.loss is not None and rate.loss <= ceiling for rate in rates]
    low = high = next(i for i, rate in enumerate(rates) if rate is best)
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(rates) - 1 and good[high + 1]:
        high += 1
    return rates[low].lr, rates[high].lr


def lr_sensitivity(rates: Sequence[RateResult], first_loss: float) -> float | None:
    """Return the loss that a badly chosen lr costs on average: E[min(loss(lr), first loss)] - lowest loss.

    The source is Wortsman et al. 2023 (arXiv:2309.14322), section 2.2. The expectation is over lrs spread
    evenly in log lr over the range that was tried: the weight of each rate is its distance to its neighbours
    in log lr. For an even grid, this is the paper's plain mean. A diverged lr counts as the first loss.

    Returns:
        The cost in units of the loss; None with fewer than two rates, if no rate has a loss, if the first
        loss is not finite, or if some rates were pruned, failed or cut off, so that their loss is not known.
    """
    measured = [rate for rate in rates if rate.outcome in ("finished", "diverged")]
    losses = [min(first_loss if rate.loss is None else rate.loss, first_loss) for rate in measured]
    if len(measured) < len(rates) or len(rates) < 2 or all(rate.loss is None for rate in rates):
        return None
    if not math.isfinite(first_loss):
        return None
    log = np.log([rate.lr for rate in rates])
    gaps = np.diff(log)
    width = np.concatenate([gaps[:1], (gaps[1:] + gaps[:-1]) / 2, gaps[-1:]])
    if not width.sum() > 0:  # the lrs are too close to be distinguished
        return None
    return float(np.average(losses, weights=width) - min(losses))


def sweep_edge(rates: Sequence[RateResult], best: RateResult | None, first_loss: float) -> float | None:
    """Return the edge: the point between the lowest lr that broke and the highest finished lr below it.

    Args:
        rates: the result of each lr, ascending in lr.
        best: the best of them; None if none finished. A higher lr whose loss rose counts as broken.
        first_loss: the loss at step 0.

    Returns:
        The geometric mean of the two lrs; None if no lr broke, or if no lr below it finished.
    """
    broke = [rate.outcome == "diverged" or _rose(rate, best, first_loss) for rate in rates]
    if True not in broke:
        return None
    first = rates[broke.index(True)].lr
    below = [rate.lr for rate in rates if rate.outcome == "finished" and rate.lr < first]
    return math.sqrt(below[-1] * first) if below else None


def rates_that_learned(rates: Sequence[RateResult], first_loss: float) -> list[RateResult]:
    """Return the rates whose training loss fell at least half as far as the one that fell furthest.

    A rate that is too low or too high to learn says nothing of overfitting.
    """
    falls = [(first_loss - rate.train_loss, rate) for rate in rates if rate.train_loss is not None]
    furthest = max((fall for fall, _ in falls), default=0.0)
    return [rate for fall, rate in falls if furthest > 0 and fall >= FOLLOWED * furthest]


def _boundary(rates: Sequence[RateResult], best: RateResult | None) -> Literal["low", "high"] | None:
    if best is None or len(rates) < 2:
        return None
    if best is rates[0]:
        return "low"
    return "high" if best is rates[-1] else None


def beyond_noise(rate: RateResult, best: RateResult, judge: Judge) -> bool | None:
    """Return whether an lr is worse than the best by more than the noise between seeds.

    This is a paired t-test at 95 %. Both lanes of a seed had the same weights and batches, so their
    difference is free of the noise of weights and batches. The test is not corrected for the number of lrs.

    Returns:
        None with fewer than two seeds for which both lrs finished.
    """
    gaps = paired_gaps(rate, best, judge)
    width = half_width(gaps)
    return None if width is None else bool(gaps.mean() > width)


def paired_gaps(rate: RateResult, best: RateResult, judge: Judge) -> Array:
    """Return how much higher a rate's loss is than the best rate's, for each seed for which both finished."""
    pairs = [
        (judged(rate.lanes[s], judge), judged(best.lanes[s], judge)) for s in rate.lanes if s in best.lanes
    ]
    gaps: Array = np.array([worse - loss for worse, loss in pairs if worse is not None and loss is not None])
    return gaps
