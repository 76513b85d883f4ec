"""How far to trust a recommended rate: how often such answers fail, and what speaks against this one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from lrfind.analysis.planned_training import (
    LONGEST,
    MANY_PASSES,
    MOST_PASSES,
    SHORTEST,
    UNMEASURED,
    PlannedTraining,
)
from lrfind.analysis.probing import FIRST_STEPS, PER_DECADE, SURE, ProbeResult
from lrfind.analysis.refusals import PREDICTS, why_uninformed
from lrfind.errors import counted, listed, sentence

Confidence = Literal["high", "moderate", "low"]

HIGH, LOW = 0.03, 0.1
"""The risks below which the confidence is high, and from which it is low."""
FEW_NOISES, MANY_NOISES = 0.01, 100.0  # falls and rises between which they count
SURE_STEPS = 2 * FIRST_STEPS  # probes that need more steps to learn say less about a whole training
FAR_STEPS = 1000  # short probes say less about longer trainings
LITTLE, WIDE = 0.2, 0.3  # a share of the fall, and decades around the best rate, that are worth a sentence
FAR_RATE = 1.5  # decades from the rate where probing begins that are worth a sentence
FARTHEST = 2.0  # decades from it that count at most


class RiskMeasurements(NamedTuple):
    """What the risk of an answer depends on. What probes measured is the mean over their seeds.

    Neither a constant nor a factor of the loss changes any of it.

    Attributes:
        doublings: how often the probes were continued to twice their steps.
        passes: log10 of the passes over the data.
        breadth: the decades around the best rate that learn about as fast.
        fall: log10 of the fall of the loss, in noises.
        rise: log10 of how far the loss rises, in noises, if the targets are shuffled. If a fall is large
            beside this rise, most of it was learned without the inputs.
        gain: the gain of the probes.
        length: log10 of the steps of the planned training. Its slope is negative, because passes, doublings
            and distance hold already what makes long trainings fail.
        adaptive: 1 for an adaptive optimizer, 0 for any other.
        distance: the decades between the rate and the lr where probing begins with this optimizer; 0 if it is
            not adaptive. The rates of other optimizers depend on the scale of the loss, and their failures on
            the design tasks do not depend on this distance.
    """

    doublings: float
    passes: float
    breadth: float
    fall: float
    rise: float
    gain: float
    length: float
    adaptive: float
    distance: float


INTERCEPT = -2.88
SLOPES = RiskMeasurements(
    doublings=0.82,
    passes=0.82,
    breadth=1.84,
    fall=1.85,
    rise=-0.91,
    gain=-1.21,
    length=-0.67,
    adaptive=-1.05,
    distance=1.45,
)
"""The logistic model of the risk, fitted by `benchmarks/quality/confidence.py` on the design tasks."""


def risk_of(results: Sequence[ProbeResult], training: PlannedTraining, lr: float) -> float:
    """Return the probability that the answer fails: that it loses over a tenth of what the loss can fall.

    It is the share of similar answers for the design tasks that failed, by a logistic model of
    `risk_measurements`: of what the probes measured, the plan, and the rate.

    Args:
        results: one result for each seed, each with at least one finite score.
        training: the planned training.
        lr: the recommended rate.
    """
    return 1 / (1 + math.exp(-INTERCEPT - float(np.dot(SLOPES, risk_measurements(results, training, lr)))))


def risk_measurements(
    results: Sequence[ProbeResult], training: PlannedTraining, lr: float
) -> RiskMeasurements:
    """Return what the risk of a rate for a training depends on."""
    return RiskMeasurements(
        doublings=float(np.mean([math.log2(result.steps / FIRST_STEPS) for result in results])),
        passes=math.log10(min(max(training.passes, 1.0), MOST_PASSES)),
        breadth=float(np.mean([result.breadth for result in results])),
        fall=float(np.mean([_decades(result.fall, result) for result in results])),
        rise=float(np.mean([_decades(_rise(result), result) for result in results])),
        gain=float(np.mean([result.gain for result in results])),
        length=math.log10(min(max(training.steps, SHORTEST), LONGEST)),
        adaptive=float(_is_adaptive(training)),
        distance=min(abs(_decades_above_start(training, lr)), FARTHEST) if _is_adaptive(training) else 0.0,
    )


def _is_adaptive(training: PlannedTraining) -> bool:
    return (training.family or UNMEASURED).adaptive


def _decades_above_start(training: PlannedTraining, lr: float) -> float:
    """Return how many decades a rate is above the lr that probing begins with."""
    return math.log10(lr / training.start)


def _rise(result: ProbeResult) -> float:
    """Return how far, in noises, shuffled targets raise the loss; as far as it fell if they are not known."""
    if result.after is None or not result.noise:
        return result.fall
    return float(np.mean(result.after.rises)) / result.noise


def _decades(noises: float, result: ProbeResult) -> float:
    """Return log10 of a number of noises; where the loss has no noise, any fall is a large one."""
    return math.log10(min(max(noises, FEW_NOISES), MANY_NOISES)) if result.noise else 1.0


class Trust(NamedTuple):
    """How far to trust a rate.

    Attributes:
        confidence: "high", "moderate" or "low".
        risk: the probability that the rate fails; None if something is wrong that its model does not know.
        doubts: what speaks against the rate, as sentences without their full stop.
    """

    confidence: Confidence
    risk: float | None
    doubts: list[str]


def trust_in(results: Sequence[ProbeResult], training: PlannedTraining, between: float, lr: float) -> Trust:
    """Judge how far to trust a recommended rate.

    Args:
        results: one result for each seed.
        training: the planned training.
        between: the standard deviation between seeds, in decades of lr.
        lr: the recommended rate.
    """
    learning = _doubts_about_learning(results)
    serious = [*learning, *_doubts_about_the_rates(results, lr)]
    if between > 1:
        serious.append("The seeds disagree by more than a decade")
    slight = _what_was_not_measured(results, training)
    if 1 / PER_DECADE < between <= 1:
        slight.append("The seeds disagree")
    causes = ([] if learning else _risky_probes(results)) + _risky_plan(results, training)
    causes += _far_from_start(training, lr)
    explained = [*serious, *causes, *slight]
    if serious:
        return Trust("low", None, explained)
    risk = risk_of(results, training, lr)
    told = None if slight else risk
    if risk >= LOW:
        return Trust("low", told, explained)
    return Trust("moderate", told, explained) if slight or risk >= HIGH else Trust("high", told, [])


def _doubts_about_learning(results: Sequence[ProbeResult]) -> list[str]:
    """Return why nothing that the probes learned can be trusted, as far as that is so."""
    serious = []
    plateaus = [result for result in results if result.on_a_plateau]
    if plateaus:
        hardly = (
            "Hardly more was learned than the noise between batches"
            if any(result.after is None or result.uninformed for result in plateaus)
            else "What was learned of the inputs is small beside the noise between batches"
        )
        serious.append(
            f"{hardly}: these are the highest rates that do no harm on a plateau whose end was not seen"
        )
    elif any(result.converged and not result.learned for result in results):
        serious.append(
            f"{sentence(PREDICTS)}, and what it still learns is small beside the noise between batches"
        )
    elif not all(result.learned for result in results):
        serious.append("The probes have few steps, too few to tell how much was learned")
    return serious + sorted({f"After the probes {why_uninformed(r)}" for r in results if r.uninformed})


def _doubts_about_the_rates(results: Sequence[ProbeResult], lr: float) -> list[str]:
    """Return what is wrong with the rates that were probed, and with the batches that they saw."""
    serious = []
    if not all(result.bracketed for result in results):
        sides = {"lowest" if r.best == min(r.probes) else "highest" for r in results if not r.bracketed}
        serious.append(f"The rate with the lowest loss is the {listed(sorted(sides), 'or')} that was probed")
    if any(result.broken for result in results):
        serious.append("On a later batch the loss of the untouched model is not finite; look at the data")
    if lr >= min(result.wild for result in results):
        serious.append("A probe at this rate or at a lower one blew up")
    return serious


def _risky_probes(results: Sequence[ProbeResult]) -> list[str]:
    """Return what the probes measured that makes the risk high."""
    longest = max(result.steps for result in results)
    causes = []
    if longest > SURE_STEPS:
        causes.append(f"The probes needed {longest} steps to learn; later steps may need another rate")
    elif longest == SURE_STEPS:
        causes.append(f"The probes needed {longest} steps to tell the rates apart; later steps may differ")
    if min(result.certainty(result.best) for result in results) < SURE:
        causes.append("The fall of the loss is small beside its noise")
    elif any(result.noise and _rise(result) / max(result.fall, FEW_NOISES) < LITTLE for result in results):
        causes.append("Most of what the probes learned has nothing to do with the inputs")
    if max(result.breadth for result in results) > WIDE:
        equally = "very different rates learn equally fast, so the probes hardly tell them apart"
        causes.append(f"In so few steps, {equally}")
    return causes


def _risky_plan(results: Sequence[ProbeResult], training: PlannedTraining) -> list[str]:
    """Return what makes the risk high for this training, whatever the probes measured."""
    causes = []
    if training.passes > MANY_PASSES:
        causes.append(
            f"The training passes over its data {training.passes:,.0f} times, so its best rate depends on"
            " overfitting too, which short probes do not see"
        )
    if training.steps > FAR_STEPS:
        longest = counted(max(result.steps for result in results), "step")
        causes.append(
            f"A training of {training.steps:,} steps may need another rate than probes of {longest} tell"
            + _advice(results, "a budget of four trainings (4x) tells more")
        )
    return causes


def _far_from_start(training: PlannedTraining, lr: float) -> list[str]:
    """Say that the rate of an adaptive optimizer is far from the rate where probing begins, if it is."""
    decades = _decades_above_start(training, lr)
    if training.family is None or not _is_adaptive(training) or abs(decades) <= FAR_RATE:
        return []
    factor = f"{10**decades:,.0f} times" if decades > 0 else f"1/{10**-decades:,.0f} of"
    return [
        f"This rate is {factor} {training.start:g}, the rate where probing with {training.family.name}"
        " begins. Of the answers that are so far from it, more fail"
    ]


def _what_was_not_measured(results: Sequence[ProbeResult], training: PlannedTraining) -> list[str]:
    """Return what was not measured: by these probes, or on the tasks that the risk comes from."""
    slight = []
    if any(result.cut for result in results):
        slight.append(
            "Probing ended early: longer probes need more steps than it may take, or more memory for batches"
            + _advice(results, "a larger budget makes the answer more certain")
        )
    if not SHORTEST <= training.steps <= LONGEST:
        slight.append(
            f"The method was measured for trainings of 200 to 10,000 steps, not of {training.steps:,}"
        )
    if training.family is None:
        slight.append(f"The method was not measured for the optimizer '{training.optimizer}'")
    return slight


def _advice(results: Sequence[ProbeResult], advice: str) -> str:
    """Return an advice to give a budget, as the end of a sentence; "" where none can be given."""
    return f"; {advice}" if all(result.takes_budget for result in results) else ""
