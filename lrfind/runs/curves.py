"""Curves to suggest from: the lanes of a run directory, or a CSV from anywhere."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfind.analysis.curves import Array, Curve
from lrfind.catalog import DEFAULT_METHOD
from lrfind.config.files import NotText, decoded, read_bounded, separator_note
from lrfind.errors import UsageError, in_one_line, in_shell, listed
from lrfind.runs.result import RunRecord
from lrfind.runs.store import Run

if TYPE_CHECKING:
    import pandas as pd

MOST_BYTES = 500_000_000  # of the largest CSV that is read: about ten million rows
MOST_COLUMNS = 1000

OPENERS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""The compressed forms of a CSV, by the end of its name."""


def read_curves(source: Path) -> tuple[list[Curve], bool, str]:
    """Read curves to suggest from: the lanes of a range test's run, or a CSV with columns lr and loss.

    A CSV may have a column `lane`; then each lane is a curve. The rows of a curve are sorted by lr. A row
    without a loss is kept, as NaN: it may be a gap (see `Curve.gaps`).

    Returns:
        Three values: one curve for each lane with measurements; whether the losses are raw, as in lrfind's
        own runs; and the method to use if the user names none.

    Raises:
        UsageError: if the source is neither of these, or if its rows make no curve.
    """
    if _is_folder(source):
        return _curves_of(Run.open(source).record())
    text = _text(source)
    if note := separator_note(text):
        raise UsageError(f"'{source}', line 1 is '{note}', which only Excel reads; delete that line.")
    points = _numbers(text) or _points(source, _table(source, text))
    return [*_curves(source, points)], False, DEFAULT_METHOD


class _Points(NamedTuple):
    """The points of a CSV, (N,) each: `line` is where a point stands, `lane` the number of its lane."""

    lr: Array
    loss: Array
    line: NDArray[np.int64]
    lane: NDArray[np.int64]


def _curves(source: Path, points: _Points) -> Iterator[Curve]:
    """Yield a curve for each lane, in the order of their first points, sorted by lr.

    Raises:
        UsageError: if an lr stands twice in a lane.
    """
    by_lane = np.argsort(points.lane, kind="stable")
    ends = np.cumsum(np.bincount(points.lane))[:-1]
    for rows in np.split(by_lane, ends):
        rows = rows[np.argsort(points.lr[rows], kind="stable")]
        for again in np.flatnonzero(np.diff(points.lr[rows]) == 0)[:1]:
            first, second = points.line[rows[again : again + 2]]
            raise UsageError(
                f"'{source}', line {second}: lr is {points.lr[rows[again]]:g}, as in line {first}. A curve"
                " has each lr once. If the file holds several runs or seeds, number them in a column"
                " named lane, or give a file for each."
            )
        yield Curve.of(points.lr[rows], points.loss[rows], lines=points.line[rows])


def _numbers(text: str) -> _Points | None:
    """Read a CSV that holds nothing but numbers, in a third of the time that `_table` takes.

    Returns:
        The points; None where there is anything else, such as an empty row or a mistake, which `_table` and
        `_points` explain.
    """
    head, _, body = text.rstrip("\r\n").partition("\n")
    try:
        names = [name.strip().lower() for name in next(csv.reader([head]), [])]
        if len(names) > MOST_COLUMNS:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = np.loadtxt(io.StringIO(body), delimiter=",", comments=None, ndmin=2)
    except (ValueError, csv.Error, UserWarning):
        return None
    columns = dict(zip(names, table.T, strict=False))
    if table.shape != (body.count("\n") + 1, len(columns)) or not {"lr", "loss"} <= columns.keys():
        return None
    lr, lane = columns["lr"], columns.get("lane", np.zeros(len(table)))
    if not ((lr > 0) & (lr < math.inf)).all() or not (lane == np.floor(lane)).all():
        return None
    _, first, inverse = np.unique(lane, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))  # of each lane in the file
    return _Points(lr, columns["loss"], np.arange(len(table)) + 2, place[inverse])


