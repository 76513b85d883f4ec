"""Rounds: which lanes a sweep or a comparison runs next, from the results of all rounds before."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lrfind.analysis.comparisons import at_best_peak, tuning
from lrfind.analysis.lanes import LaneResult, PlannedLane, planned_lanes
from lrfind.analysis.sweep_verdicts import doubt_about
from lrfind.analysis.sweeps import SweepResult, read_sweep
from lrfind.catalog import KINDS
from lrfind.config.experiment import Experiment, section_for
from lrfind.config.registry import load
from lrfind.config.sections import CompareSection, GridSection, SearchSection
from lrfind.config.work import MOST_PEAKS
from lrfind.experiments import samplers

LOWEST, HIGHEST = 1e-9, 1e4
"""The lowest and the highest lr that `outward` goes to."""
AROUND = 10**0.5
"""The factor between neighbouring peaks of a comparison if its config gives none: half a decade.

The peaks lie around the optimizer's lr.
"""


class Rounds(ABC):
    """The lanes of a command that runs in rounds, one round after another.

    Args:
        section: the command's section of the config.
        seed: the experiment's seed, from which samplers draw too.
    """

    def __init__(self, section: Any, seed: int) -> None:
        self.section, self.seed = section, seed

    @abstractmethod
    def first(self, lrs: Mapping[str, float]) -> list[PlannedLane]:
        """Return the lanes to begin with, from variant -> the lr of its optimizer."""

    @abstractmethod
    def next(self, plan: Sequence[PlannedLane], results: Sequence[LaneResult]) -> list[PlannedLane]:
        """Return the lanes to run next; an empty list if there is nothing left to run.

        Args:
            plan: every planned lane so far, in order.
            results: the result of every lane so far.
        """

    @property
    def only_one(self) -> bool:
        """Whether there is no other round than the first, whatever its results are."""
        return False

    def lanes_in_all(self, plan: Sequence[PlannedLane]) -> int:
        """Return how many lanes the run will have in all, as far as its plan so far tells."""
        return len(plan)


class SweepRounds(Rounds):
    """The rounds of one variant, with the same lrs for every seed."""

    @abstractmethod
    def first_lrs(self) -> list[float]:
        """Return the lrs of the first round."""

    @abstractmethod
    def next_lrs(self, planned: Sequence[float], results: Sequence[LaneResult]) -> list[float]:
        """Return the lrs of the next round, from the lr of every planned lane and the results so far."""

    def first(self, lrs: Mapping[str, float]) -> list[PlannedLane]:
        """Return a lane for each lr of the first round and each seed."""
        return planned_lanes(dict.fromkeys(lrs, self.first_lrs()), self.seed, self.section.seeds)

    def next(self, plan: Sequence[PlannedLane], results: Sequence[LaneResult]) -> list[PlannedLane]:
        """Return a lane for each lr of the next round and each seed."""
        lrs = self.next_lrs([lane.peak for lane in plan], results)
        return planned_lanes({"": lrs}, self.seed, self.section.seeds, first=len(plan))


class GridRounds(SweepRounds):
    """The rounds of a grid: its lrs, and then, if it may be extended, one lr further outward at a time."""

    section: GridSection

    @property
    def only_one(self) -> bool:
        """Whether the grid may not be extended."""
        return not self.section.extend

    def first_lrs(self) -> list[float]:
        """Return the lrs of the grid."""
        section = self.section
        return list(section.lrs or samplers.grid(section.low, section.high, section.points))

    def next_lrs(self, planned: Sequence[float], results: Sequence[LaneResult]) -> list[float]:
        """Return the next lr outward, if the grid may be extended and the best lr is at its end."""
        section = self.section
        return outward(read_sweep(results, section.judge, section.tolerance)) if section.extend else []


class SearchRounds(SweepRounds):
    """The rounds of a search: as many lrs at a time as its sampler proposes from the results so far."""

    section: SearchSection

    def first_lrs(self) -> list[float]:
        """Return the lr to start from, if one is given, and the sampler's first lrs."""
        section = self.section
        first = [] if section.start is None else [section.start]
        count = samplers.first_ask(section.sampler, section.trials, section.batch)
        return first + self._proposed([samplers.Trial(lr, math.nan) for lr in first], count - len(first))

    def next_lrs(self, planned: Sequence[float], results: Sequence[LaneResult]) -> list[float]:
        """Return the sampler's next lrs, from the losses of all lrs so far."""
        section = self.section
        rates = read_sweep(results, section.judge, section.tolerance).rates
        losses = {rate.lr: math.inf if rate.loss is None else rate.loss for rate in rates}
        history = [samplers.Trial(lr, losses[lr]) for lr in dict.fromkeys(planned)]
        return self._proposed(history, min(section.batch, section.trials - len(history)))

    def lanes_in_all(self, plan: Sequence[PlannedLane]) -> int:
        """Return the number of lanes of all trials."""
        return max(len(plan), self.section.trials * self.section.seeds)

    def _proposed(self, history: Sequence[samplers.Trial], count: int) -> list[float]:
        section = self.section
        if count <= 0:
            return []
        return samplers.propose(
            section.sampler, section.low, section.high, history, count, section.trials, self.seed
        )


