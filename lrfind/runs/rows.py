"""The rows of one lane in a run's database: how they are written, read and checked, and their digest."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from lrfind.analysis.curves import Array
from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation, LaneResult, Outcome, PlannedLane

STORED = np.dtype("<f8")
"""The form of the numbers of a step, the same on every machine."""
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


def digest(*values: object, blobs: Iterable[bytes | memoryview] = ()) -> bytes:
    """Return a short digest of plain values, and of bytes.

    >>> digest("planned", "3") == digest("planned", "3") != digest("planned", "2")
    True
    """
    text = hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=16)
    for blob in blobs:
        text.update(blob)
    return text.digest()


class LaneRows(NamedTuple):
    """The rows of one lane, as SQLite returns them, but for its steps, and their digest.

    `steps` has the numbers of each column, (t,), without the columns that hold no number.
    """

    lane: tuple[Any, ...]
    steps: Mapping[str, Array]
    evaluations: Sequence[tuple[Any, ...]]
    health: Sequence[tuple[Any, ...]]
    digest: bytes


def _select(connection: sqlite3.Connection, lane: int, step_rows: bool) -> LaneRows:
    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query, (lane,)).fetchall()

    found = rows(
        "SELECT lane, seed, planned, lr, outcome, rung, seconds, error, variant FROM lanes WHERE lane = ?"
    )
    if not found:
        raise Mismatch(f"lane {lane} is missing")
    evaluations = rows("SELECT step, val_loss, metric FROM evaluations WHERE lane = ? ORDER BY step")
    health = rows(f"SELECT {', '.join(LayerHealth._fields)} FROM health WHERE lane = ? ORDER BY place")
    if step_rows:
        table = _table(rows(f"SELECT step, {', '.join(COLUMNS)} FROM steps WHERE lane = ? ORDER BY step"))
        columns = dict(zip(COLUMNS, table[1:], strict=True))
        sealed = digest(found[0], evaluations, health, blobs=[table.data])
        return LaneRows(found[0], columns, evaluations, health, sealed)
    stored = rows(f"SELECT {', '.join(COLUMNS)} FROM steps WHERE lane = ?")
    if not stored:
        raise Mismatch(f"the steps of lane {lane} are missing")
    blobs = {name: blob for name, blob in zip(COLUMNS, stored[0], strict=True) if blob is not None}
    sealed = digest(found[0], evaluations, health, [*blobs], blobs=blobs.values())
    return LaneRows(found[0], _columns(blobs, lane), evaluations, health, sealed)


def has_step_rows(connection: sqlite3.Connection) -> bool:
    """Return whether each step is a row, as in the formats before 7, and not each lane."""
    query = "SELECT COUNT(*) FROM pragma_table_info('steps') WHERE name = 'step'"
    return bool(connection.execute(query).fetchone()[0])


def _columns(blobs: Mapping[str, Any], lane: int) -> dict[str, Array]:
    """Return the numbers of the columns of a lane.

    Raises:
        Mismatch: if they are not columns of numbers, all of the same length.
    """
    if any(not isinstance(blob, bytes) or len(blob) % STORED.itemsize for blob in blobs.values()):
        raise Mismatch(f"a column of lane {lane} holds something that is not a number")
    if not {"lr", "loss"} <= blobs.keys() or len({len(blob) for blob in blobs.values()}) > 1:
        raise Mismatch(f"the columns of lane {lane} do not fit together")
    return {name: np.frombuffer(blob, STORED).astype(np.float64) for name, blob in blobs.items()}


def insert_lanes(connection: sqlite3.Connection, results: Sequence[LaneResult]) -> None:
    """Insert lanes with all their measurements; measurements of the same numbers that are left over go."""

    def insert(table: str, rows: Iterable[Sequence[Any]], columns: int) -> None:
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows)

    lanes = (
        (
            one.lane,
            one.seed,
            one.planned,
            one.peak,
            one.outcome,
            one.rung,
            one.seconds,
            one.error,
            one.variant,
        )
        for one in results
    )
    insert("lanes", lanes, len(LANE_TYPES))
    for table in CHILDREN:
        connection.executemany(f"DELETE FROM {table} WHERE lane = ?", ((one.lane,) for one in results))
    steps = ((one.lane, *(_blob(getattr(one, name)) for name in COLUMNS)) for one in results)
    insert("steps", steps, 1 + len(COLUMNS))
    evaluations = ((one.lane, *evaluation) for one in results for evaluation in one.evaluations)
    insert("evaluations", evaluations, 1 + len(Evaluation._fields))
    looks = ((one.lane, place, *row) for one in results for place, row in enumerate(one.health))
    insert("health", looks, 2 + len(LayerHealth._fields))


def _blob(column: NDArray[Any] | None) -> bytes | None:
    return None if column is None else column.astype(STORED).tobytes()


def lane_digests(connection: sqlite3.Connection, lanes: Iterable[int]) -> list[bytes]:
    """Return the digests of lanes as they are stored."""
    step_rows = has_step_rows(connection)
    return [_select(connection, lane, step_rows).digest for lane in lanes]


def _table(steps: Sequence[tuple[Any, ...]]) -> Array:
    """Return the number and the columns of all steps (1 + columns, T), each a row; NULL becomes NaN.

    Raises:
        Mismatch: if there is anything but numbers in them, or a step is missing.
    """
    table = np.full((1 + len(COLUMNS), len(steps)), np.nan)
    for row, values in enumerate(zip(*steps, strict=True)):
        types = set(map(type, values))
        if not types <= {int, float, NoneType}:
            raise Mismatch("a step holds something that is not a number")
        if types != {NoneType}:
            table[row] = values
    if not np.array_equal(table[0], np.arange(len(steps))):
        raise Mismatch("a step is missing")
    return table


def read_lanes(connection: sqlite3.Connection, lanes: Iterable[int], *, sealed: bool) -> list[LaneResult]:
    """Return lanes with all their measurements.

    Args:
        connection: the connection.
        lanes: the numbers of the lanes.
        sealed: whether there are digests of the lanes.

    Raises:
        Mismatch: if one is not what lrfind wrote.
    """
    results, step_rows = [], has_step_rows(connection)
    for lane in lanes:
        rows = _select(connection, lane, step_rows)
        if sealed:
            query = "SELECT digest FROM digests WHERE part = 'lane' AND name = ?"
            if connection.execute(query, (str(lane),)).fetchone() != (rows.digest,):
                raise Mismatch(f"lane {lane} is not what lrfind wrote")
        results.append(_lane(rows))
    return results


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


def _lane(rows: LaneRows) -> LaneResult:
    lane, seed, planned, peak, outcome, rung, seconds, error, variant = rows.lane
    what = f"lane {str(lane)[:40]}"
    _check(rows.lane, LANE_TYPES, what)
    columns = rows.steps
    length = columns["lr"].size
    if outcome not in get_args(Outcome) or min(lane, seed, planned - length) < 0 or not peak >= 0:
        raise Mismatch(f"{what} has an outcome, a seed, an lr or a length that no lane has")
    if not (columns["lr"] >= 0).all():
        raise Mismatch(f"{what} has an lr that is not a number, or is negative")
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
        **{name: columns[name] for name in OPTIONAL if name in columns and not np.isnan(columns[name]).all()},
    )
