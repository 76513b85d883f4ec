"""The plot of schedules: compute the values of every step, then draw them on Axes. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.config.sections import Component
from lrfind.config.shapes import shape_of, watched_by
from lrfind.config.variants import labels
from lrfind.errors import UsageError
from lrfind.views.plots.drawing import BLUE, ORANGE, RED, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (BLUE, RED, "#009E73", "#CC79A7", ORANGE, "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)))
FEW_STEPS = 40  # up to here each step is marked, as the line between two steps means nothing
LEGEND_WIDTH = 30  # characters


@dataclass(frozen=True)
class SchedulesView:
    """What a plot or a table of schedules shows.

    Attributes:
        steps: T.
        peak: what the multipliers are multiples of.
        lr: label -> (T,) lr of each step.
        momentum: label -> (T,), for those schedules alone that move it.
    """

    steps: int
    peak: float
    lr: dict[str, Array]
    momentum: dict[str, Array]

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Everything by its name in a table: "step", the labels, and "LABEL momentum" after its label."""
        columns: dict[str, np.ndarray] = {"step": np.arange(self.steps)}
        for label, lr in self.lr.items():
            columns[label] = lr
            if label in self.momentum:
                columns[f"{label} momentum"] = self.momentum[label]
        return columns


def view_schedules(
    schedules: Sequence[Component], steps: int, peak: float, steps_per_epoch: int | None = None
) -> SchedulesView:
    """Compute what `draw_lr` and `draw_momentum` draw.

    Args:
        schedules: their names and args.
        steps: T.
        peak: the lr where the multiplier is 1.
        steps_per_epoch: for lengths in epochs.

    Raises:
        UsageError: if the args of one make no schedule, one depends on the training, or two are the same.
    """
    for schedule in schedules:
        if watched_by(schedule) is not None:
            raise UsageError(
                f"{schedule.name} depends on how the training goes, so there is nothing to draw beforehand;"
                " `lrfind train` or `lrfind compare` shows what it does."
            )
    shapes = [shape_of(schedule, steps, steps_per_epoch) for schedule in schedules]
    names = _distinct_labels(schedules)
    return SchedulesView(
        steps=steps,
        peak=peak,
        lr={name: peak * shape.multiplier for name, shape in zip(names, shapes, strict=True)},
        momentum={
            name: shape.momentum
            for name, shape in zip(names, shapes, strict=True)
            if shape.momentum is not None
        },
    )


def _distinct_labels(schedules: Sequence[Component]) -> list[str]:
    """A label for each; the import path for functions of the same name from several modules."""
    short = labels(schedules)
    names = [
        schedule.name if short.count(label) > 1 or label == "step" else label
        for schedule, label in zip(schedules, short, strict=True)
    ]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"'{twice}' is there twice; what is drawn together must differ.")
    return names


def draw_lr(view: SchedulesView, ax: Axes) -> Axes:
    """Draw lr against step, one line a schedule, with the legend to the right of the axes."""
    _draw_lines(view, view.lr, ax)
    top = max(float(lr.max()) for lr in view.lr.values())
    ax.set_ylim(-0.03 * top, 1.05 * top)
    finish(ax, "step", "learning rate")
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=3.2)
    return ax


def draw_momentum(view: SchedulesView, ax: Axes) -> Axes:
    """Draw momentum against step for the schedules that move it, in the colours of `draw_lr`."""
    _draw_lines(view, view.momentum, ax)
    finish(ax, "step", "momentum")
    if legend := ax.get_legend():
        legend.remove()  # that of the lr is for both
    return ax


def _draw_lines(view: SchedulesView, values: Mapping[str, Array], ax: Axes) -> None:
    """Lines whose colour and style follow from the label's place among all of the view."""
    ax.locator_params(axis="x", integer=True)
    for number, label in enumerate(view.lr):
        if label in values:
            ax.plot(
                np.arange(view.steps), values[label], color=COLORS[number % len(COLORS)],
                linestyle=STYLES[number % len(STYLES)], linewidth=1.7,
                marker="o" if view.steps <= FEW_STEPS else "", markersize=3.5,
                label=fill(label.replace("$", r"\$"), LEGEND_WIDTH, subsequent_indent="  "),
            )  # fmt: skip


def schedules_figure(view: SchedulesView) -> Figure:
    """A figure of its own with the lrs, and the momenta below them where a schedule moves it."""
    from matplotlib.figure import Figure

    if not view.momentum:
        figure = Figure(figsize=(8.0, 4.0), layout="constrained")
        draw_lr(view, figure.add_subplot())
        return figure
    figure = Figure(figsize=(8.0, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    draw_lr(view, above).set_xlabel("")
    draw_momentum(view, below)
    return figure
