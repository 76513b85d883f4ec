"""Curves to suggest from: the lanes of a run directory, or a CSV from anywhere."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from lrfind.analysis.curves import Curve
from lrfind.catalog import DEFAULT_METHOD
from lrfind.errors import UsageError
from lrfind.runs.result import RunRecord
from lrfind.runs.store import Run


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                source,
                skipinitialspace=True,
                skip_blank_lines=False,
                dtype=str,
                keep_default_na=False,
                index_col=False,
            )
    except pd.errors.ParserWarning:
        raise UsageError(f"'{source}' has rows with more cells than its first line names.") from None
    except FileNotFoundError:
        raise UsageError(f"there is no file or run directory '{source}'.") from None
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UsageError(f"'{source}' cannot be read as CSV: {error}.") from None
    table.columns = [str(name).strip().lower() for name in table.columns]
    missing = [name for name in ("lr", "loss") if name not in table]
    if missing:
        raise UsageError(
            f"'{source}' has no column {' and no column '.join(missing)}; its columns are:"
            f" {', '.join(table.columns)}. Name them lr and loss, with a comma between."
        )
    table["lr"], table["loss"] = _floats(source, table, "lr"), _floats(source, table, "loss")
    lanes = [rows for _, rows in table.groupby("lane", sort=False)] if "lane" in table else [table]
    ordered = [rows.sort_values("lr", kind="stable") for rows in lanes]
    return (
        [
            Curve.of(rows["lr"], rows["loss"], places=tuple(f"line {row + 2}" for row in rows.index))
            for rows in ordered
        ],
        False,
        DEFAULT_METHOD,
    )


def _curves_of(record: RunRecord) -> tuple[list[Curve], bool, str]:
    """Return the curves of a range test that varies only the lr."""
    if record.kind.lanes != "ramps":
        raise UsageError(
            f"'{record.path}' is a run of {record.command}, which has no ramp to suggest from; `lrfind resume"
            f" {record.path}` prints its answer again. Give a range test's run, or a CSV."
        )
    if record.section.over != "lr":
        raise UsageError(
            f"'{record.path}' holds range tests with several values of {record.section.over}; `lrfind resume"
            f" {record.path}` prints the suggestion for each value again."
        )
    return [lane.curve for lane in record.lanes if lane.complete], True, record.section.method


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is too long for a path
        return False


def _floats(source: Path, table: pd.DataFrame, name: str) -> list[float]:
    """Return a column of text as floats, exactly; an empty cell is NaN."""
    values = []
    for row, text in enumerate(table[name]):
        try:
            values.append(float(text or "nan"))
        except ValueError:
            raise UsageError(f"'{source}', line {row + 2}: {name} is '{text}', not a number.") from None
        if name == "lr" and not 0 < values[-1] < float("inf"):
            raise UsageError(f"'{source}', line {row + 2}: lr is '{text}', not a positive number.")
    return values
