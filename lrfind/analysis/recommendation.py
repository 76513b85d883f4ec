"""From probes to the learning rate of a whole training, with an interval and the confidence in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrfind.analysis.confidence import Confidence, trust_in
from lrfind.analysis.planned_training import MANY_PASSES, UNMEASURED, Family, PlannedTraining, plan_shift
from lrfind.analysis.probing import PER_DECADE, PLATEAU_FALL, ProbeResult
from lrfind.analysis.refusals import may_learn_later, why_no_rate
from lrfind.errors import NoSuggestion, counted, listed, sentence, times

ON_A_PLATEAU = 0.1  # the shift on a plateau, in decades, whatever the optimizer
SLOW_STEPS, SLOW_FALL = 64, 6.0  # after so many steps, a loss that fell by fewer noises is a slow start
SLOW_START = 0.2  # the shift after a slow start, for SGD and for SGD with momentum
USUAL_LOG_LR, PULL = -2.2, 0.16  # log10 of a usual lr of adaptive optimizers, and the share of the way to it
# The share of the way to the usual rate of the family where a limit ended probing (`cut_short.py`).
CUT, CUT_ON_A_PLATEAU, CUT_ON_A_PLATEAU_ADAPTIVE = 0.2, 0.3, 0.7
HALF_WIDTH = 0.17  # decades of the interval to either side of the answer, for sharp probes
PER_BREADTH = 0.1  # decades added to `HALF_WIDTH` for every decade of the result's breadth


@dataclass(frozen=True)
class Answer:
    """The learning rate that probing recommends.

    Attributes:
        lr: the lr for the whole training, which is the peak of its schedule.
        low: the lower end of the interval.
        high: the upper end of the interval; rates within are expected to train about as well.
        confidence: "high", "moderate" or "low".
        risk: the probability that it fails (see `analysis.confidence.risk_of`); None where that is not known.
        reason: the reason for this rate, and the doubts that lower the confidence, in sentences.
        cost: the number of gradient steps that probing took.
    """

    lr: float
    low: float
    high: float
    confidence: Confidence
    risk: float | None
    reason: str
    cost: int


def recommend(
    results: Sequence[ProbeResult],
    training: PlannedTraining,
    cost: int,
    findings: Sequence[str] = (),
) -> Answer:
    """Recommend a learning rate from what probing measured.

    The rate that learns fastest in n steps is not the rate that ends lowest after T steps. The recommended
    rate is the fastest one, moved by shifts. They depend on the optimizer's family, on T, on how often T
    steps pass over the data, on how far the schedule lets the lr fall and, for adaptive optimizers, on how
    unusual the fastest rate is. They were fitted on the design tasks of `benchmarks/quality/tasks.yaml`,
    where n (16 to 128) made no difference.

    Args:
        results: one result for each seed.
        training: the planned training.
        cost: the number of gradient steps that probing took.
        findings: what is wrong with the gradients, in sentences.

    Raises:
        NoSuggestion: if no rate lowers the loss or the loss is not finite; the reason says what to do. It has
            the rate at which longer trainings may begin, if they may learn what the probes did not.
    """
    reasons = (why_no_rate(result, explained=bool(findings)) for result in results)
    refusal = next(filter(None, reasons), None)
    if refusal is not None:
        start = None
        if all(map(may_learn_later, results)):
            start = rounded(10 ** float(np.mean([log_lr(result, training) for result in results])))
        raise NoSuggestion(" ".join([*findings, sentence(refusal) if findings else refusal]), cost, start)
    # The middle of the answer, and how wide its interval is.
    log_lrs = np.array([log_lr(result, training) for result in results])
    between = float(log_lrs.std(ddof=1)) if len(log_lrs) > 1 else 0.0
    middle = float(log_lrs.mean())
    width = HALF_WIDTH + PER_BREADTH * float(np.mean([result.breadth for result in results]))
    width += between / math.sqrt(len(results))
    wild = min(result.wild for result in results)
    # The reason: the fastest rate, its factor for the planned training, and the doubts.
    trust = trust_in(results, training, between, 10**middle)
    fastest = 10 ** float(np.mean([result.middle for result in results]))
    measured = f"{_lowest(results)} ({_fall(results)})"
    if any(result.on_a_plateau for result in results):
        estimated = f"The highest rates that do no harm are near {fastest:.2g}"
    else:
        estimated = f"For so few steps the best rate is estimated at {fastest:.2g}"
    length, ratio = counted(training.steps, "step"), f"{rounded(10**middle) / fastest:.2g}"
    if training.passes > MANY_PASSES:
        length += f" ({training.passes:,.0f} passes over the data)"
    times = f"for {length} the fitted rule takes {ratio}x that rate"
    if any(has_slow_start(result, training) for result in results):
        times += ", more than usual, because the loss of the probes fell by only a few times its noise"
    if any(result.cut and training.steps > result.steps for result in results):
        usual = (training.family or UNMEASURED).name
        times += f", moved toward the usual rates of {usual}, because probing ended early"
    return Answer(
        lr=rounded(10**middle),
        low=rounded(10 ** (middle - width)),
        high=rounded(max(min(10 ** (middle + width), wild * 10 ** (-0.5 / PER_DECADE)), 10**middle)),
        confidence=trust.confidence,
        risk=None if trust.risk is None else round(trust.risk, 3),
        reason=" ".join([*findings, ". ".join([measured, f"{estimated}; {times}", *trust.doubts]) + "."]),
        cost=cost,
    )


def _lowest(results: Sequence[ProbeResult]) -> str:
    """Return in words at which rates the longest probes ended lowest; they may differ between seeds."""
    steps = sorted({result.steps for result in results})
    probes = f"probes of {counted(steps[0], 'step')}"
    if len(steps) > 1:
        probes = f"longest probes ({listed(steps, 'or')} steps, depending on the seed)"
    lrs = [f"{lr:.3g}" for lr in sorted({result.probes[result.best].lr for result in results})]
    by_seed = ", depending on the seed" if len(lrs) > 1 else ""
    return f"Of the {probes}, lr {listed(lrs, 'or')} has the lowest loss{by_seed}"


def _fall(results: Sequence[ProbeResult]) -> str:
    """Return in words how far the best rate lowered the loss, as the median over seeds."""
    untouched = float(np.median([result.untouched for result in results]))
    lowest = float(np.median([result.scores[result.best] for result in results]))
    if min(untouched, lowest) <= 0 or lowest > 0.99 * untouched:  # a constant in the loss hides the percent
        return f"lower by {untouched - lowest:.3g} than the untouched model"
    if lowest < untouched / 100:
        return f"{times(untouched / lowest)} lower than the untouched model"
    return f"{1 - lowest / untouched:.0%} lower than the untouched model"


def log_lr(result: ProbeResult, training: PlannedTraining) -> float:
    """Return log10 of the lr that one seed's probes recommend."""
    family = training.family or UNMEASURED
    moved = plan_shift(training)
    highest = math.log10(result.wild) - 0.5 / PER_DECADE
    if result.on_a_plateau:
        answer = result.middle + moved + ON_A_PLATEAU
    else:
        pull = PULL * (USUAL_LOG_LR - result.middle) * family.adaptive
        answer = result.middle + moved + family.shift + pull
    if has_slow_start(result, training):
        answer = max(answer, min(answer - family.shift + SLOW_START, highest))
    if training.steps <= result.steps:
        return min(answer, result.middle)  # these probes are whole trainings, and no higher rate was better
    if result.cut:
        usual = math.log10(family.start) + moved + family.shift
        answer = min(answer + _share_when_cut(result, family) * (usual - answer), max(answer, highest))
    return answer


