"""The plot of gradient health, a map of layers against steps: first its values, then its drawing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.runs.result import RunResult
from lrfind.views.plots.axes import short, tidy_ticks
from lrfind.views.plots.drawing import LONGEST_TITLE, SMALL, SMALLEST, literal
from lrfind.views.text.parts import gradient_findings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 40  # the largest number of layer names on an axis
LONGEST_LAYER = 40  # characters of a layer name on an axis
MOST_LABELS = 5  # the largest number of looks with a label, or with values in their cells
MOST_VALUES = 25  # the largest number of layers with values in their cells
WRAP = 115  # the largest length of a title's line, in characters


@dataclass(frozen=True)
class HealthView:
    """The values that a plot of one lane's gradient health shows.

    Attributes:
        layers: the names of the L layers, from the input to the output.
        at: (N + 1,) the steps of the looks, and of the end of the lane; on a ramp, the lrs at these steps.
        on_a_ramp: whether `at` contains lrs.
        gradient: (L, N) the gradient's norm divided by the weights' norm; NaN where there is no value.
        update: (L, N) the update's norm divided by the weights' norm; NaN where there is no value.
        silent: (L, N) the share of dead units; in layers without units, the share of zeros in the gradient.
            It is 1 where no gradient arrives, and NaN in frozen layers.
        calm: the number of looks that the diagnosis uses.
        title: the diagnosis in words.
        lane: the lane in words: its seed and its lr.
    """

    layers: Sequence[str]
    at: Array
    on_a_ramp: bool
    gradient: Array
    update: Array
    silent: Array
    calm: int
    title: str
    lane: str


def view_health(lane: LaneResult, health: dict[str, Any], *, on_a_ramp: bool) -> HealthView:
    """Compute the values that `draw_map` draws.

    Args:
        lane: a lane with looks.
        health: the part `health` of the run's summary.
        on_a_ramp: whether the lane belongs to a range test.
    """
    steps = sorted({row.step for row in lane.health})
    layers = list(dict.fromkeys(row.layer for row in lane.health))
    tables = np.full((3, len(layers), len(steps)), np.nan)
    for row in lane.health:
        silent = row.dead_share if row.dead_share is not None else row.zero_share
        silent = 1.0 if silent is None and row.trained else silent
        values = (row.relative, row.update_ratio, silent)
        cell = layers.index(row.layer), steps.index(row.step)
        tables[:, *cell] = [np.nan if value is None else value for value in values]
    frozen = {row.layer for row in lane.health if not row.trained}
    return HealthView(
        layers=[f"{layer} (frozen)" if layer in frozen else layer for layer in layers],
        at=lane.lr[[*steps, -1]] if on_a_ramp else np.array([*steps, lane.lr.size], dtype=np.float64),
        on_a_ramp=on_a_ramp,
        gradient=tables[0],
        update=tables[1],
        silent=tables[2],
        calm=health["calm"],
        title="; ".join(what for what, _ in gradient_findings(health)),
        lane=_lane_in_words(lane, on_a_ramp),
    )


def _lane_in_words(lane: LaneResult, on_a_ramp: bool) -> str:
    variant = f"{lane.variant}, " if lane.variant else ""
    if on_a_ramp:
        return f"{variant}the ramp of seed {lane.seed}"
    steady = bool(lane.lr.size and lane.lr.min() == lane.lr.max())
    return f"{variant}{'lr' if steady else 'peak lr'} {lane.peak:.3g}, seed {lane.seed}"


def draw_map(view: HealthView, values: Array, label: str, ax: Axes, *, share: bool = False) -> Axes:
    """Draw values (L, N) as a map with the input's layer on top; a cell without a value is grey.

    The looks have columns of equal width. On the logarithmic scale of ratios, 0 is grey too. A small map also
    has its values in its cells.

    Args:
        view: the view with the layers and the steps or lrs of the looks.
        values: the values to draw.
        label: the label of the colour bar.
        ax: the axes to draw on.
        share: whether the values are shares from 0 to 1; if not, they are ratios on a logarithmic scale.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    layers, looks = values.shape
    cells = values if share else np.where((values > 0) & np.isfinite(values), values, np.nan)
    finite = cells[np.isfinite(cells)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (1e-3, 1.0)
    scale = Normalize(0, 1) if share else LogNorm(min(low, high / 10), high)
    colors = colormaps["Reds" if share else "cividis"]
    ax.set_facecolor("0.85")
    mesh = ax.pcolormesh(
        np.arange(looks + 1) - 0.5, np.arange(layers + 1) - 0.5, cells, norm=scale, cmap=colors
    )
    if looks <= MOST_LABELS and layers <= MOST_VALUES:
        for row, column in np.argwhere(np.isfinite(cells)).tolist():
            value = cells[row, column]
            dark = np.dot(colors(scale(value))[:3], (0.3, 0.59, 0.11)) < 0.5
            text = f"{value:.2f}" if share else short(float(f"{value:.2g}"))
            ax.text(
                column, row, text, color="white" if dark else "black", fontsize=SMALLEST, ha="center",
                va="center",
            )  # fmt: skip
    if 0 < view.calm < looks:
        for color, line, width in (("white", "-", 3.0), ("black", "--", 1.4)):
            ax.axvline(view.calm - 0.5, color=color, linestyle=line, linewidth=width)
    every = max(1, -(-layers // MOST_NAMES))
    names = [literal(layer, LONGEST_LAYER) for layer in view.layers[::every]]
    ax.set_yticks(range(0, layers, every), names, fontsize=SMALLEST)
    ax.set_ylim(layers - 0.5, -0.5)
    every = max(1, -(-looks // MOST_LABELS))
    places = [short(float(f"{at:.2g}")) if view.on_a_ramp else f"{at:,.0f}" for at in view.at[:looks:every]]
    ax.set_xticks(range(0, looks, every), places, fontsize=SMALL)
    ax.set_xlabel("learning rate of the look" if view.on_a_ramp else "step of the look", fontsize=9)
    bar = ax.figure.colorbar(mesh, ax=ax, orientation="horizontal")
    bar.set_label(label, fontsize=9)
    tidy_ticks(bar.ax.xaxis)
    bar.ax.tick_params(labelsize=SMALL)
    bar.ax.minorticks_off()
    return ax


def health_figure(view: HealthView, title: str) -> Figure:
    """Return a new figure of gradient, update and dead units of every layer; it needs no display."""
    from matplotlib.figure import Figure

    height = 2.4 + 0.22 * min(max(len(view.layers), 4), MOST_NAMES)
    figure = Figure(figsize=(9.0, height), layout="constrained")
    first, second, third = figure.subplots(1, 3, sharey=True)
    draw_map(view, view.gradient, "gradient norm / weight norm", first)
    draw_map(view, view.update, "update norm / weight norm", second)
    draw_map(view, view.silent, "share of dead units (or zeros)", third, share=True)
    heading = f"{title}, {view.lane}; gradients: {view.title}"
    if 0 < view.calm < view.at.size - 1:
        heading += "; right of the dashed line the learning rate is to blame, not the network"
    if not np.isfinite(view.gradient).all() or not (view.update > 0).all():
        heading += "; a grey cell is 0 or has no value"
    figure.suptitle(literal(textwrap.fill(heading, WRAP), LONGEST_TITLE), fontsize=9, x=0.01, ha="left")
    return figure


def health_figures(result: RunResult) -> dict[str, Figure]:
    """Return the figure of a run's gradient health, by its file name; none if there were no looks."""
    health = result.summary["health"]
    if health is None:
        return {}
    (lane,) = [lane for lane in result.lanes if lane.lane == health["lane"]]
    view = view_health(lane, health, on_a_ramp=result.kind.lanes == "ramps")
    return {"health": health_figure(view, result.experiment.name)}
