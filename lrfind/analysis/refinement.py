"""Refinement: trainings with the planned schedule refine the answer of the probes, as far as a budget goes.

The probes of `analysis.probing` are short, and their rate has to be carried over to a training that is much
longer. A larger budget pays for longer trainings: first for trainings whose schedule is compressed to fewer
steps, then for whole ones, then for whole ones with further seeds. What was measured in more steps has to be
carried over less far. The constants were chosen on the design tasks of `benchmarks/quality/tasks.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from lrfind.analysis.confidence import FAR_STEPS
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.planned_training import PlannedTraining, most_cost, plan_shift
from lrfind.analysis.sweeps import judged
from lrfind.catalog import Judge
from lrfind.errors import counted

REFINE = "refine"
"""The `variant` of the lanes that refine a rate."""

PER_DECADE, STRIDE = 4, 2  # rates that can be trained in each decade; places from one to the next
OPENING = (0, -STRIDE)  # the first places: downward first, because a lower rate loses less than a higher one
FAR_OPENING = (0, -STRIDE, PER_DECADE)  # of trainings about which probes say little: a decade upward too
RATES = 5  # rates of the first seed; more rates of one seed only follow its noise
REPEATED = 4  # rates that every further seed trains again
FLAT = 0.01  # share of the fall; rates whose losses differ by less are all on a plateau, or all good
FARTHEST = 4 * PER_DECADE  # the farthest places from the first rate
WHOLE_RATES = 3  # trainings are whole if the budget allows so many
WHOLE_SHARE = 0.95  # of the planned steps; long trainings have no fewer if the budget then allows one more
SHORTER_RATES = 4  # trainings that share a budget that does not allow whole ones
FEWEST_STEPS, LEAST_SHARE = 256, 0.2  # a training has so many steps, or this share of the planned ones
SETTLED_WITHIN = 0.05  # decades; if a seed moves the rate by less, further seeds would not move it either
MOST_SEEDS = 6
WHOLE_SHARPNESS = 0.035  # share of the fall; a rate whose whole trainings lose so much has 1/e of the weight

Place = int
"""A rate on the grid around the first one: lr = first lr x 10^(place / PER_DECADE)."""


@dataclass(frozen=True)
class RefinePlan:
    """The plan of the trainings that refine a rate.

    Attributes:
        start: the lr of the first training.
        steps: S, the number of steps of each training; the schedule is compressed to them.
        budget: the gradient steps that all of them may take together.
        seed: the first seed.
    """

    start: float
    steps: int
    budget: int
    seed: int

    @property
    def opening(self) -> tuple[Place, ...]:
        """The places that are trained first; probes say less about trainings of more than `FAR_STEPS`."""
        return FAR_OPENING if self.steps > FAR_STEPS else OPENING

    def lr(self, place: Place) -> float:
        """Return the lr at a place."""
        return float(f"{self.start * 10 ** (place / PER_DECADE):.4g}")

    def place(self, lr: float) -> Place:
        """Return the place of an lr."""
        return round(PER_DECADE * math.log10(lr / self.start))


def refine_plan(
    lr: float, probe_steps: int, training: PlannedTraining, budget: int, seed: int
) -> RefinePlan | None:
    """Plan the trainings that refine a rate; None if the budget is too small for any that would help.

    Args:
        lr: the rate that the probes recommend, or at which trainings may begin.
        probe_steps: the number of steps of the probes.
        training: the planned training.
        budget: the gradient steps that are left.
        seed: the first seed.

    >>> training = PlannedTraining("sgd", 400)
    >>> refine_plan(0.1, 16, training, 300, 0) is None
    True
    >>> [refine_plan(0.1, 16, training, budget, 0).steps for budget in (400, 1200, 4000)]
    [100, 400, 400]
    >>> [refine_plan(0.1, 16, replace(training, steps=3000), 3000 * n - 90, 0).steps for n in (1, 3, 4)]
    [727, 2970, 2977]
    """
    if budget < least_budget(training, probe_steps):
        return None
    steps = training.steps if budget >= WHOLE_RATES * training.steps else budget // SHORTER_RATES
    count = math.ceil(budget / training.steps)
    if training.steps > FAR_STEPS and count >= WHOLE_RATES and is_whole(budget // count, training):
        steps = budget // count
    shifted = lr * 10 ** length_shift(training, training.steps, steps)
    return RefinePlan(float(f"{shifted:.4g}"), steps, budget, seed)


def is_whole(steps: int, training: PlannedTraining) -> bool:
    """Return whether trainings of so many steps count as whole, so that they alone make the answer."""
    return steps >= WHOLE_SHARE * training.steps


def least_budget(training: PlannedTraining, probe_steps: int) -> int:
    """Return the fewest gradient steps in which trainings tell more than probes of so many steps."""
    shortest = max(math.ceil(min(FEWEST_STEPS, LEAST_SHARE * training.steps)), 2 * probe_steps)
    return min(WHOLE_RATES * training.steps, SHORTER_RATES * shortest)


def unspent_budget(
    training: PlannedTraining, probe_steps: int, seeds: int, cost: int, budget: int | None
) -> list[str]:
    """Return why a budget was not spent on trainings, as a list of one sentence; an empty list if it was.

    Args:
        training: the planned training.
        probe_steps: the number of steps of the probes.
        seeds: the number of their seeds.
        cost: the gradient steps that probing took.
        budget: the gradient steps of the budget; None if none was given.
    """
    least = least_budget(training, probe_steps)
    if budget is None or budget - cost >= least:
        return []
    if budget < most_cost(training.steps) * seeds:  # a larger one would first make the probes longer
        return []
    share = math.ceil(10 * (cost + least) / training.steps) / 10
    return [
        f"the probes left {counted(budget - cost, 'step')} of the budget of {budget:,}, too few for trainings"
        f" that would tell more; a budget of {cost + least:,} steps ({share:g}x) or more allows them."
    ]


def length_shift(training: PlannedTraining, steps: int, other: int) -> float:
    """Return how far, in decades, the best lr of trainings of `steps` is from that of `other` steps."""
    before, after = (plan_shift(replace(training, steps=length)) for length in (steps, other))
    return after - before


def next_training(plan: RefinePlan, results: Sequence[LaneResult], judge: Judge) -> tuple[float, int] | None:
    """Return the lr and the seed of the next training; None if there is none that would change the answer.

    With the first seed, the rates of the opening are trained first, then rates half a decade further out,
    until the best one has a neighbour on either side. While all of them end alike, higher ones are trained:
    on a plateau, only a high rate leaves it. The next rates lie in the middle between the best one and the
    farther of its neighbours. Every further seed repeats the best of these rates.

    Args:
        plan: the plan.
        results: the trainings so far, in their order.
        judge: the loss that decides.
    """
    left = plan.budget - sum(result.lr.size for result in results)
    if left < plan.steps:
        return None
    tables = final_losses(plan, results, judge)
    first = tables.get(plan.seed, {})
    if len(first) < RATES or not is_bracketed(first):
        place = _next_place(plan.opening, first, first_loss_of(results) if results else math.inf)
        if place is not None:
            return plan.lr(place), plan.seed
    if not is_bracketed(first):
        return None
    repeated = sorted(first, key=lambda place: (first[place], place))[:REPEATED]
    seed = max(tables)
    missing = [place for place in repeated if place not in tables[seed]]
    if not missing:
        if left < len(repeated) * plan.steps or len(tables) >= MOST_SEEDS or _settled(tables, results):
            return None
        seed, missing = seed + 1, repeated
    return plan.lr(missing[0]), seed


def final_losses(
    plan: RefinePlan, results: Sequence[LaneResult], judge: Judge
) -> dict[int, dict[Place, float]]:
    """Return seed -> place -> final loss, which is infinite for a training that did not finish."""
    tables: dict[int, dict[Place, float]] = {}
    for result in results:
        loss = judged(result, judge)
        ended = loss if loss is not None and math.isfinite(loss) else math.inf
        tables.setdefault(result.seed, {})[plan.place(result.peak)] = ended
    return tables


def _next_place(opening: Sequence[Place], losses: Mapping[Place, float], first_loss: float) -> Place | None:
    """Return the next place of the first seed; None if all places near the best are trained, or too far."""
    if not losses:
        return opening[0]
    best, diverged = best_place(losses), [place for place, loss in losses.items() if math.isinf(loss)]
    lowest, highest = min(losses), max(losses)
    unopened = [place for place in opening if place not in losses and place < min(diverged, default=math.inf)]
    if best in diverged:
        following = lowest - STRIDE
    elif unopened:
        following = unopened[0]
    elif max(losses.values()) <= losses[best] + FLAT * (first_loss - losses[best]):
        following = highest + STRIDE
    elif best in (lowest, highest):
        following = best + (STRIDE if best == highest else -STRIDE)
    else:
        following = _between(best, losses)
    return None if following in losses or abs(following) > FARTHEST else following


def _between(best: Place, places: Iterable[Place]) -> Place:
    """Return the middle between the best place and the farther of its neighbours; the lower one of two."""
    gaps = [
        max(place - best for place in places if place < best),
        min(place - best for place in places if place > best),
    ]
    return best + int(max(gaps, key=abs) / 2)


def best_place(losses: Mapping[Place, float]) -> Place:
    """Return the place with the lowest loss; the lower one of two that tie."""
    return min(losses, key=lambda place: (losses[place], place))


def is_bracketed(losses: Mapping[Place, float]) -> bool:
    """Return whether rates on either side of the best one were trained."""
    best = best_place(losses)
    return math.isfinite(losses[best]) and min(losses) < best < max(losses)


def _settled(tables: Mapping[int, Mapping[Place, float]], results: Sequence[LaneResult]) -> bool:
    """Return whether the last seed hardly moved the best rate."""
    seeds, untouched = sorted(tables), first_loss_of(results)
    if len(seeds) < 2:
        return False
    before, now = (
        middle_of(mean_losses({seed: tables[seed] for seed in some}), untouched, WHOLE_SHARPNESS)
        for some in (seeds[:-1], seeds)
    )
    return abs(now - before) < SETTLED_WITHIN


def mean_losses(tables: Mapping[int, Mapping[Place, float]]) -> dict[Place, float]:
    """Return the mean loss of the places that every seed trained."""
    common = set.intersection(*({*table} for table in tables.values()))
    return {place: fmean(table[place] for table in tables.values()) for place in sorted(common)}


def first_loss_of(results: Sequence[LaneResult]) -> float:
    """Return the mean of the losses before the first step; NaN if none of them is finite."""
    first = [float(result.loss[0]) for result in results if len(result.loss)]
    return fmean(filter(math.isfinite, first)) if any(map(math.isfinite, first)) else math.nan


def middle_of(losses: Mapping[Place, float], first_loss: float, sharpness: float) -> float:
    """Return the mean of the places, in decades, by weights that fall with the loss."""
    best = losses[best_place(losses)]
    scale = sharpness * max(first_loss - best, 1e-300)
    weights = {place: math.exp(-min((loss - best) / scale, 60.0)) for place, loss in losses.items()}
    return sum(place * weight for place, weight in weights.items()) / sum(weights.values()) / PER_DECADE
