"""A table in a CSV file: what its columns are is inferred, and told in the data's `transforms`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from csv import Error, reader
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from lrfind.datasets.files import existing_file, read_text
from lrfind.datasets.rows import held_out, moments, standardised, tensor_data
from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError, unknown

CLASSES = 20  # whole numbers of at most this many kinds are taken for classes
CATEGORIES = 50  # a text column with more kinds is no category


def csv(
    path: str,
    target: str,
    task: Literal["auto", "regression", "classification"] = "auto",
    missing: Literal["refuse", "mean", "median", "drop"] = "refuse",
    ignore: Sequence[str] = (),
    standardize: bool = True,
    validation: float = 0.2,
    seed: int = 0,
    separator: str = ",",
    decimal: str = ".",
) -> TensorData:
    """A CSV file of your own: one row an example, one column the target, a first line with the names.

    Columns of numbers become numbers, columns of text or true/false one column for each of their kinds. All
    that is fitted (means, deviations, kinds, what fills gaps) is fitted on the training rows alone.

    Args:
        path: the file, in UTF-8.
        target: the column to predict.
        task: auto takes text, true/false, and whole numbers of at most 20 kinds for classes.
        missing: refuse a table with gaps; fill numbers with the mean or the median, and text with its most
            frequent kind; or drop the rows that have gaps.
        ignore: columns to leave out.
        standardize: numbers, and the target of a regression, get mean 0 and deviation 1.
        validation: share of the rows (of each class) that is held out.
        seed: of the split.
        separator: the one character between columns.
        decimal: what stands before the decimals of a number.

    Returns:
        x (N, D) float32; y (N,) int64 for classes in sorted order, or (N, 1) float32.

    Raises:
        UsageError: if there is no such file or column, or a column cannot be used; says where and why.
    """
    table = _read(existing_file(path), separator, decimal)
    frame = _chosen(table.frame, target, ignore)
    _check_gaps(table, frame, target, missing)
    told = []
    if missing == "drop":
        whole = frame.dropna()
        if len(whole) < len(frame):
            told.append(f"rows with missing values dropped: {len(frame) - len(whole):,} of {len(frame):,}")
        frame = whole
    if len(frame) < 2:
        raise UsageError(f"data: {table.file} has {len(frame)} rows of data left; at least 2 are needed.")
    labels, classes, as_what = _target(table, frame[target], task)
    rows = held_out(len(frame), validation, seed, None if classes is None else labels)
    features = frame.drop(columns=target)
    numbers = [name for name in features.columns if _is_number(features[name])]
    texts = [name for name in features.columns if name not in numbers]
    parts = [_number_column(table, features[name], missing, rows[0], standardize) for name in numbers]
    encoded = [_text_column(table, features[name], rows[0]) for name in texts]
    kinds = [f"{name} ({part.shape[1]})" for name, part in zip(texts, encoded, strict=True)]
    groups: dict[str, Sequence[str]] = {"numbers": numbers, "categories": kinds, "ignored": [*ignore]}
    told.append("columns: " + "; ".join(f"{k}: {', '.join(v)}" for k, v in groups.items() if v))
    gaps = int(features.isna().sum().sum())
    if gaps:
        told.append(
            f"missing values filled: {gaps:,}; numbers with the {missing}, text with the most frequent kind,"
            " both of the training rows"
        )
    if standardize and numbers:
        told.append("numbers with mean 0 and deviation 1, both of the training rows")
    told.append(f"target {target}: {as_what}")
    if classes is None and standardize:
        (mean,), (deviation,) = moments(labels[rows[0]])
        told.append(f"target minus {mean:.6g}, over {deviation:.6g}: mean and deviation of the training rows")
        labels = standardised(labels, rows[0])
    return tensor_data(np.concatenate([*parts, *encoded], axis=1), labels, rows, classes, tuple(told))


@dataclass(frozen=True)
class _Table:
    """A CSV file as it was read; the frame's index counts the rows from 0."""

    file: Path
    text: str
    separator: str
    frame: pd.DataFrame

    def line(self, row: Any) -> int:
        """The line of the file that a row of the frame ends in."""
        lines = reader(StringIO(self.text), delimiter=self.separator)
        numbers = (lines.line_num for fields in lines if any(field.strip() for field in fields))
        return next(islice(numbers, int(row) + 1, None))

    def refuse(self, column: pd.Series[Any], bad: Any, what: str, advice: str) -> UsageError:
        """The error for the values of a column where `bad` (N,) is true."""
        first = column.index[int(np.flatnonzero(bad)[0])]
        return UsageError(
            f"data: {self.file}: column '{column.name}' has {what} (the first in line {self.line(first)});"
            f" {advice}."
        )


def _read(file: Path, separator: str, decimal: str) -> _Table:
    for what, given in (("separator", separator), ("decimal", decimal)):
        if len(given) != 1:
            raise UsageError(f"data: {what} is one character, such as ';' or ','; found {given!r}.")
    text = read_text(file)
    try:
        _check_names(file, next((each for each in reader(StringIO(text), delimiter=separator) if each), []))
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            frame = pd.read_csv(
                StringIO(text),
                sep=separator,
                decimal=decimal,
                index_col=False,
                low_memory=False,
                skipinitialspace=True,
            ).rename(columns=str.strip)
    except pd.errors.ParserWarning as error:
        raise UsageError(f"data: {file}: a row has more fields than the first line has names.") from error
    except (Error, ValueError) as error:
        raise UsageError(f"data: {file} is no table of columns: {' '.join(str(error).split())}") from error
    return _Table(file, text, separator, frame)