class CompareRounds(Rounds):
    """The rounds of a comparison: peaks on the tuning seeds, then the best peak of each variant on others."""

    section: CompareSection

    def first(self, lrs: Mapping[str, float]) -> list[PlannedLane]:
        """Return a lane for each variant, peak and tuning seed; with one common peak, the compared lanes."""
        section, seed = self.section, self.seed
        if section.one_peak is not None:
            return planned_lanes({name: [section.one_peak] for name in lrs}, seed, section.seeds)
        peaks_of = {name: list(section.peaks or _around(lr, (-1, 0, 1))) for name, lr in lrs.items()}
        return planned_lanes(peaks_of, section.first_tuning_seed(seed), section.tuning_seeds)

    def next(self, plan: Sequence[PlannedLane], results: Sequence[LaneResult]) -> list[PlannedLane]:
        """Return lanes at further peaks; if there are none, the compared lanes at the best peaks."""
        section, first = self.section, self.section.first_tuning_seed(self.seed)
        if any(lane.seed < first for lane in plan):
            return []
        tried = {name: [lane.peak for lane in plan if lane.variant == name] for name in _variants(plan)}
        further = {name: self._further(lrs, results, name) for name, lrs in tried.items()}
        if any(further.values()):
            return planned_lanes(further, first, section.tuning_seeds, first=len(plan))
        best = {name: at_best_peak(tuning(results, name, first), section.judge) for name in tried}
        peaks = {name: [] if rate is None else [rate.lr] for name, rate in best.items()}
        return planned_lanes(peaks, self.seed, section.seeds, first=len(plan))

    def lanes_in_all(self, plan: Sequence[PlannedLane]) -> int:
        """Return the number of planned lanes and, while peaks are chosen, of the compared ones to come."""
        if self.section.one_peak is not None:
            return len(plan)
        only_tuning = all(lane.seed >= self.section.first_tuning_seed(self.seed) for lane in plan)
        return len(plan) + self.section.seeds * len(_variants(plan)) * only_tuning

    def _further(self, tried: Sequence[float], results: Sequence[LaneResult], variant: str) -> list[float]:
        """Return the next peak outward of one variant; none if the peaks are given or enough were tried."""
        if self.section.peaks is not None or len({*tried}) >= MOST_PEAKS:
            return []
        of_variant = [result for result in results if result.variant == variant]
        middle = sorted({*tried[:3]})[1]
        return [
            lr
            for near in outward(read_sweep(of_variant, self.section.judge))
            for lr in _around(middle, [round(math.log(near / middle, AROUND))])
        ]


def rounds_of(experiment: Experiment, command: str) -> Rounds:
    """Return the rounds of a command that has some in its row of the catalog."""
    rounds: Rounds = load(str(KINDS[command].rounds))(section_for(experiment, command), experiment.seed)
    return rounds


def _around(lr: float, places: Sequence[int]) -> list[float]:
    return [lr if place == 0 else float(f"{lr * AROUND**place:.3g}") for place in places]


def _variants(plan: Sequence[PlannedLane]) -> list[str]:
    return list(dict.fromkeys(lane.variant for lane in plan))


def outward(sweep: SweepResult) -> list[float]:
    """Return the next lr outside a grid, if its best lr is its lowest or highest, or if all lrs diverged.

    There is none if the answered lr ended lowest only because it learned less, while all others overfit:
    the rates beyond it learn even less.
    """
    lrs = [rate.lr for rate in sweep.rates]
    all_diverged = all(rate.outcome == "diverged" for rate in sweep.rates)
    side = "low" if all_diverged else sweep.boundary
    if doubt_about(sweep) == "learned less":
        return []
    if side == "low":
        further = lrs[0] * (lrs[0] / lrs[1] if len(lrs) > 1 else 0.1)
    elif side == "high":
        further = lrs[-1] * (lrs[-1] / lrs[-2])
    else:
        return []
    return [float(f"{further:.12g}")] if LOWEST <= further <= HIGHEST else []
