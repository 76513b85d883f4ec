"""The result of `range_test` in Python: the curves, the suggestion that they give, and `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.analysis.curves import Array, Curve
from lrfind.analysis.diagnosis import Finding, calm_looks, diagnose
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.suggestions import Suggestion, suggest_over
from lrfind.api.origin import Origin, check_optimizers, known
from lrfind.api.rates import apply_rate
from lrfind.catalog import DEFAULT_METHOD
from lrfind.errors import NoSuggestion, counted
from lrfind.runs.summaries.methods import ask, suggestion_table
from lrfind.views.snippets.objects import snippet_of_test

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class RangeTest:
    """The result of a range test.

    Attributes:
        lanes: one result for each seed: lr, loss, outcome.
        adaptive: whether the optimizer divides a gradient by the size of past gradients, as Adam's family
            does.
        notes: what to know about the test, in sentences.
        origin: where the test came from; None if that is not known.
    """

    lanes: Sequence[LaneResult]
    adaptive: bool = False
    notes: Sequence[str] = ()
    origin: Origin | None = None

    def __repr__(self) -> str:
        try:
            answer = repr(self.suggest())
        except NoSuggestion as refusal:
            answer = f"no suggestion: {refusal.reason}"
        longest = max((lane.lr for lane in self.lanes), key=len)
        lanes, steps = counted(len(self.lanes), "lane"), counted(len(longest), "step")
        return f"RangeTest({lanes}, {steps}, lr {longest[0]:.3g} to {longest[-1]:.3g}): {answer}"

    @property
    def curves(self) -> list[Curve]:
        """The loss against lr, one curve for each seed."""
        return [lane.curve for lane in self.lanes]

    @property
    def lrs(self) -> Array:
        """(T,) the lrs that the optimizer used, up to the last one that every seed reached."""
        return min((lane.lr for lane in self.lanes), key=len)

    @property
    def losses(self) -> Array:
        """(T,) the loss before the update that uses lrs[t]; the median if there are several seeds."""
        reached = len(self.lrs)
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
        check_optimizers(optimizer, self.origin)
        apply_rate(self.suggest().lr, optimizer, scheduler)

    def snippet(self) -> str:
        """Return the lines of PyTorch that make the optimizer with the suggested lr.

        The script that they are for must define `model`. If the optimizer cannot be made anew from what it
        tells of itself (several param groups, several optimizers, a part of the model's weights, a class of a
        notebook), the lines give its groups their lrs. They have no scheduler: a range test is for no plan.

        Raises:
            NoSuggestion: if the curves have no answer.
            UsageError: if the origin of the test is not known.
        """
        suggestion, origin = self.suggest(), known(self.origin)
        return snippet_of_test(suggestion.lr, suggestion.reason, origin.optimizers, origin.plan.training)

    def _repr_html_(self) -> str:
        from lrfind.views.cells import cell
        from lrfind.views.plots.drawing import figure_of

        try:
            suggestion = self.suggest()
            headline, sentences = (
                f"Suggested learning rate: {suggestion.lr:.3g}",
                [f"{suggestion.method}: {suggestion.reason}."],
            )
            if suggestion.low is not None:
                headline += f" ({suggestion.low:.3g} to {suggestion.high:.3g} between seeds)"
        except NoSuggestion as refusal:
            headline, sentences = "No suggestion", [refusal.reason]
        rows = [
            (name, None if answer["lr"] is None else f"{answer['lr']:.3g}", answer["reason"])
            for name, answer in suggestion_table(self.curves, raw=True).items()
        ]
        return cell(
            headline,
            [*sentences, *self.notes, *(finding.in_words for finding in self.findings)],
            "all methods",
            ("method", "lr", "what it is, or why there is none"),
            rows,
            figure_of(self.plot, ""),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss against lr with the suggestion, on `ax` or on the axes of a new figure.

        The legend lies below the axes. To give it its place, a figure of `ax` without a layout engine gets
        the one that matplotlib calls "constrained".
        """
        from lrfind.views.plots.drawing import axes_for
        from lrfind.views.plots.range_test import draw_range_test, view_range_test

        answer = ask(self.curves, DEFAULT_METHOD, raw=True)
        edge = ask(self.curves, "edge", raw=True)["lr"]
        return draw_range_test(view_range_test(self.curves, answer, edge), axes_for(ax))

    @property
    def findings(self) -> list[Finding]:
        """The problems of the gradients, and what to try; empty if there are none."""
        looks = [calm_looks(lane, on_a_ramp=True) for lane in self.lanes if lane.health]
        return diagnose(looks, adaptive=self.adaptive)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each lane and step, with the columns of steps.csv."""
        from lrfind.runs.tables import steps_frame

        return steps_frame(list(self.lanes))
