"""What all plots have in common: colours, axes, figures, files. Nothing is shown, no global style is set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people can tell apart; line style and marker differ too.
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"
SEVERAL = (BLUE, RED, "#009E73", "#CC79A7", "#56B4E9", "#000000")


def finish(ax: Axes, x: str, y: str) -> Axes:
    """Label the axes, and add grid and legend."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(True, which="major", color="0.9", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small", loc="best")
    return ax


def figure_of(draw: Callable[[Axes], Axes], title: str) -> Figure:
    """A figure of its own with one plot in it; needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    draw(figure.add_subplot()).set_title(title, fontsize="medium", loc="left")
    return figure


def save(figure: Figure, stem: Path) -> None:
    """Write a figure as stem.png, at print resolution, and stem.svg; the same figure gives the same bytes."""
    from matplotlib import rc_context

    figure.savefig(f"{stem}.png", dpi=200)
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")  # the layout stays as it was found for the PNG: finding it is slow
    with rc_context({"svg.hashsalt": "lrfind"}):
        figure.savefig(f"{stem}.svg", metadata={"Date": None})
    figure.set_layout_engine(engine)
