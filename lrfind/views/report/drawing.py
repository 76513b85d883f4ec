"""From the marks of a chart to the numbers and paths of its SVG.

Lines keep their values beside their paths, because the script of the page moves them to the other scale of
the loss axis, and shows them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.trends import spread_places
from lrfind.views.report.content import (
    LEVELS,
    Band,
    Chart,
    Dots,
    Line,
    Mark,
    Rule,
    Span,
    Strips,
    finite,
)
from lrfind.views.report.scales import Scale, scale_for

WIDTH, HEIGHT = 760, 350
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 12, 34  # the margins
FINE = 10  # the paths of lines are in tenths of a unit, as whole numbers
MOST_POINTS = 13_000  # of all lines of a chart together
MOST_DOTS = 200  # of one name
MOST_OF_A_LINE = 2 * (WIDTH - LEFT - RIGHT)  # more cannot be seen
STRIP = (400, 30)

SHAPES = {
    "circle": "M-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0z",
    "square": "M-{r}-{r}h{d}v{d}h-{d}z",
    "diamond": "M0-{b}L{b} 0 0 {b}-{b} 0z",
    "triangle": "M0-{b}L{b} {r}H-{b}z",
    "cross": "M-{r}-{r}L{r} {r}M{r}-{r}L-{r} {r}",
}
"""The path of each shape with the radius r, d = 2 r and b = 1.3 r."""


@dataclass(frozen=True)
class Drawn:
    """A mark as an SVG element: its tag, its attributes, and the number of its legend entry."""

    tag: str
    key: int
    attributes: dict[str, str]

    @property
    def clipped(self) -> bool:
        """Whether nothing of it is shown outside the axes; a point on their edge is shown whole."""
        return self.tag == "rect" or "data-level" in self.attributes


@dataclass(frozen=True)
class Key:
    """An entry of the legend: the name, and the swatch as the classes and the shape of a mark."""

    name: str
    kind: str
    classes: str
    shape: str


@dataclass(frozen=True)
class Drawing:
    """A chart as numbers and paths.

    Attributes:
        x: the x axis.
        linear: the y axis, linear.
        log: the y axis, logarithmic; None if a value is not positive.
        begins_log: whether the logarithmic one is shown at first.
        fine: the lines and bands, in tenths of a unit.
        coarse: the other marks.
        grids: the x values that lines share, each as text.
        keys: the legend.
    """

    x: Scale
    linear: Scale
    log: Scale | None
    begins_log: bool
    fine: Sequence[Drawn]
    coarse: Sequence[Drawn]
    grids: Sequence[str]
    keys: Sequence[Key]


def thinned(y: Array, width: int) -> Array:
    """Return the lowest and the highest value of each `width` values, in their order.

    What is drawn of them covers what would be drawn of all. The last ones repeat the last value.

    >>> thinned(np.array([1.0, 5.0, 2.0, 9.0, 7.0, 8.0]), 3).tolist()
    [1.0, 5.0, 9.0, 7.0]
    """
    if width < 3:
        return y
    missing = -len(y) % width
    table = np.concatenate([y, np.full(missing, y[-1])]).reshape(-1, width)
    holes = np.isnan(table)
    low = np.where(holes, np.inf, table).argmin(axis=1)
    high = np.where(holes, -np.inf, table).argmax(axis=1)
    places = np.stack([np.minimum(low, high), np.maximum(low, high)], axis=1)
    places[low == high] = (0, width - 1)
    picked: Array = np.take_along_axis(table, places, axis=1).ravel()
    return picked


def thinned_x(x: Array, width: int) -> Array:
    """Return the places at which `thinned` values are drawn: the first and the middle of each `width`.

    >>> thinned_x(np.arange(6.0), 3).tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    if width < 3:
        return x
    places = [p for b in range(0, len(x), width) for p in (b, min(b + width // 2, len(x) - 1))]
    return x[places]


def draw(chart: Chart, share: float = 1.0) -> Drawing:
    """Draw a chart.

    Args:
        chart: the chart.
        share: the share of `MOST_POINTS` that its lines may have.
    """
    x = scale_for(_xs(chart.marks), log=chart.log_x) or Scale(1e-3, 1.0, True)
    seen = finite(chart.seen) or [0.0, 1.0]
    linear, log = scale_for(seen, log=False), scale_for(seen, log=True)
    assert linear is not None  # only a logarithmic axis may fail
    y = log if chart.log_y and log else linear
    names = list(dict.fromkeys(mark.name for mark in chart.marks))
    width = _bucket(chart.marks, share)
    longest = max((mark.x for mark in chart.marks if isinstance(mark, Line | Band)), key=len, default=None)
    grids: list[str] = [] if longest is None else [texts(thinned_x(longest, width))]
    fine, coarse = [], []
    for mark in chart.marks:
        key = names.index(mark.name)
        if isinstance(mark, Line | Band):
            shares = longest is not None and np.array_equal(mark.x, longest[: len(mark.x)])
            xs = thinned_x(mark.x, width)
            if not shares and (own := texts(xs)) not in grids:
                grids.append(own)
            grid = 0 if shares else grids.index(texts(xs))
            fine.append(_along(mark, key, grid, xs, width, x, y))
        else:
            coarse += _across(mark, key, x, y, max(20, int(MOST_DOTS * share)))
    keys = [_key(name, [mark for mark in chart.marks if mark.name == name]) for name in names]
    return Drawing(x, linear, log, y is log, fine, coarse, grids, keys)


def _xs(marks: Sequence[Mark]) -> list[float]:
    """Return the lowest and highest x of all marks."""
    values: list[float] = []
    for mark in marks:
        if isinstance(mark, Line | Band):
            values += [float(mark.x.min()), float(mark.x.max())] if len(mark.x) else []
        elif isinstance(mark, Dots):
            values += [lr for lr, _ in mark.points]
        elif isinstance(mark, Span):
            values += [mark.low, mark.high]
        elif not mark.level:
            values.append(mark.at)
    return finite(values)


def _bucket(marks: Sequence[Mark], share: float) -> int:
    """Return of how many values of a line two are drawn; 1 if all are."""
    lengths = [len(mark.x) * (1 + isinstance(mark, Band)) for mark in marks if isinstance(mark, Line | Band)]
    total, longest = sum(lengths), max(lengths, default=0)
    factor = max(total / (MOST_POINTS * share), longest / MOST_OF_A_LINE)
    return 1 if factor <= 1 else max(3, math.ceil(2 * factor))


def _along(mark: Line | Band, key: int, grid: int, xs: Array, width: int, x: Scale, y: Scale) -> Drawn:
    """Draw a line or a band."""
    across = (LEFT + x.share(xs) * (WIDTH - LEFT - RIGHT)) * FINE
    attributes = {"data-g": str(grid), "data-s": str(key)}
    if isinstance(mark, Line):
        values = thinned(mark.y, width)
        kinds = [kind for kind in ("bold", "faint", "dashed") if getattr(mark, kind)]
        attributes |= {"class": " ".join(["line", mark.color, *kinds]), "data-y": texts(values)}
        return Drawn("path", key, attributes | {"d": path(across, place(values, y) * FINE)})
    low, high = _ends(mark.low, width, np.fmin), _ends(mark.high, width, np.fmax)
    outline = np.concatenate([place(high, y), place(low, y)[::-1]]) * FINE
    sound = np.isfinite(outline)
    around = np.concatenate([across, across[::-1]])
    attributes |= {"class": f"band {mark.color}", "data-y": texts(high), "data-z": texts(low)}
    return Drawn("path", key, attributes | {"d": path(around[sound], outline[sound])})


def _ends(values: Array, width: int, of: Any) -> Array:
    """Return the lowest (or highest) of each `width` values, twice."""
    if width < 3:
        return values
    padded = np.concatenate([values, np.full(-len(values) % width, values[-1])]).reshape(-1, width)
    return np.repeat(of.reduce(padded, axis=1), 2)


def _across(mark: Dots | Rule | Span, key: int, x: Scale, y: Scale, most: int) -> list[Drawn]:
    """Draw points (at most so many), a rule or a span."""
    inner, bottom = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM
    own = {"data-s": str(key)}
    if isinstance(mark, Span):
        low, high = LEFT + x.share(mark.low) * inner, LEFT + x.share(mark.high) * inner
        box = {"x": f"{low:.1f}", "y": str(TOP), "width": f"{max(1.0, high - low):.1f}"}
        return [Drawn("rect", key, own | {"class": f"span {mark.color}", **box, "height": str(bottom - TOP)})]
    if isinstance(mark, Rule):
        classes = {"class": f"rule {mark.color}" + (" dashed" if mark.dashed else "")}
        if mark.level:
            lies = {"data-level": text(mark.at), "d": f"M{LEFT} {place(mark.at, y):.1f}h{inner}"}
        else:
            lies = {"d": f"M{LEFT + float(x.share(mark.at)) * inner:.1f} {TOP}V{bottom}"}
        return [Drawn("path", key, own | classes | lies)]
    drawn = []
    for number in spread_places(len(mark.points), most):
        lr, loss = mark.points[number]
        across = LEFT + float(x.share(lr)) * inner
        down = TOP + 8.0 if loss is None else float(np.nan_to_num(place(loss, y), nan=bottom))
        radius = mark.sizes[number] if mark.sizes else 4.0
        attributes = own | {
            "class": f"dot {mark.shape} {mark.color}",
            "data-x": text(lr),
            "data-y": "" if loss is None else text(loss),
            "transform": f"translate({across:.1f} {min(max(down, TOP), bottom):.1f})",
            "d": shape_path(mark.shape, radius),
        }
        if mark.remarks and mark.remarks[number]:
            attributes["data-t"] = mark.remarks[number]
        drawn.append(Drawn("path", key, attributes))
    return drawn


def shape_path(shape: str, radius: float) -> str:
    """Return the path of a point's shape around the origin."""
    return SHAPES[shape].format(r=f"{radius:.3g}", d=f"{2 * radius:.3g}", b=f"{1.3 * radius:.3g}")


def _key(name: str, marks: Sequence[Mark]) -> Key:
    """Return the entry of the legend for the marks of one name: the swatch is that of the last of them."""
    mark = marks[-1]
    if isinstance(mark, Dots):
        return Key(name, "dot", f"dot {mark.shape} {mark.color}", shape_path(mark.shape, 4.0))
    if isinstance(mark, Line):
        kinds = "".join(f" {kind}" for kind in ("bold", "dashed") if getattr(mark, kind))
        return Key(name, "line", f"line {mark.color}{kinds}", "")
    if isinstance(mark, Rule):
        kind = "line" if mark.level else "upright"
        return Key(name, kind, f"rule {mark.color}" + (" dashed" if mark.dashed else ""), "")
    return Key(name, "area", f"{'span' if isinstance(mark, Span) else 'band'} {mark.color}", "")


def place(values: Array | float, y: Scale) -> Array:
    """Return the places of values on the y axis, in units from the top; far outside ones are cut."""
    down: Array = TOP + (1 - y.share(values)) * (HEIGHT - TOP - BOTTOM)
    return np.clip(down, -HEIGHT, 2 * HEIGHT)


def path(x: Array, y: Array) -> str:
    """Return a path through points, as whole numbers; a NaN interrupts it.

    >>> path(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([5.0, 3.0, np.nan, 4.0, 9.0]))
    'M0 5l1-2M3 4l1 5'
    """
    parts, before = [], None
    for across, down in zip(x.tolist(), y.tolist(), strict=True):
        if across != across or down != down:
            before = None
            continue
        here = round(across), round(down)
        if before is None:
            parts.append(f"M{here[0]} {here[1]}")
        else:
            right, lower = here[0] - before[0], here[1] - before[1]
            parts.append(f"l{right}{lower}" if lower < 0 else f"l{right} {lower}")
        before = here
    return "".join(parts)


def text(value: float) -> str:
    """Return a number with four digits, as short as possible.

    >>> text(0.15034), text(-0.5), text(3.0), text(1e-7)
    ('.1503', '-.5', '3', '1e-07')
    """
    short = f"{value:.4g}"
    return short.replace("0.", ".", 1) if short.startswith(("0.", "-0.")) else short


def texts(values: Array) -> str:
    """Return numbers as one text."""
    return " ".join([text(value) for value in values.tolist()])


def strip_scale(strips: Strips) -> Scale:
    """Return the common axis of strips."""
    values = [value for row in strips.rows for value in (row.middle, *(row.interval or ()), *row.values)]
    scale = scale_for([*finite(values), *([0.0] if strips.zero else [])], log=strips.log)
    return scale or Scale(1e-4, 1.0, True)


def strip_place(value: float, scale: Scale) -> str:
    """Return the place of a value on a strip."""
    return f"{8 + float(scale.share(value)) * (STRIP[0] - 16):.1f}"


def heat_paths(values: Array, share: bool) -> list[tuple[int, str]]:
    """Return the cells of a map by their colour, from 0 for the lowest: (colour, path in units of cells).

    Args:
        values: (L, N) the values; a cell without a value, or a ratio of 0, is left out.
        share: whether the values are shares from 0 to 1; if not, the colours are logarithmic.
    """
    known = np.isfinite(values) & ((values >= 0) if share else (values > 0))
    if not known.any():
        return []
    low, high = (0.0, 1.0) if share else (float(values[known].min()), float(values[known].max()))
    shares = Scale(low, high, not share).share(values) if high > low else np.zeros(values.shape)
    colors = np.clip((np.nan_to_num(shares) * LEVELS).astype(int), 0, LEVELS - 1)
    return [
        (color, "".join(f"M{column} {row}h1v1h-1z" for row, column in np.argwhere(known & (colors == color))))
        for color in sorted(set(colors[known].tolist()))
    ]
