"""Plots of trainings: lr and loss against step and, for a comparison, the final losses of its variants."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrfind.analysis.comparisons import Standing, verdict
from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.statistics import half_width
from lrfind.analysis.trends import over_seeds, trend
from lrfind.errors import counted
from lrfind.runs.result import RunResult
from lrfind.runs.summaries.compare import ranking_of
from lrfind.views.plots.axes import LossAxis, loss_axis, set_loss_axis
from lrfind.views.plots.drawing import (
    ABOVE,
    LINES,
    LONGEST_TITLE,
    SEVERAL,
    SMALL,
    finish,
    literal,
    mark_border,
    mark_exits,
    titled,
)
from lrfind.views.text.compare import standing_in_words
from lrfind.views.text.parts import loss_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WRAP = 120  # the largest length of a title's line, in characters
REFERENCE = "the reference"
"""What stands in the row of the variant that all others are compared with, which has no gap."""
NAME_WIDTH = 24  # the largest length of a line of a variant's name, in characters


@dataclass(frozen=True)
class Course:
    """The lr and the loss of trainings that differ only in their seeds, against the step.

    Attributes:
        name: its name in the legend: in a comparison the variant and its peak, in a final training the seed.
        lr: (t,) the lr of one seed.
        loss: (t,) the training loss without its noise (`analysis.trends.trend`), the median over seeds.
        low: (t,) the lowest of these losses of any seed at each step.
        high: (t,) the highest of these losses of any seed at each step.
        val: (step, validation loss) of every evaluation, the median over seeds.
        raw: (t,) the training loss of each step if there is one seed and its loss is noisy; otherwise empty.
        seeds: the number of seeds.
    """

    name: str
    lr: Array
    loss: Array
    low: Array
    high: Array
    val: Sequence[tuple[int, float]]
    raw: Array
    seeds: int


@dataclass(frozen=True)
class CoursesView:
    """The values shown in a plot of the lr and the loss, step by step, of different trainings.

    Attributes:
        courses: the courses, in the order of the legend.
        axis: the loss axis; what goes above its upper end is marked there.
    """

    courses: Sequence[Course]
    axis: LossAxis


@dataclass(frozen=True)
class GapsView:
    """How far the final loss of each variant lies above that of the winner.

    Attributes:
        names: the names of the variants, the winner first.
        gaps: the gaps of each variant, by seed; empty for the winner.
        intervals: the 95 % interval (lowest, highest) of each mean gap; None with fewer than two seeds.
        standing: how each variant compares with the winner, in a few words.
        label: the label of the axis.
        title: a sentence that says which variant won.
    """

    names: Sequence[str]
    gaps: Sequence[Array]
    intervals: Sequence[tuple[float, float] | None]
    standing: Sequence[str]
    label: str
    title: str


def course_of(name: str, lanes: Sequence[LaneResult]) -> Course:
    """Return the course of lanes that differ only in their seeds."""
    started = [lane for lane in lanes if lane.curve.length]
    losses = [lane.loss[: lane.curve.length] for lane in started]
    middle, low, high = over_seeds(
        [trend(loss) for loss in losses], [lane.outcome == "diverged" for lane in started]
    )
    evaluations = [evaluation for lane in started for evaluation in lane.evaluations]
    val_losses = {
        step: [evaluation.val_loss for evaluation in evaluations if evaluation.step == step]
        for step in sorted({evaluation.step for evaluation in evaluations})
    }
    return Course(
        name=name,
        lr=max((lane.lr for lane in started), key=len, default=np.empty(0)),
        loss=middle,
        low=low,
        high=high,
        val=[(step, float(np.median(losses))) for step, losses in val_losses.items()],
        raw=losses[0] if len(losses) == 1 and not np.array_equal(losses[0], middle) else np.empty(0),
        seeds=len(started),
    )


def courses_of(ranking: Sequence[Standing]) -> list[Course]:
    """Return the course of every variant of a comparison at its best peak."""
    return [
        course_of(f"{standing.variant}, peak {standing.best.lr:.3g}", list(standing.best.lanes.values()))
        for standing in ranking
        if standing.best
    ]


def view_courses(courses: Sequence[Course]) -> CoursesView:
    """Compute the values that `draw_lr` and `draw_loss` draw."""
    losses = [loss for course in courses for loss in (*course.loss, *course.low)]
    losses += [loss for course in courses for _, loss in course.val]
    start = max((float(course.loss[0]) for course in courses if course.loss.size), default=math.nan)
    return CoursesView(courses, loss_axis(losses, start))


def view_gaps(ranking: Sequence[Standing], seeds: int | None = None) -> GapsView:
    """Compute the values that `draw_gaps` draws; see `analysis.comparisons.verdict` for `seeds`."""
    finished = [standing for standing in ranking if standing.rank is not None]
    intervals: list[tuple[float, float] | None] = []
    for standing in finished:
        width = half_width(standing.gaps)
        middle = float(standing.gaps.mean()) if standing.gaps.size else math.nan
        intervals.append(None if width is None else (middle - width, middle + width))
    loss = loss_name(finished[0].judge if finished else "val_loss")
    return GapsView(
        names=[standing.variant for standing in finished],
        gaps=[standing.gaps for standing in finished],
        intervals=intervals,
        standing=[standing_in_words(standing.rank, standing.worse) for standing in finished],
        label=f"{loss} above that of the first\n(one dot per seed)",
        title=verdict(ranking, seeds),
    )


def draw_lr(view: CoursesView, ax: Axes) -> Axes:
    """Draw lr against step."""
    peaks = [float(course.lr.max()) for course in view.courses if course.lr.size] or [1.0]
    if max(peaks) > 10 * min(peaks):  # On a linear axis, the small lrs would lie at the bottom.
        ax.set_yscale("log")
        ax.set_ylim(min(peaks) / 30, max(peaks) * 1.5)
    else:
        ax.set_ylim(0, max(peaks) * 1.05)
    for course, color, line in _styled(view):
        ax.plot(course.lr, color=color, linestyle=line, linewidth=1.8)
    ax.set_xlim(*_steps(view))
    return finish(ax, "", "learning rate")


def draw_loss(view: CoursesView, ax: Axes) -> Axes:
    """Draw the training loss against step, with a band over the seeds, and the validation losses."""
    set_loss_axis(ax, view.axis)
    ax.set_xlim(*_steps(view))
    for course, color, line in _styled(view):
        step = np.arange(course.loss.size)
        if course.raw.size:
            ax.plot(course.raw, color=color, alpha=0.25, linewidth=0.6, zorder=1)
        if course.seeds > 1:
            ax.fill_between(step, course.low, course.high, color=color, alpha=0.12, linewidth=0)
        ax.plot(
            step, course.loss, color=color, linestyle=line, linewidth=1.8, zorder=3,
            label=literal(course.name),
        )  # fmt: skip
    for course, color, _ in _styled(view):
        mark_exits(ax, np.arange(course.loss.size), course.loss, color)
        if course.val:
            ax.plot(
                *zip(*course.val, strict=True), "o", color=color, markersize=4.5, markerfacecolor="white",
                linestyle="none", zorder=4,
            )  # fmt: skip
        above = [step for step, loss in course.val if loss > view.axis.top]
        mark_border(ax, above, f"a validation loss {ABOVE}", color=color)
    label = "loss\n(lines: training, smoothed)" if _evaluated(view) else "training loss\n(smoothed)"
    return finish(_explained(view, ax), "step", label)


def _explained(view: CoursesView, ax: Axes) -> Axes:
    """Add what is not the line of a course to the legend: noise, bands, and validation losses."""
    if any(course.raw.size for course in view.courses):
        label = "training loss of each step, not smoothed"
        ax.plot([], [], color="0.4", alpha=0.4, linewidth=0.8, label=label)
    several = any(course.seeds > 1 for course in view.courses)
    if several:
        label = "range of seeds (line: median)"
        ax.fill_between([], [], [], color="0.4", alpha=0.2, linewidth=0, label=label)
    if _evaluated(view):
        ax.plot(
            [], [], "o", color="0.4", markersize=4.5, markerfacecolor="white", linestyle="none",
            label="validation loss" + " (median)" * several,
        )  # fmt: skip
    return ax


def _evaluated(view: CoursesView) -> bool:
    return any(course.val for course in view.courses)


def _steps(view: CoursesView) -> tuple[float, float]:
    """Return the two ends of the step axis."""
    ends = [end for course in view.courses for end in (course.lr.size - 1, *(step for step, _ in course.val))]
    last = max([1, *ends])
    return -0.01 * last, 1.02 * last


def draw_gaps(view: GapsView, ax: Axes) -> Axes:
    """Draw the gap of each variant to the winner: a dot per seed, a bar for the 95 % interval of the mean."""
    colors = dict(zip(view.names, itertools.cycle(SEVERAL), strict=False))
    for row, (name, gaps, interval) in enumerate(zip(view.names, view.gaps, view.intervals, strict=True)):
        color = colors[name]
        if interval is not None:
            ax.plot(interval, [row, row], color=color, linewidth=3, alpha=0.45, solid_capstyle="butt")
        ax.plot(gaps, [row] * gaps.size, "o", color=color, markersize=5)
        if gaps.size:
            ax.plot([gaps.mean()], [row], "|", color=color, markersize=16, markeredgewidth=2)
        else:
            ax.annotate(
                REFERENCE, (0, row), (6, 0), textcoords="offset points", va="center", fontsize=SMALL,
                color="0.3", annotation_clip=False,
            )  # fmt: skip
    ax.axvline(0, color="0.3", linewidth=1)
    if any(gaps.size for gaps in view.gaps):
        ax.plot([], [], "|", color="0.4", markersize=10, markeredgewidth=2, linestyle="none", label="mean")
    if any(view.intervals):
        ax.plot([], [], color="0.4", linewidth=3, alpha=0.45, label="95 % interval of the mean")
    ax.set_ylim(max(1, len(view.names)) - 0.5, -0.5)
    names = [
        literal(textwrap.fill(name, NAME_WIDTH)) + f"\n{word}" * bool(word)
        for name, word in zip(view.names, view.standing, strict=True)
    ]
    finish(ax, view.label, "").set_yticks(range(len(names)), names, fontsize=SMALL)
    return ax


def training_figure(view: CoursesView, title: str) -> Figure:
    """Return a new figure with the lr above and the loss below; it needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.4 + 0.16 * len(view.courses)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    titled(draw_lr(view, above), title)
    draw_loss(view, below)
    return figure


