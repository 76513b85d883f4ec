"""A table in a CSV file. The kinds of its columns are inferred, and reported in the data's `transforms`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lrfind.datasets.csv_columns import Column
from lrfind.datasets.csv_inspection import Inspection, inspected
from lrfind.datasets.csv_table import Settings
from lrfind.datasets.rows import moments, split_rows, standardised, tensor_data
from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError, first_few


def csv(
    path: str,
    target: str,
    task: Literal["auto", "regression", "classification"] = "auto",
    missing: Literal["refuse", "mean", "median", "drop"] = "refuse",
    ignore: Sequence[str] = (),
    standardize: bool = True,
    validation: float = 0.2,
    seed: int = 0,
    separator: str = "auto",
    decimal: str = ".",
    thousands: str = "",
    missing_target: Literal["refuse", "drop"] = "refuse",
    missing_values: Sequence[str] = (),
    keep: Sequence[str] = (),
    ignore_case: bool = True,
    header: bool = True,
) -> TensorData:
    """Your own CSV file: each row is an example, one column is the target, the first line has the names.

    A column of numbers stays one column of numbers. A column of text or of true/false becomes one column for
    each of its categories. Everything that is fitted (means, deviations, categories, the values that fill
    gaps) is fitted on the training rows only. Columns that are the same in every row, or only number the
    rows, are left out.

    Args:
        path: the path of the file, in UTF-8, or in UTF-16 with its mark.
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
        separator: the one character between columns; `auto` takes it from the first line.
        decimal: the one character before the decimals of a number.
        thousands: the one character between groups of three digits.
        missing_target: what to do about rows without a target: `refuse` the table, or `drop` these rows.
        missing_values: further texts that stand for a missing value, such as "unknown".
        keep: the columns to keep although they are constant or number the rows.
        ignore_case: whether words that differ only in case or spaces are the same category or class.
        header: whether the first line has names; without it, columns are called "column 1" and so on.

    Returns:
        x (N, D) float32; y (N,) int64 for classes in sorted order, or (N, 1) float32.

    Raises:
        UsageError: if there is no such file or column, or columns cannot be used. The message lists all
            problems with their lines, and the arguments that mend them.
    """
    table = inspected(
        Settings(
            path=path,
            target=target,
            task=task,
            missing=missing,
            missing_target=missing_target,
            missing_values=missing_values,
            ignore=ignore,
            keep=keep,
            ignore_case=ignore_case,
            standardize=standardize,
            validation=validation,
            seed=seed,
            separator=separator,
            decimal=decimal,
            thousands=thousands,
            header=header,
        )
    )
    labels, classes, target_in_words = _labels(table)
    rows = split_rows(len(labels), validation, seed, None if classes is None else labels)
    numbers = [column for column in table.features if column.words is None]
    words = [column for column in table.features if column.words is not None]
    parts = [_filled_numbers(column, missing, rows[0], standardize) for column in numbers]
    encoded = [_one_hot(column, rows[0]) for column in words]

    # What was done, in words.
    transforms = []
    if len(labels) < table.rows:
        dropped = table.rows - len(labels)
        transforms.append(f"rows with missing values dropped: {dropped:,} of {table.rows:,}")
    categories = [f"{column.name} ({part.shape[1]})" for column, part in zip(words, encoded, strict=True)]
    groups: dict[str, Sequence[str]] = {
        "numbers": [column.name for column in numbers],
        "categories": categories,
        "ignored": [*ignore],
    }
    transforms.append("columns: " + "; ".join(f"{k}: {first_few(v)}" for k, v in groups.items() if v))
    transforms += table.remarks
    gaps = sum(int(column.gaps.sum()) for column in table.features)
    if gaps:
        transforms.append(
            f"missing values filled: {gaps:,}; numbers with the {missing}, text with the most frequent"
            " category, both of the training rows"
        )
    if standardize and numbers:
        transforms.append("numbers standardised to mean 0 and deviation 1 on the training rows")
    inferred = " (inferred; `task` overrides it)" if task == "auto" else ""
    transforms.append(f"target {target}: {target_in_words}{inferred}")
    if classes is None and standardize:
        (mean,), (deviation,) = moments(labels[rows[0]])
        transforms.append(
            f"target minus the mean {mean:.6g}, over the deviation {deviation:.6g} of the training rows"
        )
        labels = standardised(labels, rows[0])
    return tensor_data(np.concatenate([*parts, *encoded], axis=1), labels, rows, classes, tuple(transforms))


def _labels(table: Inspection) -> tuple[np.ndarray, int | None, str]:
    """Return the target as classes (N,) or numbers (N, 1), the number of classes, and a description."""
    target = table.target
    if table.task == "regression":
        return target.values[:, None], None, "regression"
    classes, labels = np.unique(target.values, return_inverse=True)
    names = [f"{value:g}" if target.words is None else target.words[value] for value in classes]
    return labels, len(classes), f"{len(classes)} classes, {first_few(names)}"


def _filled_numbers(column: Column, missing: str, train: np.ndarray, standardize: bool) -> np.ndarray:
    """Return a column of numbers as (N, 1), with its gaps filled."""
    values, gaps = column.values, column.gaps
    if gaps[train].all():
        raise _empty_in_training(column)
    if gaps.any():
        filling = (np.nanmean if missing == "mean" else np.nanmedian)(values[train])
        values = np.where(gaps, filling, values)
    return standardised(values[:, None], train) if standardize else values[:, None]


def _one_hot(column: Column, train: np.ndarray) -> np.ndarray:
    """Return a column of words as (N, C), with 1 at each row's category and 0 elsewhere.

    A row whose category is in no training row is all 0.
    """
    known = column.values[train]
    categories, counts = np.unique(known[known >= 0], return_counts=True)
    if len(categories) == 0:
        raise _empty_in_training(column)
    filled = np.where(column.gaps, categories[counts.argmax()], column.values)
    return np.asarray(filled[:, None] == categories).astype(np.float64)


def _empty_in_training(column: Column) -> UsageError:
    return UsageError(
        f"data: column '{column.name}' has no values in the training rows; put it into data.args.ignore."
    )
