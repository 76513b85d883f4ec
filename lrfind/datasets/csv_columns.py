"""The columns of a table: numbers or categories, by what all their values look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lrfind.datasets.csv_table import EMPTY, Settings
from lrfind.errors import listed

FEWEST_ROWS = 20  # with fewer rows, numbers are consecutive by chance
NEARLY_ALL = 0.9  # the share of the words of a column that show what it holds
GROUP_MARKS = (" ", "'", "\u2019", "\u00a0", "\u202f")  # thousands marks that cannot be a decimal point
_MARK = r"[$\u20ac\u00a3\u00a5\u20b9%]|\b(?:USD|EUR|GBP|CHF|JPY|INR)\b"
_DATES = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}.*)?|\d{1,2}[-/. ](\d{1,2}|[A-Za-z]{3,9})[-/. ]\d{2,4}"
    r"( \d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
)
_IDENTIFIER = frozenset(["id", "ids", "index", "idx", "key", "uuid", "guid", "rowid", "unnamed"])


@dataclass(frozen=True)
class Column:
    """A column of a table, as numbers or as words.

    Attributes:
        name: its name.
        values: (N,) the numbers, NaN at gaps; of a column of words, the places in `words`, -1 at gaps.
        words: the different words in sorted order; None for a column of numbers.
        whole: whether the values are whole numbers, and none is missing.
        remarks: what was done to read the values, in words.
    """

    name: str
    values: np.ndarray
    words: Sequence[str] | None = None
    whole: bool = False
    remarks: Sequence[str] = ()

    @property
    def gaps(self) -> np.ndarray:
        """(N,) Whether the value of a row is missing."""
        return np.isnan(self.values) if self.words is None else self.values < 0

    def at(self, rows: np.ndarray) -> Column:
        """Return the column with only the rows where `rows` (N,) is true."""
        return replace(self, values=self.values[rows])

    @property
    def different(self) -> int:
        """The number of different values, not counting gaps."""
        return len(np.unique(self.values[~self.gaps]))

    @property
    def decimals(self) -> np.ndarray:
        """(N,) Whether the value of a row is a number with decimals."""
        fractional = np.isfinite(self.values) & (self.values != np.trunc(self.values))
        return np.asarray(fractional)

    @property
    def counts_rows(self) -> bool:
        """Whether the numbers only tell the rows apart: they count up, or are called an id."""
        if not self.whole or len(self.values) < FEWEST_ROWS or self.different < len(self.values):
            return False
        parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", self.name)
        consecutive = bool(np.ptp(self.values) == len(self.values) - 1)
        return consecutive or any(part.lower() in _IDENTIFIER for part in parts)


def read_column(column: pd.Series, settings: Settings) -> Column:
    """Return a column of a frame as numbers, if all its values are numbers, and otherwise as words.

    A sign of a currency or of percent is left out if all numbers of the column have the same one.
    """
    name = str(column.name)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=np.float64)
        return Column(name, numbers, whole=pd.api.types.is_integer_dtype(column))
    texts = column.astype(object).map(lambda value: str(value).strip(), na_action="ignore")
    empty = texts.str.lower().isin(EMPTY) | texts.isin([*settings.missing_values])
    texts = texts.mask(empty)
    codes, uniques = pd.factorize(texts, sort=True)
    words = [str(word) for word in uniques]
    mark = _common_mark(words)
    plain = [_without(word, mark) for word in words]
    pattern = _number_pattern(settings.decimal, settings.thousands)
    if words and all(map(pattern.fullmatch, plain)):
        values = [_number(word, settings.decimal, settings.thousands) for word in plain]
        remark = [f"{name}: numbers, read without their '{mark}'"] if mark else []
        return Column(name, np.append(values, np.nan)[codes], remarks=remark)
    read = Column(name, codes, words)
    return _joined(read) if settings.ignore_case else read


def _joined(column: Column) -> Column:
    """Make words that differ only in case or spaces one word, in the commonest of its spellings."""
    words = column.words or ()
    counts = np.bincount(column.values[~column.gaps], minlength=len(words))
    spellings: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        spellings.setdefault(" ".join(word.casefold().split()), []).append(place)
    if len(spellings) == len(words):
        return column
    groups = {max(places, key=lambda place: counts[place]): places for places in spellings.values()}
    kept, new, joined = sorted(groups), np.full(len(words) + 1, -1), list[str]()
    for number, chosen in enumerate(kept):
        new[groups[chosen]] = number
        others = [f"'{words[place]}'" for place in groups[chosen] if place != chosen]
        joined += [f"'{words[chosen]}' is also {listed(others)}"] if others else []
    remark = f"{column.name}: {'; '.join(joined)} (`ignore_case: false` keeps the spellings apart)"
    return Column(column.name, new[column.values], [words[place] for place in kept], remarks=[remark])


def _common_mark(words: Sequence[str]) -> str:
    """Return the sign of a currency or of percent that every word has once; "" if there is none."""
    marks = [re.findall(_MARK, word) for word in words]
    different = {tuple(found) for found in marks}
    (only,) = different if len(different) == 1 else [()]
    return only[0] if len(only) == 1 else ""


def _without(word: str, mark: str) -> str:
    """Return a number without its sign of a currency, which stands before or after it.

    >>> _without("-$5", "$"), _without("12 %", "%")
    ('-5', '12')
    """
    return re.sub(r"^([+-]) ", r"\1", word.replace(mark, "").strip()) if mark else word


def _number_pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    point, whole = re.escape(decimal), r"\d+"
    if thousands:
        whole = rf"(?:\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+|\d+)"
    return re.compile(rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?")


def _number(word: str, decimal: str, thousands: str) -> float:
    return float((word.replace(thousands, "") if thousands else word).replace(decimal, "."))


def other_notations(words: Sequence[str], settings: Settings, separator: str) -> list[dict[str, str]]:
    """Return the settings `decimal` and `thousands` with which nearly all words are numbers, and most are.

    Without them, fewer words are numbers. The likeliest settings come first: "1,234" may be meant either way.
    In a file whose columns are separated by commas it is more often 1234.
    """
    mark = _common_mark(words)
    plain = [_without(word, mark) for word in words]
    other = "," if settings.decimal == "." else "."
    grouped: list[dict[str, str]] = [{"thousands": sign} for sign in (other, *GROUP_MARKS)]
    swapped: list[dict[str, str]] = [{"decimal": other}, {"decimal": other, "thousands": settings.decimal}]
    ways = [*grouped, *swapped] if separator == "," or settings.decimal != "." else [*swapped, *grouped]
    counts = [numbers_among(plain, settings.mended([way])).sum() for way in ways]
    most = max(counts)
    if most < max(NEARLY_ALL * len(words), 1 + numbers_among(plain, settings).sum()):
        return []
    return [way for way, count in zip(ways, counts, strict=True) if count == most]


def numbers_among(words: Sequence[str], settings: Settings) -> np.ndarray:
    """Return (W,) whether each word is a number."""
    pattern = _number_pattern(settings.decimal, settings.thousands)
    return np.array([pattern.fullmatch(word) is not None for word in words], dtype=bool)


def are_dates(words: Sequence[str]) -> bool:
    """Return whether nearly all words are dates or times.

    >>> are_dates(["2024-01-31", "2024-02-01 12:30", "31.1.24", "1 Feb 2024", "12:30"]), are_dates(["1.5"])
    (True, False)
    """
    return bool(words) and sum(map(bool, map(_DATES.fullmatch, words))) >= NEARLY_ALL * len(words)
