"""Refinement: trainings with the planned schedule refine the answer of the probes, as far as a budget goes.

The probes of `analysis.probing` are short, and their rate has to be carried over to a training that is much
longer. A larger budget pays for longer trainings: first for trainings whose schedule is compressed to fewer
steps, then for whole ones, then for whole ones with further seeds. What was measured in more steps has to be
carried over less far. The constants were chosen on the design tasks of `benchmarks/quality/tasks.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np

from lrfind.analysis.confidence import Confidence
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.planned_training import UNMEASURED, PlannedTraining, repetition_shift
from lrfind.analysis.probing import SIGNIFICANT
from lrfind.analysis.recommendation import no_answer, rounded
from lrfind.analysis.sweeps import judged
from lrfind.analysis.verification import LEARNED, judge_of
from lrfind.catalog import Judge
from lrfind.errors import counted, listed

REFINE = "refine"
"""The `variant` of the lanes that refine a rate."""

PER_DECADE, STRIDE = 4, 2  # rates that can be trained in each decade; places from one to the next at first
RATES = 5  # rates of the first seed; more rates of one seed only follow its noise
REPEATED = 4  # rates that every further seed trains again
CLEAR = 0.1  # share of the untouched loss; rates whose losses differ by more differ beyond doubt
FLAT = 0.01  # share of the fall; rates whose losses differ by less are all on a plateau, or all good
FARTHEST = 4 * PER_DECADE  # the farthest places from the first rate
WHOLE_RATES = 3  # trainings are whole if the budget allows so many
SHORTER_RATES = 4  # trainings that share a budget that does not allow whole ones
FEWEST_STEPS, LEAST_SHARE = 256, 0.2  # a training has so many steps, or this share of the planned ones
PER_TRAINED_LENGTH = {False: -0.5, True: -0.3}  # adaptive? -> decades of lr per decade of a training's length
SETTLED_WITHIN = 0.05  # decades; if a seed moves the rate by less, further seeds would not move it either
MOST_SEEDS = 6
WHOLE_SHARPNESS, SHARPNESS = 0.035, 0.1  # shares of the fall; a rate that loses so much has 1/e of the weight
GOOD = 0.03  # share of the fall; rates that lose no more belong to the interval
NARROWEST, WIDEST = 0.12, 0.25  # decades of the interval to either side of the answer

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
    """
    if budget >= WHOLE_RATES * training.steps:
        steps = training.steps
    else:
        steps = budget // SHORTER_RATES
        if steps < max(min(FEWEST_STEPS, LEAST_SHARE * training.steps), 2 * probe_steps):
            return None
    shifted = lr * 10 ** _length_shift(training, training.steps, steps)
    return RefinePlan(float(f"{shifted:.4g}"), steps, budget, seed)


def _length_shift(training: PlannedTraining, steps: int, other: int) -> float:
    """Return how far, in decades, the best lr of trainings of `steps` is from that of `other` steps."""
    shift = PER_TRAINED_LENGTH[(training.family or UNMEASURED).adaptive] * math.log10(other / steps)
    before, after = (repetition_shift(replace(training, steps=length)) for length in (steps, other))
    return shift + after - before


def next_training(plan: RefinePlan, results: Sequence[LaneResult], judge: Judge) -> tuple[float, int] | None:
    """Return the lr and the seed of the next training; None if there is none that would change the answer.

    With the first seed, rates half a decade apart are trained until the best one has a neighbour on either
    side, first downward: a lower rate loses less than one that is too high. While all of them end alike,
    higher ones are trained: on a plateau, only a high rate leaves it. The next rates lie between them. Every
    further seed repeats the best of these rates.

    Args:
        plan: the plan.
        results: the trainings so far, in their order.
        judge: the loss that decides.
    """
    left = plan.budget - sum(result.lr.size for result in results)
    if left < plan.steps:
        return None
    tables = _tables(plan, results, judge)
    first = tables.get(plan.seed, {})
    if not first or not _bracketed(first) or len(first) < RATES:
        place = _next_place(first, _first_loss(results) if results else math.inf)
        return None if place is None else (plan.lr(place), plan.seed)
    repeated = sorted(first, key=lambda place: (first[place], place))[:REPEATED]
    seed = max(tables)
    missing = [place for place in repeated if place not in tables[seed]]
    if not missing:
        if left < len(repeated) * plan.steps or len(tables) >= MOST_SEEDS or _settled(tables, results):
            return None
        seed, missing = seed + 1, repeated
    return plan.lr(missing[0]), seed


def _tables(plan: RefinePlan, results: Sequence[LaneResult], judge: Judge) -> dict[int, dict[Place, float]]:
    """Return seed -> place -> final loss, which is infinite for a training that did not finish."""
    tables: dict[int, dict[Place, float]] = {}
    for result in results:
        loss = judged(result, judge)
        ended = loss if loss is not None and math.isfinite(loss) else math.inf
        tables.setdefault(result.seed, {})[plan.place(result.peak)] = ended
    return tables


