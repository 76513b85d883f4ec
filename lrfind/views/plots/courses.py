"""Plots of trainings: lr over loss against step; of a comparison, also what its variants ended with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrfind.analysis.comparisons import Standing, verdict
from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.statistics import half_width
from lrfind.views.plots.drawing import SEVERAL, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = ("-", "--", "-.", ":")
WRAP = 140  # characters of a title's line


@dataclass(frozen=True)
class Course:
    """How one training went, over its seeds.

    Attributes:
        name: of the variant, with its peak; or of the seed.
        lr: (t,) of one seed.
        loss: (t,) smoothed training loss, the median over seeds.
        low: (t,) the lowest of a seed.
        high: (t,) the highest.
        val: (step, loss) of every evaluation, the median over seeds.
    """

    name: str
    lr: Array
    loss: Array
    low: Array
    high: Array
    val: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class CoursesView:
    """What a plot of several courses shows.

    Attributes:
        courses: in the order of the legend.
        bottom: lower end of the loss axis.
        top: upper end; losses above it are cut off.
        log: whether the loss axis is logarithmic.
    """

    courses: Sequence[Course]
    bottom: float
    top: float
    log: bool


@dataclass(frozen=True)
class GapsView:
    """How much more loss than the winner each variant ended with.

    Attributes:
        names: the winner first.
        gaps: of each, by seed; empty for the winner.
        intervals: (lowest, highest) of the mean at 95 %, None where there are not two seeds.
        standing: of each, in a word or two.
        label: of the axis.
        title: who won, in a sentence.
    """

    names: Sequence[str]
    gaps: Sequence[Array]
    intervals: Sequence[tuple[float, float] | None]
    standing: Sequence[str]
    label: str
    title: str


def course_of(name: str, lanes: Sequence[LaneResult]) -> Course:
    """The course of lanes that differ in their seeds alone."""
    known = [lane for lane in lanes if lane.curve.length]
    reach = min((lane.curve.length for lane in known), default=0)
    smoothed = np.array([lane.curve.smoothed[:reach] for lane in known]).reshape(len(known), reach)
    steps = sorted({each.step for lane in known for each in lane.evaluations})
    val = [
        (step, [each.val_loss for lane in known for each in lane.evaluations if each.step == step])
        for step in steps
    ]
    return Course(
        name=name,
        lr=known[0].lr if known else np.empty(0),
        loss=np.median(smoothed, axis=0) if known else np.empty(0),
        low=smoothed.min(axis=0) if known else np.empty(0),
        high=smoothed.max(axis=0) if known else np.empty(0),
        val=[(step, float(np.median(losses))) for step, losses in val],
    )


def view_courses(courses: Sequence[Course]) -> CoursesView:
    """Compute what `draw_lr` and `draw_loss` draw."""
    losses = np.concatenate([np.concatenate([each.low, each.high]) for each in courses] or [np.empty(0)])
    losses = losses[np.isfinite(losses)]
    lowest, highest = (float(losses.min()), float(losses.max())) if losses.size else (0.0, 1.0)
    first = max((float(each.loss[0]) for each in courses if each.loss.size), default=highest)
    log = lowest > 0 and first > 30 * lowest
    drop = max(first - lowest, 0.01 * abs(first), 1e-12)
    bottom = lowest / 1.3 if log else lowest - 0.05 * drop
    return CoursesView(courses, bottom, first * 1.5 if log else first + 0.15 * drop, log)


def view_gaps(ranking: Sequence[Standing]) -> GapsView:
    """Compute what `draw_gaps` draws."""
    known = [each for each in ranking if each.rank is not None]
    intervals: list[tuple[float, float] | None] = []
    for each in known:
        width = half_width(each.gaps)
        middle = float(each.gaps.mean()) if each.gaps.size else math.nan
        intervals.append(None if width is None else (middle - width, middle + width))
    words = {None: "", True: "worse", False: "not told apart"}
    judge = known[0].judge if known else "val_loss"
    return GapsView(
        names=[each.variant for each in known],
        gaps=[each.gaps for each in known],
        intervals=intervals,
        standing=["lowest" if each.rank == 1 else words[each.worse] for each in known],
        label=f"final {'validation' if judge == 'val_loss' else 'training'} loss above the lowest, by seed",
        title=verdict(ranking),
    )


def draw_lr(view: CoursesView, ax: Axes) -> Axes:
    """Draw lr against step."""
    peaks = [float(course.lr.max()) for course in view.courses if course.lr.size] or [1.0]
    if max(peaks) > 10 * min(peaks):  # or the small ones would lie on the axis
        ax.set_yscale("log")
        ax.set_ylim(min(peaks) / 30, max(peaks) * 1.5)
    else:
        ax.set_ylim(0, max(peaks) * 1.05)
    for course, color, line in _styled(view):
        ax.plot(course.lr, color=color, linestyle=line, linewidth=1.8)
    return finish(ax, "", "learning rate")


def draw_loss(view: CoursesView, ax: Axes) -> Axes:
    """Draw smoothed training loss against step, a band over the seeds, and the evaluations."""
    if view.log:
        ax.set_yscale("log")
    ax.set_ylim(view.bottom, view.top)
    for course, color, line in _styled(view):
        step = np.arange(course.loss.size)
        ax.fill_between(step, course.low, course.high, color=color, alpha=0.12, linewidth=0)
        ax.plot(step, course.loss, color=color, linestyle=line, linewidth=1.8, label=course.name)
        if len(course.val) > 1:
            ax.plot(*zip(*course.val, strict=True), "o", color=color, markersize=4, linestyle="none")
    evaluated = any(len(course.val) > 1 for course in view.courses)
    if evaluated:
        ax.plot([], [], "o", color="0.4", markersize=4, linestyle="none", label="validation loss")
    return finish(ax, "step", "loss (training: smoothed)" if evaluated else "training loss (smoothed)")


def draw_gaps(view: GapsView, ax: Axes) -> Axes:
    """Draw how far above the winner each variant ended: a dot a seed, a bar the 95 % interval of the mean."""
    colors = dict(zip(view.names, itertools.cycle(SEVERAL), strict=False))
    for row, (name, gaps, interval) in enumerate(zip(view.names, view.gaps, view.intervals, strict=True)):
        color = colors[name]
        if interval is not None:
            ax.plot(interval, [row, row], color=color, linewidth=3, alpha=0.45, solid_capstyle="butt")
        ax.plot(gaps, [row] * gaps.size, "o", color=color, markersize=5)
        if gaps.size:
            ax.plot([gaps.mean()], [row], "|", color=color, markersize=16, markeredgewidth=2)
    ax.axvline(0, color="0.3", linewidth=1)
    ax.set_yticks(
        range(len(view.names)),
        [f"{name}\n{word}" if word else name for name, word in zip(view.names, view.standing, strict=True)],
    )
    ax.set_ylim(max(1, len(view.names)) - 0.5, -0.5)
    return finish(ax, view.label, "")


def training_figure(view: CoursesView, title: str) -> Figure:
    """A figure of its own: lr over loss; needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    draw_lr(view, above).set_title(title, fontsize="medium", loc="left")
    draw_loss(view, below)
    return figure


def comparison_figure(view: CoursesView, gaps: GapsView, title: str) -> Figure:
    """A figure of its own: lr over loss, and beside them what the variants ended with; needs no display."""
    import textwrap

    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1, 2], width_ratios=[3, 2])
    above = figure.add_subplot(grid[0, 0])
    draw_lr(view, above).tick_params(labelbottom=False)
    draw_loss(view, figure.add_subplot(grid[1, 0], sharex=above))
    draw_gaps(gaps, figure.add_subplot(grid[:, 1]))
    figure.suptitle(textwrap.fill(f"{title}: {gaps.title}", WRAP), fontsize="medium", x=0.01, ha="left")
    return figure


def _styled(view: CoursesView) -> list[tuple[Course, str, str]]:
    return list(zip(view.courses, itertools.cycle(SEVERAL), itertools.cycle(LINES), strict=False))
