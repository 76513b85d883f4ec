"""What cannot be used in the columns of a table, and the lines of a config that mend it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import yaml

from lrfind.config.yaml12 import CoreDumper
from lrfind.datasets.csv_columns import Column, are_dates, numbers_among, other_notations
from lrfind.datasets.csv_table import Problem, Settings, Table
from lrfind.errors import listed, sentence

CLASSES = 20  # a target of whole numbers with at most this many different values is read as classes
CATEGORIES = 50  # a column of words with more different values is not read as categories
FEW_WORDS = 3  # so many different words among numbers may stand for missing values
MOST_LOOKED_AT = 50  # so many cells are read again for examples
WIDTH = 80  # characters of a line of the report
NOTATIONS = {
    "decimal": "`decimal: '{}'` sets the mark before the decimals",
    "thousands": "`thousands: '{}'` sets the mark between groups of three digits",
}


@dataclass(frozen=True)
class Judge:
    """Finds what cannot be used in a column.

    Attributes:
        table: the file, for the lines of examples.
        settings: the settings.
        rows: (N,) the places in the file of the rows that are used.
        decimals: the columns whose numbers have decimals, as the settings read them.
    """

    table: Table
    settings: Settings
    rows: np.ndarray
    decimals: Sequence[Column]

    def feature(self, column: Column) -> Problem | None:
        """Return what is wrong with a column to predict from, or None."""
        name, gaps = column.name, column.gaps
        ignore = {"ignore": [name]}
        if gaps.all() and len(gaps):
            return Problem(name, "no values", "put it into `ignore`", ignore)
        problem = self._infinite(column, {"missing_values": ["inf", "-inf"]}) or self._words(column)
        if problem or not gaps.any() or self.settings.missing != "refuse":
            return problem
        return Problem(
            name,
            self._gaps(column),
            "`missing: median` or `mean` fills gaps (text gets its most frequent value); `drop` leaves the"
            " rows out",
            {"missing": "median"},
        )

    def target(self, column: Column, task: str) -> Problem | None:
        """Return what is wrong with the column to predict, or None."""
        name, different, drop = column.name, column.different, {"missing_target": "drop"}
        if different == 0 and len(column.gaps):
            return Problem(name, "no values", "choose another target")
        way = self._notation(column)
        if way is not None:
            return way
        among = numbers_among(column.words or (), self.settings)
        many = different > min(CLASSES, len(column.gaps) / 2)
        if among.any() and (task == "regression" or (many and among.sum() >= len(among) / 2)):
            return self._words_among_numbers(column, among, drop)
        if column.gaps.any():
            what = self._gaps(column)
            advice = "`missing_target: drop` leaves these rows out; a missing target is never filled in"
            return Problem(name, what, advice, drop)
        if task == "regression" and column.words is not None:
            what = f"text such as {self._examples(column, ~column.gaps)}"
            if different > self._most_categories(column):
                return Problem(name, what, "a regression needs numbers")
            advice = "a regression needs numbers; `task: classification` predicts classes"
            return Problem(name, what, advice, {"task": "classification"})
        if different == 1:
            value = f"{column.values[0]:g}" if column.words is None else column.words[int(column.values[0])]
            what = f"'{value}' in every row"
            return Problem(name, what, "choose a target that varies")
        if task == "classification" and different > len(column.gaps) / 2:
            what = f"{different:,} different values in {len(column.gaps):,} rows"
            advice = "too many for classes; choose a target with fewer different values"
            mends = {"task": "regression"} if column.words is None else {}
            if mends:
                advice = "too many for classes; `task: regression` predicts the number"
            return Problem(name, what, advice, mends)
        return self._infinite(column, {"missing_values": ["inf", "-inf"], **drop})

    def _most_categories(self, column: Column) -> float:
        return min(CATEGORIES, len(column.gaps) / 2)

    def _infinite(self, column: Column, mends: Mapping[str, Any]) -> Problem | None:
        if column.words is not None or not np.isinf(column.values).any():
            return None
        what = f"infinite values: {self._examples(column, np.isinf(column.values))}"
        return Problem(column.name, what, "`missing_values: [inf, -inf]` takes them as missing", mends)

    def _words(self, column: Column) -> Problem | None:
        """Return why a column of words cannot be categories, or None."""
        if column.words is None:
            return None
        notation = self._notation(column)
        if notation is not None or column.different <= self._most_categories(column):
            return notation
        among, name = numbers_among(column.words, self.settings), column.name
        if among.sum() >= len(among) / 2:
            return self._words_among_numbers(column, among, {})
        shown = self._examples(column, ~column.gaps)
        out = "put it into `ignore`, or write into the file what matters in it"
        if are_dates(column.words):
            what = f"dates or times such as {shown}"
            out = "put it into `ignore`, or write them into the file as numbers, such as days"
        else:
            what = f"text with {column.different:,} different values, too many for categories: {shown}"
        return Problem(name, what, out, {"ignore": [name]})

    def _notation(self, column: Column) -> Problem | None:
        """Return the problem of numbers in another notation than the settings say, or None."""
        if not column.words:
            return None
        ways = other_notations(column.words, self.settings, self.table.separator)
        if not ways:
            return None
        marked = [not word.isdecimal() and any(map(str.isdecimal, word)) for word in column.words]
        marks = np.array(marked)[column.values] & ~column.gaps
        what = f"numbers such as {self._examples(column, marks)}"
        way = next((way for way in ways if "decimal" not in way or not self._has_decimals()), None)
        if way is None:
            what += f", while other columns have '{self.settings.decimal}' before the decimals"
            ignore = {} if column.name == self.settings.target else {"ignore": [column.name]}
            advice = "write all decimals in the same way" + (
                ", or put the column into `ignore`" if ignore else ""
            )
            return Problem(column.name, what, advice, ignore)
        advice = listed(NOTATIONS[key].format(value) for key, value in way.items())
        return Problem(column.name, what, advice, way)

    def _has_decimals(self) -> bool:
        """Return whether a number surely has the decimal mark of the settings: '1.234' may be 1234."""
        grouped = re.compile(rf"[^\d]*\d{{1,3}}({re.escape(self.settings.decimal)}\d{{3}})+[^\d]*")
        return any(
            not grouped.fullmatch(text)
            for column in self.decimals
            for _, text in self._cells(column, column.decimals)
        )

    def _words_among_numbers(self, column: Column, among: np.ndarray, besides: Mapping[str, Any]) -> Problem:
        """Return the problem of a column of numbers that holds a few words."""
        words = [word for word, number in zip(column.words or (), among, strict=True) if not number]
        bad = ~np.append(among, True)[column.values]
        what = f"numbers, but also text: {self._examples(column, bad)}"
        if len(words) <= FEW_WORDS:
            shown = f"`missing_values: {flow(words)}` takes {'it' if len(words) == 1 else 'them'} as missing"
            return Problem(column.name, what, f"correct it, or {shown}", {"missing_values": words, **besides})
        if besides:  # a target cannot be ignored
            return Problem(column.name, what, "correct it in the file")
        return Problem(
            column.name, what, "correct it, or put the column into `ignore`", {"ignore": [column.name]}
        )

    def _gaps(self, column: Column) -> str:
        number = int(column.gaps.sum())
        what = "a missing value" if number == 1 else f"{number:,} missing values"
        return f"{what}: {self._examples(column, column.gaps)}"

    def _cells(self, column: Column, chosen: np.ndarray) -> list[tuple[int, str]]:
        """Return the lines and the texts of a column's cells, of the first rows that are chosen."""
        places = np.flatnonzero(chosen)[:MOST_LOOKED_AT]
        return self.table.cells(column.name, [int(self.rows[place]) for place in places])

    def _examples(self, column: Column, chosen: np.ndarray) -> str:
        """Return up to three different values of a column with their lines, of the rows that are chosen."""
        seen: dict[str, list[int]] = {}
        for line, text in self._cells(column, chosen):
            seen.setdefault(text, []).append(line)
        return listed(
            f"{repr(text[:40]) if text else 'an empty field'} ({_in_lines(lines)})"
            for text, lines in [*seen.items()][:3]
        )