def _check_names(file: Path, names: list[str]) -> None:
    """Refuse a first line that does not name at least two columns."""
    if not names:
        raise UsageError(f"data: {file} is empty.")
    if len(names) == 1:
        likely = max(";\t|,", key=names[0].count)
        hint = f"; is data.args.separator {likely!r}?" if likely in names[0] else "."
        raise UsageError(
            f"data: {file} has one column, '{names[0]}'; a target and at least one more are needed{hint}"
        )
    names = [name.strip() for name in names]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"data: {file} has two columns called '{twice}'; rename one.")


def _chosen(frame: pd.DataFrame, target: str, ignore: Sequence[str]) -> pd.DataFrame:
    for name in (target, *ignore):
        if name not in frame:
            raise UsageError(f"data: {unknown('column', name, frame.columns)}")
    if target in ignore:
        raise UsageError(f"data: column '{target}' is both the target and to be ignored.")
    chosen = frame.drop(columns=[*ignore])
    if chosen.shape[1] < 2:
        raise UsageError(f"data: no column is left beside the target '{target}'; ignore fewer.")
    return chosen


def _check_gaps(table: _Table, frame: pd.DataFrame, target: str, missing: str) -> None:
    gaps = frame.isna()
    for name in frame:
        column, count = frame[name], int(gaps[name].sum())
        if 0 < count == len(frame):
            raise UsageError(
                f"data: {table.file}: column '{name}' has no values; put it into data.args.ignore."
            )
        if not count or missing == "drop" or (missing != "refuse" and name != target):
            continue
        advice = "data.args.missing: drop leaves these rows out"
        if name == target:
            advice += "; a target is never made up"
        else:
            advice += ", mean or median fills the gaps; or put the column into data.args.ignore"
        what = f"{count:,} missing values" if count > 1 else "a missing value"
        raise table.refuse(column, gaps[name], what, advice)


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _floats(table: _Table, column: pd.Series[Any]) -> np.ndarray:
    values = column.to_numpy(dtype=np.float64)
    if np.isinf(values).any():
        raise table.refuse(column, np.isinf(values), "infinite values", "replace them or leave them out")
    return values


def _target(table: _Table, column: pd.Series[Any], task: str) -> tuple[np.ndarray, int | None, str]:
    """The target as classes (N,) or numbers (N, 1), how many classes, and this in words."""
    number = _is_number(column)
    values = _floats(table, column) if number else column.astype(str).to_numpy(dtype=object)
    kinds, labels = np.unique(values, return_inverse=True)
    if len(kinds) < 2:
        raise UsageError(f"data: {table.file}: the target '{column.name}' is '{kinds[0]}' in every row.")
    most = len(column) / 2  # kinds, for classes that can be learnt
    why = ""
    if task == "auto":
        continuous = number and (len(kinds) > min(CLASSES, most) or bool((values != np.round(values)).any()))
        task, why = "regression" if continuous else "classification", " (inferred; `task` overrides it)"
    if task == "regression":
        if not number:
            odd, text = _not_numbers(column)
            raise table.refuse(column, odd, f"text such as '{text}'", "a regression needs numbers")
        return values[:, None], None, f"regression{why}"
    if len(kinds) > most:
        advice = "task: regression predicts the number" if number else "choose a target with fewer"
        raise UsageError(
            f"data: {table.file}: the target '{column.name}' has {len(kinds):,} kinds in {len(column):,}"
            f" rows, too many for classes; {advice}."
        )
    names = [f"{kind:g}" if number else str(kind) for kind in kinds]
    return labels, len(kinds), f"{len(kinds)} classes, {_some(names)}{why}"


def _number_column(
    table: _Table, column: pd.Series[Any], missing: str, train: np.ndarray, standardize: bool
) -> np.ndarray:
    """A column of numbers as (N, 1), its gaps filled."""
    values = _floats(table, column)
    gaps = np.isnan(values)
    if gaps[train].all():
        raise UsageError(
            f"data: {table.file}: column '{column.name}' has no values in the training rows; put it into"
            " data.args.ignore."
        )
    if gaps.any():
        usual = (np.nanmean if missing == "mean" else np.nanmedian)(values[train])
        values = np.where(gaps, usual, values)
    return standardised(values[:, None], train) if standardize else values[:, None]


def _text_column(table: _Table, column: pd.Series[Any], train: np.ndarray) -> np.ndarray:
    """A column of text as (N, kinds): 1 where a row is of that kind; all 0 for a kind not trained on."""
    known = column.notna().to_numpy()
    values = column.astype(str).to_numpy(dtype=object)
    count = len(np.unique(values[known]))
    if count > min(CATEGORIES, len(values) / 2):
        odd, text = _not_numbers(column)
        if odd.sum() < known.sum() / 2:
            what, advice = (
                f"numbers, but also '{text}'",
                "correct it, or put the column into data.args.ignore",
            )
        else:
            what = f"text of {count:,} kinds, too many for categories"
            advice = "put it into data.args.ignore; for decimal commas there is data.args.decimal"
        raise table.refuse(column, odd, what, advice)
    kinds, counts = np.unique(values[train][known[train]], return_counts=True)
    if len(kinds) == 0:
        raise UsageError(
            f"data: {table.file}: column '{column.name}' has no values in the training rows; put it into"
            " data.args.ignore."
        )
    filled = np.where(known, values, kinds[counts.argmax()])
    return np.asarray(filled[:, None] == kinds).astype(np.float64)


def _not_numbers(column: pd.Series[Any]) -> tuple[np.ndarray, str]:
    """Where (N,) a column of text is neither a number nor missing, and the first such text."""
    odd = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
    return odd, str(column.to_numpy()[odd][0])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])} and {len(names) - 8} more"
