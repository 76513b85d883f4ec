"""The result of `find` in Python: the answer, its evidence, its snippet, its verification, and `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lrfind.analysis.confidence import Confidence
from lrfind.analysis.group_rates import GroupRates
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.probing import ProbeResult, probe_rows
from lrfind.analysis.recommendation import Answer, moved_lr
from lrfind.analysis.verification import VERDICTS, Verdict
from lrfind.api.arguments import without_trace
from lrfind.api.origin import Origin, check_optimizers, known, named_or_described, schedule_name, with_shares
from lrfind.api.rates import apply_rate
from lrfind.api.trainings import verified
from lrfind.config.experiment import section_of
from lrfind.config.sections import FindSection
from lrfind.errors import listed
from lrfind.experiments.groups import with_groups
from lrfind.experiments.planned import planned_shape, planned_steps
from lrfind.problem.problem import Problem
from lrfind.problem.ranks import is_first_rank
from lrfind.runs.summaries.find import training_row
from lrfind.views.progress import call_progress
from lrfind.views.snippets.objects import OwnPlan, snippet_of_plan

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from lrfind.views.plots.find import FindView


@dataclass(frozen=True, eq=False)
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
        origin: where the recommendation came from: what `snippet` and `verify` need; None if that is not
            known.
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
    origin: Origin | None = None

    __eq__, __hash__ = object.__eq__, object.__hash__  # it has arrays, which an answer does not have

    def __repr__(self) -> str:
        return (
            f"Recommendation(lr={self.lr:.3g}, low={self.low:.3g}, high={self.high:.3g},"
            f" confidence={self.confidence!r}, cost={self.cost}) for {self.training.in_words}."
            f" {' '.join([self.reason, *self._remarks])}"
        )

    def __str__(self) -> str:
        """Return what `repr` says, in lines that fit the terminal."""
        from lrfind.views.text.find import answer_lines
        from lrfind.views.text.layout import wrapped
        from lrfind.views.text.parts import confidence_in_words

        trust = confidence_in_words(self.confidence, self.risk)
        lines = answer_lines(vars(self), trust, *wrapped(f"for {self.training.in_words}"))
        return "\n".join([*lines, *(line for remark in self._remarks for line in wrapped(remark))])

    @property
    def _remarks(self) -> list[str]:
        """What to know besides the reason: verdict, notes, rates of groups, and how to apply the rate."""
        of_groups = []
        if self.groups is not None:
            lrs = listed(f"{name} {lr:.3g}" for name, lr in self.group_lrs.items())
            of_groups = [f"Rates of the param groups: {lrs}.", self.groups.reason]
        return [*self._verdict_in_words, *self.notes, *of_groups, self._way_to_apply]

    @property
    def _verdict_in_words(self) -> list[str]:
        if self.verdict is None or self.verdict.verdict != "stands":  # the reason of a moved rate says it
            return []
        return [f"Verification: {VERDICTS[self.verdict.verdict]}; {self.verdict.reason}."]

    def _repr_html_(self) -> str:
        from lrfind.views.cells import cell
        from lrfind.views.plots.find import find_figure

        rates = [("lr of group", f"{name}: {lr:.3g}") for name, lr in self.group_lrs.items()]
        rows = [
            (f"{row['lr']:.3g}", row["steps"], None if row["score"] is None else f"{row['score']:.4g}")
            for row in probe_rows(self.results)
        ]
        return cell(
            f"Learning rate: {self.lr:.3g} ({self.low:.3g} to {self.high:.3g}), {self.confidence} confidence",
            [
                f"For {self.training.in_words}; {self.cost:,} gradient steps.",
                *(f"{name} {lr}." for name, lr in rates),
                self.reason,
                *self._verdict_in_words,
                *self.notes,
                self._way_to_apply,
            ],
            f"{len(rows)} probes",
            ("lr", "steps", "mean loss over the last half"),
            rows,
            find_figure(self._view(), ""),
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

        The rate and its interval are moved by the model of `analysis.planned_training.plan_shift`, which was
        fitted on trainings of 200 to 10,000 steps. What was verified does not hold for the other plan.

        Args:
            steps: the number of steps of the other training; as before when omitted.
            schedule: its schedule, in one of the forms that `find` takes; as before when omitted.

        Raises:
            UsageError: if an argument is out of range.
        """
        length = self.training.steps if steps is None else planned_steps(steps, None, 1)
        mean, name, shape = self.training.mean_multiplier, self.training.schedule, None
        if schedule is not None:
            shape = planned_shape(schedule, length, None)
            mean, name = shape.mean_multiplier, schedule_name(schedule)
        other = replace(self.training, steps=length, mean_multiplier=mean, schedule=name)
        if other == self.training:
            return self
        lr, low, high = (moved_lr(rate, self.training, other) for rate in (self.lr, self.low, self.high))
        confidence: Confidence = "low" if self.confidence == "low" else "moderate"
        reason = (
            f"The rate {self.lr:.3g} was recommended for {self.training.in_words}; it was moved by a fitted"
            " model, and not measured again."
        )
        moved = replace(
            self, lr=lr, low=low, high=high, confidence=confidence, risk=None, reason=reason, training=other
        )
        if (origin := self.origin) is not None and origin.shape is not None:
            training, words = origin.plan.training, origin.plan.schedule
            if schedule is not None:
                component, words = named_or_described(schedule)
                training = training.model_copy(update={"schedule": component})
            plan = OwnPlan(training.model_copy(update={"steps": length}), words)
            moved = replace(
                moved, origin=replace(origin, plan=plan, shape=shape or origin.shape.resampled(length))
            )
        return replace(moved, refinement=(), verdict=None, verification=())

    def snippet(self) -> str:
        """Return the lines of PyTorch for this rate: the optimizer, and the scheduler of the plan.

        The script that they are for must define `model`. If the optimizer cannot be made anew from what it
        tells of itself (several param groups, several optimizers, a part of the model's weights, a class of a
        notebook), the lines give its groups their lrs. Of a schedule that was given as a function or as a
        scheduler of torch, the lines only say which one it was.

        Raises:
            UsageError: if the origin of the recommendation is not known.
        """
        origin = known(self.origin)
        optimizers = with_shares(origin.optimizers, None if self.groups is None else self.groups.shares)
        return snippet_of_plan(self.lr, self.low, self.high, self.confidence, optimizers, origin.plan)

    def verify(self, *, seeds: int = 3, beyond: float | None = None, progress: bool = True) -> Recommendation:
        """Verify the rate now, with the objects that `find` was given; afterwards everything is as it was.

        Whole trainings run at a third of the rate, at the rate and at three times the rate, from the model's
        weights and with the planned schedule, as with `find(..., verify=True)`.

        The result of `find` holds the model and the optimizers only weakly: they, and the data with them, are
        freed as if there were no result. So the model and the optimizer must still exist. A copy of the
        result, also one that was pickled, holds nothing.

        Args:
            seeds: the number of trainings at each rate.
            beyond: a further rate, as a multiple of the rate above 3, to show how near instability is.
            progress: see `range_test`.

        Returns:
            The recommendation with `verdict` and `verification`. If another rate ended lower, it has this
            rate.

        Raises:
            NoSuggestion: if no training learned anything.
            UsageError: if the objects are gone, if the model's weights have changed since `find` was called,
                or if an argument is out of range.
        """
        origin = known(self.origin)
        section = section_of(FindSection, verify=True, verify_seeds=seeds, verify_beyond=beyond)
        seed, shape = origin.seed, origin.shape
        assert shape is not None  # `find` plans a training

        def train(problem: Problem) -> Recommendation:
            problem = with_groups(problem, self.groups)
            with call_progress(progress and is_first_rank(), "find") as watch:
                changes = verified(self, problem, section, seed, shape, watch)
            return replace(self, **changes)

        return without_trace(origin.hold.objects(), train, seed=seed)

    def apply(self, optimizer: Any, scheduler: Any = None) -> None:
        """Give the rate to an optimizer, and to its scheduler, as if they had been created with it.

        Every param group gets its share: the groups keep the ratios of their lrs, or get the rates of
        `group_lrs` if these were requested. `initial_lr`, the base and highest lrs of the scheduler, and the
        lr of the current step are scaled with it. Without a scheduler, the lr of every group becomes its
        share of the rate, whatever an earlier scheduler has left; a new scheduler starts from there.

        If `find` was given a scheduler of torch as the schedule, or a function that makes one, the highest lr
        that the scheduler gives in the planned number of steps, counted from where it is now, becomes the
        rate. Otherwise the rate is the lr that the scheduler multiplies, or its highest one.

        Args:
            optimizer: the optimizer that was given to `find`, or one with the same param groups; several
                optimizers as a list. Changed in place.
            scheduler: its scheduler, or a list of several, if they exist already. Changed in place.

        Raises:
            UsageError: if the scheduler keeps its lrs in a way that is not known, or if several optimizers
                share the rate and not all are given, in the order in which `find` got them.
        """
        check_optimizers(optimizer, self.origin)
        shares = self._ratios if self.groups is None else self.groups.shares
        shape = None if self.origin is None else self.origin.shape
        steps = self.training.steps if shape is not None and shape.of_scheduler else None
        apply_rate(self.lr, optimizer, scheduler, shares, steps)

    @property
    def _ratios(self) -> Sequence[float] | None:
        """The ratios at which several optimizers shared the rate; None if those that they have now count."""
        if self.origin is None or self.optimizer_count < 2:
            return None
        ratios = [share for shares in self.origin.optimizers.shares for share in shares]
        return ratios if ratios and all(ratios) else None

    @property
    def table(self) -> pd.DataFrame:
        """One row for each probe: seed, lr, steps, score, untouched, stopped, weight; see `probe_rows`."""
        import pandas as pd

        return pd.DataFrame(probe_rows(self.results))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the probes' scores against lr, with the answer and its interval, and return their axes.

        On a new figure, the trainings that refined or verified the answer are drawn below. The legend lies
        below the axes. To give it its place, a figure of `ax` without a layout engine gets the one that
        matplotlib calls "constrained".

        Args:
            ax: the axes to draw the probes on; those of a new figure when omitted.
        """
        from lrfind.views.plots.drawing import axes_for
        from lrfind.views.plots.find import draw_find, find_figure

        if ax is not None:
            return draw_find(self._view(), axes_for(ax))
        import matplotlib.pyplot as plt

        return find_figure(self._view(), "", plt.figure(layout="constrained")).axes[0]

    def _view(self) -> FindView:
        """Return the values of the plot."""
        from lrfind.views.plots.find import view_find

        refinement = verification = None
        if self.refinement:
            refinement = {
                "trainings": [*map(training_row, self.refinement)],
                "steps": self.refinement[0].planned,
                "judge": "train_loss",
                "ended": True,
            }
        if self.verdict is not None:
            verification = {
                "trainings": [*map(training_row, self.verification)],
                "verdict": self.verdict.verdict,
                "judge": self.verdict.judge,
                "of": sorted({lane.peak for lane in self.verification})[1],  # after a third of it
            }
        rows = probe_rows(self.results)
        return view_find(rows, vars(self), verification, self.training.steps, refinement)
