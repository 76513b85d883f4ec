"""From probes to the learning rate of a whole training, with an interval and the confidence in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lrfind.analysis.probing import (
    FEWEST_STEPS,
    FIRST_STEPS,
    MOST_STEPS,
    PER_DECADE,
    SURE,
    ProbeResult,
)
from lrfind.analysis.refusals import PREDICTS, why_no_rate, why_uninformed
from lrfind.catalog import optimizer_named
from lrfind.errors import NoSuggestion, counted, listed

Confidence = Literal["high", "moderate", "low"]


@dataclass(frozen=True)
class Family:
    """Optimizers whose rates behave alike.

    Attributes:
        name: the family in words.
        start: the lr that probing begins with.
        shift: the distance in decades from the lr that learns fastest in short probes to the best lr of a
            training of `USUAL_STEPS` steps at a constant lr.
        adaptive: whether it divides gradients by their size. The best lr of such optimizers depends less on
            the length of the training, and differs less between models than that of short probes.
    """

    name: str
    start: float
    shift: float
    adaptive: bool = True


SGD = Family("SGD", 0.1, -0.28, adaptive=False)
MOMENTUM = Family("SGD with momentum", 0.03, -0.67, adaptive=False)
ADAM = Family("Adam's family", 0.01, -0.49)
RMSPROP = Family("RMSprop", 0.003, -0.02)
ADAGRAD = Family("Adagrad", 0.03, 0.19)
UNMEASURED = Family("an optimizer that was not measured", 0.01, -0.49, adaptive=False)
FAMILIES = {"sgd": SGD, "adam": ADAM, "rmsprop": RMSPROP, "adagrad": ADAGRAD}
"""The families by their names in the catalog. Their shifts were fitted by `benchmarks/quality/fit.py`."""

USUAL_STEPS = 400
SHORTEST, LONGEST = 100, 10_000  # lengths that count; the fit was made at 200 to 10,000 steps
PER_LENGTH = {False: -0.6, True: -0.3}  # adaptive? -> decades of lr per decade of training length
MANY_PASSES, MOST_PASSES = 100, 1000  # passes over the data between which each further one lowers the best lr
PER_REPETITION = -0.9  # decades of lr per decade of these passes
PER_DECAY = 0.89  # decades of lr per decade that the schedule's mean is below its peak
ON_A_PLATEAU = 0.1  # the shift on a plateau, in decades, whatever the optimizer
USUAL_LOG_LR, PULL = -2.2, 0.16  # log10 of a usual lr of adaptive optimizers, and the share of the way to it
HALF_WIDTH = 0.17  # decades of the interval to either side of the answer, for sharp probes
FAR_STEPS = 1000  # short probes say less about longer trainings
SURE_STEPS = 2 * FIRST_STEPS  # probes that need more steps to learn say less about a whole training
PER_BREADTH = 0.1  # decades added to `HALF_WIDTH` for every decade of the result's breadth


@dataclass(frozen=True)
class PlannedTraining:
    """The training that the recommended rate is for.

    Attributes:
        optimizer: the name of the optimizer's class, in lower case.
        steps: T, the number of optimizer steps.
        momentum: the momentum of SGD; 0 for any other optimizer, whether it has a momentum or not.
        mean_multiplier: the mean lr of the schedule divided by its peak.
        epoch: the number of steps of one pass over the data; None if it is not known.
    """

    optimizer: str
    steps: int
    momentum: float = 0.0
    mean_multiplier: float = 1.0
    epoch: float | None = None

    @property
    def family(self) -> Family | None:
        """The family of the optimizer; None for an optimizer that was not measured."""
        row = optimizer_named(self.optimizer)
        if row is None or row.family is None:
            return None
        if row.family == "sgd" and self.momentum > 0:
            # This is 1 at momentum 0.9, which sums ten gradients.
            lengths = min(-math.log10(1 - min(self.momentum, 0.99)), 1.0)
            shift = SGD.shift + lengths * (MOMENTUM.shift - SGD.shift)
            return Family(MOMENTUM.name, MOMENTUM.start, shift, adaptive=False)
        return FAMILIES[row.family]

    @property
    def in_words(self) -> str:
        """The training in words.

        >>> PlannedTraining("sgd", 300, 0.9, 0.5).in_words
        '300 steps of sgd with momentum 0.9, with a schedule whose mean is 0.5x its peak'
        """
        momentum = f" with momentum {self.momentum:g}" if self.momentum else ""
        course = "at a constant lr"
        if self.mean_multiplier != 1:
            course = f"with a schedule whose mean is {self.mean_multiplier:.2g}x its peak"
        return f"{counted(self.steps, 'step')} of {self.optimizer}{momentum}, {course}"

    @property
    def passes(self) -> float:
        """The number of passes over the data; 1 if it is not known.

        >>> PlannedTraining("sgd", 3000, epoch=12).passes
        250.0
        """
        return 1.0 if self.epoch is None else self.steps / self.epoch

    @property
    def longest(self) -> int:
        """The most steps of a probe: no more than the training has, but enough to measure anything."""
        return max(FEWEST_STEPS, min(self.steps, MOST_STEPS))

    @property
    def start(self) -> float:
        """The lr that probing begins with."""
        return (self.family or UNMEASURED).start


@dataclass(frozen=True)
class Answer:
    """The learning rate that probing recommends.

    Attributes:
        lr: the lr for the whole training, which is the peak of its schedule.
        low: the lower end of the interval.
        high: the upper end of the interval; rates within are expected to train about as well.
        confidence: "high", "moderate" or "low".
        reason: the reason for this rate, and the doubts that lower the confidence, in sentences.
        cost: the number of gradient steps that probing took.
    """

    lr: float
    low: float
    high: float
    confidence: Confidence
    reason: str
    cost: int


def recommend(
    results: Sequence[ProbeResult], training: PlannedTraining, cost: int, findings: Sequence[str] = ()
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
        NoSuggestion: if no rate lowers the loss or the loss is not finite; the reason says what to do.
    """
    reasons = (why_no_rate(result, explained=bool(findings)) for result in results)
    refusal = next(filter(None, reasons), None)
    if refusal is not None:
        first = refusal[0].upper() if findings else refusal[0]
        raise NoSuggestion(" ".join([*findings, first + refusal[1:]]), cost)
    # The middle of the answer, and how wide its interval is.
    log_lrs = np.array([log_lr(result, training) for result in results])
    between = float(log_lrs.std(ddof=1)) if len(log_lrs) > 1 else 0.0
    middle = float(log_lrs.mean())
    width = HALF_WIDTH + PER_BREADTH * float(np.mean([result.breadth for result in results]))
    width += between / math.sqrt(len(results))
    wild = min(result.wild for result in results)
    # The reason: the fastest rate, its factor for the planned training, and the doubts.
    confidence, doubts = confidence_in(results, training, between, 10**middle)
    fastest = 10 ** float(np.mean([result.middle for result in results]))
    steps = max(result.steps for result in results)
    lowest = listed(f"{lr:.2g}" for lr in sorted({result.probes[result.best].lr for result in results}))
    measured = (
        f"Of the probes of {counted(steps, 'step')}, lr {lowest} has the lowest loss ({_fall(results)})"
    )
    if any(result.on_a_plateau for result in results):
        estimated = f"The highest rates that do no harm are near {fastest:.2g}"
    else:
        estimated = f"For so few steps the best rate is estimated at {fastest:.2g}"
    length, ratio = counted(training.steps, "step"), f"{10**middle / fastest:.2g}"
    if training.passes > MANY_PASSES:
        length += f" ({training.passes:,.0f} passes over the data)"
    times = f"for {length} the fitted rule takes {ratio}x that rate"
    return Answer(
        lr=_rounded(10**middle),
        low=_rounded(10 ** (middle - width)),
        high=_rounded(max(min(10 ** (middle + width), wild * 10 ** (-0.5 / PER_DECADE)), 10**middle)),
        confidence=confidence,
        reason=" ".join([*findings, ". ".join([measured, f"{estimated}; {times}", *doubts]) + "."]),
        cost=cost,
    )


