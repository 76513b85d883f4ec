"""The plot of several runs: loss against lr of range tests, grids and searches on one pair of axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrfind.runs.result import RunResult
from lrfind.runs.summaries.sweep import sweep_of
from lrfind.views.plots.drawing import SEVERAL, figure_of, finish, literal
from lrfind.views.plots.range_test import range_test_view
from lrfind.views.plots.sweep import view_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def overlay_figure(results: Sequence[RunResult]) -> Figure:
    """Return a new figure of several runs, with loss against lr; it needs no display."""
    return figure_of(lambda ax: draw_overlay(results, ax), "")


def draw_overlay(results: Sequence[RunResult], ax: Axes) -> Axes:
    """Draw the smoothed loss of ramps and the final loss of sweeps against lr, one colour per run."""
    ax.set_xscale("log")
    bottoms, tops = [], []
    for result, color in zip(results, itertools.cycle(SEVERAL), strict=False):
        draw = _draw_ramps if result.kind.lanes == "ramps" else _draw_sweep
        ends = draw(result, literal(f"{result.path.name} ({result.command})"), color, ax)
        if ends is not None:
            bottoms.append(ends[0])
            tops.append(ends[1])
    if tops and max(tops) > min(bottoms):
        ax.set_ylim(min(bottoms), max(tops))
    return finish(ax, "learning rate", "loss")


def _draw_ramps(result: RunResult, label: str, color: str, ax: Axes) -> tuple[float, float] | None:
    """Draw a range test; return the lowest and the highest loss that should be seen."""
    view = range_test_view(result)
    ax.fill_between(view.lr, view.low, view.high, color=color, alpha=0.12, linewidth=0)
    ax.plot(view.lr, view.middle, color=color, linewidth=1.8, label=f"{label}: training loss on the ramp")
    return view.bottom, view.top


def _draw_sweep(result: RunResult, label: str, color: str, ax: Axes) -> tuple[float, float] | None:
    """Draw a sweep, with a cross for each rate that diverged; return the lowest and highest loss to show."""
    view = view_sweep(sweep_of(result))
    ax.plot(view.lr, view.middle, "o-", color=color, linewidth=1.8, label=f"{label}: {view.label}")
    diverged = view.lost.get("diverged", [])
    across = ax.get_xaxis_transform()
    ax.plot(diverged, [0.96] * len(diverged), "x", color=color, transform=across, clip_on=False)
    losses = [loss for loss in (*view.middle.tolist(), view.first_loss) if math.isfinite(loss)]
    if not losses:
        return None
    span = max(losses) - min(losses)
    return min(losses) - 0.05 * span, max(losses) + 0.1 * span
