"""The measurements of lanes in the formats before 8.

There, each look at a layer is a row. So is each step before format 7; in format 7, a column of steps is the
blob of all its numbers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.health import LayerHealth
from lrfind.runs.measurements import COLUMNS, STORED, Measured, Mismatch, Row, rows_by_lane

NUMBER = (float, NoneType)
LOOK_TYPES: tuple[Any, ...] = (int, str, int, int, int, *[NUMBER] * (len(LayerHealth._fields) - 5))


def read_older(connection: sqlite3.Connection, lanes: Sequence[int]) -> Iterator[Measured]:
    """Yield the measurements of lanes.

    Raises:
        Mismatch: if a lane has none, or something in them is not what lrfind writes.
    """
    step_rows = "step" in step_columns(connection)
    health = rows_by_lane(connection, lanes, LayerHealth._fields, "health", "lane, place")
    for lane in lanes:
        looks = health.get(lane, [])
        read = _step_rows if step_rows else _blobs
        columns, names, blobs = read(connection, lane)
        yield Measured(columns, _looks(looks, lane), (looks, *names), blobs)


def step_columns(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the columns of the table of steps, which differ from format to format."""
    return {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('steps')")}


def _looks(rows: Sequence[Row], lane: int) -> tuple[LayerHealth, ...]:
    for row in rows:
        if any(not isinstance(value, kind) for value, kind in zip(row, LOOK_TYPES, strict=True)):
            raise Mismatch(f"a look of lane {lane} holds a value of the wrong type")
    return tuple(
        LayerHealth(step, layer, size, bool(trained), bool(matrix), *measured)
        for step, layer, size, trained, matrix, *measured in rows
    )


def _blobs(connection: sqlite3.Connection, lane: int) -> tuple[dict[str, Array], Row, Sequence[Any]]:
    """Return the columns of a lane in format 7, their names and their blobs."""
    stored = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM steps WHERE lane = ?", (lane,)).fetchone()
    if stored is None:
        raise Mismatch(f"the steps of lane {lane} are missing")
    blobs = {name: blob for name, blob in zip(COLUMNS, stored, strict=True) if blob is not None}
    return _columns(blobs, lane), ([*blobs],), [*blobs.values()]


def _columns(blobs: Mapping[str, Any], lane: int) -> dict[str, Array]:
    if any(not isinstance(blob, bytes) or len(blob) % STORED.itemsize for blob in blobs.values()):
        raise Mismatch(f"a column of lane {lane} holds something that is not a number")
    if not {"lr", "loss"} <= blobs.keys() or len({len(blob) for blob in blobs.values()}) > 1:
        raise Mismatch(f"the columns of lane {lane} do not fit together")
    return {name: np.frombuffer(blob, STORED).astype(np.float64) for name, blob in blobs.items()}


def _step_rows(connection: sqlite3.Connection, lane: int) -> tuple[dict[str, Array], Row, Sequence[Any]]:
    """Return the columns of a lane before format 7, and the bytes of all of them; NULL becomes NaN."""
    query = f"SELECT step, {', '.join(COLUMNS)} FROM steps WHERE lane = ? ORDER BY step"
    steps = connection.execute(query, (lane,)).fetchall()
    table = np.full((1 + len(COLUMNS), len(steps)), np.nan)
    for row, values in enumerate(zip(*steps, strict=True)):
        types = set(map(type, values))
        if not types <= {int, float, NoneType}:
            raise Mismatch("a step holds something that is not a number")
        if types != {NoneType}:
            table[row] = values
    if not np.array_equal(table[0], np.arange(len(steps))):
        raise Mismatch("a step is missing")
    return dict(zip(COLUMNS, table[1:], strict=True)), (), [table.data]
