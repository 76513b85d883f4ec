"""From probes to the learning rate of a whole training, with an interval and the confidence in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lrfind.analysis.probing import ENOUGH, FEWEST_STEPS, MOST_STEPS, NOT_LEARNING, PER_DECADE, Search, rate
from lrfind.catalog import optimizer_named
from lrfind.errors import NoSuggestion

Confidence = Literal["high", "moderate", "low"]


@dataclass(frozen=True)
class Family:
    """Optimizers whose rates behave alike.

    Attributes:
        name: in words.
        start: the lr that probing begins with.
        shift: decades from the lr that learns fastest in short probes to that of a training of
            `USUAL_STEPS` at a constant lr.
    """

    name: str
    start: float
    shift: float


SGD = Family("SGD", 0.1, -0.3)
MOMENTUM = Family("SGD with momentum", 0.03, -0.71)
ADAM = Family("Adam's family", 0.01, -0.46)
RMSPROP = Family("RMSprop", 0.003, 0.05)
ADAGRAD = Family("Adagrad", 0.03, 0.11)
FAMILIES = {"sgd": SGD, "adam": ADAM, "rmsprop": RMSPROP, "adagrad": ADAGRAD}
"""By the `family` of an optimizer's row in the catalog. `benchmarks/quality/fit.py` fitted the shifts."""

USUAL_STEPS = 400
SHORTEST, LONGEST = 100, 10_000  # steps of trainings, beyond those of 300 to 3,000 that were measured
PER_LENGTH = -0.42  # decades of lr per decade of training length
PER_DECAY = 0.8  # decades of lr per decade that the schedule's mean is below its peak
ON_A_PLATEAU = -0.11  # the shift where hardly anything was learned, whatever the optimizer
HALF_WIDTH = 0.2  # decades of the interval to either side, where the probes are sharp
PER_BREADTH = 0.25  # and more of it for every decade of breadth


@dataclass(frozen=True)
class Training:
    """The training that a rate is wanted for.

    Attributes:
        optimizer: lower-case name of its class.
        steps: T.
        momentum: of SGD; 0 of any other, whether it has one or not.
        mean_multiplier: of its schedule: the mean of the lrs over the peak.
    """

    optimizer: str
    steps: int
    momentum: float = 0.0
    mean_multiplier: float = 1.0

    @property
    def family(self) -> Family | None:
        """Of its optimizer; None of one that was not measured."""
        if self.optimizer == "sgd" and self.momentum > 0:
            lengths = min(-math.log10(1 - min(self.momentum, 0.99)), 1.0)  # 1 at 0.9: ten gradients at once
            return Family(MOMENTUM.name, MOMENTUM.start, SGD.shift + lengths * (MOMENTUM.shift - SGD.shift))
        row = optimizer_named(self.optimizer)
        return None if row is None or row.family is None else FAMILIES[row.family]

    @property
    def longest(self) -> int:
        """Steps of a probe, at most: no more than the training has, but a few are needed to see anything."""
        return max(FEWEST_STEPS, min(self.steps, MOST_STEPS))

    @property
    def start(self) -> float:
        """The lr that probing begins with."""
        return (self.family or ADAM).start


@dataclass(frozen=True)
class Answer:
    """The learning rate that probing recommends.

    Attributes:
        lr: for the whole training: the peak of its schedule.
        low: lower end of the interval.
        high: its upper end; rates within are expected to train about as well.
        confidence: "high", "moderate" or "low".
        reason: why this rate, and why no more confidence.
        cost: gradient steps that it took.
    """

    lr: float
    low: float
    high: float
    confidence: Confidence
    reason: str
    cost: int


def recommend(searches: Sequence[Search], training: Training, cost: int) -> Answer:
    """Read the searches of one or more seeds.

    The rate that learns fastest in n steps is not the one that ends lowest after T: it is moved by a shift of
    the optimizer's family, by T, and by how far the schedule lets the lr fall. How far was fitted on the
    design tasks of `benchmarks/quality/tasks.yaml`, where n (16 to 128) made no difference.

    Args:
        searches: one a seed.
        training: that the rate is for.
        cost: gradient steps that the searches took.

    Raises:
        NoSuggestion: if no rate lowers the loss, or the loss is not finite; says what to do.
    """
    reason = next((why for search in searches if (why := refusal(search))), None)
    if reason is not None:
        raise NoSuggestion(reason, cost)
    log_lrs = np.array([log_lr(search, training) for search in searches])
    between = float(log_lrs.std(ddof=1)) if len(log_lrs) > 1 else 0.0
    middle = float(log_lrs.mean())
    width = HALF_WIDTH + PER_BREADTH * float(np.mean([search.breadth for search in searches]))
    width += between / math.sqrt(len(searches))
    wild = min(search.wild for search in searches)
    confidence, doubts = confidence_in(searches, training, between, 10**middle)
    fastest = 10 ** float(np.mean([search.middle for search in searches]))
    steps = max(search.steps for search in searches)
    gain = float(np.median([search.gain for search in searches]))
    untouched = float(np.median([search.untouched for search in searches]))
    if untouched > 0:
        fell = f"loss down {gain:.0%}" if gain <= 1 else "the loss fell below zero"
    else:
        fell = f"loss down by {gain * (abs(untouched) or 1.0):.3g}"
    told = f"in {steps} steps lr {fastest:.2g} learned fastest ({fell})"
    wanted = "1 step wants" if training.steps == 1 else f"{training.steps:,} steps want"
    told += f"; {wanted} {10**middle / fastest:.2g} times that"
    return Answer(
        lr=_rounded(10**middle),
        low=_rounded(10 ** (middle - width)),
        high=_rounded(max(min(10 ** (middle + width), wild * 10 ** (-0.5 / PER_DECADE)), 10**middle)),
        confidence=confidence,
        reason=". ".join([told, *doubts]),
        cost=cost,
    )


