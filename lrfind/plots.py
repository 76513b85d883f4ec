"""From run directories to plots in files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrfind.conclusions import summarize, sweep_section
from lrfind.drawing import BLUE, RED, figure_of, finish, save
from lrfind.errors import UsageError
from lrfind.range_test_plots import RangeTestView, range_test_figure, view_range_test
from lrfind.readings import Reading, read_sweep
from lrfind.store import Run
from lrfind.sweep_plots import curves_figure, sweep_figure, view_curves, view_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEVERAL = (BLUE, RED, "#009E73", "#CC79A7", "#56B4E9", "#000000")


def plot_run(run: Run) -> list[Path]:
    """Draw a run into its directory, each plot as PNG and SVG; returns the paths of the PNGs."""
    name, command = run.experiment.name, run.facts()["command"]
    if command == "range-test":
        figures = {"range_test": range_test_figure(_range_test_view(run), name)}
    else:
        reading = _reading(run)
        figures = {
            "sweep": sweep_figure(view_sweep(reading), name),
            "curves": curves_figure(view_curves(reading), name),
        }
    for stem, figure in figures.items():
        save(figure, run.path / stem)
    return [run.path / f"{stem}.png" for stem in figures]


def plot_overlay(runs: Sequence[Run], path: Path) -> list[Path]:
    """Draw loss against lr of several runs on one axis; writes PNG and SVG and returns their paths.

    Raises:
        UsageError: if the folder of `path` does not exist, or cannot be written to.
    """
    stem = path.with_suffix("") if path.suffix in (".png", ".svg") else path
    figure = figure_of(lambda ax: _draw_overlay(runs, ax), "")
    try:
        save(figure, stem)
    except OSError as error:
        raise UsageError(f"cannot write '{stem}.png': {error.strerror}.") from None
    return [Path(f"{stem}.png"), Path(f"{stem}.svg")]


def _draw_overlay(runs: Sequence[Run], ax: Axes) -> Axes:
    ax.set_xscale("log")
    tops, bottoms = [], []
    for run, color in zip(runs, itertools.cycle(SEVERAL), strict=False):
        command = run.facts()["command"]
        label = f"{run.path.name} ({command})"
        if command == "range-test":
            view = _range_test_view(run)
            ax.fill_between(view.lr, view.low, view.high, color=color, alpha=0.12, linewidth=0)
            ax.plot(
                view.lr, view.middle, color=color, linewidth=1.8, label=f"{label}: training loss on the ramp"
            )
            tops.append(view.top)
            bottoms.append(view.bottom)
        else:
            sweep = view_sweep(_reading(run))
            ax.plot(sweep.lr, sweep.middle, "o-", color=color, linewidth=1.8, label=f"{label}: {sweep.label}")
            lost = sweep.lost.get("diverged", [])
            ax.plot(
                lost, [0.96] * len(lost), "x", color=color, transform=ax.get_xaxis_transform(), clip_on=False
            )
            span = [loss for loss in (*sweep.middle.tolist(), sweep.first_loss) if math.isfinite(loss)]
            if span:
                tops.append(max(span) + 0.1 * (max(span) - min(span)))
                bottoms.append(min(span) - 0.05 * (max(span) - min(span)))
    if tops and max(tops) > min(bottoms):
        ax.set_ylim(min(bottoms), max(tops))
    return finish(ax, "learning rate", "loss")


def _range_test_view(run: Run) -> RangeTestView:
    summary, facts = summarize(run), run.facts()
    return view_range_test(
        [lane.curve for lane in run.lanes()],
        summary["suggestion"],
        ramp_edge=summary["methods"]["edge"]["lr"],
        measured_edge=facts["edge"]["lr"] if "edge" in facts else None,
    )


def _reading(run: Run) -> Reading:
    section = sweep_section(run.experiment, run.facts()["command"])
    return read_sweep(run.lanes(), section.judge, section.tolerance)
