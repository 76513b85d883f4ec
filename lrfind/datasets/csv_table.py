"""A CSV file as a table: how it is read, and why it cannot be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from csv import Error, reader
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lrfind.config.files import separator_note
from lrfind.datasets.files import existing_file, read_text
from lrfind.errors import UsageError, counted, in_one_line, listed

SEPARATORS = ",;\t|"
EMPTY = frozenset(["?", "na", "null", "nan", "n/a", "n.a.", "#n/a", "#value!", "#div/0!", "#ref!", ""])
"""Texts, in lower case, that stand for a missing value, beside those that pandas knows."""


@dataclass(frozen=True)
class Settings:
    """The arguments of the data set `csv`; `lrfind.datasets.csv_file.csv` explains them."""

    path: str
    target: str
    task: Literal["auto", "regression", "classification"] = "auto"
    missing: Literal["refuse", "mean", "median", "drop"] = "refuse"
    missing_target: Literal["refuse", "drop"] = "refuse"
    missing_values: Sequence[str] = ()
    ignore: Sequence[str] = ()
    keep: Sequence[str] = ()
    ignore_case: bool = True
    standardize: bool = True
    validation: float = 0.2
    seed: int = 0
    separator: str = "auto"
    decimal: str = "."
    thousands: str = ""
    header: bool = True

    def mended(self, mends: Sequence[Mapping[str, Any]]) -> Settings:
        """Return the settings with those that mend something: lists are added to, other values replaced."""
        settings = self
        for key, value in ((key, value) for mend in mends for key, value in mend.items()):
            before = getattr(settings, key)
            if isinstance(value, list):
                value = [*before, *(item for item in value if item not in before)]
            settings = replace(settings, **{key: value})
        return settings

    @property
    def shown_path(self) -> str:
        """The path for people: relative if the file is below the working directory."""
        path = os.path.relpath(Path(self.path).expanduser())
        return self.path if path.startswith("..") else path


@dataclass(frozen=True)
class Problem:
    """Something that lrfind cannot use in a table.

    Attributes:
        column: the name of the column; "" for the file as a whole.
        what: what was found, with an example and its line, without a full stop.
        advice: what to do, without a full stop.
        mends: the settings that mend it; empty if only the file, or another target, can.
    """

    column: str
    what: str
    advice: str
    mends: Mapping[str, Any] = field(default_factory=dict)


class Unreadable(Exception):  # noqa: N818 - it carries a problem, which others are listed beside
    """The file is no table with these settings.

    Attributes:
        problem: what is wrong, and the settings that mend it.
    """

    def __init__(self, what: str, advice: str, mends: Mapping[str, Any] | None = None) -> None:
        super().__init__(what)
        self.problem = Problem("", what, advice, mends or {})


@dataclass(frozen=True)
class Table:
    """A CSV file as it was read. The index of the frame counts the rows from 0."""

    text: str
    separator: str
    header: bool
    frame: pd.DataFrame

    def cells(self, column: str, rows: Sequence[int]) -> list[tuple[int, str]]:
        """Return, for ascending rows of a column, the line in which the row ends, and the cell's text."""
        place = self.frame.columns.get_loc(column)
        assert isinstance(place, int)  # no two columns have the same name
        wanted, found = set(rows), list[tuple[int, str]]()
        for row, (line, fields) in enumerate(_rows(self.text, self.separator), -int(self.header)):
            if row in wanted:
                found.append((line, fields[place].strip() if place < len(fields) else ""))
            if len(found) == len(wanted):
                break
        return found


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each row's last line, and its fields; lines without any text are no rows."""
    lines = reader(StringIO(text), delimiter=separator, skipinitialspace=True)
    for fields in lines:
        if len(fields) > 1 or any(field.strip() for field in fields):
            yield lines.line_num, fields


