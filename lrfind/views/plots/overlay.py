"""The plot of several runs: loss against lr of range tests, grids and searches, a panel for each loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.runs.result import RunResult
from lrfind.runs.summaries.sweep import sweep_of
from lrfind.views.plots.axes import DECADES, loss_axis, set_loss_axis
from lrfind.views.plots.drawing import (
    ABOVE,
    LINES,
    SEVERAL,
    finish,
    legend_below,
    literal,
    mark_border,
    mark_exits,
)
from lrfind.views.plots.range_test import range_test_view
from lrfind.views.plots.sweep import up_to, view_sweep, with_gaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ON_A_RAMP = "training loss on a ramp (smoothed)"


class Overlaid(NamedTuple):
    """One run in a plot of several runs.

    Attributes:
        name: its name in the legend.
        loss: the name of its loss; runs with equal names share a panel.
        lr: (K,) its lrs, ascending.
        middle: (K,) its losses, the median over seeds; NaN where the line has a gap.
        low: (K,) the lowest loss of any seed; empty for a sweep, which has dots.
        high: (K,) the highest loss of any seed; empty for a sweep.
        diverged: the lrs of a sweep that diverged; empty for a ramp, whose line shows it.
        start: the loss before the training.
    """

    name: str
    loss: str
    lr: Array
    middle: Array
    low: Array
    high: Array
    diverged: Sequence[float]
    start: float


def view_overlay(results: Sequence[RunResult]) -> dict[str, list[Overlaid]]:
    """Compute the values of each panel, by the name of the loss that its runs share."""
    losses = {name_of_loss(result) for result in results}
    panels: dict[str, list[Overlaid]] = {}
    for result in results:
        run = _ramps(result) if result.kind.lanes == "ramps" else _sweep(result)
        panel = f"{run.loss}\n({name_of_loss(result)})" if len(losses) > 1 else run.loss
        panels.setdefault(panel, []).append(run)
    return panels


def name_of_loss(result: RunResult) -> str:
    """Return the name of the loss in the config of a run; the model's own loss has none."""
    return (result.experiment.loss and result.experiment.loss.name) or ""


def _ramps(result: RunResult) -> Overlaid:
    view = range_test_view(result)
    start = float(view.middle[0]) if view.middle.size else math.nan
    name = f"{result.path.name} ({result.command})"
    return Overlaid(name, ON_A_RAMP, view.lr, view.middle, view.low, view.high, (), start)


def _sweep(result: RunResult) -> Overlaid:
    view = view_sweep(sweep_of(result))
    lr, middle = with_gaps(view, view.middle)
    name, none = f"{result.path.name} ({result.command})", np.empty(0)
    diverged = view.lost.get("diverged", ())
    return Overlaid(name, view.label, lr, middle, none, none, diverged, view.first_loss)


def overlay_figure(results: Sequence[RunResult]) -> Figure:
    """Return a new figure of several runs, with a panel for each of their losses; it needs no display."""
    from matplotlib.figure import Figure

    panels = view_overlay(results)
    height = 1.2 + 2.7 * len(panels) + 0.2 * len(results)
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    styles = zip(itertools.cycle(SEVERAL), itertools.cycle(LINES), strict=False)
    for (loss, runs), ax in zip(panels.items(), axes, strict=True):
        draw_overlay(runs, loss, lambda: next(styles), ax)
    for ax in axes[:-1]:
        ax.set_xlabel("")
        legend_below(ax)
    return figure


def draw_overlay(runs: Sequence[Overlaid], loss: str, style: Callable[[], tuple[str, Any]], ax: Axes) -> Axes:
    """Draw the losses of runs against lr.

    Args:
        runs: the runs, which have the same loss.
        loss: the name of this loss.
        style: returns the colour and the line style of the next run.
        ax: the axes to draw on.
    """
    ax.set_xscale("log")
    starts = [run.start for run in runs if math.isfinite(run.start)]
    ramps = all(run.loss == ON_A_RAMP for run in runs)
    shown = [float(value) for run in runs for value in (*run.middle, *run.low)]
    axis = loss_axis(shown, max(starts, default=math.nan), decades=math.inf if ramps else DECADES)
    set_loss_axis(ax, axis)
    for run in runs:
        color, line = style()
        if ramps:
            ax.fill_between(run.lr, run.low, run.high, color=color, alpha=0.15, linewidth=0)
        ax.plot(
            run.lr, run.middle if ramps else up_to(axis.top, run.middle), color=color, linestyle=line,
            marker="" if ramps else "o", markersize=4.5, linewidth=1.8, label=literal(run.name),
        )  # fmt: skip
        if ramps:
            mark_exits(ax, run.lr, run.middle, color)
        else:
            mark_border(ax, run.lr[run.middle > axis.top], f"a loss {ABOVE}", color=color)
        mark_border(ax, run.diverged, "diverged", "X", color)
    if any((run.low < run.high).any() for run in runs):
        ax.fill_between([], [], [], color="0.4", alpha=0.2, linewidth=0, label="range of the seeds")
    return finish(ax, "learning rate", loss)
