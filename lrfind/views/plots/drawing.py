"""The colours, legends, marks, figures and files of all plots. Nothing here opens a window or sets a style.

These rules make each plot fit for a paper:

- Nothing lies on data. Legends are below the axes or beside them, reasons and findings below or above them.
- The losses that matter rule the range of an axis, not the loss at the start or a blow-up (`loss_axis`). What
  lies above the axis is marked at its upper border, and the legend says so.
- The legend says what each line, band, dot and shaded region is.
- An axis has one quantity. Runs of several quantities get one panel for each.
- Tick labels do not overlap at any size (`tidy_ticks`).
- Colours are those of Okabe and Ito, which colour-blind people can tell apart. Dashes, marks or lightness
  differ too, so that a grey print can be read.
- No text is smaller than 7 points. A PNG has 200 dots per inch, an SVG keeps text as text, and equal figures
  give equal files.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.errors import printable, shortened
from lrfind.runs.files import write_whole
from lrfind.views.plots.axes import size_of, tidy_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "0.35"
SEVERAL = (BLUE, RED, "#009E73", "#CC79A7", "#56B4E9", "#000000")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)))

TITLE, SMALL, SMALLEST = 10.0, 8.0, 7.0  # the sizes of titles, legends and many names, in points
LONGEST_LABEL = 80  # characters; longer labels leave no place for the axes
LONGEST_TITLE = 1000  # of a title that is wrapped
LONGEST_REASON = 300  # characters of a reason above the axes
MOST_TITLE_LINES = 10
HANDLE = 8  # characters that a line or a mark in a legend takes beside its label
ABOVE = "above this axis"


def literal(text: str, most: int = LONGEST_LABEL) -> str:
    r"""Return a text from a config, data or code as a label that shows it as it is, shortened if it is long.

    Matplotlib would read what stands between two dollar signs as a formula, and fail if it is none.

    >>> print(literal("$x^{$ and \x1b"))
    \$x^{\$ and \x1b
    """
    return printable(shortened(text, most)).replace("$", r"\$")


def finish(ax: Axes, x: str, y: str) -> Axes:
    """Label the axes, and add ticks, grid and the legend below. The scales and the ends are set already."""
    width, height = size_of(ax)
    ax.set_xlabel(_wrapped(x, int(width / (0.6 * TITLE))))
    ax.set_ylabel(_wrapped(y, max(16, int(height / TITLE))))  # the legend takes some of the height
    tidy_ticks(ax.xaxis)
    tidy_ticks(ax.yaxis)
    ax.grid(True, which="major", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return legend_below(ax)


def legend_below(ax: Axes) -> Axes:
    """Put the legend below the axes and their label, in as many columns as have room; again if called again.

    A layout engine (`layout="constrained"`) or `bbox_inches="tight"` gives it its place in the figure.
    """
    from matplotlib.transforms import ScaledTranslation

    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return ax
    width = width_in_characters(ax)
    labels = [_wrapped(label, width - HANDLE) for label in labels]
    columns = next((count for count in (3, 2) if _table_width(labels, count) <= width), 1)
    lines = len(ax.get_xlabel().splitlines())
    points = 18 + 3 * bool(lines) + 13 * lines if ax.xaxis.get_tick_params()["labelbottom"] else 6
    below = ScaledTranslation(0, -points / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles, labels, frameon=False, fontsize=SMALL, ncols=columns, loc="upper left", borderaxespad=0,
        bbox_to_anchor=(0, 0), bbox_transform=ax.transAxes + below, handlelength=2.6, columnspacing=1.5,
    )  # fmt: skip
    return ax


def width_in_characters(ax: Axes) -> int:
    """Return about how many small characters fit side by side into the width of axes."""
    return int(size_of(ax)[0] / (0.52 * SMALL))


def _table_width(labels: Sequence[str], columns: int) -> int:
    """Return the width of a legend in so many columns, in characters."""
    texts = np.array_split(np.array(labels, dtype=object), columns)
    return sum(
        max((len(line) for label in part for line in label.split("\n")), default=0) for part in texts
    ) + (HANDLE * columns)


def _wrapped(label: str, width: int) -> str:
    """Return a label in lines of at most `width` characters; an escaped dollar sign is not divided."""
    lines = label.replace(r"\$", "$").split("\n")
    return "\n".join(textwrap.fill(line, max(width, 12)) for line in lines).replace("$", r"\$")


def draw_start(ax: Axes, loss: float, top: float, label: str) -> None:
    """Draw the loss before any training as a line across; where it is above `top`, the legend gives it."""
    shown = loss <= top
    ax.plot(
        [0, 1] if shown else [], [loss] * 2 if shown else [], color="0.5", linestyle=(0, (4, 2)),
        linewidth=1.2, zorder=1, transform=ax.get_yaxis_transform(),
        label=label if shown else f"{label}: {loss:.3g}, {ABOVE}",
    )  # fmt: skip


def mark_border(ax: Axes, x: Iterable[float], label: str, marker: str = "^", color: str = GREY) -> None:
    """Mark values that have no place on the axis at its upper border; the legend names equal marks once."""
    places = [*x]
    if places:
        named = label in ax.get_legend_handles_labels()[1]
        ax.plot(
            places, [1.0] * len(places), marker, color=color, markersize=7.5, markeredgecolor="white",
            markeredgewidth=0.6, linestyle="none", zorder=6, clip_on=False,
            transform=ax.get_xaxis_transform(), label=None if named else label,
        )  # fmt: skip


def mark_exits(ax: Axes, x: Any, y: Any, color: str) -> None:
    """Mark where a line that is drawn already goes above the axis, at the border."""
    top = ax.get_ylim()[1]
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    out = np.flatnonzero((y[:-1] <= top) & (y[1:] > top))
    inside, outside, border = (
        ax.transData.transform(np.column_stack([x[at], height]))
        for at, height in ((out, y[out]), (out + 1, y[out + 1]), (out, np.full(out.size, top)))
    )
    share = (border[:, 1] - inside[:, 1]) / (outside[:, 1] - inside[:, 1])
    crossing = inside + share[:, None] * (outside - inside)
    mark_border(ax, ax.transData.inverted().transform(crossing)[:, 0], f"goes on {ABOVE}", color=color)


def titled(ax: Axes, title: str, reason: str = "") -> Axes:
    """Set the title of the axes: its first lines, each shortened and wrapped, then a reason.

    The size of the whole title is that of small text if there is a reason.
    """
    width = int(width_in_characters(ax) * SMALL / TITLE)
    lines = [_wrapped(literal(line), width) for line in title.split("\n")[:MOST_TITLE_LINES]]
    if reason:
        text = textwrap.shorten(reason, LONGEST_REASON, placeholder=" [...] (summary.json has all of it)")
        lines += literal(textwrap.fill(text, width_in_characters(ax)), LONGEST_TITLE).split("\n")
    ax.set_title("\n".join(lines), fontsize=SMALL if reason else TITLE, loc="left", pad=8)
    return ax


def axes_for(ax: Axes | None) -> Axes:
    """Return the axes to draw on: those of a new figure of pyplot, or `ax`.

    A figure of `ax` that has no layout engine gets "constrained", because the legend lies below the axes.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.subplots(figsize=(6.4, 4.8), layout="constrained")[1]
    figure = ax.figure.figure  # the figure, also of axes in a subfigure
    if figure is not None and ax.get_subplotspec() is not None and figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")
    return ax


def figure_of(draw: Callable[[Axes], Axes], title: str) -> Figure:
    """Return a new figure with one plot; it needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    titled(draw(figure.add_subplot()), title)
    return figure


def image(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file, png or svg; equal figures give equal bytes."""
    from matplotlib import rc_context

    content = BytesIO()
    style: Any = {"svg.hashsalt": "lrfind", "svg.fonttype": "none", "text.usetex": False}
    with warnings.catch_warnings(), rc_context(style):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # an empty box stands for it
        dated = {"Date": None} if kind == "svg" else {}
        figure.savefig(content, format=kind, dpi=200, metadata=dated)
    return content.getvalue()


def save(figure: Figure, stem: Path) -> None:
    """Write a figure to stem.png and to stem.svg.

    Each is drawn in memory first and written whole or not at all, so that a process that is killed leaves
    nothing half done; a symbolic link in its place is replaced.

    Raises:
        StorageError: if a file cannot be written.
    """
    png = image(figure, "png")
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")  # Keep the layout that the PNG has, because computing it is slow.
    svg = image(figure, "svg")
    figure.set_layout_engine(engine)
    write_whole(Path(f"{stem}.png"), png)
    write_whole(Path(f"{stem}.svg"), svg)