def read_table(settings: Settings) -> Table:
    """Read the file.

    Raises:
        UsageError: if there is no such file, or a setting cannot be used.
        Unreadable: if it is no table of at least two columns with a name each.
    """
    file = existing_file(settings.path)
    for argument in ("separator", "decimal"):
        value = getattr(settings, argument)
        if len(value) != 1 and (argument, value) != ("separator", "auto"):
            raise UsageError(
                f"data: data.args.{argument} must be one character, such as ';' or ','; found {value!r}."
            )
    text = read_text(file)
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise Unreadable(f"line {line} holds a null character", "save the file as UTF-8 text without them")
    if note := separator_note(text):
        advice = (
            "delete that line; the separator is taken from the line of names, or from data.args.separator"
        )
        raise Unreadable(f"line 1 is '{note}', which only Excel reads", advice)
    separator = _separator_of(text) if settings.separator == "auto" else settings.separator
    try:
        first = next((fields for _, fields in _rows(text, separator)), [])
        names = _names(settings, [name.strip() for name in first])
        frame = _frame(text, settings, separator, names)
    except (Error, ValueError, pd.errors.ParserWarning) as error:
        raise _why_no_table(text, separator, error) from error
    return Table(text, separator, settings.header, frame)


def _frame(text: str, settings: Settings, separator: str, names: Sequence[str]) -> pd.DataFrame:
    gaps = {form for word in EMPTY - {""} for form in (word, word.upper(), word.capitalize())}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
        return pd.read_csv(
            StringIO(text),
            sep=separator,
            decimal=settings.decimal,
            header=0 if settings.header else None,
            names=[*names],
            index_col=False,
            low_memory=False,
            skipinitialspace=True,
            na_values=[*gaps, *settings.missing_values],
        )


def _separator_of(text: str) -> str:
    """Return the separator of a file, from its first line: a comma if that splits it, else the commonest."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    if len(next(reader([line]), [])) > 1:
        return ","
    return max(SEPARATORS, key=line.count)


def _names(settings: Settings, first: Sequence[str]) -> list[str]:
    """Return the names of the columns: those in the first line, or else numbers.

    Raises:
        Unreadable: if there are fewer than two, two are the same, or the first line has no names.
    """
    if not first:
        raise Unreadable("the file is empty", "give a file with a line of names and a line for each row")
    if len(first) == 1:
        likely = max(SEPARATORS, key=first[0].count)
        what = f"it has one column only, '{first[0]}', and a target and at least one more column are needed"
        if likely in first[0]:
            raise Unreadable(what, f"its separator may be {likely!r}", {"separator": likely})
        raise Unreadable(what, "name the separator (data.args.separator), if it is an unusual one")
    numbered = [f"column {number}" for number in range(1, len(first) + 1)]
    if not settings.header:
        return numbered
    if settings.target not in first and any(map(_is_number, first)):
        shown = listed(f"'{name}'" for name in first[:3])
        what = f"its first line looks like a row of data, not like names: {shown}"
        advice = f"without names, the columns are called column 1 to {numbered[-1]}"
        advice += "; the last one is taken as the target here"
        raise Unreadable(what, advice, {"header": False, "target": numbered[-1]})
    twice = [name for name in dict.fromkeys(first) if name and first.count(name) > 1]
    if twice:
        shown = listed(f"'{name}'" for name in twice)
        raise Unreadable(f"it has two columns called {shown}", "rename one of them in the file")
    return [name or f"Unnamed: {place}" for place, name in enumerate(first)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _why_no_table(text: str, separator: str, error: Exception) -> Unreadable:
    """Return what is wrong with the rows of a file that pandas does not read."""
    try:
        rows = _rows(text, separator)
        _, first = next(rows)
        line, fields = next((row for row in rows if len(row[1]) > len(first)), (0, []))
    except Error:
        fields = []
    if not fields:
        return Unreadable(
            f"it cannot be read as a table of columns ({in_one_line(error)})",
            "open it in an editor, and look for a quote that is not closed",
        )
    return Unreadable(
        f"line {line} has {counted(len(fields), 'field')}, and the first line only {len(first)}",
        "put quotes around a text that holds the separator, or correct the line",
    )
