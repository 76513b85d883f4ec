"""The plot of gradient health: a map of layers over steps; compute what is to be seen, then draw it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.views.plots.drawing import RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 40  # of layers on an axis
WRAP = 130  # characters of a title's line


@dataclass(frozen=True)
class HealthView:
    """What a plot of gradient health shows of one lane.

    Attributes:
        layers: L names, from the input to the output.
        at: (N + 1,) the step, or on a ramp the lr, of each look, and where the lane ended.
        on_a_ramp: whether `at` is an lr.
        gradient: (L, N) norm of the gradient over that of the weights; NaN where there is none.
        update: (L, N) norm of the update over that of the weights.
        silent: (L, N) share of dead units; in layers without units, of zeros in the gradient; 1 where none
            arrives, NaN of frozen layers.
        calm: how many looks the diagnosis is made of.
        title: the diagnosis in words.
    """

    layers: Sequence[str]
    at: Array
    on_a_ramp: bool
    gradient: Array
    update: Array
    silent: Array
    calm: int
    title: str


def view_health(lane: LaneResult, found: dict[str, Any], *, on_a_ramp: bool) -> HealthView:
    """Compute what `draw_map` draws.

    Args:
        lane: with looks.
        found: `health` of the run's summary.
        on_a_ramp: whether it is a range test's.
    """
    steps = sorted({row.step for row in lane.health})
    layers = list(dict.fromkeys(row.layer for row in lane.health))
    tables = np.full((3, len(layers), len(steps)), np.nan)
    for row in lane.health:
        silent = row.dead_share if row.dead_share is not None else row.zero_share
        silent = 1.0 if silent is None and row.trained else silent
        values = (row.relative, row.update_ratio, silent)
        place = layers.index(row.layer), steps.index(row.step)
        tables[:, *place] = [np.nan if value is None else value for value in values]
    frozen = {row.layer for row in lane.health if not row.trained}
    told = [f"{finding['what']}: {finding['evidence']}" for finding in found["findings"]]
    return HealthView(
        layers=[f"{layer} (frozen)" if layer in frozen else layer for layer in layers],
        at=lane.lr[[*steps, -1]] if on_a_ramp else np.array([*steps, lane.lr.size], dtype=np.float64),
        on_a_ramp=on_a_ramp,
        gradient=tables[0],
        update=tables[1],
        silent=tables[2],
        calm=found["calm"],
        title="; ".join(told) or ("gradients are healthy" if found["calm"] else "gradients are not judged"),
    )


def draw_map(view: HealthView, values: Array, label: str, ax: Axes, *, share: bool = False) -> Axes:
    """Draw values (L, N) as a map, the input's layer on top; grey where there is nothing.

    A look's cell reaches to the next look.

    Args:
        view: what the axes are.
        values: to be drawn.
        label: of the colours.
        ax: to draw on.
        share: whether they are shares from 0 to 1, and else ratios on a logarithmic scale.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    shown = values if share else np.where((values > 0) & np.isfinite(values), values, np.nan)
    known = shown[np.isfinite(shown)]
    low, high = (float(known.min()), float(known.max())) if known.size else (1e-3, 1.0)
    scale = Normalize(0, 1) if share else LogNorm(min(low, high / 1e3), high)
    ax.set_facecolor("0.85")
    mesh = ax.pcolormesh(
        view.at,
        np.arange(len(view.layers) + 1) - 0.5,
        shown,
        norm=scale,
        cmap=colormaps["Reds" if share else "cividis"],
    )
    if view.on_a_ramp:
        ax.set_xscale("log")
    if 0 < view.calm < view.at.size - 1:
        ax.axvline(view.at[view.calm], color=RED, linestyle="--", linewidth=1.2)
    every = max(1, -(-len(view.layers) // MOST_NAMES))
    ax.set_yticks(range(0, len(view.layers), every), view.layers[::every], fontsize="x-small")
    ax.set_ylim(len(view.layers) - 0.5, -0.5)
    ax.set_xlabel("learning rate" if view.on_a_ramp else "step")
    bar = ax.figure.colorbar(mesh, ax=ax, orientation="horizontal", label=label)
    for axes in (ax, bar.ax):
        axes.minorticks_off()
    return ax


def health_figure(view: HealthView, title: str) -> Figure:
    """A figure of its own: gradient, update and silence of every layer side by side; needs no display."""
    from matplotlib.figure import Figure

    height = 2.6 + 0.22 * min(max(len(view.layers), 4), MOST_NAMES)
    figure = Figure(figsize=(10.4, height), layout="constrained")
    first, second, third = figure.subplots(1, 3, sharey=True)
    draw_map(view, view.gradient, "gradient / weights", first)
    draw_map(view, view.update, "update / weights", second)
    draw_map(view, view.silent, "dead units (or zeros)", third, share=True)
    told = f"{title}: {view.title}"
    if 0 < view.calm < view.at.size - 1:
        told += "; beyond the dashed line the rate is to blame, not the network"
    if not np.isfinite(view.gradient).all() or not (view.update > 0).all():
        told += "; grey: nothing"
    figure.suptitle(textwrap.fill(told, WRAP), fontsize="medium", x=0.01, ha="left")
    return figure