def _fall(results: Sequence[ProbeResult]) -> str:
    """Return in words how far the best rate lowered the loss, as the median over seeds."""
    untouched = float(np.median([result.untouched for result in results]))
    lowest = float(np.median([result.scores[result.best] for result in results]))
    if min(untouched, lowest) <= 0:
        return f"lower by {untouched - lowest:.3g} than the untouched model"
    return f"{1 - lowest / untouched:.0%} lower than the untouched model"


def log_lr(result: ProbeResult, training: PlannedTraining) -> float:
    """Return log10 of the lr that one seed's probes recommend."""
    family = training.family or UNMEASURED
    shift = plan_shift(training)
    if result.on_a_plateau:
        shift += ON_A_PLATEAU
    else:
        shift += family.shift + PULL * (USUAL_LOG_LR - result.middle) * family.adaptive
    if training.steps <= result.steps:
        shift = min(shift, 0.0)  # the probes were as long as the training, and a higher rate was no better
    return result.middle + shift


def plan_shift(training: PlannedTraining) -> float:
    """Return how far, in decades, the length and the schedule of a training move its best lr."""
    decay = -math.log10(max(training.mean_multiplier, 1e-3))
    lengths = math.log10(min(max(training.steps, SHORTEST), LONGEST) / USUAL_STEPS)
    per_length = PER_LENGTH[(training.family or UNMEASURED).adaptive]
    return per_length * lengths + repetition_shift(training) + PER_DECAY * decay


