"""The rows of one lane in a run's database: how they are written, read and checked, and their digest."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, cast, get_args

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation, LaneResult, Outcome, PlannedLane

EMPTY: Array = np.empty(0)
CHILDREN = ("steps", "evaluations", "health")
"""The tables with the measurements of lanes."""
OPTIONAL = ("held_out_loss", "grad_norm", "momentum", "skipped")
"""The columns of a step that only some runs have."""
COLUMNS = ("lr", "loss", *OPTIONAL)
NUMBER = (float, NoneType)
PLANNED_TYPES = (int, int, float, str)
LANE_TYPES = (int, int, int, float, str, (int, NoneType), float, (str, NoneType), str)
EVALUATION_TYPES = (int, NUMBER, NUMBER)
LOOK_TYPES = (int, str, int, int, int, *[NUMBER] * (len(LayerHealth._fields) - 5))


class Mismatch(ValueError):  # noqa: N818 - the name says what is wrong
    """What a database holds is not what lrfind writes; the text is the end of a sentence."""


def digest(*values: object, numbers: Array = EMPTY) -> bytes:
    """Return a short digest of plain values, and of an array of numbers.

    >>> digest("planned", "3") == digest("planned", "3") != digest("planned", "2")
    True
    """
    text = hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=16)
    text.update(np.ascontiguousarray(numbers).data)
    return text.digest()


class LaneRows(NamedTuple):
    """The rows of one lane, as SQLite returns them."""

    lane: tuple[Any, ...]
    steps: Sequence[tuple[Any, ...]]
    evaluations: Sequence[tuple[Any, ...]]
    health: Sequence[tuple[Any, ...]]


def _select(connection: sqlite3.Connection, lane: int) -> LaneRows:
    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query, (lane,)).fetchall()

    found = rows(
        "SELECT lane, seed, planned, lr, outcome, rung, seconds, error, variant FROM lanes WHERE lane = ?"
    )
    if not found:
        raise Mismatch(f"lane {lane} is missing")
    return LaneRows(
        found[0],
        rows(f"SELECT step, {', '.join(COLUMNS)} FROM steps WHERE lane = ? ORDER BY step"),
        rows("SELECT step, val_loss, metric FROM evaluations WHERE lane = ? ORDER BY step"),
        rows(f"SELECT {', '.join(LayerHealth._fields)} FROM health WHERE lane = ? ORDER BY place"),
    )


def insert_lane(connection: sqlite3.Connection, result: LaneResult) -> None:
    """Insert a lane with all its measurements; measurements of the same number that are left over go."""
    none = [None] * result.lr.size
    columns = [
        none if column is None else column.tolist()
        for column in (result.lr, result.loss, *(getattr(result, name) for name in OPTIONAL))
    ]
    steps = zip([result.lane] * result.lr.size, range(result.lr.size), *columns, strict=True)
    lane = (result.lane, result.seed, result.planned, result.peak, result.outcome, result.rung)
    connection.execute(
        "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*lane, result.seconds, result.error, result.variant),
    )
    for table in CHILDREN:
        connection.execute(f"DELETE FROM {table} WHERE lane = ?", (result.lane,))
    connection.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", steps)
    evaluations = [(result.lane, *evaluation) for evaluation in result.evaluations]
    connection.executemany("INSERT INTO evaluations VALUES (?, ?, ?, ?)", evaluations)
    looks = [(result.lane, place, *row) for place, row in enumerate(result.health)]
    marks = ", ".join("?" * (2 + len(LayerHealth._fields)))
    connection.executemany(f"INSERT INTO health VALUES ({marks})", looks)


def lane_digest(connection: sqlite3.Connection, lane: int) -> bytes:
    """Return the digest of a lane as it is stored."""
    rows = _select(connection, lane)
    return _digest(rows, _table(rows.steps))


def _digest(rows: LaneRows, table: Array) -> bytes:
    return digest(rows.lane, rows.evaluations, rows.health, numbers=table)


def _table(steps: Sequence[tuple[Any, ...]]) -> Array:
    """Return the number and the columns of all steps (1 + columns, T); NULL becomes NaN.

    Raises:
        Mismatch: if there is anything but numbers in them.
    """
    table = np.full((1 + len(COLUMNS), len(steps)), np.nan)
    for row, values in enumerate(zip(*steps, strict=True)):
        types = set(map(type, values))
        if not types <= {int, float, NoneType}:
            raise Mismatch("a step holds something that is not a number")
        if types != {NoneType}:
            table[row] = values
    return table


def read_lane(connection: sqlite3.Connection, lane: int, *, sealed: bool) -> LaneResult:
    """Return a lane with all its measurements.

    Args:
        connection: the connection.
        lane: the number of the lane.
        sealed: whether there is a digest of the lane.

    Raises:
        Mismatch: if it is not what lrfind wrote.
    """
    rows = _select(connection, lane)
    table = _table(rows.steps)
    if sealed:
        query = "SELECT digest FROM digests WHERE part = 'lane' AND name = ?"
        if connection.execute(query, (str(lane),)).fetchone() != (_digest(rows, table),):
            raise Mismatch(f"lane {lane} is not what lrfind wrote")
    return _lane(rows, table)


def planned_lane(row: tuple[Any, ...], digests: Mapping[str, bytes] | None) -> PlannedLane:
    """Return a planned lane from its row, and compare it with its digest, where there is one.

    Raises:
        Mismatch: if it is not what lrfind wrote.
    """
    _check(row, PLANNED_TYPES, f"planned lane {row[0]}")
    if (digests is not None and digests.get(str(row[0])) != digest(*row)) or not row[2] >= 0:
        raise Mismatch(f"planned lane {row[0]} is not what lrfind wrote")
    return PlannedLane(*row)


def _check(row: Sequence[Any], types: Sequence[Any], what: str) -> None:
    """Compare the types of a row with those that lrfind writes."""
    if any(not isinstance(value, kind) for value, kind in zip(row, types, strict=True)):
        raise Mismatch(f"{what} holds a value of the wrong type")


def _lane(rows: LaneRows, table: Array) -> LaneResult:
    lane, seed, planned, peak, outcome, rung, seconds, error, variant = rows.lane
    what = f"lane {str(lane)[:40]}"
    _check(rows.lane, LANE_TYPES, what)
    number, columns = table[0], dict(zip(COLUMNS, table[1:], strict=True))
    length = len(rows.steps)
    if outcome not in get_args(Outcome) or min(lane, seed, planned - length) < 0 or not peak >= 0:
        raise Mismatch(f"{what} has an outcome, a seed, an lr or a length that no lane has")
    if not np.array_equal(number, np.arange(length)) or not (columns["lr"] >= 0).all():
        raise Mismatch(f"{what} has a step that is missing, or an lr that is not a number or is negative")
    for row in rows.evaluations:
        _check(row, EVALUATION_TYPES, f"an evaluation of {what}")
    for row in rows.health:
        _check(row, LOOK_TYPES, f"a look of {what}")
    if any(not 0 <= row[0] <= length for row in rows.evaluations):
        raise Mismatch(f"{what} has an evaluation at a step that it did not take")
    if any(not 0 <= row[0] < length for row in rows.health):
        raise Mismatch(f"{what} has a look at a step that it did not take")

    return LaneResult(
        lane=lane,
        seed=seed,
        planned=planned,
        peak=peak,
        outcome=cast(Outcome, outcome),
        lr=columns["lr"],
        loss=columns["loss"],
        evaluations=tuple(
            Evaluation(step, math.nan if val_loss is None else val_loss, metric)
            for step, val_loss, metric in rows.evaluations
        ),
        rung=rung,
        seconds=seconds,
        error=error,
        variant=variant,
        health=tuple(
            LayerHealth(step, layer, size, bool(trained), bool(matrix), *measured)
            for step, layer, size, trained, matrix, *measured in rows.health
        ),
        **{name: None if np.isnan(columns[name]).all() else columns[name] for name in OPTIONAL},
    )
