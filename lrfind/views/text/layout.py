"""Lines and tables that fit the terminal: 80 columns where there is none, wider on a wider one.

A terminal would break a longer line in the middle of a word, and each row of a wider table into two.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from lrfind.errors import printable
from lrfind.views.terminal import columns, paragraph

LONGEST_PROSE = 100
"""The most characters in a line of prose; longer lines are hard to read."""
GAP = 2
"""The spaces between two columns of a table."""
NARROWEST = 12
"""The least width of a column whose cells are folded."""


def wrapped(text: str, indent: str = "  ", rest: str = "  ", width: int | None = None) -> list[str]:
    """Return the lines of a paragraph; see `terminal.paragraph`.

    Args:
        text: the paragraph.
        indent: the text before its first line.
        rest: the text before its other lines.
        width: the most characters of a line; None for as many as stdout shows, but at most 100.
    """
    widest = min(columns(sys.stdout), LONGEST_PROSE) if width is None else width
    return paragraph(text, widest, indent, rest)


def beside(*parts: str) -> list[str]:
    """Return short parts in one line if they fit, and otherwise each in a line of its own.

    >>> beside("Learning rate: 0.0123", "confidence: high")
    ['Learning rate: 0.0123   confidence: high']
    """
    line = "   ".join(parts)
    if len(line) <= min(columns(sys.stdout), LONGEST_PROSE):
        return [line]
    return [line for part in parts for line in wrapped(part, "" if part is parts[0] else "  ")]


def table_block(
    header: Iterable[str], rows: Iterable[Iterable[str]], keys: int = 1, split: int | None = None
) -> list[str]:
    """Return the lines of an indented table, with an empty line above and below; see `table_text`."""
    lines = table_text(header, rows, columns(sys.stdout) - 2, keys, split).splitlines()
    return ["", *(f"  {line}" if line else "" for line in lines), ""]


def table_text(
    header: Iterable[str],
    rows: Iterable[Iterable[str]],
    width: int | None = None,
    keys: int = 1,
    split: int | None = None,
) -> str:
    """Return a plain table in which each row is one line.

    Titles that make their column wide are folded. Columns for which there is no room go into a further table
    below, which begins with the same first columns. If the first column is very wide, such as a path, it gets
    a line of its own above the rest of its row. A last column without a title holds remarks; without room for
    them, each has a line of its own below its row. Only a single cell that is wider than all that is folded.

    Args:
        header: the titles of the columns.
        rows: the cells of each row.
        width: the most characters of a line; None for as many as stdout shows.
        keys: the number of first columns that say which row it is.
        split: the number of the column with which a second table begins, if one table is too wide.

    >>> print(table_text(["lr", "lowest val loss", "at step"], [["0.1", "0.5", "20"]], width=18))
    lr   lowest  at
         val     step
         loss
    0.1  0.5     20
    """
    width = columns(sys.stdout) if width is None else width
    table = [[printable(cell) for cell in column] for column in zip(header, *rows, strict=True)]
    if len(table) > 1 and _least(table) > width and _least(table[:1]) > width // 2:
        below = table_text(*_cells(table[1:]), width - GAP).split("\n")
        if len(below) == len(table[0]):  # each row is one line
            return "\n".join(_interleaved(table[0], below))
    parts, remarks = _parts(table, width, keys, split), list[str]()
    if len(parts) > 1 and not table[-1][0]:
        without = _parts(table[:-1], width, keys, split)
        if _least(without[0]) <= width:  # then each row is one line
            parts, remarks = without, table[-1][1:]
    blocks = [_lines(part, width) for part in parts]
    if remarks:
        blocks[0] = _with_remarks(blocks[0], remarks, " " * (max(map(cell_len, table[0])) + GAP))
    return "\n\n".join(map("\n".join, blocks))


def _cells(table: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    header, *rows = ([*row] for row in zip(*table, strict=True))
    return header, rows


def _interleaved(first: Sequence[str], below: Sequence[str]) -> list[str]:
    return [line for key, rest in zip(first, below, strict=True) for line in (key, f"{' ' * GAP}{rest}")]


def _with_remarks(lines: Sequence[str], remarks: Sequence[str], indent: str) -> list[str]:
    """Return the lines of a table with each row's remark below it. The titles may take several lines."""
    header = len(lines) - len(remarks)
    below = [[f"{indent}{remark}"] if remark else [] for remark in remarks]
    rows = zip(lines[header:], below, strict=True)
    return [*lines[:header], *(line for row, remark in rows for line in (row, *remark))]


def _parts(table: list[list[str]], width: int, keys: int, split: int | None) -> list[list[list[str]]]:
    """Divide the columns of a table into tables that are narrow enough, each with the first columns."""
    if _least(table) <= width:
        return [table]
    parts = [table[:keys]]
    for number, column in enumerate(table[keys:], keys):
        if number == split or (len(parts[-1]) > keys and _least([*parts[-1], column]) > width):
            parts.append(table[:keys])
        parts[-1] = [*parts[-1], column]
    return parts


def _least(table: Sequence[Sequence[str]]) -> int:
    """Return the least width of a table whose cells are not folded, but whose titles may be."""
    return sum(map(_least_of, table)) + GAP * (len(table) - 1)


def _least_of(column: Sequence[str]) -> int:
    title, *cells = column
    return max(map(cell_len, [*(title.split() or [""]), *cells]))


def _lines(table: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a table whose columns stand side by side."""
    widths = [max(map(cell_len, column)) for column in table]
    gaps = GAP * (len(table) - 1)
    for number in sorted(range(len(table)), key=lambda i: _least_of(table[i]) - widths[i]):
        if sum(widths) + gaps > width:
            widths[number] = max(_least_of(table[number]), width - gaps - sum(widths) + widths[number])
    if sum(widths) + gaps > width:
        widths[-1] = max(NARROWEST, width - gaps - sum(widths[:-1]))
    lines = []
    for row in zip(*table, strict=True):
        cells = [_folded(cell, room) for cell, room in zip(row, widths, strict=True)]
        for at in range(max(map(len, cells))):
            texts = [cell[at] if at < len(cell) else "" for cell in cells]
            padded = [f"{t}{' ' * (room - cell_len(t))}" for t, room in zip(texts, widths, strict=True)]
            lines.append((" " * GAP).join(padded).rstrip())
    return lines


def _folded(cell: str, width: int) -> list[str]:
    if cell_len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]
