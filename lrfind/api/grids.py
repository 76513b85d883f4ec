"""The result of `grid` in Python: the answer, its reason, the table, the plot, and `apply`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lrfind.analysis.diagnosis import Finding, calm_looks, diagnose
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.sweep_verdicts import answered, doubt_about, maybe_worse, rate_verdict, tied
from lrfind.analysis.sweeps import RateResult, SweepResult, read_sweep
from lrfind.api.origin import Origin, check_optimizers
from lrfind.api.rates import apply_rate
from lrfind.catalog import Judge, is_adaptive
from lrfind.errors import NoSuggestion, counted, listed, sentence
from lrfind.runs.summaries.parts import skipped_warning
from lrfind.runs.summaries.sweep import why_no_best
from lrfind.views.text.parts import loss_name
from lrfind.views.text.sweep import headline

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class GridResult:
    """The result of whole trainings at several rates.

    Attributes:
        lanes: one result for each rate and seed: lr, loss, evaluations, outcome.
        training: the training.
        judge: the loss that was to decide; without validation data the training loss does.
        tolerance: how far the loss of a usable rate may lie above the best one, as a share of the fall.
        notes: what to know about the rates, in sentences.
        metric: the name of the task's metric on the validation data; None if there is none.
        of_scheduler: whether the schedule was a scheduler of torch, or a function that makes one.
        origin: where the trainings came from; None if that is not known.
    """

    lanes: Sequence[LaneResult]
    training: PlannedTraining
    judge: Judge = "val_loss"
    tolerance: float = 0.05
    notes: Sequence[str] = ()
    metric: str | None = None
    of_scheduler: bool = False
    origin: Origin | None = None

    @cached_property
    def sweep(self) -> SweepResult:
        """The conclusions: usable range, edge, sensitivity, the result of each rate."""
        sweep = read_sweep(self.lanes, self.judge, self.tolerance)
        return replace(sweep, troubled=bool(self._findings_at(sweep.best)))

    @property
    def findings(self) -> list[Finding]:
        """The problems of the gradients at the best rate, and what to try; empty if there are none."""
        return self._findings_at(self.sweep.best)

    def _findings_at(self, best: RateResult | None) -> list[Finding]:
        looks = (
            [calm_looks(lane, on_a_ramp=False) for lane in best.lanes.values() if lane.health] if best else []
        )
        return diagnose(looks, adaptive=is_adaptive(self.training.optimizer))

    @property
    def best(self) -> RateResult:
        """The result at the rate that ended lowest.

        Raises:
            NoSuggestion: if no rate can be called best; `reason` says why.
        """
        best = answered(self.sweep)
        if best is None:
            raise NoSuggestion(self.reason, self.cost)
        return best

    @property
    def lr(self) -> float:
        """The rate that ended lowest; raises `NoSuggestion` if no rate can be called best."""
        return self.best.lr

    @property
    def usable(self) -> tuple[float, float] | None:
        """The lowest and the highest rate around the best one that are good enough; None without any."""
        return self.sweep.usable

    @property
    def cost(self) -> int:
        """The number of gradient steps of all trainings."""
        return sum(int(lane.lr.size) for lane in self.lanes)

    @property
    def headline(self) -> str:
        """The answer in one line, with the gravest doubt about it."""
        best = answered(self.sweep)
        if best is None:
            return "No best learning rate"
        return headline(doubt_about(self.sweep), best.lr, [rate.lr for rate in tied(self.sweep)])

    @property
    def reason(self) -> str:
        """Why this rate is the answer and how far to trust it, or why there is none, in sentences."""
        sweep, best = self.sweep, answered(self.sweep)
        if best is None:
            return sentence(why_no_best(sweep))
        seeds = f", median of {counted(len(best.lanes), 'seed')}" if len(best.lanes) > 1 else ""
        failed = [rate for rate in sweep.rates if rate.outcome == "failed"]
        rates = counted(len(sweep.rates) - len(failed), "rate")
        loss = loss_name(sweep.judge).removeprefix("lowest ")
        why = f"Of {rates}, lr {best.lr:.3g} has the lowest {loss} ({best.loss:.4g}{seeds})."
        skipped = map(sentence, skipped_warning(self.lanes, ""))
        return " ".join([why, *_failures(failed), *_doubts(sweep, best), *skipped])

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each rate: lr, verdict, outcome, losses and metric (medians over seeds)."""
        import pandas as pd

        rows = [
            {
                "lr": rate.lr,
                "verdict": rate_verdict(rate, self.sweep),
                "outcome": rate.outcome,
                "loss": rate.loss,
                "train_loss": rate.train_loss,
                "val_loss": rate.val_loss,
                "best_val_loss": rate.best_val_loss,
                "metric": rate.metric,
            }
            for rate in self.sweep.rates
        ]
        return pd.DataFrame(rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each lane and step, with the columns of steps.csv."""
        from lrfind.runs.tables import steps_frame

        return steps_frame(list(self.lanes))

    def apply(self, optimizer: Any, scheduler: Any = None) -> None:
        """Give the best rate to an optimizer, and to its scheduler; see `Recommendation.apply`.

        Raises:
            NoSuggestion: if no rate can be called best.
            UsageError: see `Recommendation.apply`.
        """
        check_optimizers(optimizer, self.origin)
        apply_rate(self.lr, optimizer, scheduler, steps=self.training.steps if self.of_scheduler else None)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the final loss against lr, on `ax` or on the axes of a new figure."""
        from lrfind.views.plots.drawing import axes_for
        from lrfind.views.plots.sweep import draw_sweep, view_sweep

        return draw_sweep(view_sweep(self.sweep), axes_for(ax))

    def __repr__(self) -> str:
        notes = " ".join([self.reason, *self.notes])
        return f"GridResult for {self.training.in_words}: {self.headline}. {notes}"

    def _repr_html_(self) -> str:
        from lrfind.views.cells import cell
        from lrfind.views.plots.sweep import sweep_figure, view_sweep

        cost = f"For {self.training.in_words}; {self.cost:,} gradient steps."
        return cell(
            self.headline,
            [cost, self.reason, *self.notes, *(finding.in_words for finding in self.findings)],
            f"{len(self.table)} rates",
            [*self.table.columns],
            self.table.itertuples(index=False),
            sweep_figure(view_sweep(self.sweep), ""),
        )


def _failures(failed: Sequence[RateResult]) -> list[str]:
    """Return which rates failed, and why the first of them did, in a sentence; an empty list for none."""
    errors = [lane.error for rate in failed for lane in rate.lanes.values() if lane.error]
    return [f"Training failed at {_lrs(failed)}: {errors[0].rstrip('.')}."] if errors else []


def _doubts(sweep: SweepResult, best: RateResult) -> list[str]:
    """Return what the reader of a grid should know before believing it, in sentences."""
    sentences = []
    if ties := tied(sweep):
        sentences.append(
            f"Tied with {_lrs(ties)}: the difference is small, and within the noise between seeds; more seeds"
            " would tell."
        )
    if unsure := maybe_worse(sweep):
        sentences.append(f"For {_lrs(unsure)}, the seeds are too few to be sure of the difference.")
    if len(best.lanes) == 1 and len(sweep.rates) > 1:
        sentences.append("There is one seed only, so the noise between seeds is not known.")
    if doubt_about(sweep) == "learned less":
        sentences.append("It ended lower only because it learned less: every rate that learned overfits.")
    elif sweep.boundary:
        way = "lower" if sweep.boundary == "low" else "higher"
        end = "lowest" if sweep.boundary == "low" else "highest"
        sentences.append(
            f"It is the {end} rate that was tried, and {way} ones may be better: give them too, or"
            " extend=True."
        )
    if sweep.judge == "best_val_loss":
        if sweep.overfits_at(best):
            sentences.append("After its lowest validation loss, training overfits: end it there.")
    elif sweep.overfitting:
        sentences.append(
            f"Training overfits at {_lrs(sweep.overfitting)}: the validation loss did not follow the training"
            " loss. Train for fewer steps, or compare the lowest validation losses: judge='best_val_loss',"
            " eval_every=..."
        )
    if sweep.usable and sweep.usable[0] < sweep.usable[1]:
        low, high = sweep.usable
        sentences.append(f"Rates from {low:.3g} to {high:.3g} are usable.")
    return sentences


def _lrs(rates: Sequence[RateResult]) -> str:
    return "lr " + listed(f"{rate.lr:.3g}" for rate in rates)