def comparison_figure(view: CoursesView, gaps: GapsView, title: str) -> Figure:
    """Return a new figure of lr and loss, with the gaps of the variants beside them; it needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1, 2], width_ratios=[3, 2])
    above = figure.add_subplot(grid[0, 0])
    draw_lr(view, above).tick_params(labelbottom=False)
    draw_loss(view, figure.add_subplot(grid[1, 0], sharex=above))
    draw_gaps(gaps, figure.add_subplot(grid[:, 1]))
    heading = literal(textwrap.fill(f"{title}: {gaps.title}", WRAP), LONGEST_TITLE)
    figure.suptitle(heading, fontsize=9, x=0.01, ha="left")
    return figure


def _styled(view: CoursesView) -> list[tuple[Course, str, str]]:
    """Return each course with its colour and its line style."""
    return list(zip(view.courses, itertools.cycle(SEVERAL), itertools.cycle(LINES), strict=False))


def comparison_figures(result: RunResult) -> dict[str, Figure]:
    """Return the figure of a comparison, by its file name."""
    ranking = ranking_of(result)
    courses = view_courses(courses_of(ranking))
    figure = comparison_figure(
        courses, view_gaps(ranking, result.experiment.compare.seeds), result.experiment.name
    )
    return {"comparison": figure}


def training_figures(result: RunResult) -> dict[str, Figure]:
    """Return the figure of a final training, by its file name."""
    courses = [course_of(f"seed {lane.seed}", [lane]) for lane in result.lanes]
    if len(courses) > len(SEVERAL):  # So many lines could not be told apart.
        courses = [course_of(f"median of {counted(len(courses), 'seed')}", result.lanes)]
    title = f"{result.experiment.name}: {_training_title(result)}"
    return {"training": training_figure(view_courses(courses), title)}


def overlay_figure(results: Sequence[RunResult]) -> Figure:
    """Return a new figure of several final trainings; it needs no display."""
    courses = [course_of(f"{run.path.name}: {_training_title(run)}", run.lanes) for run in results]
    return training_figure(view_courses(courses), "")


def _training_title(result: RunResult) -> str:
    experiment = result.experiment
    return f"lr {experiment.optimizer.lr:.3g}, {experiment.training.schedule.name}"
