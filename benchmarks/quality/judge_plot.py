"""The plot of performance profiles: the share of trainings within each regret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lrfind.views.plots.drawing import SEVERAL


def draw_profiles(levels: Sequence[float], profiles: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw a line for each method, with its name at the line's end.

    Args:
        levels: the regrets, ascending.
        profiles: for each method, the share of trainings whose regret is at most each of `levels`.
        path: the file.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ax = figure.subplots()
    height = -1.0
    for number, (method, shares) in enumerate(sorted(profiles.items(), key=lambda item: item[1][-1])):
        color, marker = SEVERAL[number % len(SEVERAL)], "os^D"[number % 4]
        ax.plot(levels, shares, color=color, marker=marker, markersize=5)
        height = max(shares[-1], height + 0.06)  # names do not overlap
        ax.annotate(
            method,
            (levels[-1], shares[-1]),
            (1.03, height),
            textcoords=ax.get_yaxis_transform(),
            color=color,
            va="center",
        )
    ax.set(
        xscale="log",
        ylim=(-0.02, 1.02),
        xlabel="regret",
        ylabel="share of trainings with at most this regret",
    )
    ax.set_xticks(levels, [f"{level:g}" for level in levels])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(True, color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
