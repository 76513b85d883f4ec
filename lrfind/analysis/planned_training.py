"""The training that a rate is for, and how its length and its schedule move the rate.

The constants were fitted by `benchmarks/quality/fit.py`, on the design tasks of
`benchmarks/quality/tasks.yaml`, except for the slopes of the length and the shift of RMSprop. These were
chosen on the same tasks, the slopes by `benchmarks/quality/lengths.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lrfind.analysis.probing import FEWEST_STEPS, MOST_COST, MOST_STEPS, TYPICAL_COST
from lrfind.catalog import optimizer_named
from lrfind.errors import counted


@dataclass(frozen=True)
class Family:
    """Optimizers whose rates behave alike.

    Attributes:
        name: the family in words.
        start: the lr that probing begins with.
        shift: the distance in decades from the lr that learns fastest in short probes to the best lr of a
            training of `USUAL_STEPS` steps at a constant lr.
        adaptive: whether it divides gradients by their size. The best lr of such optimizers differs less
            between models than that of short probes.
        per_length: the decades by which a training of ten times the length lowers the best lr (negative).
    """

    name: str
    start: float
    shift: float
    adaptive: bool = True
    per_length: float = -0.6


SGD = Family("SGD", 0.1, -0.28, adaptive=False)
MOMENTUM = Family("SGD with momentum", 0.03, -0.67, adaptive=False)
ADAM = Family("Adam's family", 0.01, -0.49)
RMSPROP = Family("RMSprop", 0.003, -0.1)
ADAGRAD = Family("Adagrad", 0.03, 0.19, per_length=-0.3)  # its steps become shorter by themselves
UNMEASURED = Family("an optimizer that was not measured", 0.01, -0.49, adaptive=False)
FAMILIES = {"sgd": SGD, "adam": ADAM, "rmsprop": RMSPROP, "adagrad": ADAGRAD}
"""The families by their names in the catalog."""

USUAL_STEPS = 400
SHORTEST, LONGEST = 100, 10_000  # lengths that count; the fit was made at 200 to 10,000 steps
MANY_PASSES, MOST_PASSES = 100, 1000  # passes over the data between which each further one lowers the best lr
PER_REPETITION = -0.9  # decades of lr per decade of these passes
PER_DECAY = 0.89  # decades of lr per decade that the schedule's mean is below its peak


@dataclass(frozen=True)
class PlannedTraining:
    """The training that the recommended rate is for.

    Attributes:
        optimizer: the name of the optimizer's class, in lower case.
        steps: T, the number of optimizer steps.
        momentum: the momentum of SGD; 0 for any other optimizer, whether it has a momentum or not.
        mean_multiplier: the mean lr of the schedule divided by its peak.
        epoch: the number of steps of one pass over the data; None if it is not known.
        schedule: the name of the schedule; empty if it has none.
    """

    optimizer: str
    steps: int
    momentum: float = 0.0
    mean_multiplier: float = 1.0
    epoch: float | None = None
    schedule: str = ""

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
            return replace(MOMENTUM, shift=shift)
        return FAMILIES[row.family]

    @property
    def in_words(self) -> str:
        """The training in words.

        >>> PlannedTraining("sgd", 300, 0.9, 0.5).in_words
        '300 steps of sgd with momentum 0.9, with a schedule whose mean is 0.5x its peak'
        >>> PlannedTraining("adam", 300, mean_multiplier=0.5, schedule="cosine").in_words
        '300 steps of adam, cosine schedule'
        """
        momentum = f" with momentum {self.momentum:g}" if self.momentum else ""
        course = "at a constant lr"
        if self.mean_multiplier != 1 and self.schedule:
            course = f"{self.schedule} schedule"
        elif self.mean_multiplier != 1:
            course = f"with a schedule whose mean is {self.mean_multiplier:.2g}x its peak"
        return f"{counted(self.steps, 'step')} of {self.optimizer}{momentum}, {course}"

    @property
    def passes(self) -> float:
        """The number of passes over the data; 1 if it is not known.

        >>> PlannedTraining("sgd", 3000, epoch=12).passes
        250.0
        """
        return self.steps / self.epoch if self.epoch else 1.0

    @property
    def longest(self) -> int:
        """The most steps of a probe: no more than the training has, but enough to measure anything."""
        return max(FEWEST_STEPS, min(self.steps, MOST_STEPS))

    @property
    def start(self) -> float:
        """The lr that probing begins with."""
        return (self.family or UNMEASURED).start


def most_cost(steps: int) -> int:
    """Return the most gradient steps of one seed's probes, for a training of so many steps.

    >>> most_cost(5), most_cost(300), most_cost(3000)
    (95, 300, 800)
    """
    return min(MOST_COST, max(steps, TYPICAL_COST))


def plan_shift(training: PlannedTraining) -> float:
    """Return how far, in decades, the length and the schedule of a training move its best lr."""
    decay = -math.log10(max(training.mean_multiplier, 1e-3))
    lengths = math.log10(min(max(training.steps, SHORTEST), LONGEST) / USUAL_STEPS)
    per_length = (training.family or UNMEASURED).per_length
    return per_length * lengths + repetition_shift(training) + PER_DECAY * decay


def repetition_shift(training: PlannedTraining) -> float:
    """Return how far, in decades, very many passes over the same data move the best lr of a training.

    Such a training begins to fit the noise in its data, and fits less of it at a lower lr.

    >>> [round(repetition_shift(PlannedTraining("sgd", 3000, epoch=epoch)), 2) for epoch in (12, 1)]
    [-0.36, -0.9]
    """
    return PER_REPETITION * math.log10(min(max(training.passes, MANY_PASSES), MOST_PASSES) / MANY_PASSES)
