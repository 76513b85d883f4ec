"""What the trainings that refine a rate make of it: the rate, its interval, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from lrfind.analysis.confidence import Confidence
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.probing import SIGNIFICANT
from lrfind.analysis.recommendation import no_answer, rounded
from lrfind.analysis.refinement import (
    FLAT,
    PER_DECADE,
    WHOLE_SHARPNESS,
    Place,
    RefinePlan,
    best_place,
    final_losses,
    first_loss_of,
    is_bracketed,
    is_whole,
    length_shift,
    mean_losses,
    middle_of,
)
from lrfind.analysis.sweeps import judge_in_force
from lrfind.analysis.verification import noise_of, visibly_fell
from lrfind.catalog import Judge
from lrfind.errors import counted, sentence

CLEAR = 0.1  # share of the untouched loss; rates whose losses differ by more differ beyond doubt
SHARPNESS = 0.1  # as `WHOLE_SHARPNESS`, for trainings that are shorter than the planned one
GOOD = 0.03  # share of the fall; rates that lose no more belong to the interval
NARROWEST, WIDEST = 0.12, 0.25  # decades of the interval to either side of the answer


class _Ends:
    """How the trainings of a plan ended.

    Args:
        plan: the plan.
        results: the trainings so far, in their order.
        judge: the loss that decides.

    Attributes:
        tables: seed -> place -> final loss; infinite for a training that did not finish.
        losses: place -> the mean loss over the seeds; of the places that finished with every seed.
    """

    def __init__(self, plan: RefinePlan, results: Sequence[LaneResult], judge: Judge) -> None:
        self.plan, self.judge, self._results = plan, judge, results
        self.tables = final_losses(plan, results, judge)
        means = mean_losses(self.tables)
        self.losses = {place: loss for place, loss in means.items() if math.isfinite(loss)}

    @cached_property
    def untouched(self) -> float:
        """The loss before the first step."""
        return first_loss_of(self._results)

    @property
    def left(self) -> int:
        """The gradient steps that the trainings left of the plan's budget."""
        return self.plan.budget - sum(result.lr.size for result in self._results)

    @property
    def fall(self) -> float:
        """How far the best rate lowered the loss."""
        return self.untouched - min(self.losses.values())

    @property
    def visible(self) -> bool:
        """Whether the fall is larger than the noise of the batches."""
        return self.fall > SIGNIFICANT * noise_of(self._results)

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
        fell = visibly_fell(self.fall, self.untouched, self._results)
        return fell and (self.visible or (differ and not refused))


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
    inverse squares of log10(T / S) and of log10(T / n). Whole trainings alone count.

    Args:
        lr: the rate that the probes recommend, or at which the trainings began if they recommend none.
        confidence: the confidence in it.
        probe_steps: n, the number of steps of the probes.
        training: the planned training, of T steps.
        plan: the plan of the refining trainings, of S steps.
        results: these trainings; at least one.
        judge: the loss that should decide; see `sweeps.judge_in_force`.
        refusal: why the probes recommend no rate; None if they recommend one.

    Returns:
        `lr`, `low`, `high`, `confidence`, `risk` (None: it is known for the answers of probes only) and
        `reason`; all but the reason are None if no training finished. If the trainings learned nothing, only
        what changes: the confidence, the risk and the reason, or only the reason; but no rate remains if
        whole trainings diverged at that of the probes.
    """
    whole, ends = is_whole(plan.steps, training), _Ends(plan, results, judge_in_force(results, judge))
    if not ends.losses:
        lrs = sorted(plan.lr(place) for place in ends.tables[plan.seed])
        tried = f"{counted(len(lrs), 'rate')} from {lrs[0]:.3g} to {lrs[-1]:.3g}"
        return no_answer(
            f"no training of {counted(plan.steps, 'step')} finished: at each of {tried} the loss blew up or"
            " became NaN. Lower rates did not help, so look at the data, the loss and the number format."
        )
    if not ends.learned(refused=refusal is not None):
        return _nothing_learned(lr, ends, whole=whole, refusal=refusal)
    # The rate for S steps, and from it the rate for T.
    middle = middle_of(ends.losses, ends.untouched, WHOLE_SHARPNESS if whole else SHARPNESS)
    carried = math.log10(plan.start) + middle + length_shift(training, plan.steps, training.steps)
    far, near = math.log10(training.steps / probe_steps), math.log10(training.steps / plan.steps)
    weight = 1.0 if whole else far**2 / (far**2 + near**2)
    answer = weight * carried + (1 - weight) * math.log10(lr)
    # Its interval, its reason, and how far to trust it.
    below, above = _good_range(ends.losses, middle, ends.fall)
    reason = _lowest_in_words(ends)
    mean = f"{plan.start * 10**middle:.3g}"
    reason += f" Their mean, in which a rate counts more if it ended lower, is {mean}."
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
        "confidence": trust if is_bracketed(ends.tables[plan.seed]) else "low",
        "risk": None,
        "reason": reason,
    }


def _nothing_learned(lr: float, ends: _Ends, *, whole: bool, refusal: str | None) -> dict[str, Any]:
    """Return what changes of an answer where trainings hardly lowered the loss; see `refined_answer`."""
    trained = f"trainings of {counted(ends.plan.steps, 'step')}"
    if refusal is not None:
        return {"reason": f"{refusal} {sentence(trained)} hardly lowered the loss either."}
    if whole and any(math.isinf(table.get(0, 0.0)) for table in ends.tables.values()):
        return no_answer(
            f"training at {lr:.3g}, the rate of the probes, diverged, and lower rates hardly learn."
        )
    reason = f"The {trained} hardly lowered the loss, so they do not change the rate of the probes."
    return {"confidence": "low", "risk": None, "reason": reason}


def _lowest_in_words(ends: _Ends) -> str:
    """Say which rate ended lowest, and whether a rate on either side of it was trained."""
    plan, losses, tables = ends.plan, ends.losses, ends.tables
    best, first = best_place(losses), tables[plan.seed]
    count = sum(map(len, tables.values()))
    trained = f"{counted(count, 'training')} of {counted(plan.steps, 'step')}"
    seeds = "" if len(tables) == 1 else f", the mean of {counted(len(tables), 'seed')}"
    name = "training loss" if ends.judge == "train_loss" else "validation loss"
    words = (
        f"Of {trained} with the planned schedule, lr {plan.lr(best):.3g} ended lowest ({name}"
        f" {losses[best]:.4g}{seeds})."
    )
    if not is_bracketed(first):
        side = "lowest" if best == min(first) else "highest"
        words += f" This rate is the {side} that was trained; nothing is known of rates beyond it."
        if ends.left < plan.steps:
            more = counted(plan.steps - ends.left, "step")
            words += f" A budget that is larger by {more} would train the next one."
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