def repetition_shift(training: PlannedTraining) -> float:
    """Return how far, in decades, very many passes over the same data move the best lr of a training.

    Such a training begins to fit the noise in its data, and fits less of it at a lower lr.

    >>> [round(repetition_shift(PlannedTraining("sgd", 3000, epoch=epoch)), 2) for epoch in (12, 1)]
    [-0.36, -0.9]
    """
    return PER_REPETITION * math.log10(min(max(training.passes, MANY_PASSES), MOST_PASSES) / MANY_PASSES)


def moved_lr(lr: float, training: PlannedTraining, other: PlannedTraining) -> float:
    """Return the rate for another plan of the same training: another length, or another schedule.

    Args:
        lr: the rate for `training`.
        training: the planned training.
        other: the other plan.
    """
    return _rounded(lr * 10 ** (plan_shift(other) - plan_shift(training)))


def confidence_in(
    results: Sequence[ProbeResult], training: PlannedTraining, between: float, lr: float
) -> tuple[Confidence, list[str]]:
    """Judge how far to trust a recommended rate.

    Args:
        results: one result for each seed.
        training: the planned training.
        between: the standard deviation between seeds, in decades of lr.
        lr: the recommended rate.

    Returns:
        The confidence, and the doubts about the rate, as sentences without their full stop.
    """
    serious, slight = _doubts_about_learning(results)
    serious += sorted({f"After the probes {why_uninformed(r)}" for r in results if r.uninformed})
    if any(result.cut for result in results):
        slight.append(
            "Probing ended early: longer probes did not fit into its budget (by default, as many steps as the"
            " training has) or into the memory for batches; a larger budget makes the answer more certain"
        )
    if not all(result.bracketed for result in results):
        sides = {"lowest" if r.best == min(r.probes) else "highest" for r in results if not r.bracketed}
        serious.append(f"The rate with the lowest loss is the {listed(sorted(sides), 'or')} that was probed")
    if any(result.broken for result in results):
        serious.append("On a later batch the loss of the untouched model is not finite; look at the data")
    if lr >= min(result.wild for result in results):
        serious.append("A probe at this rate or at a lower one blew up")
    if not SHORTEST <= training.steps <= LONGEST:
        slight.append(
            f"The method was measured for trainings of 200 to 10,000 steps, not of {training.steps:,}"
        )
    elif training.steps > FAR_STEPS:
        longest = counted(max(result.steps for result in results), "step")
        slight.append(
            f"A training of {training.steps:,} steps may need another rate than probes of {longest} tell; a"
            " budget of a whole training (1x) or more tells more"
        )
    if training.family is None:
        slight.append(f"The method was not measured for the optimizer '{training.optimizer}'")
    if between > 1:
        serious.append("The seeds disagree by more than a decade")
    elif between > 1 / PER_DECADE:
        slight.append("The seeds disagree")
    if serious or len(slight) > 2:
        return "low", serious + slight
    return ("moderate" if slight else "high"), slight


def _doubts_about_learning(results: Sequence[ProbeResult]) -> tuple[list[str], list[str]]:
    """Return the doubts about what the probes learned: the serious ones, and the slight ones."""
    serious, slight = list[str](), list[str]()
    longest = max(result.steps for result in results)
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
            f"{PREDICTS[0].upper()}{PREDICTS[1:]}, and what it still learns is small beside the noise between"
            " batches"
        )
    elif not all(result.learned for result in results):
        serious.append("The probes have few steps, too few to tell how much was learned")
    elif longest > SURE_STEPS:
        serious.append(f"The probes needed {longest} steps to learn; later steps may need another rate")
    elif min(result.certainty(result.best) for result in results) < SURE:
        serious.append("The fall of the loss is small beside its noise")
    elif longest == SURE_STEPS:
        slight.append(f"The probes needed {longest} steps to tell the rates apart; later steps may differ")
    elif any(result.progress <= 0 for result in results):
        slight.append("The loss was still falling faster and faster in the probes; later steps may differ")
    return serious, slight


def _rounded(lr: float) -> float:
    return float(f"{lr:.3g}")
