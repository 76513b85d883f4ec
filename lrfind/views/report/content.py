"""What a report shows, as plain data: answers, charts, tables and texts, before anything is rendered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from lrfind.analysis.curves import Array
from lrfind.errors import shortened

LONGEST_NAME = 80  # characters of a name in a legend or a table
LONGEST_TEXT = 3000  # characters of a paragraph
SEVERAL = 6  # colours that can be told apart; after them they repeat
LEVELS = 12  # colours of a scale from low to high

Shape = Literal["circle", "square", "diamond", "triangle", "cross"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        caption: what the table shows.
        header: the names of the columns.
        rows: the cells, row by row.
        note: what the reader should know of it; empty if nothing.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A line, in a chart: y against x; a NaN interrupts it."""

    name: str
    x: Array
    y: Array
    color: str
    bold: bool = False
    faint: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """The area between two lines."""

    name: str
    x: Array
    low: Array
    high: Array
    color: str


@dataclass(frozen=True)
class Dots:
    """Points; those beyond the ends of the loss axis are drawn at the end.

    Attributes:
        name: the name in the legend.
        points: (x, y) of each; y is None for a point without a loss, which is drawn at the upper end.
        color: the colour.
        shape: the shape of each.
        sizes: the radius of each; empty if all are alike.
        remarks: what a reader learns of each beside its values; empty if nothing.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    color: str
    shape: Shape = "circle"
    sizes: Sequence[float] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Rule:
    """A value on the x axis (or, if it is level, on the y axis), drawn across the chart."""

    name: str
    at: float
    color: str
    dashed: bool = False
    level: bool = False


@dataclass(frozen=True)
class Span:
    """A range on the x axis."""

    name: str
    low: float
    high: float
    color: str


Mark = Line | Band | Dots | Rule | Span


@dataclass(frozen=True)
class Chart:
    """A chart with the marks of one legend.

    Attributes:
        title: what it shows.
        note: what the reader must know to read it.
        x: the label of the x axis.
        y: the label of the y axis.
        marks: the marks, those in front last. Marks of one name share their place in the legend.
        table: the values behind it.
        seen: the y values that the y axis must hold; higher values are cut off.
        log_x: whether the x axis is logarithmic.
        log_y: whether the y axis is logarithmic at first.
        from_low_to_high: whether the colours go from a low to a high learning rate.
    """

    title: str
    note: str
    x: str
    y: str
    marks: Sequence[Mark]
    table: Table
    seen: Sequence[float]
    log_x: bool = True
    log_y: bool = False
    from_low_to_high: bool = False


@dataclass(frozen=True)
class StripRow:
    """One row of a chart of strips: a middle, an interval and single values; each may be missing."""

    name: str
    middle: float | None
    interval: tuple[float, float] | None
    values: Sequence[float]
    words: str
    color: str


@dataclass(frozen=True)
class Strips:
    """A chart with one strip for each name, all on the same axis."""

    title: str
    note: str
    x: str
    rows: Sequence[StripRow]
    table: Table
    log: bool = False
    zero: bool = False


@dataclass(frozen=True)
class Heat:
    """Maps of layers against looks, in colours; a cell without a value is empty.

    Attributes:
        title: what they show.
        note: what the reader must know to read them.
        layers: the names of the rows.
        at: the step (or lr) of each column.
        maps: (label, (L, N) values, whether they are shares from 0 to 1) of each map.
        calm: the number of columns that were judged; the others are beyond what the network can take.
        table: the values behind it.
    """

    title: str
    note: str
    layers: Sequence[str]
    at: Sequence[str]
    maps: Sequence[tuple[str, Array, bool]]
    calm: int
    table: Table


@dataclass(frozen=True)
class Section:
    """A section of the evidence."""

    title: str
    text: Sequence[str] = ()
    parts: Sequence[Chart | Strips | Heat | Table] = ()


@dataclass(frozen=True)
class Answer:
    """The answer of a run, which the report begins with.

    Attributes:
        label: what the number is, such as "Learning rate".
        lr: the number; None if there is none.
        beside: what belongs to it, such as the name of a variant.
        interval: its lowest and highest value; None if it has none.
        meaning: what the interval means.
        trust: how far to trust it, in a few words.
        level: the same as a colour.
        reason: why it is the answer, or why there is none.
        facts: (name, value) of what belongs to the answer.
    """

    label: str
    lr: float | None
    beside: str = ""
    interval: tuple[float, float] | None = None
    meaning: str = ""
    trust: str = ""
    level: Literal["good", "fair", "poor"] = "fair"
    reason: str = ""
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Report:
    """What the report of one kind of run shows: the answer, and the evidence for it."""

    answer: Answer
    evidence: Sequence[Section] = field(default_factory=tuple)


def several(number: int) -> str:
    """Return the colour of one of several things by its number."""
    return f"c{number % SEVERAL}"


def is_repeated(number: int) -> bool:
    """Return whether an earlier one of several things has the colour of this one, so that it is dashed."""
    return number >= SEVERAL


def level(value: float, low: float, high: float) -> str:
    """Return the colour of a value on a logarithmic scale from low to high.

    >>> level(0.1, 0.1, 10), level(10, 0.1, 10), level(1, 1, 1)
    ('q0', 'q11', 'q0')
    """
    share = 0.0 if high <= low else math.log(value / low) / math.log(high / low)
    return f"q{min(LEVELS - 1, max(0, int(share * LEVELS)))}"


def name(text: str) -> str:
    """Return a name from a config, data or code, shortened if it is long."""
    return shortened(text, LONGEST_NAME)


def finite(values: Sequence[float | None] | Array) -> list[float]:
    """Return the values that are finite numbers."""
    return [float(value) for value in values if value is not None and math.isfinite(value)]
