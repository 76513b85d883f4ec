"""The colours, axes, figures and files of all plots. Nothing here opens a window or sets a global style."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from lrfind.errors import printable, shortened
from lrfind.runs.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, which colour-blind people can tell apart. Line styles and markers differ too.
BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "0.35"
SEVERAL = (BLUE, RED, "#009E73", "#CC79A7", "#56B4E9", "#000000")


LONGEST_LABEL = 80  # characters; longer labels leave no place for the axes
LONGEST_TITLE = 1000  # of a title that is wrapped
MOST_TITLE_LINES = 10


def literal(text: str, most: int = LONGEST_LABEL) -> str:
    r"""Return a text from a config, data or code as a label that shows it as it is, shortened if it is long.

    Matplotlib would read what stands between two dollar signs as a formula, and fail if it is none.

    >>> print(literal("$x^{$ and \x1b"))
    \$x^{\$ and \x1b
    """
    return printable(shortened(text, most)).replace("$", r"\$")


def finish(ax: Axes, x: str, y: str) -> Axes:
    """Label the axes, and add grid and legend."""
    _label_few_rates(ax)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(True, which="major", color="0.9", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small", loc="best")
    return ax


def _label_few_rates(ax: Axes) -> None:
    """Label a logarithmic x axis of a few decades at 1, 2 and 5, or at 1 and 3, as numbers.

    By default it has labels such as 2 x 10^-2, which overlap.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_xlim()
    if ax.get_xscale() != "log" or low <= 0 or high / low > 1e3:
        return
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1, 3)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def titled(ax: Axes, title: str) -> Axes:
    """Set the title of the axes: its first lines as they are, each shortened if it is long."""
    lines = title.split("\n")[:MOST_TITLE_LINES]
    ax.set_title("\n".join(map(literal, lines)), fontsize="medium", loc="left")
    return ax


def figure_of(draw: Callable[[Axes], Axes], title: str) -> Figure:
    """Return a new figure with one plot; it needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    titled(draw(figure.add_subplot()), title)
    return figure


def new_axes() -> Axes:
    """Return the axes of a new figure that pyplot shows, in a notebook or a window."""
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    return ax


def save(figure: Figure, stem: Path) -> None:
    """Write a figure to stem.png, at print resolution, and to stem.svg; equal figures give equal bytes.

    Each is drawn in memory first and written whole or not at all, so that a process that is killed leaves
    nothing half done; a symbolic link in its place is replaced.

    Raises:
        StorageError: if a file cannot be written.
    """
    from matplotlib import rc_context

    png, svg = BytesIO(), BytesIO()
    with warnings.catch_warnings(), rc_context({"svg.hashsalt": "lrfind", "text.usetex": False}):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # an empty box stands for it
        figure.savefig(png, format="png", dpi=200)
        engine = figure.get_layout_engine()
        figure.set_layout_engine("none")  # Keep the layout that the PNG has, because computing it is slow.
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.set_layout_engine(engine)
    write_whole(Path(f"{stem}.png"), png.getvalue())
    write_whole(Path(f"{stem}.svg"), svg.getvalue())


def legend_below(ax: Axes, distance: float) -> Axes:
    """Put the legend below the axes, because the points may leave no free place within the axes."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            frameon=False, fontsize="small", ncols=2, loc="upper left", bbox_to_anchor=(0, -distance),
            borderaxespad=0,
        )  # fmt: skip
    return ax