def _next_place(losses: Mapping[Place, float], first_loss: float) -> Place | None:
    """Return the next place of the first seed; None if all places near the best are trained, or too far."""
    if not losses:
        return 0
    best = _best(losses)
    nearby: tuple[Place, ...] = (best - STRIDE, best + STRIDE, best - 1, best + 1)
    if math.isinf(losses[best]):
        nearby = (min(losses) - STRIDE,)
    elif len(losses) > 1 and max(losses.values()) <= losses[best] + FLAT * (first_loss - losses[best]):
        nearby = (max(losses) + STRIDE,)
    return next((place for place in nearby if place not in losses and abs(place) <= FARTHEST), None)


def _best(losses: Mapping[Place, float]) -> Place:
    return min(losses, key=lambda place: (losses[place], place))


def _bracketed(losses: Mapping[Place, float]) -> bool:
    best = _best(losses)
    return math.isfinite(losses[best]) and min(losses) < best < max(losses)


def _settled(tables: Mapping[int, Mapping[Place, float]], results: Sequence[LaneResult]) -> bool:
    """Return whether the last seed hardly moved the best rate."""
    seeds, untouched = sorted(tables), _first_loss(results)
    if len(seeds) < 2:
        return False
    before, now = (
        _middle(_means({seed: tables[seed] for seed in some}), untouched, WHOLE_SHARPNESS)
        for some in (seeds[:-1], seeds)
    )
    return abs(now - before) < SETTLED_WITHIN


def _means(tables: Mapping[int, Mapping[Place, float]]) -> dict[Place, float]:
    """Return the mean loss of the places that every seed trained."""
    common = set.intersection(*({*table} for table in tables.values()))
    return {place: fmean(table[place] for table in tables.values()) for place in sorted(common)}


def _first_loss(results: Sequence[LaneResult]) -> float:
    return fmean(float(result.loss[0]) for result in results if len(result.loss))


def _noise(results: Sequence[LaneResult]) -> float:
    """Return the deviation of the training loss between batches, from its successive differences.

    The estimate is that of von Neumann 1941; the slow fall of a loss hardly counts in it.
    """
    differences = [np.diff(result.loss) for result in results if len(result.loss) > 1]
    return min((math.sqrt(float(np.mean(of_one**2)) / 2) for of_one in differences), default=math.inf)


class _Ends:
    """How the trainings of a plan ended.

    Attributes:
        tables: seed -> place -> final loss; infinite for a training that did not finish.
        losses: place -> the mean loss over the seeds; of the places that finished with every seed.
    """

    def __init__(self, plan: RefinePlan, results: Sequence[LaneResult], judge: Judge) -> None:
        self.plan, self.judge, self._results = plan, judge, results
        self.tables = _tables(plan, results, judge)
        means = _means(self.tables)
        self.losses = {place: loss for place, loss in means.items() if math.isfinite(loss)}

    @cached_property
    def untouched(self) -> float:
        """The loss before the first step."""
        return _first_loss(self._results)

    @property
    def fall(self) -> float:
        """How far the best rate lowered the loss."""
        return self.untouched - min(self.losses.values())

    @property
    def visible(self) -> bool:
        """Whether the fall is larger than the noise of the batches."""
        return self.fall > SIGNIFICANT * _noise(self._results)

    @property
    def clear(self) -> bool:
        """Whether the rates end differently beyond doubt."""
        return self._spread > CLEAR * abs(self.untouched)

    @property
    def _spread(self) -> float:
        return max(self.losses.values()) - min(self.losses.values())

    def learned(self, *, refused: bool) -> bool:
        """Return whether the trainings lowered the loss.

        A fall within the noise of the batches says nothing, unless the rates end differently on the same
        batches. That is not enough where the probes were refused a rate.
        """
        differ = self._spread > FLAT * abs(self.untouched)
        return self.fall > LEARNED * abs(self.untouched) and (self.visible or (differ and not refused))


def _middle(losses: Mapping[Place, float], first_loss: float, sharpness: float) -> float:
    """Return the mean of the places, in decades, by weights that fall with the loss."""
    best = losses[_best(losses)]
    scale = sharpness * max(first_loss - best, 1e-300)
    weights = {place: math.exp(-min((loss - best) / scale, 60.0)) for place, loss in losses.items()}
    return sum(place * weight for place, weight in weights.items()) / sum(weights.values()) / PER_DECADE


