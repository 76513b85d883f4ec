"""A table in a CSV file. The kinds of its columns are inferred, and reported in the data's `transforms`."""

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
from lrfind.datasets.rows import moments, split_rows, standardised, tensor_data
from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError, counted, in_one_line, unknown

CLASSES = 20  # a target of whole numbers with at most this many different values is read as classes
CATEGORIES = 50  # a text column with more different values is not read as categories


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
    """Your own CSV file: each row is an example, one column is the target, the first line has the names.

    A column of numbers stays one column of numbers. A column of text or of true/false becomes one column for
    each of its categories. Everything that is fitted (means, deviations, categories, the values that fill
    gaps) is fitted on the training rows only.

    Args:
        path: the path of the file, which is in UTF-8.
        target: the name of the column to predict.
        task: the kind of the target. `auto` infers it: text, true/false, and whole numbers with at most 20
            different values are classes.
        missing: what to do about missing values. `refuse` refuses a table with missing values. `mean` and
            `median` fill gaps in a column of numbers with its mean or median, and gaps in a column of text
            with its most frequent category. `drop` leaves out the rows with missing values.
        ignore: the columns to leave out.
        standardize: whether numbers, and the target of a regression, get mean 0 and deviation 1.
        validation: the share of the rows (of each class) that is held out.
        seed: the seed of the split.
        separator: the one character between columns.
        decimal: the one character before the decimals of a number.

    Returns:
        x (N, D) float32; y (N,) int64 for classes in sorted order, or (N, 1) float32.

    Raises:
        UsageError: if there is no such file or column, or a column cannot be used. The message
            says where and why.
    """
    table = _read(existing_file(path), separator, decimal)
    frame = _columns_in_use(table.frame, target, ignore)
    _check_gaps(table, frame, target, missing)
    transforms = []
    if missing == "drop":
        complete = frame.dropna()
        if len(complete) < len(frame):
            dropped = len(frame) - len(complete)
            transforms.append(f"rows with missing values dropped: {dropped:,} of {len(frame):,}")
        frame = complete
    if len(frame) < 2:
        raise UsageError(
            f"data: {table.file} has {counted(len(frame), 'row')} of data left; at least 2 are needed."
        )
    labels, classes, target_in_words = _target(table, frame[target], task)
    rows = split_rows(len(frame), validation, seed, None if classes is None else labels)
    features = frame.drop(columns=target)
    numbers = [name for name in features.columns if _is_number(features[name])]
    texts = [name for name in features.columns if name not in numbers]
    parts = [_number_column(table, features[name], missing, rows[0], standardize) for name in numbers]
    encoded = [_text_column(table, features[name], rows[0]) for name in texts]
    categories = [f"{name} ({part.shape[1]})" for name, part in zip(texts, encoded, strict=True)]
    groups: dict[str, Sequence[str]] = {"numbers": numbers, "categories": categories, "ignored": [*ignore]}
    transforms.append("columns: " + "; ".join(f"{k}: {', '.join(v)}" for k, v in groups.items() if v))
    gaps = int(features.isna().sum().sum())
    if gaps:
        transforms.append(
            f"missing values filled: {gaps:,}; numbers with the {missing}, text with the most frequent"
            " category, both of the training rows"
        )
    if standardize and numbers:
        transforms.append("numbers standardised to mean 0 and deviation 1 on the training rows")
    transforms.append(f"target {target}: {target_in_words}")
    if classes is None and standardize:
        (mean,), (deviation,) = moments(labels[rows[0]])
        transforms.append(
            f"target minus the mean {mean:.6g}, over the deviation {deviation:.6g} of the training rows"
        )
        labels = standardised(labels, rows[0])
    return tensor_data(np.concatenate([*parts, *encoded], axis=1), labels, rows, classes, tuple(transforms))


@dataclass(frozen=True)
class _Table:
    """A CSV file as it was read. The index of the frame counts the rows from 0."""

    file: Path
    text: str
    separator: str
    frame: pd.DataFrame

    def line(self, row: Any) -> int:
        """Return the number of the file's line in which a row of the frame ends."""
        lines = reader(StringIO(self.text), delimiter=self.separator)
        numbers = (lines.line_num for fields in lines if any(field.strip() for field in fields))
        return next(islice(numbers, int(row) + 1, None))

    def refuse(self, column: pd.Series[Any], bad: Any, what: str, advice: str) -> UsageError:
        """Return the error for the values of a column where `bad` (N,) is true."""
        first = column.index[int(np.flatnonzero(bad)[0])]
        return UsageError(
            f"data: {self.file}: column '{column.name}' has {what} (the first in line {self.line(first)});"
            f" {advice}."
        )


def _read(file: Path, separator: str, decimal: str) -> _Table:
    for argument, value in (("separator", separator), ("decimal", decimal)):
        if len(value) != 1:
            raise UsageError(
                f"data: data.args.{argument} must be one character, such as ';' or ','; found {value!r}."
            )
    text = read_text(file)
    try:
        lines = reader(StringIO(text), delimiter=separator)
        _check_names(file, next((fields for fields in lines if fields), []))
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
        raise UsageError(
            f"data: {file} cannot be read as a table of columns ({in_one_line(error)})."
        ) from error
    return _Table(file, text, separator, frame)


