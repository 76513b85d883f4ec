"""One rate for each param group: probes in which the groups have multipliers of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from lrfind.analysis.curves import Array
from lrfind.analysis.group_rates import (
    MOST_PROBES,
    GroupRate,
    GroupRates,
    GroupSearch,
    Places,
    factor,
    search,
)
from lrfind.analysis.lanes import Shape, Watch, planned_lanes
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.probe_search import ceiling_over
from lrfind.analysis.probing import FIRST_STEPS, TAIL, ProbeResult
from lrfind.analysis.sweeps import judge_in_force, judged
from lrfind.config.sections import FindSection
from lrfind.errors import UsageError, counted, listed
from lrfind.experiments.budget import Budget
from lrfind.experiments.prober import LaneProber
from lrfind.problem.problem import Problem
from lrfind.problem.rates import group_names
from lrfind.problem.setup import Setup
from lrfind.training.executor import Conditions
from lrfind.training.run import run_lane
from lrfind.training.watch import unwatched

LONGEST = 64  # steps of a probe
SHARE = 8  # a probe has no more than this share of the steps of the training, but at least `FIRST_STEPS`


@dataclass(frozen=True)
class RatedGroups:
    """The param groups that get a rate of their own.

    Attributes:
        names: the name of each.
        members: the indices of each among `Setup.groups`: an optimizer that wraps another one may have a
            second group with the same parameters.
        all_ratios: the lr of every group of the setup, as a multiple of the common lr.
    """

    names: Sequence[str]
    members: Sequence[Sequence[int]]
    all_ratios: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """The lr of each group that gets a rate of its own, as a multiple of the common lr."""
        return [self.all_ratios[numbers[0]] for numbers in self.members]

    def over_all(self, multipliers: Sequence[float]) -> list[float]:
        """Return a multiplier for every group of the setup; those without a rate of their own get 1."""
        result = [1.0] * len(self.all_ratios)
        for multiplier, members in zip(multipliers, self.members, strict=True):
            for number in members:
                result[number] = multiplier
        return result


def rated_groups(setup: Setup) -> RatedGroups:
    """Return the param groups that get a rate of their own: those with an lr and with trained parameters.

    Raises:
        UsageError: if there are fewer than two, or if two of them share the tensor of their lr.
    """
    members: dict[tuple[int, ...], list[int]] = {}
    for number, (group, ratio) in enumerate(zip(setup.groups, setup.ratios, strict=True)):
        trained = tuple(id(p) for p in group["params"] if p.requires_grad)
        if ratio > 0 and trained:
            members.setdefault(trained, []).append(number)
    names = group_names(setup.all_optimizers)
    firsts = [numbers[0] for numbers in members.values()]
    if len(firsts) < 2:
        only = f"only one ({names[firsts[0]]})" if firsts else "none"
        raise UsageError(
            "groups: this looks for one rate for each of several param groups, but of the param groups with"
            f" an lr above 0 and trained parameters there is {only}. Leave groups out, or give the optimizer"
            " several param groups."
        )
    tensors = [id(setup.groups[number]["lr"]) for number in firsts if _is_tensor(setup, number)]
    if len({*tensors}) < len(tensors):
        raise UsageError(
            "groups: several param groups share one tensor as their lr, so they cannot have rates of their"
            " own; give each group its own tensor."
        )
    return RatedGroups(
        [names[number] for number in firsts],
        [*members.values()],
        [*setup.ratios],
    )


def _is_tensor(setup: Setup, number: int) -> bool:
    return isinstance(setup.groups[number]["lr"], Tensor)


def most_group_steps(setup: Setup, section: FindSection, steps: int) -> int:
    """Return the most gradient steps that the rates of groups take, with the trainings that confirm them.

    Args:
        setup: the parts of a lane.
        section: the budget, which covers these steps, and the number of seeds.
        steps: the number of steps of the planned training.

    Raises:
        UsageError: if there are no two groups that can have rates of their own.
    """
    most = _most_of_probes(rated_groups(setup), section, steps) + 2 * _confirming_steps(steps)
    return min(most, section.budget_steps(steps) or most)


def _most_of_probes(groups: RatedGroups, section: FindSection, steps: int) -> int:
    """Return the most steps of the probes of groups. Longer probes than usual get the steps of a training."""
    return MOST_PROBES * len(groups.names) * _probe_steps(steps) * section.seeds + steps


def _probe_steps(steps: int) -> int:
    return max(FIRST_STEPS, min(LONGEST, steps // SHARE))


def _confirming_steps(steps: int) -> int:
    """Return the steps of each of the two trainings that confirm the rates of groups."""
    return max(steps // 2, 1)


class GroupProber:
    """Trains probes in which param groups have multipliers, with all seeds.

    Args:
        problem: what to train.
        section: the budget and the number of seeds.
        seed: the first seed.
        training: the planned training.

    Attributes:
        probes: the number of probes so far.
        cost: their gradient steps, and those of the untouched model in a step of the user's own.

    Raises:
        UsageError: if there are no two groups that can have rates of their own.
    """

    def __init__(self, problem: Problem, section: FindSection, seed: int, training: PlannedTraining) -> None:
        setup = problem.setup(seed)
        self._groups = rated_groups(setup)
        self._most = _most_of_probes(self._groups, section, training.steps)
        self._limit, self._shortest = section.budget_steps(training.steps), _probe_steps(training.steps)
        self._seeds: list[tuple[LaneProber, float, Array]] = []
        self._budget = Budget(0)
        self.probes, self.cost = 0, 0

    def add(self, prober: LaneProber, result: ProbeResult, common: Budget) -> None:
        """Take over the prober of a seed, and read the batches that the probes of groups need.

        A seed whose probes learned nothing says nothing of groups, so it is left out.

        Args:
            prober: the prober.
            result: what it found.
            common: the budget of the probes at common rates; what this takes is added to it.
        """
        if not result.scores or not result.learned:
            return
        steps = max(self._shortest, result.steps)
        with self._counted(common):
            base = prober.scaled(self._groups.over_all([1.0] * len(self._groups.names)), self._budget)
            if base.affords([], steps) and np.isfinite(untouched := base.untouched(steps)).all():
                self._seeds.append((base, result.probes[result.best].lr, untouched))

    @contextmanager
    def _counted(self, common: Budget) -> Iterator[None]:
        """Set the budget for probes of groups, and add what they take to that of the common probes."""
        limit = common.taken + self._most if self._limit is None else self._limit
        self._budget = replace(common, steps=limit)
        before = common.taken
        try:
            yield
        finally:
            common.taken = self._budget.taken
            self.cost += common.taken - before

    @property
    def untouched(self) -> Array:
        """The losses of the untouched model on the batches that are compared, of all seeds."""
        return np.concatenate([_tail(untouched, len(untouched)) for _, _, untouched in self._seeds])

    def measure(self, places: Places) -> Array | None:
        """Return the losses of probes with these multipliers; None if steps or seconds have run out."""
        multipliers = self._groups.over_all([factor(place) for place in places])
        tails = []
        for base, lr, untouched in self._seeds:
            prober, steps = base.scaled(multipliers, self._budget), len(untouched)
            if not prober.affords([lr], steps):
                return None
            (probe,) = prober.probe([lr], steps, ceiling_over(untouched))
            tails.append(np.full(steps // TAIL, math.inf) if probe.stopped else _tail(probe.loss, steps))
            self.probes += 1
        return np.concatenate(tails)

    def rates(self, common: Budget) -> GroupRates:
        """Look for the rates of the groups; without probes that learned, all keep the common rate.

        Args:
            common: the budget of the probes at common rates; what this takes is added to it.
        """
        groups = self._groups
        if not self._seeds:
            rates = [GroupRate(*pair, 1.0) for pair in zip(groups.names, groups.ratios, strict=True)]
            return GroupRates(
                rates,
                "All groups keep their ratios to the common rate: the probes learned too little to tell more"
                " rates apart, or the budget left no steps for probes of single groups.",
                groups.over_all([1.0] * len(rates)),
                groups.all_ratios,
                cost=self.cost,
                wants_budget=True,
            )
        with self._counted(common):
            result = search(self.measure, len(groups.names), self.untouched)
        multipliers, steps = result.multipliers, max(len(untouched) for _, _, untouched in self._seeds)
        rates = [
            GroupRate(name, ratio, multipliers[number], result.beside(number))
            for number, (name, ratio) in enumerate(zip(groups.names, groups.ratios, strict=True))
        ]
        return GroupRates(
            rates,
            _reason(result, rates, steps),
            groups.over_all(multipliers),
            groups.all_ratios,
            untouched=float(self.untouched.mean()),
            steps=steps,
            probes=self.probes,
            cost=self.cost,
            wants_budget=result.cut,
        )


def _reason(result: GroupSearch, rates: Sequence[GroupRate], steps: int) -> str:
    """Say what the probes of the groups showed."""
    changed = [rate for rate in rates if rate.multiplier != 1]
    length = counted(steps, "step")
    ended = " The search ended early, because its steps or its seconds were used up." if result.cut else ""
    if not changed:
        return (
            f"All groups keep their ratios to the common rate: in probes of {length}, no other rate of a"
            f" single group was certainly better.{ended}"
        )
    before, after = result.score(result.common), result.score(result.best)
    assert before is not None
    assert after is not None
    untouched = float(result.untouched.mean())
    share = (untouched - after) / max(untouched - before, 1e-300)
    times = listed(f"{rate.name} {rate.multiplier:.3g}x" for rate in changed)
    return (
        f"In probes of {length} the loss falls {share:.2f} times as far if groups have these multiples of"
        f" their rates: {times}. For the others no other rate was certainly better.{ended}"
    )


def confirmed(
    problem: Problem,
    groups: GroupRates,
    lr: float,
    shape: Shape,
    seed: int,
    *,
    most: float = math.inf,
    watch: Watch = unwatched,
) -> GroupRates:
    """Return the rates of groups if trainings confirm what the probes favour, and the common rate if not.

    Probes of few steps often favour rates that are worse in a training. Therefore two trainings of half the
    planned steps, with the planned schedule, compare the two.

    Args:
        problem: what to train, at common rates.
        groups: what the probes favour.
        lr: the common rate that is recommended.
        shape: the shape of the planned schedule.
        seed: the seed of the trainings.
        most: the gradient steps that a budget leaves for them.
        watch: called after every step.
    """
    if not groups.changed:
        return groups
    course = shape.compressed(_confirming_steps(len(shape.multiplier)))
    times = listed(f"{rate.name} {rate.multiplier:.3g}x" for rate in groups.changed)
    favoured_words = (
        f"All groups keep their ratios to the common rate: the probes favour other rates ({times}), but"
    )
    if 2 * len(course.multiplier) > most:
        reason = f"{favoured_words} the budget leaves no steps for trainings that would confirm them."
        return _kept_common(replace(groups, wants_budget=True), groups.cost, reason)
    (lane,) = planned_lanes({"groups": [lr]}, seed, 1)
    conditions = Conditions(evaluated=problem.validation is not None)
    results = [
        run_lane(variant, lane.shaped(course), conditions, watch=watch)
        for variant in (problem, with_groups(problem, groups))
    ]
    judge = judge_in_force(results, "val_loss")
    common, favoured = (judged(result, judge) for result in results)
    cost = groups.cost + sum(result.lr.size for result in results)
    length = counted(len(course.multiplier), "step")
    ends = f"{_loss(favoured)} instead of {_loss(common)}"
    if favoured is not None and (common is None or favoured < common):
        return replace(groups, cost=cost, reason=f"{groups.reason} A training of {length} ended at {ends}.")
    return _kept_common(groups, cost, f"{favoured_words} with them a training of {length} ended at {ends}.")


def _kept_common(groups: GroupRates, cost: int, reason: str) -> GroupRates:
    """Return the groups at the common rate."""
    rates = [replace(rate, multiplier=1.0) for rate in groups.rates]
    return replace(groups, rates=rates, multipliers=[1.0] * len(groups.multipliers), cost=cost, reason=reason)


def _loss(loss: float | None) -> str:
    return "a divergence" if loss is None else f"{loss:.4g}"


def with_groups(problem: Problem, groups: GroupRates | None) -> Problem:
    """Return the problem with the multipliers of its param groups, if they were looked for."""
    if groups is None:
        return problem
    factors = tuple(groups.multipliers)
    return replace(problem, setup=lambda seed: replace(problem.setup(seed), multipliers=factors))


def _tail(losses: Array, steps: int) -> Array:
    """Return the losses by which a probe is judged: those of the last half of its steps."""
    return losses[steps - steps // TAIL :]
