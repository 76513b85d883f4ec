"""Reading a comparison: where each variant stands, and whether the differences are larger than the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import SETTLED, LaneResult
from lrfind.analysis.sweeps import Rate, Reading, beyond_noise, judged, paired_gaps, rate_of, read_sweep
from lrfind.catalog import Judge

EARLY, MIDDLE = 0.1, 0.5  # shares of the steps


@dataclass(frozen=True)
class Standing:
    """One variant, at the best of its peaks.

    Attributes:
        variant: its name.
        peaks: what its lanes came to at each peak, those that chose it where there were several.
        best: its lanes at the best peak, of the seeds that are compared; None if no peak finished, or these
            have not run yet.
        boundary: the end of the peaks that the best sits at, if it does.
        judge: the loss that decides.
        rank: from 1; None unless the lanes at the best peak finished.
        loss: the judged loss at the end, the mean over seeds, as all numbers here: the gaps that the noise is
            held against are differences of means too.
        val_loss: on the validation split; None without one.
        train_loss: over the last twentieth of the steps.
        metric: on the validation split; None where the task has none.
        early: smoothed training loss after a tenth of the steps.
        middle: after half of them.
        area: training loss over all steps: the area under its curve, per step.
        spread: lowest and highest judged loss of a seed; None with one seed.
        gaps: by seed, how much more judged loss than the first it ended with; empty for the first.
        worse: whether it is worse than the first by more than the noise between seeds (a paired t-test at
            95 %); None for the first, and with one seed.
    """

    variant: str
    peaks: Sequence[Rate]
    best: Rate | None
    boundary: Literal["low", "high"] | None
    judge: Judge
    rank: int | None
    loss: float | None
    val_loss: float | None
    train_loss: float | None
    metric: float | None
    early: float | None
    middle: float | None
    area: float | None
    spread: tuple[float, float] | None
    worse: bool | None
    gaps: Array


def tuning(results: Sequence[LaneResult], variant: str, first_tuning_seed: int) -> list[LaneResult]:
    """The lanes of a variant that choose its peak: of the seeds from `first_tuning_seed` on, or else all."""
    of_it = [result for result in results if result.variant == variant]
    return [result for result in of_it if result.seed >= first_tuning_seed] or of_it


def at_best_peak(lanes: Sequence[LaneResult], judge: Judge) -> Rate | None:
    """The best peak of these lanes; None if none finished."""
    return read_sweep(lanes, judge).best


def standings(
    results: Sequence[LaneResult], variants: Sequence[str], judge: Judge, first_tuning_seed: int
) -> list[Standing]:
    """Where each variant stands, the best first, those of which nothing finished last.

    Args:
        results: lanes of all variants.
        variants: their names.
        judge: the loss that decides; the training loss does where there is no validation loss.
        first_tuning_seed: lanes of smaller seeds are compared, the others choose the peaks.
    """
    if not any(result.val_loss is not None for result in results):
        judge = "train_loss"
    found = {}
    for name in variants:
        reading = read_sweep(tuning(results, name, first_tuning_seed), judge)
        found[name] = reading, _compared(reading, results, name, first_tuning_seed, judge)
    order = sorted(variants, key=lambda name: _loss(found[name][1], judge))
    first = found[order[0]][1]
    return [_standing(name, *found[name], rank, first, judge) for rank, name in enumerate(order, 1)]


def _compared(
    reading: Reading, results: Sequence[LaneResult], variant: str, first_tuning_seed: int, judge: Judge
) -> Rate | None:
    """The lanes of a variant at its best peak, of the seeds that are compared."""
    if reading.best is None:
        return None
    lanes = [
        result
        for result in results
        if result.variant == variant
        and result.seed < first_tuning_seed
        and result.peak == reading.best.lr
        and result.outcome in SETTLED
    ]
    return rate_of(lanes, judge) if lanes else None


def _loss(best: Rate | None, judge: Judge) -> float:
    """The mean over seeds of the judged loss; infinite unless all of them finished with one."""
    if best is None or best.outcome != "finished":
        return math.inf
    losses = [judged(lane, judge) for lane in best.lanes.values()]
    return float(np.mean([math.inf if loss is None else loss for loss in losses]))


def _standing(
    name: str, reading: Reading, best: Rate | None, rank: int, first: Rate | None, judge: Judge
) -> Standing:
    peaks, boundary = reading.rates, reading.boundary
    loss: float | None = _loss(best, judge)
    if best is None or loss is None or first is None or not math.isfinite(loss):
        nothing = (None,) * 10
        return Standing(name, peaks, best, boundary, judge, *nothing, np.empty(0))
    lanes = [*best.lanes.values()]

    def mean(value: Callable[[LaneResult], float | None]) -> float | None:
        known = [found for lane in lanes if (found := value(lane)) is not None]
        return float(np.mean(known)) if known else None

    losses = [loss for lane in lanes if (loss := judged(lane, judge)) is not None]
    return Standing(
        variant=name,
        peaks=peaks,
        best=best,
        boundary=boundary,
        judge=judge,
        rank=rank,
        loss=loss,
        val_loss=mean(lambda lane: lane.val_loss),
        train_loss=mean(lambda lane: lane.train_loss),
        metric=mean(lambda lane: lane.metric),
        early=mean(lambda lane: smoothed_at(lane, EARLY)),
        middle=mean(lambda lane: smoothed_at(lane, MIDDLE)),
        area=mean(lambda lane: float(np.mean(lane.loss))),
        spread=(min(losses), max(losses)) if len(losses) > 1 else None,
        worse=None if best is first else beyond_noise(best, first, judge),
        gaps=np.empty(0) if best is first else paired_gaps(best, first, judge),
    )


def smoothed_at(lane: LaneResult, share: float) -> float:
    """A lane's smoothed training loss after that share of its planned steps, or at its end."""
    at = min(round(share * lane.planned), lane.curve.length - 1)
    return float(lane.curve.smoothed[at])


