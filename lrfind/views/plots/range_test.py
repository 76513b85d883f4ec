"""The plots of range tests: first their values are computed, then they are drawn on an Axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.analysis.curves import Array, Curve
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.trends import over_seeds
from lrfind.runs.result import RunResult
from lrfind.views.plots.axes import LossAxis, loss_axis, set_loss_axis
from lrfind.views.plots.drawing import (
    BLUE,
    LINES,
    LONGEST_TITLE,
    ORANGE,
    RED,
    SEVERAL,
    figure_of,
    finish,
    literal,
    mark_border,
    mark_exits,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RangeTestView:
    """The values that a plot of a range test shows.

    Attributes:
        curves: the curves, one per lane.
        lr: (T,) the lrs up to which there is a median: half of the lanes, or more, have not diverged.
        middle: (T,) the smoothed loss, the median over lanes; a lane that diverged counts as infinitely high.
        low: (T,) the lowest smoothed loss of any lane at each lr.
        high: (T,) the highest smoothed loss of any lane at each lr.
        diverged: the lrs at which lanes diverged.
        suggestion: lr, low, high, method and reason; lr is None where there is no suggestion.
        edges: label -> lr, for the lr where the ramp diverged and for the edge measured by bisection.
        axis: the loss axis; higher losses are marked at its upper end.
    """

    curves: Sequence[Curve]
    lr: Array
    middle: Array
    low: Array
    high: Array
    diverged: Sequence[float]
    suggestion: dict[str, Any]
    edges: dict[str, float]
    axis: LossAxis


def view_range_test(
    curves: Sequence[Curve],
    suggestion: dict[str, Any],
    ramp_edge: float | None,
    measured_edge: float | None = None,
) -> RangeTestView:
    """Compute the values that `draw_range_test` draws."""
    curves = [curve for curve in curves if curve.length]
    ended_high = [curve.divergence is not None for curve in curves]
    middle, low, high = over_seeds([curve.smoothed[: curve.length] for curve in curves], ended_high)
    start = max((float(curve.loss[0]) for curve in curves), default=math.nan)
    losses = [loss for curve in curves for loss in curve.loss[: curve.length]]
    axis = loss_axis(losses, start, decades=math.inf)
    edges = {"measured edge": measured_edge, "diverged (the edge is usually lower)": ramp_edge}
    return RangeTestView(
        curves=curves,
        lr=max((curve.lr for curve in curves), key=len, default=np.empty(0))[: middle.size],
        middle=middle,
        low=low,
        high=high,
        diverged=[float(curve.lr[curve.divergence]) for curve in curves if curve.divergence is not None],
        suggestion=suggestion,
        edges={label: lr for label, lr in edges.items() if lr is not None},
        axis=axis,
    )


def draw_range_test(view: RangeTestView, ax: Axes) -> Axes:
    """Draw the raw and the smoothed loss against lr, a band over the seeds, the suggestion and the edges."""
    ax.set_xscale("log")
    set_loss_axis(ax, view.axis)
    if view.curves:
        ends = [end for curve in view.curves for end in (curve.lr[0], curve.lr[-1])]
        ends += [*view.edges.values(), *(view.suggestion[key] for key in ("lr", "low", "high"))]
        known = [end for end in ends if end is not None]
        ax.set_xlim(min(known) / 1.5, max(known) * 1.5)

    # The losses: of each lane, their range, and their median.
    several = len(view.curves) > 1
    for number, curve in enumerate(view.curves):
        label = "each seed, not smoothed" if several else "loss, not smoothed"
        ax.plot(
            curve.lr, curve.loss, color=BLUE, alpha=0.3, linewidth=0.7, zorder=1,
            label=None if number else label,
        )  # fmt: skip
    label = "smoothed loss"
    if several:  # The band shows how far the seeds differ.
        ax.fill_between(
            view.lr, view.low, view.high, color=BLUE, alpha=0.15, linewidth=0, zorder=2,
            label=f"range of {len(view.curves)} seeds",
        )  # fmt: skip
        label = "smoothed loss, median of the seeds"
        if view.lr.size < max(curve.length for curve in view.curves):
            label += "\n(it ends where half have diverged)"
    ax.plot(view.lr, view.middle, color=BLUE, linewidth=2, zorder=3, label=label)
    _draw_suggestion(view, ax)
    for (edge, lr), style in zip(view.edges.items(), ("-.", "--")[-len(view.edges) :], strict=False):
        label = edge.replace(" (", f": {lr:.3g}\n(") if " (" in edge else f"{edge}: {lr:.3g}"
        ax.axvline(lr, color=RED, linestyle=style, linewidth=1.2, zorder=3, label=label)
    mark_exits(ax, view.lr, view.middle, BLUE)
    mark_border(ax, view.diverged, "a seed diverged" if several else "diverged", "X", RED)
    return finish(ax, "learning rate", "training loss")


def _draw_suggestion(view: RangeTestView, ax: Axes) -> None:
    """Draw the suggestion with its interval; without one, write the reason into the legend."""
    lr, low, high = (view.suggestion[key] for key in ("lr", "low", "high"))
    if lr is None:
        message = literal(f"no suggestion: {view.suggestion['reason']}", LONGEST_TITLE)
        ax.plot([], [], linestyle="none", label=message)
        return
    if low is not None and high > low:
        ax.axvspan(
            low, high, color=ORANGE, alpha=0.2, linewidth=0, zorder=0,
            label=f"{low:.3g} to {high:.3g} between seeds",
        )  # fmt: skip
    ax.axvline(lr, color=ORANGE, linewidth=1.5, zorder=3)
    on_the_line = view.lr.size > 0 and view.lr[0] <= lr <= view.lr[-1]
    height = [float(np.interp(np.log(lr), np.log(view.lr), view.middle))] if on_the_line else []
    ax.plot(
        [lr][: len(height)], height, marker="o", markersize=7, color=ORANGE, markeredgecolor="white",
        linestyle="-", zorder=4, label=f"suggestion: {lr:.3g}",
    )  # fmt: skip


def range_test_figure(view: RangeTestView, title: str) -> Figure:
    """Return a new figure of a range test; it needs no display."""
    return figure_of(lambda ax: draw_range_test(view, ax), title)


@dataclass(frozen=True)
class RampsView:
    """The values that a plot of range tests over another setting than the lr shows.

    Attributes:
        ramps: variant -> (lr (t,), loss (t,)) up to the end of the shortest lane. The loss is the median over
            seeds of the smoothed losses.
        suggestions: variant -> its suggested lr, for the variants that have one.
        best: the variant whose ramp reaches the lowest loss.
        axis: the loss axis; higher losses are marked at its upper end.
    """

    ramps: dict[str, tuple[Array, Array]]
    suggestions: dict[str, float]
    best: str
    axis: LossAxis


def view_ramps(results: Sequence[LaneResult], summary: dict[str, Any]) -> RampsView:
    """Compute the values that `draw_ramps` draws."""
    ramps = {}
    for row in summary["variants"]:
        curves = [lane.curve for lane in results if lane.variant == row["variant"] and lane.curve.length]
        if curves:
            view = view_range_test(curves, row, None)
            ramps[row["variant"]] = (view.lr, view.middle)
    start = max((float(loss[0]) for _, loss in ramps.values() if loss.size), default=math.nan)
    axis = loss_axis((float(value) for _, loss in ramps.values() for value in loss), start, decades=math.inf)
    return RampsView(
        ramps=ramps,
        suggestions={row["variant"]: row["lr"] for row in summary["variants"] if row["lr"] is not None},
        best=summary["answer"]["variant"],
        axis=axis,
    )


def draw_ramps(view: RampsView, ax: Axes) -> Axes:
    """Draw the smoothed loss against lr, one line per value: the best one bold, a dot at each suggestion."""
    ax.set_xscale("log")
    set_loss_axis(ax, view.axis)
    styled = list(zip(view.ramps.items(), itertools.cycle(SEVERAL), itertools.cycle(LINES), strict=False))
    for (name, (lr, loss)), color, line in styled:
        best = name == view.best
        label = literal(f"{name} (lowest loss)" if best else name)
        ax.plot(
            lr, loss, color=color, linestyle=line, linewidth=2.8 if best else 1.5, label=label,
            zorder=3 if best else 2,
        )  # fmt: skip
        if name in view.suggestions and lr.size:
            height = np.interp(np.log(view.suggestions[name]), np.log(lr), loss)
            ax.plot(
                [view.suggestions[name]], [height], "o", color=color, markersize=7, markeredgecolor="white",
                zorder=4,
            )  # fmt: skip
    for (_, (lr, loss)), color, _ in styled:
        mark_exits(ax, lr, loss, color)
    if view.suggestions:
        ax.plot([], [], "o", color="0.4", markersize=6, linestyle="none", label="suggestion")
    return finish(ax, "learning rate", "training loss (smoothed)")


def ramps_figure(view: RampsView, title: str) -> Figure:
    """Return a new figure of range tests over another setting; it needs no display."""
    return figure_of(lambda ax: draw_ramps(view, ax), title)


def range_test_view(result: RunResult) -> RangeTestView:
    """Compute the values that `draw_range_test` draws for a run."""
    measured = result.facts.stability_edge
    return view_range_test(
        [lane.curve for lane in result.lanes],
        result.answer,
        ramp_edge=result.summary["methods"]["edge"]["lr"],
        measured_edge=None if measured is None else measured["lr"],
    )


def range_test_figures(result: RunResult) -> dict[str, Figure]:
    """Return the figure of a range test, by its file name."""
    section, name = result.section, result.experiment.name
    if section.over != "lr":
        view = view_ramps(result.lanes, result.summary)
        return {"range_test": ramps_figure(view, f"{name}, over {section.over}")}
    title = name + (f", only the param group '{section.group}'" if section.group else "")
    return {"range_test": range_test_figure(range_test_view(result), title)}
