"""The plot of regret against cost: `find`, the searches, and the optimizers that need no learning rate."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rows import FIND

from lrfind.views.plots.drawing import SEVERAL

GREYS, MARKERS = "0.35", "osD^vPX"
LABEL_GAP = 0.055  # of the height of the axes, between two labels
LOWEST = 1e-3  # the lowest regret that is drawn; lower ones are drawn there


def draw_budgets(table: pd.DataFrame, without_rate: Collection[str], path: Path) -> None:
    """Draw the mean regret against the mean cost, with the 95 % intervals over tasks as bands.

    The optimizers that need no learning rate stand in a panel of their own, because they have one cost.

    Args:
        table: a row for each method and budget; see `budgets.summary`.
        without_rate: the names of these optimizers.
        path: the file.
    """
    single = table.method.isin(without_rate)
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    ax, side = figure.subplots(1, 2, sharey=True, width_ratios=(2.6, 1))
    draw_searches(ax, table[~single])
    draw_single(side, table[single].sort_values("regret"))
    ax.set_title("Searches for a learning rate", loc="left", fontsize="medium")
    side.set_title("Optimizers that need no rate", loc="left", fontsize="medium")
    figure.savefig(path, dpi=150)


def draw_searches(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw a line for each search, with its name at its end."""
    edge = 1.1 * float(table.trainings.max())
    methods = sorted(table.method.unique(), key=lambda method: method != FIND)
    ends = []
    for number, method in enumerate(methods):
        rows = table[table.method == method]  # in the order of the budgets
        color = SEVERAL[number % len(SEVERAL)]
        width = 2.6 if method == FIND else 1.4
        regret, low, high = (np.maximum(rows[name], LOWEST) for name in ("regret", "low", "high"))
        marker, style = MARKERS[number % len(MARKERS)], "-" if number < len(SEVERAL) else "--"
        ax.fill_between(rows.trainings, low, high, color=color, alpha=0.13, linewidth=0)
        ax.plot(rows.trainings, regret, style, color=color, linewidth=width, marker=marker, markersize=5)
        end, reached = rows.trainings.iloc[-1], float(regret.iloc[-1])
        ax.plot([end, edge], [reached, reached], ":", color=color, linewidth=1)  # the search has ended
        ends.append((method, reached, color))
    ax.set(xscale="log", yscale="log")
    ax.set_xlim(right=edge)
    ax.set_xlabel("steps of the search / steps of the training")
    ax.set_ylabel("mean regret (95 % interval over tasks)")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _tidy(ax)
    _label_ends(ax, ends)
    return ax


def draw_single(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw a point with its interval and its number for each optimizer that needs no learning rate."""
    for place, row in enumerate(table.itertuples()):
        low, middle, high = (max(value, LOWEST) for value in (row.low, row.regret, row.high))
        ax.plot([place, place], [low, high], color=GREYS, linewidth=1.4)
        ax.plot([place], [middle], "o", color=GREYS, markersize=6)
        label = f"{row.regret:.3f}".removeprefix("0")
        ax.annotate(label, (place, middle), (6, 0), textcoords="offset points", va="center", fontsize="small")
    ax.set_xticks(range(len(table)), table.method, rotation=45, ha="right")
    ax.set_xlim(-0.5, max(len(table), 1) - 0.1)
    _tidy(ax)
    return ax


def _tidy(ax: Axes) -> None:
    ax.grid(True, which="major", color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _label_ends(ax: Axes, ends: list[tuple[str, float, str]]) -> None:
    """Write each name beside the axes, at the height of its line's end, as far as the names leave room."""
    low, high = (np.log10(limit) for limit in ax.get_ylim())
    heights = [(np.log10(y) - low) / (high - low) for _, y, _ in ends]
    placed = _apart(heights)
    for (name, y, color), height in zip(ends, placed, strict=True):
        ax.annotate(
            name,
            (1, y),
            (1.04, height),
            xycoords=ax.get_yaxis_transform(),
            textcoords=ax.transAxes,
            color=color,
            va="center",
            fontweight="bold" if name == FIND else "normal",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
        )


def _apart(heights: list[float]) -> list[float]:
    """Return the heights, moved upward where one would be less than `LABEL_GAP` above another.

    >>> _apart([0.5, 0.2, 0.21]) == [0.5, 0.2, 0.2 + LABEL_GAP]
    True
    """
    placed = list(heights)
    below = -np.inf
    for place in sorted(range(len(heights)), key=heights.__getitem__):
        below = placed[place] = max(heights[place], below + LABEL_GAP)
    return placed