def _table(source: Path, text: str) -> pd.DataFrame:
    """Read a CSV as a table of text; empty rows are left out, and the others keep their places.

    Its columns may also be separated by tabs, or by semicolons, and then its decimals by commas.

    Raises:
        UsageError: if it cannot be read, or if lr or loss is not the name of exactly one column.
    """
    import pandas as pd

    try:
        separator = next((mark for mark in ";\t" if {"lr", "loss"} <= {*_column_names(text, mark)}), ",")
        names = _column_names(text, separator)
        if len(names) > MOST_COLUMNS:
            raise UsageError(
                f"'{source}' has {len(names):,} columns, more than {MOST_COLUMNS:,}; keep lr and loss."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                skipinitialspace=True,
                skip_blank_lines=False,
                dtype=str,
                keep_default_na=False,
                index_col=False,
            )
    except pd.errors.ParserWarning:
        raise UsageError(f"'{source}' has rows with more cells than its first line names.") from None
    except (ValueError, csv.Error) as error:  # pandas' parser errors are ValueErrors
        raise UsageError(f"'{source}' cannot be read as CSV: {error}.") from None
    table.columns = [str(name).strip().lower() for name in table.columns]
    missing = [name for name in ("lr", "loss") if name not in table]
    if missing:
        raise UsageError(
            f"'{source}' has no column {' and no column '.join(missing)}; its columns are:"
            f" {', '.join(table.columns)}. Name them lr and loss, with a comma between."
        )
    repeated = next((name for name in ("lr", "loss", "lane") if names.count(name) > 1), None)
    if repeated is not None:
        raise UsageError(
            f"'{source}' has {names.count(repeated)} columns called {repeated}; capitals and spaces do not"
            " count. Keep one of them."
        )
    table = table[(table != "").any(axis=1)]
    if separator == ";":  # of a spreadsheet in a language with decimal commas
        table = table.apply(lambda column: column.str.replace(",", "."))
    return table


def _column_names(text: str, separator: str) -> list[str]:
    """Return the names of the columns, in lower case and without spaces around them."""
    return [name.strip().lower() for name in next(csv.reader(io.StringIO(text), delimiter=separator), [])]


def _text(source: Path) -> str:
    """Return the text of a file, which may be compressed, in UTF-8, or in UTF-16 with its mark.

    Raises:
        UsageError: if it cannot be read, or is too large.
    """
    try:
        content = read_bounded(source, MOST_BYTES)
        if source.suffix.lower() in OPENERS:
            with OPENERS[source.suffix.lower()](io.BytesIO(content)) as file:
                content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"'{source}' is larger than {MOST_BYTES:,} bytes once it is decompressed.")
        return decoded(content)
    except FileNotFoundError:
        raise UsageError(f"there is no file or run directory '{source}'.") from None
    except NotText as error:
        name = f" Or, if it is compressed, let its name end in {listed(OPENERS, 'or')}."
        raise UsageError(f"'{source}' {error}{'' if error.is_archive else name}") from None
    except OSError as error:
        raise UsageError(f"'{source}' cannot be read: {error.strerror or in_one_line(error)}.") from None
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise UsageError(f"'{source}' cannot be decompressed: {in_one_line(error)}.") from None


def _curves_of(record: RunRecord) -> tuple[list[Curve], bool, str]:
    """Return the curves of a range test that varies only the lr."""
    if record.kind.lanes != "ramps":
        raise UsageError(
            f"'{record.path}' is a run of {record.command}, which has no ramp to suggest from; `lrfind show"
            f" {in_shell(record.path)}` prints its answer. Give a range test's run, or a CSV."
        )
    if record.section.over != "lr":
        raise UsageError(
            f"'{record.path}' holds range tests with several values of {record.section.over}; `lrfind show"
            f" {in_shell(record.path)}` prints the suggestion for each value."
        )
    return [lane.curve for lane in record.lanes if lane.complete], True, record.section.method


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is too long for a path
        return False


def _points(source: Path, table: pd.DataFrame) -> _Points:
    """Return the points of a table of text.

    Raises:
        UsageError: if a loss is not a number, or an lr is not a positive number.
    """
    lr, loss = _floats(source, table, "lr"), _floats(source, table, "loss")
    lane = np.zeros(len(table), dtype=np.int64)
    if "lane" in table:
        lane = table.groupby("lane", sort=False).ngroup().to_numpy().astype(np.int64)
    return _Points(lr, loss, table.index.to_numpy(dtype=np.int64) + 2, lane)


def _floats(source: Path, table: pd.DataFrame, name: str) -> Array:
    """Return a column of text as floats, exactly; an empty cell is NaN."""
    values = []
    for row, text in zip(table.index.tolist(), table[name].tolist(), strict=True):
        try:
            values.append(float(text or "nan"))
        except ValueError:
            raise UsageError(f"'{source}', line {row + 2}: {name} is '{text[:40]}', not a number.") from None
        if name == "lr" and not 0 < values[-1] < float("inf"):
            raise UsageError(f"'{source}', line {row + 2}: lr is '{text[:40]}', not a positive number.")
    return np.array(values)
