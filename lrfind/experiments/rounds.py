"""Rounds: which lanes a sweep or a comparison runs next, from the results of all rounds before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lrfind.analysis.comparisons import at_best_peak, tuning
from lrfind.analysis.lanes import LaneResult, PlannedLane, planned_lanes
from lrfind.analysis.sweeps import SweepResult, read_sweep
from lrfind.config.sections import CompareSection, GridSection, LanesSection, SearchSection
from lrfind.experiments import samplers

LOWEST, HIGHEST = 1e-9, 1e4
"""The lowest and the highest lr that `outward` goes to."""
AROUND = 10**0.5
"""The factor between neighbouring peaks of a comparison if its config gives none: half a decade.

The peaks lie around the optimizer's lr.
"""
MOST_PEAKS = 11
"""The most peaks of one variant in a comparison whose config gives none."""


def first_round(section: LanesSection, lrs: Mapping[str, float], seed: int) -> list[PlannedLane]:
    """Return the lanes that a sweep or a comparison begins with.

    Args:
        section: the section of the config.
        lrs: variant -> its optimizer's lr; the peaks of a comparison lie around this lr.
        seed: the experiment's seed.
    """
    if not isinstance(section, CompareSection):
        return planned_lanes(dict.fromkeys(lrs, first_peaks(section, seed)), seed, section.seeds)
    if section.one_peak is not None:
        return planned_lanes({name: [section.one_peak] for name in lrs}, seed, section.seeds)
    peaks_of = {name: list(section.peaks or _around(lr, (-1, 0, 1))) for name, lr in lrs.items()}
    return planned_lanes(peaks_of, section.first_tuning_seed(seed), section.tuning_seeds)


def next_round(
    section: LanesSection, plan: Sequence[PlannedLane], results: Sequence[LaneResult], seed: int
) -> list[PlannedLane]:
    """Return the lanes to run next, given the results so far; an empty list if there is nothing left to run.

    Args:
        section: the section of the config.
        plan: every planned lane so far, in order.
        results: the result of every lane so far.
        seed: the experiment's seed.
    """
    if not isinstance(section, CompareSection):
        lrs = next_peaks(section, [lane.peak for lane in plan], results, seed)
        return planned_lanes({"": lrs}, seed, section.seeds, first=len(plan))
    first = section.first_tuning_seed(seed)
    if any(lane.seed < first for lane in plan):
        return []
    tried = {name: [lane.peak for lane in plan if lane.variant == name] for name in _variants(plan)}
    further = {name: _further(section, lrs, results, name) for name, lrs in tried.items()}
    if any(further.values()):
        return planned_lanes(further, first, section.tuning_seeds, first=len(plan))
    best = {name: at_best_peak(tuning(results, name, first), section.judge) for name in tried}
    peaks = {name: [] if rate is None else [rate.lr] for name, rate in best.items()}
    return planned_lanes(peaks, seed, section.seeds, first=len(plan))


def lanes_in_all(section: LanesSection, plan: Sequence[PlannedLane], seed: int) -> int:
    """Return how many lanes a sweep or a comparison will have in all, as far as its plan tells.

    Args:
        section: the section of the config.
        plan: every planned lane so far.
        seed: the experiment's seed.
    """
    if isinstance(section, SearchSection):
        return max(len(plan), section.trials * section.seeds)
    if isinstance(section, CompareSection) and section.one_peak is None:
        tuning_alone = all(lane.seed >= section.first_tuning_seed(seed) for lane in plan)
        return len(plan) + section.seeds * len(_variants(plan)) * tuning_alone
    return len(plan)


def first_peaks(section: LanesSection, seed: int) -> list[float]:
    """Return the lrs of a sweep's first round."""
    if isinstance(section, GridSection):
        return list(section.lrs or samplers.grid(section.low, section.high, section.points))
    assert isinstance(section, SearchSection)
    first = [] if section.start is None else [section.start]
    count = section.trials
    if section.sampler in ("tpe", "gp"):
        count = min(count, samplers.startup(section.trials))
    return first + _proposed(
        section, [samplers.Trial(lr, math.nan) for lr in first], count - len(first), seed
    )


def next_peaks(
    section: LanesSection, planned: Sequence[float], results: Sequence[LaneResult], seed: int
) -> list[float]:
    """Return the lrs of a sweep's next round, from the results of all rounds before; none when it is done.

    Args:
        section: the section of the config.
        planned: the lr of every planned lane so far, in order.
        results: the result of every lane so far.
        seed: the seed of the sampler.
    """
    if isinstance(section, GridSection):
        return outward(read_sweep(results, section.judge, section.tolerance)) if section.extend else []
    assert isinstance(section, SearchSection)
    rates = read_sweep(results, section.judge, section.tolerance).rates
    losses = {rate.lr: math.inf if rate.loss is None else rate.loss for rate in rates}
    history = [samplers.Trial(lr, losses[lr]) for lr in dict.fromkeys(planned)]
    return _proposed(section, history, min(section.batch, section.trials - len(history)), seed)


def _further(
    section: CompareSection, tried: Sequence[float], results: Sequence[LaneResult], variant: str
) -> list[float]:
    """Return the next peak outward of one variant; none if the peaks are given or enough were tried."""
    if section.peaks is not None or len({*tried}) >= MOST_PEAKS:
        return []
    reading = read_sweep([result for result in results if result.variant == variant], section.judge)
    middle = sorted({*tried[:3]})[1]
    return [
        lr for near in outward(reading) for lr in _around(middle, [round(math.log(near / middle, AROUND))])
    ]


def _around(lr: float, places: Sequence[int]) -> list[float]:
    return [lr if place == 0 else float(f"{lr * AROUND**place:.3g}") for place in places]


def _variants(plan: Sequence[PlannedLane]) -> list[str]:
    return list(dict.fromkeys(lane.variant for lane in plan))


def _proposed(
    section: SearchSection, history: Sequence[samplers.Trial], count: int, seed: int
) -> list[float]:
    if count <= 0:
        return []
    return samplers.propose(section.sampler, section.low, section.high, history, count, section.trials, seed)


def outward(reading: SweepResult) -> list[float]:
    """Return the next lr outside a grid, if its best lr is its lowest or highest, or if all lrs diverged."""
    lrs = [rate.lr for rate in reading.rates]
    all_diverged = all(rate.outcome == "diverged" for rate in reading.rates)
    side = "low" if all_diverged else reading.boundary
    if side == "low":
        further = lrs[0] * (lrs[0] / lrs[1] if len(lrs) > 1 else 0.1)
    elif side == "high":
        further = lrs[-1] * (lrs[-1] / lrs[-2])
    else:
        return []
    return [float(f"{further:.12g}")] if LOWEST <= further <= HIGHEST else []