def verdict(ranking: Sequence[Standing]) -> str:
    """Who won, and over whom that is sure, in a sentence."""
    done = [each for each in ranking if each.rank is not None]
    if not done:
        return "nothing finished."
    first, others = done[0], done[1:]
    beaten = [each.variant for each in others if each.worse]
    tied = [each.variant for each in others if each.worse is False]
    unknown = [each.variant for each in others if each.worse is None]
    untuned = [each.variant for each in done if each.boundary and len(each.peaks) > 1]
    said = [f"{first.variant} ended lowest"]
    if beaten:
        said.append(f"beyond the noise between seeds below {_and(beaten)}")
    if tied:
        said.append(f"not told apart from {_and(tied)} by {_seeds(first)}")
    if unknown:
        said.append(f"with one seed, so nothing is known of the noise against {_and(unknown)}")
    if untuned:
        said.append(f"{_and(untuned)} may do better at peaks further out, which were not tried")
    return "; ".join(said) + "."


def _seeds(standing: Standing) -> str:
    count = 0 if standing.best is None else len(standing.best.lanes)
    return f"{count} seeds"


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def plain(standing: Standing) -> dict[str, Any]:
    """A standing as plain data, for summary.json."""
    best = standing.best
    return {
        "variant": standing.variant,
        "rank": standing.rank,
        "lr": best.lr if best else None,
        "early": standing.early,
        "middle": standing.middle,
        "train_loss": standing.train_loss,
        "val_loss": standing.val_loss,
        "metric": standing.metric,
        "area": standing.area,
        "spread": list(standing.spread) if standing.spread else None,
        "worse_beyond_noise": standing.worse,
        "outcome": best.outcome if best else None,
        "peaks": [{"lr": rate.lr, "outcome": rate.outcome, "loss": rate.loss} for rate in standing.peaks],
        "boundary": standing.boundary,
    }