def _check_names(file: Path, names: list[str]) -> None:
    """Refuse a first line that does not name at least two columns."""
    if not names:
        raise UsageError(f"data: {file} is empty.")
    if len(names) == 1:
        likely = max(";\t|,", key=names[0].count)
        hint = f" Is data.args.separator {likely!r}?" if likely in names[0] else ""
        raise UsageError(
            f"data: {file} has one column, '{names[0]}'; a target and at least one more column are"
            f" needed.{hint}"
        )
    names = [name.strip() for name in names]
    duplicate = next((name for name in names if name and names.count(name) > 1), None)
    if duplicate is not None:
        raise UsageError(f"data: {file} has two columns called '{duplicate}'; rename one of them.")


def _columns_in_use(frame: pd.DataFrame, target: str, ignore: Sequence[str]) -> pd.DataFrame:
    for name in (target, *ignore):
        if name not in frame:
            raise UsageError(f"data: {unknown('column', name, frame.columns)}")
    if target in ignore:
        raise UsageError(
            f"data: column '{target}' is both the target and in data.args.ignore; remove it there."
        )
    kept = frame.drop(columns=[*ignore])
    if kept.shape[1] < 2:
        raise UsageError(f"data: no column except the target '{target}' is left; ignore fewer columns.")
    return kept


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
        advice = "`data.args.missing: drop` leaves these rows out"
        if name == target:
            advice += "; a missing target is never filled in"
        else:
            advice += ", `mean` or `median` fills the gaps; or put the column into data.args.ignore"
        what = f"{count:,} missing values" if count > 1 else "a missing value"
        raise table.refuse(column, gaps[name], what, advice)


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _floats(table: _Table, column: pd.Series[Any]) -> np.ndarray:
    values = column.to_numpy(dtype=np.float64)
    if np.isinf(values).any():
        raise table.refuse(column, np.isinf(values), "infinite values", "replace them or remove their rows")
    return values


def _target(table: _Table, column: pd.Series[Any], task: str) -> tuple[np.ndarray, int | None, str]:
    """Return the target as classes (N,) or numbers (N, 1), the number of classes, and a description."""
    number = _is_number(column)
    values = _floats(table, column) if number else column.astype(str).to_numpy(dtype=object)
    classes, labels = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(
            f"data: {table.file}: the target '{column.name}' is '{classes[0]}' in every row; choose a target"
            " that varies."
        )
    most = len(column) / 2  # with more classes, some would have one row, which cannot be learnt
    source = ""
    if task == "auto":
        continuous = number and (
            len(classes) > min(CLASSES, most) or bool((values != np.round(values)).any())
        )
        task, source = "regression" if continuous else "classification", " (inferred; `task` overrides it)"
    if task == "regression":
        if not number:
            is_text, text = _not_numbers(column)
            raise table.refuse(column, is_text, f"text such as '{text}'", "a regression needs numbers")
        return values[:, None], None, f"regression{source}"
    if len(classes) > most:
        advice = (
            "`data.args.task: regression` predicts the number"
            if number
            else "choose a target with fewer different values"
        )
        raise UsageError(
            f"data: {table.file}: the target '{column.name}' has {len(classes):,} different values in"
            f" {len(column):,} rows, too many for classes; {advice}."
        )
    names = [f"{label:g}" if number else str(label) for label in classes]
    return labels, len(classes), f"{len(classes)} classes, {_shortened(names)}{source}"


def _number_column(
    table: _Table, column: pd.Series[Any], missing: str, train: np.ndarray, standardize: bool
) -> np.ndarray:
    """Return a column of numbers as (N, 1), with its gaps filled."""
    values = _floats(table, column)
    gaps = np.isnan(values)
    if gaps[train].all():
        raise UsageError(
            f"data: {table.file}: column '{column.name}' has no values in the training rows; put it into"
            " data.args.ignore."
        )
    if gaps.any():
        filling = (np.nanmean if missing == "mean" else np.nanmedian)(values[train])
        values = np.where(gaps, filling, values)
    return standardised(values[:, None], train) if standardize else values[:, None]


def _text_column(table: _Table, column: pd.Series[Any], train: np.ndarray) -> np.ndarray:
    """Return a column of text as (N, C), with 1 at each row's category and 0 elsewhere.

    A row whose category is in no training row is all 0.
    """
    present = column.notna().to_numpy()
    values = column.astype(str).to_numpy(dtype=object)
    count = len(np.unique(values[present]))
    if count > min(CATEGORIES, len(values) / 2):
        is_text, text = _not_numbers(column)
        if is_text.sum() < present.sum() / 2:
            what, advice = (
                f"numbers, but also '{text}'",
                "correct it, or put the column into data.args.ignore",
            )
        else:
            what = f"text with {count:,} different values, too many for categories"
            advice = (
                "put the column into data.args.ignore; if its numbers have decimal commas, set"
                " data.args.decimal"
            )
        raise table.refuse(column, is_text, what, advice)
    categories, counts = np.unique(values[train][present[train]], return_counts=True)
    if len(categories) == 0:
        raise UsageError(
            f"data: {table.file}: column '{column.name}' has no values in the training rows; put it into"
            " data.args.ignore."
        )
    filled = np.where(present, values, categories[counts.argmax()])
    return np.asarray(filled[:, None] == categories).astype(np.float64)


def _not_numbers(column: pd.Series[Any]) -> tuple[np.ndarray, str]:
    """Return a mask (N,) of the values that are neither numbers nor missing, and the first such text."""
    is_text = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
    return is_text, str(column.to_numpy()[is_text][0])


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])} and {len(names) - 8} more"
