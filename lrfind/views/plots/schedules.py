"""The plot of schedules: first the values of every step, then their drawing. Nothing here trains."""

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
from lrfind.views.plots.drawing import BLUE, LINES, ORANGE, RED, SMALL, finish, image, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (BLUE, RED, "#009E73", "#CC79A7", ORANGE, "#56B4E9", "#000000")
FEW_STEPS = 40  # Up to here each step has a marker, because the line between two steps has no meaning.
LEGEND_WIDTH = 30  # the largest length of a line in the legend, in characters


@dataclass(frozen=True)
class SchedulesView:
    """The values that a plot or a table of schedules shows.

    Attributes:
        steps: T, the number of steps.
        peak: the lr where the multiplier is 1.
        lr: label -> (T,) the lr of each step.
        momentum: label -> (T,) the momentum of each step, only for the schedules that move it.
    """

    steps: int
    peak: float
    lr: dict[str, Array]
    momentum: dict[str, Array]

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of a table by name: "step", each label, and "LABEL momentum" after its label."""
        columns: dict[str, np.ndarray] = {"step": np.arange(self.steps)}
        for label, lr in self.lr.items():
            columns[label] = lr
            if label in self.momentum:
                columns[f"{label} momentum"] = self.momentum[label]
        return columns


def view_schedules(
    schedules: Sequence[Component], steps: int, peak: float, steps_per_epoch: int | None = None
) -> SchedulesView:
    """Compute the values that `draw_lr` and `draw_momentum` draw.

    Args:
        schedules: the names and the args of the schedules.
        steps: T, the number of steps.
        peak: the lr where the multiplier is 1.
        steps_per_epoch: the number of steps in an epoch, for lengths in epochs.

    Raises:
        UsageError: if the args of a schedule do not fit it, if a schedule depends on the training, or if two
            schedules are the same.
    """
    for schedule in schedules:
        if watched_by(schedule) is not None:
            raise UsageError(
                f"{schedule.name} depends on how the training goes, so it cannot be drawn beforehand."
                " Run `lrfind train` or `lrfind compare` to see what it does."
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
    """Return a label for each schedule. Functions with the same name are labelled by their import paths."""
    short_labels = labels(schedules)
    names = [
        schedule.name if short_labels.count(label) > 1 or label == "step" else label
        for schedule, label in zip(schedules, short_labels, strict=True)
    ]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise UsageError(
            f"'{duplicate}' is listed twice; schedules that are drawn together must differ. Remove one."
        )
    return names


def draw_lr(view: SchedulesView, ax: Axes) -> Axes:
    """Draw lr against step, one line per schedule, with the legend to the right of the axes."""
    _draw_lines(view, view.lr, ax)
    top = max(float(lr.max()) for lr in view.lr.values())
    ax.set_ylim(-0.03 * top, 1.05 * top)
    finish(ax, "step", "learning rate")
    ax.legend(frameon=False, fontsize=SMALL, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=3.2)
    return ax


def draw_momentum(view: SchedulesView, ax: Axes) -> Axes:
    """Draw momentum against step for the schedules that move it, in the colours of `draw_lr`."""
    _draw_lines(view, view.momentum, ax)
    finish(ax, "step", "momentum")
    if legend := ax.get_legend():
        legend.remove()  # The legend of `draw_lr` is for both.
    return ax


def _draw_lines(view: SchedulesView, values: Mapping[str, Array], ax: Axes) -> None:
    """Draw lines whose colour and style depend on the label's place among all labels of the view."""
    ax.locator_params(axis="x", integer=True)
    for number, label in enumerate(view.lr):
        if label in values:
            ax.plot(
                np.arange(view.steps), values[label], color=COLORS[number % len(COLORS)],
                linestyle=LINES[number % len(LINES)], linewidth=1.7,
                marker="o" if view.steps <= FEW_STEPS else "", markersize=3.5,
                label=literal(fill(label, LEGEND_WIDTH, subsequent_indent="  ")),
            )  # fmt: skip


def schedules_figure(view: SchedulesView) -> Figure:
    """Return a new figure of the lrs, with the momenta below them if a schedule moves the momentum."""
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


def schedules_image(view: SchedulesView, kind: str) -> bytes:
    """Return the plot as an image, png or svg; the same view gives the same bytes."""
    return image(schedules_figure(view), kind)