def log_lr(search: Search, training: Training) -> float:
    """Log10 of the lr that one search recommends."""
    own = ON_A_PLATEAU if search.on_a_plateau else (training.family or ADAM).shift
    lengths = math.log10(max(training.steps, SHORTEST) / USUAL_STEPS)
    decay = -math.log10(max(training.mean_multiplier, 1e-3))
    shift = own + PER_LENGTH * lengths + PER_DECAY * decay
    if training.steps <= search.steps:
        shift = min(shift, 0.0)  # the probes were such trainings, and a higher rate was no better
    return search.middle + shift


def refusal(search: Search) -> str | None:
    """Why a search has no answer; None if it has one."""
    if not search.finite(FEWEST_STEPS):
        bad = ~np.isfinite(search.prober.untouched(FEWEST_STEPS))
        where = "" if bad.all() else f" on batch {int(bad.argmax()) + 1}"
        return (
            f"the loss of the untouched model is not finite{where}; look at the inputs, or the first layers."
        )
    if not search.probes:
        return "the budget, of steps or of seconds, does not allow a single probe; give more."
    finite = {place: score for place, score in search.scores.items() if math.isfinite(score)}
    if not finite:
        told = f"the loss blew up at every rate that was tried for {search.steps} steps, down to"
        told += f" {rate(min(search.scores)):.1g}; "
        if search.cut:
            return f"{told}the budget, or the memory for batches, allowed no lower ones: give more."
        return f"{told}are the inputs, or is the loss, of a huge scale?"
    untouched = search.untouched
    if search.indifferent:
        tried = " and ".join(f"{probe.lr:.2g}" for probe in search.probes.values())
        return (
            f"no rate changes the loss (tried: {tried}): the gradients are zero, or lost beside the weights"
            " as the loss is of a tiny scale, or what is trained has no part in it."
        )
    if min(finite.values()) >= untouched:
        lrs = sorted(probe.lr for probe in search.probes.values())
        return (
            f"nothing learns: of {len(lrs)} rates from {lrs[0]:.1g} to {lrs[-1]:.1g}, none lowers the loss in"
            f" {search.steps} steps; `lrfind check --batch` looks at model, data and loss."
        )
    return None


def confidence_in(
    searches: Sequence[Search], training: Training, between: float, lr: float
) -> tuple[Confidence, list[str]]:
    """How far a recommendation is to be trusted, and what speaks against it, in sentences."""
    serious, slight = [], []
    gain = min(search.gain for search in searches)
    if any(search.on_a_plateau for search in searches):
        serious.append("Hardly anything was learned in the probes: the training begins on a plateau")
    elif gain < NOT_LEARNING:
        serious.append("Hardly anything was learned in the few steps of the probes")
    elif gain < min(ENOUGH.values()):
        serious.append("The loss fell little in the probes, and what comes later may want another rate")
    elif gain < max(ENOUGH.values()):
        slight.append("The loss fell by less than half in the probes, and what comes later may differ")
    if any(search.cut for search in searches):
        slight.append("The budget, or the memory for batches, ended the search early")
    if not all(search.bracketed for search in searches):
        serious.append("The rate that learned fastest is the lowest or the highest that was probed")
    if any(search.broken for search in searches):
        serious.append("On a later batch the loss of the untouched model is not finite; look at the data")
    if lr >= min(search.wild for search in searches):
        serious.append("A probe at a rate as low as this blew up")
    if not SHORTEST <= training.steps <= LONGEST:
        slight.append(f"Trainings of {training.steps:,} steps were not measured, those of 300 to 3,000 were")
    if training.family is None:
        slight.append(f"Optimizers like '{training.optimizer}' were not measured")
    if between > 1 / PER_DECADE:
        slight.append("The seeds disagree")
    if serious or len(slight) > 2:
        return "low", serious + slight
    return ("moderate" if slight else "high"), slight


def _rounded(lr: float) -> float:
    return float(f"{lr:.3g}")
