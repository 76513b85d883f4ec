"""The result of `compare` in Python: the ranking, its verdict, the table, the plot, and `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lrfind.analysis.comparisons import Standing, standings, verdict
from lrfind.analysis.lanes import LaneResult
from lrfind.api.origin import Origin, check_optimizers
from lrfind.api.rates import apply_rate
from lrfind.catalog import Judge
from lrfind.errors import NoSuggestion, counted, listed, sentence
from lrfind.runs.summaries.parts import data_to_blame, skipped_warning

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from lrfind.views.plots.courses import CoursesView


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """The result of whole trainings with several schedules.

    Attributes:
        lanes: one result for each schedule, peak and seed.
        schedules: the names of the schedules.
        steps: T, the number of steps of each training.
        judge: the loss that was to decide; without validation data the training loss does.
        first_tuning_seed: lanes with smaller seeds are compared; the others chose the peaks.
        notes: what to know about the peaks, in sentences.
        metric: the name of the task's metric on the validation data; None if there is none.
        of_schedulers: the names of the schedules that are schedulers of torch, or functions that make one.
        origin: where the trainings came from; None if that is not known.
    """

    lanes: Sequence[LaneResult]
    schedules: Sequence[str]
    steps: int
    judge: Judge = "val_loss"
    first_tuning_seed: int = 0
    notes: Sequence[str] = ()
    metric: str | None = None
    of_schedulers: Sequence[str] = ()
    origin: Origin | None = None

    @cached_property
    def ranking(self) -> list[Standing]:
        """The schedules, the best first; see `analysis.comparisons.Standing`."""
        return standings(self.lanes, self.schedules, self.judge, self.first_tuning_seed)

    @property
    def best(self) -> Standing:
        """The schedule that ended lowest.

        Raises:
            NoSuggestion: if no schedule finished at any peak.
        """
        first = self.ranking[0]
        if first.rank is None or first.best is None:
            raise NoSuggestion(self.reason, self.cost)
        return first

    @property
    def schedule(self) -> str:
        """The name of the schedule that ended lowest; raises `NoSuggestion` if none finished."""
        return self.best.variant

    @property
    def lr(self) -> float:
        """The best peak of that schedule; raises `NoSuggestion` if none finished."""
        best = self.best.best
        assert best is not None  # it has a rank
        return best.lr

    @property
    def cost(self) -> int:
        """The number of gradient steps of all trainings."""
        return sum(int(lane.lr.size) for lane in self.lanes)

    @property
    def reason(self) -> str:
        """Which schedule is best, and how sure that is, or why none is, in words."""
        if self.ranking[0].rank is None:
            return sentence(
                data_to_blame(self.lanes) or "no schedule finished at any peak; give lower peaks."
            )
        return " ".join([verdict(self.ranking), *skipped_warning(self.lanes, "")])

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each schedule, the best first: rank, peak, losses (means over seeds), worse."""
        import pandas as pd

        rows = [
            {
                "schedule": standing.variant,
                "rank": standing.rank,
                "lr": None if standing.best is None else standing.best.lr,
                "loss": standing.loss,
                "train_loss": standing.train_loss,
                "val_loss": standing.val_loss,
                "best_val_loss": standing.best_val_loss,
                "metric": standing.metric,
                "early": standing.early,
                "middle": standing.middle,
                "worse": standing.worse,
            }
            for standing in self.ranking
        ]
        return pd.DataFrame(rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each lane and step, with the columns of steps.csv."""
        from lrfind.runs.tables import steps_frame

        return steps_frame(list(self.lanes))

    def apply(self, optimizer: Any, scheduler: Any = None) -> None:
        """Give the best peak of the best schedule to an optimizer, and to its scheduler, which you make.

        Raises:
            NoSuggestion: if no schedule finished.
            UsageError: see `Recommendation.apply`.
        """
        check_optimizers(optimizer, self.origin)
        made = self.schedule in self.of_schedulers
        apply_rate(self.lr, optimizer, scheduler, steps=self.steps if made else None)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss of each schedule at its best peak against the step, on `ax` or on a new figure."""
        from lrfind.views.plots.courses import draw_loss
        from lrfind.views.plots.drawing import axes_for

        return draw_loss(self._courses(), axes_for(ax))

    def _courses(self) -> CoursesView:
        from lrfind.views.plots.courses import courses_of, view_courses

        return view_courses(courses_of(self.ranking))

    def __repr__(self) -> str:
        peak = "" if self.ranking[0].rank is None else f" with peak {self.lr:.3g}"
        notes = " ".join([self.reason, *self.notes])
        return f"ComparisonResult of {listed(self.schedules)} over {self.steps} steps{peak}: {notes}"

    def _repr_html_(self) -> str:
        from lrfind.views.cells import cell
        from lrfind.views.plots.courses import comparison_figure, view_gaps

        headline = "No best schedule"
        if self.ranking[0].rank is not None:
            headline = f"Lowest loss: {self.schedule}, with a peak of {self.lr:.3g}"
        return cell(
            headline,
            [
                f"{counted(self.steps, 'step')} each; {self.cost:,} gradient steps in all.",
                self.reason,
                *self.notes,
            ],
            f"{len(self.table)} schedules",
            [*self.table.columns],
            self.table.itertuples(index=False),
            comparison_figure(self._courses(), view_gaps(self.ranking), "comparison"),
        )
