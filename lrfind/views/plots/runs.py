"""From run directories to plots in files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrfind.analysis.comparisons import standings
from lrfind.analysis.sweeps import Reading, read_sweep
from lrfind.config.experiment import lanes_section
from lrfind.config.sections import GridSection, SearchSection
from lrfind.config.variants import variants_of
from lrfind.errors import UsageError
from lrfind.runs.store import Run
from lrfind.runs.summary import summarize
from lrfind.views.plots.courses import comparison_figure, course_of, training_figure, view_courses, view_gaps
from lrfind.views.plots.drawing import SEVERAL, figure_of, finish, save
from lrfind.views.plots.find import find_figure, view_find
from lrfind.views.plots.health import health_figure, view_health
from lrfind.views.plots.range_test import (
    RangeTestView,
    over_figure,
    range_test_figure,
    view_over,
    view_range_test,
)
from lrfind.views.plots.sweep import curves_figure, sweep_figure, view_curves, view_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_run(run: Run) -> list[Path]:
    """Draw a run into its directory, each plot as PNG and SVG; returns the paths of the PNGs."""
    figures = FIGURES[run.facts()["command"]](run) | _health_figures(run)
    for stem, figure in figures.items():
        save(figure, run.path / stem)
    return [run.path / f"{stem}.png" for stem in figures]


def plot_overlay(runs: Sequence[Run], path: Path) -> list[Path]:
    """Draw loss against lr of several runs, or of several trainings against step; writes PNG and SVG.

    A single run that has nothing to lay over others, as a find, is drawn as in its own directory.

    Returns:
        Their paths.

    Raises:
        UsageError: if the folder of `path` does not exist, or cannot be written to.
    """
    stem = path.with_suffix("") if path.suffix in (".png", ".svg") else path
    commands = {run.facts()["command"] for run in runs}
    if len(runs) == 1 and commands <= {"find", "compare"}:
        (figure,) = FIGURES[commands.pop()](runs[0]).values()
    elif commands == {"train"}:
        courses = [course_of(f"{run.path.name}: {run_title(run)}", run.lanes()) for run in runs]
        figure = training_figure(view_courses(courses), "")
    else:
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
        if command == "find":
            raise UsageError(
                f"'{run.path}' is of find, whose probes are of different lengths, so that their losses cannot"
                f" be laid over others; `lrfind plot {run.path}` draws them by themselves."
            )
        if command not in ("range-test", "grid", "search"):
            raise UsageError(
                f"'{run.path}' is of {command}, which has no loss against lr to lay over others; range tests,"
                " grids and searches have one, and trainings can be laid over each other."
            )
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
    section = lanes_section(run.experiment, run.facts()["command"])
    assert isinstance(section, GridSection | SearchSection)
    return read_sweep(run.lanes(), section.judge, section.tolerance)


def _find_figures(run: Run) -> dict[str, Figure]:
    summary = summarize(run)
    steps = summary["training"] and summary["training"]["steps"]
    view = view_find(summary["probes"], summary["suggestion"], summary["verification"], steps)
    return {"find": find_figure(view, run.experiment.name)}


def _range_test_figures(run: Run) -> dict[str, Figure]:
    over = run.experiment.range_test.over
    if over == "lr":
        group = run.experiment.range_test.group
        title = run.experiment.name + (f", the param group '{group}' alone" if group else "")
        return {"range_test": range_test_figure(_range_test_view(run), title)}
    view = view_over(run.lanes(), summarize(run))
    return {"range_test": over_figure(view, f"{run.experiment.name}, over {over}")}


def _sweep_figures(run: Run) -> dict[str, Figure]:
    name, reading = run.experiment.name, _reading(run)
    return {
        "sweep": sweep_figure(view_sweep(reading), name),
        "curves": curves_figure(view_curves(reading), name),
    }


def _comparison_figures(run: Run) -> dict[str, Figure]:
    names = [variant.name for variant in variants_of(run.experiment, "compare")]
    section = run.experiment.compare
    ranking = standings(run.lanes(), names, section.judge, section.first_tuning_seed(run.experiment.seed))
    courses = [
        course_of(f"{each.variant}, peak {each.best.lr:.3g}", list(each.best.lanes.values()))
        for each in ranking
        if each.best
    ]
    figure = comparison_figure(view_courses(courses), view_gaps(ranking), run.experiment.name)
    return {"comparison": figure}


def _training_figures(run: Run) -> dict[str, Figure]:
    courses = [course_of(f"seed {lane.seed}", [lane]) for lane in run.lanes()]
    title = f"{run.experiment.name}: {run_title(run)}"
    return {"training": training_figure(view_courses(courses), title)}


def _health_figures(run: Run) -> dict[str, Figure]:
    summary = summarize(run)
    if summary["health"] is None:
        return {}
    (lane,) = [each for each in run.lanes() if each.lane == summary["health"]["lane"]]
    view = view_health(lane, summary["health"], on_a_ramp=summary["command"] == "range-test")
    return {"health": health_figure(view, run.experiment.name)}


def run_title(run: Run) -> str:
    """What a training is of: its peak and its schedule."""
    experiment = run.experiment
    return f"lr {experiment.optimizer.lr:.3g}, {experiment.training.schedule.name}"


FIGURES: Mapping[str, Callable[[Run], dict[str, Figure]]] = {
    "find": _find_figures,
    "range-test": _range_test_figures,
    "grid": _sweep_figures,
    "search": _sweep_figures,
    "compare": _comparison_figures,
    "train": _training_figures,
}