def _in_lines(lines: Sequence[int]) -> str:
    """Return the numbers of lines in words.

    >>> _in_lines([4]), _in_lines([4, 9, 12, 13])
    ('line 4', 'lines 4, 9 and others')
    """
    if len(lines) == 1:
        return f"line {lines[0]}"
    return f"lines {listed(lines) if len(lines) < 4 else f'{lines[0]}, {lines[1]} and others'}"


def report(settings: Settings, problems: Sequence[Problem], mended: Settings) -> str:
    """Return all problems, a block of the config that mends them, and what no setting can mend."""
    lines = [f"data: {settings.shown_path} cannot be used as it is."]
    order = [*dict.fromkeys(problem.column for problem in problems)]
    for problem in sorted(problems, key=lambda problem: order.index(problem.column)):
        role = "target" if problem.column == mended.target else "column"
        column = f"{role} '{problem.column}': " if problem.column else ""
        advice = sentence(problem.advice)
        lines += textwrap.wrap(f"{column}{problem.what}.", WIDTH, initial_indent="- ", subsequent_indent="  ")
        lines += textwrap.wrap(f"{advice}.", WIDTH, initial_indent="  ", subsequent_indent="  ")
    if mended == settings:
        return "\n".join(lines)
    stuck = any(not problem.mends for problem in problems)
    rest = "the others are" if stuck else "all of this is" if len(problems) > 1 else "this is"
    lines += [f"With these lines for `data` in a config, {rest} mended (other keys of `data` stay):"]
    return "\n".join([*lines, "", *data_block(mended)])


def data_block(settings: Settings) -> list[str]:
    """Return the section `data` of a config, with all arguments that are not the default."""
    shown: dict[str, Any] = {"path": settings.shown_path, "target": settings.target}
    for item in fields(Settings)[2:]:
        value = getattr(settings, item.name)
        if value != item.default:
            shown[item.name] = value
    args = [f"    {key}: {flow(value)}" for key, value in shown.items()]
    return ["data:", "  name: csv", "  args:", *args]


def flow(value: Any) -> str:
    """Return a value in one line of YAML.

    >>> flow(["Unnamed: 0", "1e3", "size"])
    "['Unnamed: 0', '1e3', size]"
    """
    plain = value if isinstance(value, str | bool | int | float) else [*value]
    text = yaml.dump(plain, Dumper=CoreDumper, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
