"""Probing: short trainings at several constant learning rates, to see which rate learns fastest.

A probe is a short training at a constant lr. All probes of one seed start from the same weights and see the
same batches, so that their losses differ only because of the lr. There is no ramp, because on a ramp every
loss depends on all the rates before it.

`ProbeSearch` decides which rates are probed next and for how long; a `Prober` trains the probes;
`ProbeResult` has their results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.noise import SAME, certainty_of, deviation, successive_noise
from lrfind.analysis.relation import Relation

METHOD_VERSION = 10
"""The version of probing and recommendation; it is raised whenever the same probes give another answer."""

PER_DECADE = 2  # rates that can be probed in each decade
LOWEST, HIGHEST = -16, 6  # the lowest and the highest `GridPlace`: lr 1e-8 and 1e3
FIRST_STEPS = 16  # steps of a probe before any probe is continued
FEWEST_STEPS = 8  # steps of a probe if the training, the budget or the batches allow no more
ENOUGH = {FIRST_STEPS: 0.5, 2 * FIRST_STEPS: 0.25}  # steps -> the gain after them that ends probing
LARGE_FALL = 40.0  # a fall of so many noises counts as a gain of 1
PLATEAU_FALL = 1.0  # a fall of fewer noises is a plateau, on which the order of the rates is noise
# Standard errors of a fall that are needed to trust its course, its size, or that there is one at all.
CERTAIN, SURE, SIGNIFICANT = 12.0, 5.0, 3.0
BLOWN_UP = 200.0  # a loss so many noises above that of the untouched model ends a probe
MOST_STEPS = 128  # steps of a probe on a plateau, at most
MOST_COST = 800  # gradient steps for one seed, at most
MOST_TRAININGS = 4  # planned trainings that one seed may cost, at most, if no budget is given
TYPICAL_COST = 95  # gradient steps that one seed usually takes
TAIL = 2  # the score of a probe is the mean loss over the last 1/TAIL of its steps
HARMLESS = 2.0  # a rate that raises the loss by no more noises is harmless
SHARPNESS = 0.15  # share of the best gain; a rate that gains so much less has 1/e of the best one's weight

GridPlace = int
"""A rate on the grid of rates: lr = 10^(place / PER_DECADE)."""


def rate(place: GridPlace) -> float:
    """Return the lr at a place.

    >>> rate(-3), rate(0)
    (0.0316228, 1.0)
    """
    return float(f"{10 ** (place / PER_DECADE):.6g}")


def place_of(lr: float) -> GridPlace:
    """Return the place whose lr is nearest in log lr."""
    return min(max(round(PER_DECADE * math.log10(lr)), LOWEST), HIGHEST)


class Probe(NamedTuple):
    """A short training at a constant lr.

    Attributes:
        lr: the lr of every step.
        loss: (t,) the loss before each update, in train mode.
        stopped: whether the last loss exceeds the ceiling or is not finite, which ended the probe.
    """

    lr: float
    loss: Array
    stopped: bool


def tail(loss: Array) -> float:
    """Return the score of a probe: the mean loss over the last half of its steps."""
    return float(np.mean(loss[-max(len(loss) // TAIL, 1) :]))


UNTOUCHED = 0.0
"""The lr of the lane that holds the losses of the untouched model: at lr 0 no update changes anything."""


@dataclass(frozen=True)
class ProbeResult:
    """The result of probing with one seed.

    Attributes:
        seed: the seed of the weights, the batches and the dropout masks.
        untouched_loss: (n,) the losses of the model before any update, on the batches that the probes saw.
        steps: the number of steps that the probes in `scores` have.
        scores: place -> the mean loss over the last half of these steps, for the rates that are still
            compared; infinite for a probe that was stopped.
        probes: place -> the probe with all its steps, for every rate that was tried.
        cut: whether the budget ended probing before it was done.
        broken: whether probing ended because the untouched model's loss is not finite on a later batch.
        before: how the untouched model's output is related to the targets; None if that is not known.
        after: the same for the end of the best probe.
        takes_budget: whether a larger budget of steps can be asked for, which a doubt then advises.
    """

    seed: int = 0
    untouched_loss: Array = field(default_factory=lambda: np.zeros(0))
    steps: int = FIRST_STEPS
    scores: Mapping[GridPlace, float] = field(default_factory=dict)
    probes: Mapping[GridPlace, Probe] = field(default_factory=dict)
    cut: bool = False
    broken: bool = False
    before: Relation | None = None
    after: Relation | None = None
    takes_budget: bool = True

    @property
    def untouched(self) -> float:
        """The score of the untouched model, on the same batches as `scores`."""
        return tail(self.untouched_loss[: self.steps])

    @property
    def best(self) -> GridPlace:
        """The rate with the lowest score; if two scores are equal, the lower rate."""
        return min(self.scores, key=lambda place: (self.scores[place], place))

    @property
    def noise(self) -> float:
        """The deviation of the untouched model's loss between batches, the unit in which falls are measured.

        Adding a constant to the loss does not change a fall in this unit, nor does multiplying the loss. It
        is 0 if all batches have the same loss, as in a training on all rows at once.
        """
        losses = self.untouched_loss[: self.steps]
        noise = deviation(losses)
        return noise if noise > SAME * float(np.abs(losses).max(initial=0.0)) else 0.0

    @property
    def fall(self) -> float:
        """The fall of the score from the untouched model to the best rate, in units of `noise`.

        It is 0 where there is no noise to compare it with.
        """
        return (self.untouched - self.scores[self.best]) / self.noise if self.noise else 0.0

    def certainty(self, place: GridPlace) -> float:
        """Return the fall at a rate divided by its standard error.

        The untouched model sees the same batches as the probe, so the noise between batches cancels out.
        """
        falls = self._falls(place)
        return certainty_of(falls[-max(len(falls) // TAIL, 1) :])

    @property
    def progress(self) -> float:
        """The estimated share of its final fall that the best probe has reached, from 0 to 1.

        If a loss falls like 1 - exp(-k t), with d1 the fall in the second quarter of the steps and d2 that in
        the second half, then d2 / d1 = 1 + x with x = exp(-k 3n/8), and the share is 1 - x^2. While the fall
        is linear or becomes faster, the share is 0. Neither a constant nor a factor of the loss changes it.
        """
        falls = self._falls(self.best)
        early, late = (
            float(falls[len(falls) // 4 : len(falls) // 2].mean()),
            float(falls[len(falls) // 2 :].mean()),
        )
        if not early > 0:
            return 0.0
        return 1 - min(max(late / early - 1, 0.0), 1.0) ** 2

    @property
    def gain(self) -> float:
        """How much the best rate has learned, from 0 to 1: the larger of two estimates.

        One is its `progress`, where the fall is certain enough to trust its course. The other is its fall as
        a share of `LARGE_FALL`. It is 0 where the fall is not sure.
        """
        if math.isinf(self.scores[self.best]) or (certainty := self.certainty(self.best)) < SURE:
            return 0.0
        progress = self.progress if certainty >= CERTAIN else 0.0
        return max(progress, min(self.fall / LARGE_FALL, 1.0), 0.0)

    @property
    def significant(self) -> bool:
        """Whether any compared rate lowers the loss by more than chance."""
        return any(
            self.certainty(place) >= SIGNIFICANT
            for place, score in self.scores.items()
            if math.isfinite(score)
        )

    def _falls(self, place: GridPlace) -> Array:
        """Return (t,) how far the probe's loss is below that of the untouched model on the same batch."""
        loss = self.probes[place].loss[: self.steps]
        falls: Array = self.untouched_loss[: len(loss)] - loss
        return falls

    @property
    def middle(self) -> float:
        """Log10 of the estimated best lr for so few steps: the mean of the compared rates, by `weights`."""
        return sum(place * weight for place, weight in self.weights.items()) / PER_DECADE

    @property
    def breadth(self) -> float:
        """The decades to either side of `middle` that learn about as fast: the rates' weighted deviation."""
        middle = self.middle
        variance = sum(w * (place / PER_DECADE - middle) ** 2 for place, w in self.weights.items())
        return math.sqrt(variance)

    @property
    def wild(self) -> float:
        """The lowest lr above the best rate whose probe was stopped; infinite if there is none."""
        best = self.probes[self.best].lr
        return min((p.lr for p in self.probes.values() if p.stopped and p.lr > best), default=math.inf)

    @property
    def bracketed(self) -> bool:
        """Whether both a lower and a higher rate than the best were probed."""
        return min(self.probes) < self.best < max(self.probes)

    @property
    def indifferent(self) -> bool:
        """Whether several rates were compared and none of them changes the loss at all."""
        return len(self.scores) > 1 and {*self.scores.values()} == {self.untouched}

    @property
    def identical(self) -> bool:
        """Whether probes at several rates have the same losses, other than those of the untouched model."""
        losses = [probe.loss for probe in self.probes.values() if not probe.stopped]
        shortest = min(map(len, losses), default=0)
        return (
            len(losses) > 2
            and all(np.array_equal(loss[:shortest], losses[0][:shortest]) for loss in losses)
            and not np.array_equal(losses[0][:shortest], self.untouched_loss[:shortest])
        )

    @property
    def learns(self) -> bool:
        """Whether any rate lowers the loss by more than chance, and more than its noise between batches."""
        if math.isinf(self.scores[self.best]) or self.certainty(self.best) < SIGNIFICANT:
            return False
        return self.fall >= PLATEAU_FALL or (not self.noise and self.progress >= 0.5)

    @property
    def learned(self) -> bool:
        """Whether a rate `learns`, or lowers a loss whose `noise` is 0 by more than the noise of its probe.

        The untouched loss has no noise where the output is the same for every input, as with a last layer of
        0. The noise is then that of successive losses of the best probe, in which the fall itself hardly
        counts. A loss that falls at every step, as in a training on all rows at once, has no such noise.
        """
        if self.learns or self.noise or math.isinf(self.scores[self.best]):
            return self.learns
        if self.certainty(self.best) < CERTAIN:
            return False
        loss = self.probes[self.best].loss[: self.steps]
        last = loss[-max(len(loss) // TAIL, 2) :]
        fall = self.untouched - self.scores[self.best]
        return bool((np.diff(last) > 0).any()) and fall >= PLATEAU_FALL * successive_noise(last)

    @property
    def on_a_plateau(self) -> bool:
        """Whether no rate learns although the probes are long enough to tell (`FIRST_STEPS`).

        A model that predicts its targets already, as in fine-tuning, has left its plateau behind.
        """
        return not self.learned and self.steps >= FIRST_STEPS and not self.converged

    @property
    def doubtful(self) -> bool:
        """Whether nothing was learned, hardly more than the noise, or nothing of the inputs."""
        if not self.scores or not self.significant or self.uninformed:
            return True
        return not self.learned and self.steps >= FIRST_STEPS

    @property
    def uninformed(self) -> bool:
        """Whether the best probe predicts nothing but what all targets share, as far as that is known."""
        return self.after is not None and not self.after.sure

    @property
    def varies(self) -> bool:
        """Whether the output of the best probe differs between inputs, as far as that is known."""
        return self.after is None or self.after.varies

    @property
    def informed(self) -> bool:
        """Whether the best probe predicts targets that the untouched model does not, as far as is known.

        That is something learned, even where the fall of the loss is within its noise.
        """
        return self.after is not None and self.after.sure and self.before is not None and not self.converged

    @property
    def converged(self) -> bool:
        """Whether the untouched model predicts the targets already, as far as that is known."""
        return self.before is not None and self.before.sure

    @property
    def harmless(self) -> list[GridPlace]:
        """The compared rates that do not raise the loss, ascending."""
        ceiling = self.untouched + HARMLESS * self.noise
        return sorted(place for place, score in self.scores.items() if score <= ceiling)

    @property
    def weights(self) -> dict[GridPlace, float]:
        """The weight of each compared rate in `middle`; rates with better scores have larger weights."""
        if not self.scores:
            return {}
        untouched, lowest = self.untouched, self.scores[self.best]
        if math.isinf(lowest):
            return {}
        if self.on_a_plateau and self.harmless:
            highest = self.harmless[-3:]
            return {place: float(place in highest) / len(highest) for place in self.scores}
        scale = SHARPNESS * max(untouched - lowest, 1e-300)
        weights = {
            place: math.exp(-min((score - lowest) / scale, 60.0)) for place, score in self.scores.items()
        }
        return {place: weight / sum(weights.values()) for place, weight in weights.items()}


def probe_rows(results: Sequence[ProbeResult]) -> list[dict[str, object]]:
    """Return the probes of all seeds as plain data: one row for each probe, sorted by seed and then by lr.

    A row has `seed`, `lr`, `steps`, `score` (the mean loss over the last half of the steps; None if the probe
    was stopped), `untouched` (the same mean for the untouched model on the same batches), `stopped`, and
    `weight` (its share in the lr that learns fastest; None for a rate that was not continued).
    """
    return [
        {
            "seed": result.seed,
            "lr": probe.lr,
            "steps": len(probe.loss),
            "score": None if probe.stopped else tail(probe.loss),
            "untouched": tail(result.untouched_loss[: len(probe.loss)]),
            "stopped": probe.stopped,
            "weight": weights.get(place),
        }
        for result in results
        for weights in [result.weights]
        for place, probe in sorted(result.probes.items())
    ]