def _share_when_cut(result: ProbeResult, family: Family) -> float:
    """Return how far to go to the usual rate of a family, as a share, where the budget ended probing.

    What such probes measured is uncertain, and on a plateau they do not know yet which rates harm later. The
    shares were chosen on the design tasks, with budgets of 100 steps to one training.
    """
    if not result.on_a_plateau:
        return CUT
    return CUT_ON_A_PLATEAU_ADAPTIVE if family.adaptive else CUT_ON_A_PLATEAU


def has_slow_start(result: ProbeResult, training: PlannedTraining) -> bool:
    """Return whether long probes with SGD, with or without momentum, lowered the loss by only a few noises.

    On most of the design tasks where that is so, the best rate of the whole training is higher than usual
    beside the rate that learns fastest in the probes. The limits were chosen on these tasks.
    """
    if training.family is None or training.family.adaptive or result.on_a_plateau:
        return False
    return result.steps >= SLOW_STEPS and PLATEAU_FALL <= result.fall < SLOW_FALL


def moved_lr(lr: float, training: PlannedTraining, other: PlannedTraining) -> float:
    """Return the rate for another plan of the same training: another length, or another schedule.

    Args:
        lr: the rate for `training`.
        training: the planned training.
        other: the other plan.
    """
    return rounded(lr * 10 ** (plan_shift(other) - plan_shift(training)))


def no_answer(reason: str) -> dict[str, Any]:
    """Return the values of an answer that has no rate, for this reason."""
    return {**dict.fromkeys(("lr", "low", "high", "confidence", "risk")), "reason": reason}


def rounded(lr: float) -> float:
    """Return a rate with three digits."""
    return float(f"{lr:.3g}")