def refined_answer(
    lr: float,
    confidence: Confidence,
    probe_steps: int,
    training: PlannedTraining,
    plan: RefinePlan,
    results: Sequence[LaneResult],
    judge: Judge,
    *,
    refusal: str | None = None,
) -> dict[str, Any]:
    """Return what the refining trainings change of an answer.

    The rates of trainings of S steps are carried over to T steps as those of the probes of n steps are. The
    errors of both grow with the decades between the lengths, so the two estimates are weighted by the
    inverse squares of log10(T / S) and of log10(T / n). If S is T, only the trainings count.

    Args:
        lr: the rate that the probes recommend, or at which the trainings began if they recommend none.
        confidence: the confidence in it.
        probe_steps: n, the number of steps of the probes.
        training: the planned training, of T steps.
        plan: the plan of the refining trainings, of S steps.
        results: these trainings; at least one.
        judge: the loss that should decide; see `verification.judge_of`.
        refusal: why the probes recommend no rate; None if they recommend one.

    Returns:
        `lr`, `low`, `high`, `confidence`, `risk` (None: it is known for the answers of probes only) and
        `reason`; all but the reason are None if no training finished. If the trainings learned nothing, only
        what changes: the confidence, the risk and the reason, or only the reason; but no rate remains if
        whole trainings diverged at that of the probes.
    """
    whole, ends = plan.steps == training.steps, _Ends(plan, results, judge_of(results, judge))
    if not ends.losses:
        tried = listed(f"{plan.lr(place):.3g}" for place in sorted(ends.tables[plan.seed]))
        return no_answer(f"no training of {counted(plan.steps, 'step')} finished; the rates were {tried}.")
    if not ends.learned(refused=refusal is not None):
        return _nothing_learned(lr, ends, whole=whole, refusal=refusal)
    # The rate for S steps, and from it the rate for T.
    middle = _middle(ends.losses, ends.untouched, WHOLE_SHARPNESS if whole else SHARPNESS)
    carried = math.log10(plan.start) + middle + _length_shift(training, plan.steps, training.steps)
    far, near = math.log10(training.steps / probe_steps), math.log10(training.steps / plan.steps)
    weight = 1.0 if whole else far**2 / (far**2 + near**2)
    answer = weight * carried + (1 - weight) * math.log10(lr)
    # Its interval, its reason, and how far to trust it.
    below, above = _good_range(ends.losses, middle, ends.fall)
    reason = _lowest_in_words(ends)
    reason += f" By how low they ended, the trained rates average {plan.start * 10**middle:.3g}."
    if not whole:
        reason += (
            f" Carried over to {counted(training.steps, 'step')}, with a weight of {weight:.0%} beside the"
            f" rate of the probes ({lr:.3g}), this gives {10**answer:.3g}."
        )
    sure = (ends.visible or ends.clear) and ((whole and refusal is None) or confidence == "high")
    trust: Confidence = "high" if sure else "moderate"
    return {
        "lr": rounded(10**answer),
        "low": rounded(10 ** (answer - below)),
        "high": rounded(10 ** (answer + above)),
        "confidence": trust if _bracketed(ends.tables[plan.seed]) else "low",
        "risk": None,
        "reason": reason,
    }


def _nothing_learned(lr: float, ends: _Ends, *, whole: bool, refusal: str | None) -> dict[str, Any]:
    """Return what changes of an answer where trainings hardly lowered the loss; see `refined_answer`."""
    trained = f"trainings of {counted(ends.plan.steps, 'step')}"
    if refusal is not None:
        return {"reason": f"{refusal} {trained[0].upper()}{trained[1:]} hardly lowered the loss either."}
    if whole and 0 not in ends.losses:
        return no_answer(
            f"training at {lr:.3g}, the rate of the probes, diverged, and lower rates hardly learn."
        )
    reason = f"The {trained} hardly lowered the loss, so they do not change the rate of the probes."
    return {"confidence": "low", "risk": None, "reason": reason}


def _lowest_in_words(ends: _Ends) -> str:
    """Say which rate ended lowest, and whether a rate on either side of it was trained."""
    plan, losses, tables = ends.plan, ends.losses, ends.tables
    best, first = _best(losses), tables[plan.seed]
    count = sum(map(len, tables.values()))
    trained = f"{counted(count, 'training')} of {counted(plan.steps, 'step')}"
    seeds = "" if len(tables) == 1 else f", the mean of {counted(len(tables), 'seed')}"
    name = "training loss" if ends.judge == "train_loss" else "validation loss"
    words = (
        f"Of {trained} with the planned schedule, lr {plan.lr(best):.3g} ended lowest ({name}"
        f" {losses[best]:.4g}{seeds})."
    )
    if not _bracketed(first):
        side = "lowest" if best == min(first) else "highest"
        words += f" This rate is the {side} that was trained; nothing is known of rates beyond it."
    return words


def _good_range(losses: Mapping[Place, float], middle: float, fall: float) -> tuple[float, float]:
    """Return how many decades below and above the middle the rates lose at most `GOOD` of the fall.

    The losses are interpolated between the trained rates. Both are at least `NARROWEST` and at most `WIDEST`.
    """
    places = np.array(sorted(losses)) / PER_DECADE
    shares = (np.array([losses[place] for place in sorted(losses)]) - min(losses.values())) / fall

    def reach(side: int) -> float:
        offsets = np.arange(0.0, WIDEST, 0.01)
        at = middle + side * offsets
        bad = np.interp(at, places, shares) > GOOD
        return max(float(offsets[bad.argmax()]) if bad.any() else WIDEST, NARROWEST)

    return reach(-1), reach(1)
