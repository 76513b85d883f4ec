"""The measurements of lanes in a run's database: steps and looks at layers as numbers in blobs.

A lane has a row in `steps` and, if its layers were looked at, a row in `health`. A column of steps is a blob
of a number for each step, or of one number where all have the same bits, as at a constant lr.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfind.analysis.curves import Array
from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import LaneResult
from lrfind.runs.connection import LONGEST_VALUE

STORED = np.dtype("<f8")
"""The form of the stored numbers, the same on every machine."""
OPTIONAL = ("held_out_loss", "grad_norm", "momentum", "skipped")
"""The columns of a step that only some runs have."""
COLUMNS = ("lr", "loss", *OPTIONAL)
LOOK_LENGTH = len(LayerHealth._fields) - 1
"""The numbers of a look at a layer: all of its fields but the name."""
COUNTS = 4
"""How many of these numbers are whole; they come first."""
TOGETHER = 16
"""The lanes that are read at once. Where there is no log, others cannot write meanwhile, so they are few."""

Row = tuple[Any, ...]


class Mismatch(ValueError):  # noqa: N818 - the name says what is wrong
    """What a database holds is not what lrfind writes; the text is the end of a sentence."""


class Measured(NamedTuple):
    """The measurements of one lane.

    Attributes:
        steps: the numbers of each column that was measured, (t,).
        health: the looks at the layers.
        sealed: the plain values of them that the lane's digest covers.
        blobs: the blobs that it covers.
    """

    steps: Mapping[str, Array]
    health: tuple[LayerHealth, ...]
    sealed: Row
    blobs: Sequence[bytes | memoryview]


def rows_by_lane(
    connection: sqlite3.Connection, lanes: Sequence[int], columns: Iterable[str], table: str, order: str
) -> dict[int, list[Row]]:
    """Return the rows of lanes in a table: lane -> its rows in this order."""
    rows: dict[int, list[Row]] = {}
    among = f"lane IN ({', '.join('?' * len(lanes))})"
    query = f"SELECT lane, {', '.join(columns)} FROM {table} WHERE {among} ORDER BY {order}"
    for row in connection.execute(query, lanes):
        rows.setdefault(row[0], []).append(row[1:])
    return rows


def insert_measured(connection: sqlite3.Connection, results: Sequence[LaneResult]) -> list[Measured]:
    """Insert the steps and the looks of lanes, and return them as `read_measured` will."""
    measured, steps, health = [], [], []
    for result in results:
        columns = {name: column for name in COLUMNS if (column := getattr(result, name)) is not None}
        blobs = {name: _blob(column) for name, column in columns.items()}
        steps.append((result.lane, result.lr.size, *map(blobs.get, COLUMNS)))
        layers, looks = _row_of_looks(result.health)
        if result.health:
            health.append((result.lane, layers, looks))
        numbers = {name: column.astype(np.float64, copy=False) for name, column in columns.items()}
        measured.append(_measured(numbers, blobs, layers, looks, result.lane))
    connection.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", steps)
    connection.executemany("INSERT INTO health VALUES (?, ?, ?)", health)
    return measured


def _blob(column: NDArray[Any]) -> bytes:
    blob = column.astype(STORED, copy=False).tobytes()
    one = blob[: STORED.itemsize]
    return one if blob == one * column.size else blob


def _row_of_looks(looks: Sequence[LayerHealth]) -> tuple[str, bytes]:
    """Return the names of the layers in looks, and the blob of their numbers, where NaN stands for None."""
    names, numbers = [look.layer for look in looks], [(look.step, *look[2:]) for look in looks]
    return json.dumps(names), np.array(numbers, STORED).tobytes()


def read_measured(connection: sqlite3.Connection, lanes: Sequence[int]) -> Iterator[Measured]:
    """Yield the measurements of lanes.

    Raises:
        Mismatch: if a lane has none, or something in them is not what lrfind writes.
    """
    steps = rows_by_lane(connection, lanes, ("size", *COLUMNS), "steps", "lane")
    health = rows_by_lane(connection, lanes, ("layers", "looks"), "health", "lane")
    for lane in lanes:
        if lane not in steps:
            raise Mismatch(f"the steps of lane {lane} are missing")
        size, *stored = steps[lane][0]
        blobs = {name: blob for name, blob in zip(COLUMNS, stored, strict=True) if blob is not None}
        layers, looks = health.get(lane, [("[]", b"")])[0]
        yield _measured(_columns(blobs, size, lane), blobs, layers, looks, lane)


def _measured(
    steps: Mapping[str, Array], blobs: Mapping[str, bytes], layers: str, looks: bytes, lane: int
) -> Measured:
    sealed = steps["loss"].size, {name: len(blob) for name, blob in blobs.items()}, layers
    return Measured(steps, _looks(layers, looks, lane), sealed, [*blobs.values(), looks])


def _columns(blobs: Mapping[str, Any], size: Any, lane: int) -> dict[str, Array]:
    """Return the numbers of the columns of a lane."""
    known = type(size) is int and 0 <= size * STORED.itemsize <= LONGEST_VALUE
    if not known or not {"lr", "loss"} <= blobs.keys():
        raise Mismatch(f"the columns of lane {lane} do not fit together")
    return {name: _column(blob, size, lane) for name, blob in blobs.items()}


def _column(blob: Any, size: int, lane: int) -> Array:
    lengths = {size * STORED.itemsize, min(size, 1) * STORED.itemsize}
    if not isinstance(blob, bytes) or len(blob) not in lengths:
        raise Mismatch(f"a column of lane {lane} does not hold a number for each step")
    numbers = np.frombuffer(blob, STORED).astype(np.float64)
    return numbers if numbers.size == size else np.repeat(numbers, size)


def _looks(layers: Any, looks: Any, lane: int) -> tuple[LayerHealth, ...]:
    """Return the looks at the layers of a lane."""
    names = json.loads(layers)
    named = isinstance(names, list) and {*map(type, names)} <= {str}
    if not named or not isinstance(looks, bytes) or len(looks) != len(names) * LOOK_LENGTH * STORED.itemsize:
        raise Mismatch(f"the looks of lane {lane} do not fit together")
    columns = np.frombuffer(looks, STORED).reshape(len(names), LOOK_LENGTH).T
    counts, measured = columns[:COUNTS], columns[COUNTS:].tolist()
    if not np.array_equal(counts, np.trunc(counts)):
        raise Mismatch(f"a look of lane {lane} has a count that is not a whole number")
    step, size, trained, matrix = counts.tolist()
    shares = ([None if share != share else share for share in column] for column in measured)
    looked = zip(
        map(int, step), names, map(int, size), map(bool, trained), map(bool, matrix), *shares, strict=True
    )
    return tuple(map(LayerHealth._make, looked))
