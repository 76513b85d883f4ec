"""The results of `find` and `range_test` in Python: the answer, its evidence, and `apply`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.analysis.curves import Array, Curve
from lrfind.analysis.diagnosis import Finding, calm_looks, diagnose
from lrfind.analysis.group_rates import GroupRates
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.probing import ProbeResult, probe_rows
from lrfind.analysis.recommendation import Answer, Confidence, PlannedTraining, moved_lr
from lrfind.analysis.suggestions import Suggestion, suggest_over
from lrfind.analysis.verification import Verdict
from lrfind.catalog import DEFAULT_METHOD
from lrfind.errors import listed
from lrfind.experiments.planned import planned_shape, planned_steps
from lrfind.problem.rates import apply_lr, groups_of
from lrfind.runs.summaries.methods import ask

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class RangeTest:
    """The result of a range test.

    Attributes:
        lanes: one result for each seed: lr, loss, outcome.
        adaptive: whether the optimizer divides a gradient by the size of past gradients, as Adam's family
            does.
        notes: what to know about the test, in sentences.
    """

    lanes: Sequence[LaneResult]
    adaptive: bool = False
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        lr = self.lanes[0].lr
        return (
            f"RangeTest({len(self.lanes)} lanes, {len(self.lr)} steps, lr {lr[0]:.3g} to {self.lr[-1]:.3g})"
        )

    @property
    def curves(self) -> list[Curve]:
        """The loss against lr, one curve for each seed."""
        return [lane.curve for lane in self.lanes]

    @property
    def lr(self) -> Array:
        """(T,) the lrs that the optimizer used, up to the last one that every seed reached."""
        return min((lane.lr for lane in self.lanes), key=len)

    @property
    def loss(self) -> Array:
        """(T,) the loss before the update that uses lr[t]; the median if there are several seeds."""
        reached = len(self.lr)
        median: Array = np.median([lane.loss[:reached] for lane in self.lanes], axis=0)
        return median

    def suggest(self, method: str = DEFAULT_METHOD) -> Suggestion:
        """Ask a suggestion method; with several seeds, return the median and the spread of their answers.

        Args:
            method: a name from `lrfind ls methods`.

        Raises:
            NoSuggestion: if the curves have no answer; `.reason` says why.
        """
        return suggest_over(self.curves, method)

    def apply(self, optimizer: Any, scheduler: Any = None) -> None:
        """Give the suggested lr to an optimizer, and to its scheduler; see `Recommendation.apply`.

        Raises:
            NoSuggestion: if the curves have no answer.
            UsageError: if the scheduler keeps its lrs in a way that is not known.
        """
        _apply(self.suggest().lr, optimizer, scheduler)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss against lr with the suggestion, on `ax` or on the axes of a new figure."""
        from lrfind.views.plots.range_test import draw_range_test, view_range_test

        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        answer = ask(self.curves, DEFAULT_METHOD, raw=True)
        edge = ask(self.curves, "edge", raw=True)["lr"]
        return draw_range_test(view_range_test(self.curves, answer, edge), ax)

    @property
    def findings(self) -> list[Finding]:
        """The problems of the gradients, and what to try; empty if there are none."""
        looks = [calm_looks(lane, on_a_ramp=True) for lane in self.lanes if lane.health]
        return diagnose(looks, adaptive=self.adaptive)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each lane and step, with the columns of steps.csv."""
        from lrfind.runs.tables import steps_frame

        return steps_frame(list(self.lanes))


@dataclass(frozen=True)
class Recommendation(Answer):
    """The learning rate to train with, and the probes that recommend it.

    Attributes:
        training: the planned training.
        results: the results of probing, one for each seed.
        lanes: the probes of all seeds, and the untouched models at lr 0.
        notes: what to know about the rate, in sentences: which param group it is for, for example.
        refinement: the trainings that refined the rate of the probes, in their order.
        verdict: what whole trainings said of the rate of the probes; None if they were not requested.
        verification: these trainings.
        optimizer_count: the number of optimizers that share the rate.
        groups: the multipliers of the param groups, and what was measured; None if they were not requested.
    """

    training: PlannedTraining
    results: Sequence[ProbeResult]
    lanes: Sequence[LaneResult]
    notes: Sequence[str] = ()
    refinement: Sequence[LaneResult] = ()
    verdict: Verdict | None = None
    verification: Sequence[LaneResult] = ()
    optimizer_count: int = 1
    groups: GroupRates | None = None

    def __repr__(self) -> str:
        of_groups = []
        if self.groups is not None:
            lrs = listed(f"{name} {lr:.3g}" for name, lr in self.group_lrs.items())
            of_groups = [f"Rates of the param groups: {lrs}.", self.groups.reason]
        return (
            f"Recommendation(lr={self.lr:.3g}, low={self.low:.3g}, high={self.high:.3g},"
            f" confidence={self.confidence!r}, cost={self.cost}) for {self.training.in_words}."
            f" {' '.join([self.reason, *self.notes, *of_groups])} {self._way_to_apply}"
        )

    @property
    def group_lrs(self) -> dict[str, float]:
        """The lr of each param group by its name, if `groups` were requested; otherwise empty."""
        return {} if self.groups is None else {rate.name: rate.lr(self.lr) for rate in self.groups.rates}

    @property
    def _way_to_apply(self) -> str:
        if self.optimizer_count > 1:
            return f"Set it with best.apply(optimizers), a list of all {self.optimizer_count} optimizers."
        return "Set it with best.apply(optimizer), or best.apply(optimizer, scheduler)."

    def for_plan(self, *, steps: int | None = None, schedule: Any = None) -> Recommendation:
        """Return the rate for another length or schedule of the same training; nothing is trained.

        The rate and its interval are moved by the model of `analysis.recommendation.plan_shift`, which was
        fitted on trainings of 200 to 10,000 steps. What was verified does not hold for the other plan.

        Args:
            steps: the number of steps of the other training; as before when omitted.
            schedule: its schedule, in one of the forms that `find` takes; as before when omitted.

        Raises:
            UsageError: if an argument is out of range.
        """
        length = self.training.steps if steps is None else planned_steps(steps, None, 1)
        mean = self.training.mean_multiplier
        if schedule is not None:
            mean = float(planned_shape(schedule, length, None).multiplier.mean())
        other = replace(self.training, steps=length, mean_multiplier=mean)
        if other == self.training:
            return self
        lr, low, high = (moved_lr(rate, self.training, other) for rate in (self.lr, self.low, self.high))
        confidence: Confidence = "low" if self.confidence == "low" else "moderate"
        reason = (
            f"The rate {self.lr:.3g} was recommended for {self.training.in_words}; it was moved by a fitted"
            " model, and not measured again."
        )
        moved = replace(self, lr=lr, low=low, high=high, confidence=confidence, reason=reason, training=other)
        return replace(moved, refinement=(), verdict=None, verification=())

    def apply(self, optimizer: Any, scheduler: Any = None) -> None:
        """Give the rate to an optimizer, and to its scheduler, as if they had been created with it.

        Every param group gets its share: the groups keep the ratios of their lrs, or get the rates of
        `group_lrs` if these were requested. `initial_lr`, the base and highest lrs of the scheduler, and the
        lr of the current step are scaled with it.

        Args:
            optimizer: the optimizer that was given to `find`, or one with the same param groups; several
                optimizers as a list. Changed in place.
            scheduler: its scheduler, or a list of several, if they exist already. Changed in place.

        Raises:
            UsageError: if the scheduler keeps its lrs in a way that is not known.
        """
        shares = None if self.groups is None else self.groups.shares
        _apply(self.lr, optimizer, scheduler, shares)

    @property
    def evidence(self) -> pd.DataFrame:
        """One row for each probe: seed, lr, steps, score, untouched, stopped, weight; see `probe_rows`."""
        import pandas as pd

        return pd.DataFrame(probe_rows(self.results))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the probes' scores against lr, the answer and its interval, on `ax` or on a new figure."""
        from lrfind.views.plots.find import draw_find, view_find

        rows = probe_rows(self.results)
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
        return draw_find(view_find(rows, vars(self), steps=self.training.steps), ax)


def _apply(lr: float, optimizer: Any, scheduler: Any, shares: Sequence[float] | None = None) -> None:
    """Give a rate to optimizers and schedulers; warn if a scheduler is attached that was not given."""
    optimizers = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    scheduled = any("initial_lr" in group for group in groups_of(optimizers))
    apply_lr(lr, optimizers, scheduler, shares)
    if scheduled and scheduler is None:
        warnings.warn(
            "the optimizer has a scheduler, which will overwrite the lr at its next step; if you go on to use"
            " it, give it too: apply(optimizer, scheduler).",
            stacklevel=3,
        )
