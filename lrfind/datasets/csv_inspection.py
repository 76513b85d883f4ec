"""A table with the uses of its columns; all that cannot be used is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrfind.datasets.csv_columns import Column, read_column
from lrfind.datasets.csv_problems import CLASSES, Judge, flow, report
from lrfind.datasets.csv_table import Problem, Settings, Table, Unreadable, read_table
from lrfind.errors import UsageError, counted, unknown

MOST_PASSES = 9  # mending a problem may uncover another one


@dataclass(frozen=True)
class Inspection:
    """A table with the uses of its columns.

    Attributes:
        target: the column to predict.
        features: the columns to predict it from.
        rows: the number of rows in the file; the columns have those that are used.
        task: "regression" or "classification".
        remarks: what was decided about columns, in words.
        problems: what cannot be used; empty if the rest can be trained on.
    """

    target: Column
    features: Sequence[Column]
    rows: int
    task: str
    remarks: Sequence[str]
    problems: Sequence[Problem]


def inspected(settings: Settings) -> Inspection:
    """Return a table that can be trained on.

    Raises:
        UsageError: if something cannot be used. The message lists all of it, with lines that mend it.
    """
    mended, inspection, problems = mend(settings)
    if inspection is None or problems:
        raise UsageError(report(settings, problems, mended))
    return inspection


def mend(settings: Settings) -> tuple[Settings, Inspection | None, list[Problem]]:
    """Change settings until a table can be trained on, as far as settings can do that.

    Returns:
        The settings, the table (None if it still cannot be trained on), and all problems on the way to it.
    """
    problems = list[Problem]()
    for _ in range(MOST_PASSES):
        inspection, more = _look(settings)
        if not more:
            return settings, inspection, problems
        problems += [problem for problem in more if problem not in problems]
        mends = [problem.mends for problem in more if problem.mends]
        if not mends:
            break
        settings = settings.mended(mends)
    return settings, None, problems


def _look(settings: Settings) -> tuple[Inspection | None, Sequence[Problem]]:
    """Read and inspect a table once; the inspection is None if it cannot be read at all."""
    try:
        table = read_table(settings)
    except Unreadable as error:
        return None, [error.problem]
    inspection = _inspect(table, settings)
    return inspection, inspection.problems


def _inspect(table: Table, settings: Settings) -> Inspection:
    names = [str(name) for name in table.frame.columns]
    for name in (settings.target, *settings.ignore, *settings.keep):
        if name not in names:
            raise UsageError(f"data: {unknown('column', name, names)}")
    if settings.target in settings.ignore:
        raise UsageError(
            f"data: column '{settings.target}' is both the target and in data.args.ignore; remove it there."
        )
    columns = {
        name: read_column(table.frame[name], settings) for name in names if name not in settings.ignore
    }
    target = columns.pop(settings.target)
    used = _used_rows(target, [*columns.values()], settings)
    target, features = target.at(used), [column.at(used) for column in columns.values()]
    decimals = [column for column in (target, *features) if column.decimals.any()]
    features, remarks = _chosen(features, settings)
    task = settings.task if settings.task != "auto" else _task_of(target)
    judge = Judge(table, settings, np.flatnonzero(used), decimals)
    problems = [
        problem
        for problem in (judge.target(target, task), *(judge.feature(column) for column in features))
        if problem is not None
    ]
    if used.sum() < 2:
        what = f"{counted(int(used.sum()), 'row')} of data left, and at least 2 are needed"
        problems.append(Problem("", what, "add rows, or leave fewer of them out"))
    elif not features:
        what = f"no column except the target '{target.name}' is left"
        problems.append(Problem("", what, "ignore fewer columns, or add some that vary"))
    read = [remark for column in (target, *features) for remark in column.remarks]
    return Inspection(target, features, len(used), task, [*remarks, *read], problems)


def _used_rows(target: Column, features: Sequence[Column], settings: Settings) -> np.ndarray:
    """Return (N,) which rows are used, after those with missing values are dropped as the settings say."""
    used = np.ones(len(target.gaps), dtype=bool)
    if settings.missing_target == "drop" or settings.missing == "drop":
        used &= ~target.gaps
    if settings.missing == "drop":
        for column in features:
            if not column.gaps.all():  # such a column is a problem of its own
                used &= ~column.gaps
    return used


def _chosen(features: Sequence[Column], settings: Settings) -> tuple[list[Column], list[str]]:
    """Leave out the columns that tell nothing, unless no others are there, and say which and why."""
    constant = [c.name for c in features if c.different == 1 and len(c.gaps) > 1]
    counting = [c.name for c in features if c.counts_rows]
    out = {name for name in (*constant, *counting) if name not in settings.keep}
    rest = [column for column in features if column.name not in out]
    if not rest:
        out, rest = set(), [*features]
    remarks = []
    for names, why in (
        (constant, "the same value in every row"),
        (counting, "a row number or an id, which only tells rows apart"),
    ):
        left_out = [name for name in names if name in out]
        if left_out:
            keeps = f"`keep: {flow(left_out)}` keeps {'it' if len(left_out) == 1 else 'them'}"
            remarks.append(f"left out: {', '.join(left_out)} ({why}; {keeps})")
    return rest, remarks


def _task_of(target: Column) -> str:
    """Infer the task: whole numbers with few different values are classes, other numbers a regression."""
    if target.words is not None:
        return "classification"
    values = target.values[~target.gaps]
    most = len(values) / 2  # with more classes, some would have one row, which cannot be learnt
    continuous = target.different > min(CLASSES, most) or bool((values != np.round(values)).any())
    return "regression" if continuous else "classification"
