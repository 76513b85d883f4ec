"""A small plot in characters: a mark for each of few points, and braille patterns for the curve of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

FEW = 64
"""The most points that have a mark each."""
LABEL = 9
"""The characters of the labels on the left."""
BRAILLE = 0x2800
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille pattern, by row and column of its dots."""


def dots(
    points: Sequence[tuple[float, float]],
    width: int,
    height: int,
    *,
    x_name: str,
    log_x: bool,
    braille: bool,
) -> list[str]:
    r"""Draw points as lines of text, with the ranges of both axes.

    Losses far above the first one, as those of lanes that diverge, are drawn at the upper edge.

    Args:
        points: (x, y) of each point; points that are not finite are left out.
        width: the characters of a line, with the labels.
        height: the lines of the plot itself; two more are for the axis below it.
        x_name: the name of the horizontal axis.
        log_x: whether that axis is logarithmic.
        braille: whether characters beyond ASCII can be shown.

    Returns:
        The lines; none if there are not at least two different points.

    >>> print("\n".join(dots([(0.1, 2), (1, 1)], 24, 2, x_name="lr", log_x=True, braille=False)))
          2 |*
          1 |             *
            +--------------
             0.1    lr    1
    """
    known = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x)]
    if len({*known}) < 2:
        return []
    low, high = _range([y for _, y in known])
    log_y = low > 0 and high > 30 * low
    xs = [math.log(x) if log_x else x for x, _ in known]
    ys = [math.log(min(y, high)) if log_y else min(y, high) for _, y in known]
    curve = braille and len(known) > FEW
    columns, fine_x, fine_y = max(width - LABEL - 1, 8), *((2, 4) if curve else (1, 1))
    across = _places(xs, columns * fine_x)
    down = [height * fine_y - 1 - place for place in _places(ys, height * fine_y)]
    cells = [[0] * columns for _ in range(height)]
    for x, y in zip(across, down, strict=True):
        cells[y // fine_y][x // fine_x] |= BITS[y % fine_y][x % fine_x]
    labels = {0: f"{high:.2g}", height - 1: f"{low:.2g}"}
    wall, corner, floor, mark = "│└─●" if braille else "|+-*"
    lines = []
    for number, row in enumerate(cells):
        drawn = "".join((chr(BRAILLE + bits) if curve else mark) if bits else " " for bits in row)
        lines.append(f"{labels.get(number, ''):>{LABEL - 2}} {wall}{drawn}".rstrip())
    ends = [f"{x:.2g}" if log_x else f"{x:,.0f}" for x in (min(known)[0], max(known)[0])]
    between = columns - len(ends[0]) - len(ends[1])
    name = (x_name if len(x_name) + 2 <= between else "").center(between)
    return [
        *lines,
        f"{' ' * (LABEL - 1)}{corner}{floor * columns}",
        f"{' ' * LABEL}{ends[0]}{name}{ends[1]}",
    ]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest value to draw."""
    low, usual = min(values), max(values[0], median(values))
    high = min(max(values), low + 1.5 * (usual - low))
    return (low, high) if high > low else (low, max(values))


def _places(values: Sequence[float], count: int) -> list[int]:
    """Return where values lie among so many evenly spaced places between the lowest and the highest."""
    low, high = min(values), max(values)
    if high == low:
        return [count // 2] * len(values)
    return [round((value - low) / (high - low) * (count - 1)) for value in values]
