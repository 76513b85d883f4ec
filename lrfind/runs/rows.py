"""The rows of one lane in a run's database: how they are written, read and checked, and their digest."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, cast, get_args

import numpy as np

from lrfind.analysis.lanes import Evaluation, LaneResult, Outcome, PlannedLane
from lrfind.runs.measurements import (
    OPTIONAL,
    TOGETHER,
    Measured,
    Mismatch,
    Row,
    insert_measured,
    read_measured,
    rows_by_lane,
)
from lrfind.runs.older import read_older, step_columns

CHILDREN = ("steps", "evaluations", "health")
"""The tables with the measurements of lanes."""
OUTCOMES = get_args(Outcome)
NUMBER = (float, NoneType)
PLANNED_TYPES = (int, int, float, str)
LANE_TYPES = (int, int, int, float, str, (int, NoneType), float, (str, NoneType), str)
EVALUATION_TYPES = (int, NUMBER, NUMBER)


def digest(*values: object, blobs: Iterable[bytes | memoryview] = ()) -> bytes:
    """Return a short digest of plain values, and of bytes.

    >>> digest("planned", "3") == digest("planned", "3") != digest("planned", "2")
    True
    """
    text = hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=16)
    for blob in blobs:
        text.update(blob)
    return text.digest()


class StoredLane(NamedTuple):
    """One lane as it is stored: its row, those of its evaluations, what it measured, and its digest."""

    row: Row
    evaluations: Sequence[Row]
    measured: Measured
    digest: bytes


def stored_lanes(
    connection: sqlite3.Connection, lanes: Sequence[int], measured: Sequence[Measured] = ()
) -> Iterator[StoredLane]:
    """Yield lanes as they are stored; `TOGETHER` of them share a query of each table.

    Args:
        connection: the connection.
        lanes: the numbers of the lanes.
        measured: what they measured, where that is known; else it is read.

    Raises:
        Mismatch: if a lane is missing, or something in it is not what lrfind writes.
    """
    read = read_measured if "size" in step_columns(connection) else read_older
    names = ("lane", "seed", "planned", "lr", "outcome", "rung", "seconds", "error", "variant")
    for begin in range(0, len(lanes), TOGETHER):
        part = lanes[begin : begin + TOGETHER]
        rows = rows_by_lane(connection, part, names, "lanes", "lane")
        evaluations = rows_by_lane(connection, part, Evaluation._fields, "evaluations", "lane, step")
        for lane in part:
            if lane not in rows:
                raise Mismatch(f"lane {lane} is missing")
        known = iter(measured[begin : begin + TOGETHER]) if measured else read(connection, part)
        for lane, one in zip(part, known, strict=True):
            row, evaluated = rows[lane][0], evaluations.get(lane, [])
            yield StoredLane(row, evaluated, one, digest(row, evaluated, *one.sealed, blobs=one.blobs))


def insert_lanes(connection: sqlite3.Connection, results: Sequence[LaneResult]) -> Iterator[StoredLane]:
    """Insert lanes with all their measurements, and yield them as they are stored.

    Measurements of the same numbers that are left over go.
    """

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
    evaluations = ((one.lane, *evaluation) for one in results for evaluation in one.evaluations)
    insert("evaluations", evaluations, 1 + len(Evaluation._fields))
    measured = insert_measured(connection, results)
    return stored_lanes(connection, [one.lane for one in results], measured)


def lane_digests(connection: sqlite3.Connection, lanes: Sequence[int]) -> list[bytes]:
    """Return the digests of lanes as they are stored."""
    return [stored.digest for stored in stored_lanes(connection, lanes)]


def read_lanes(connection: sqlite3.Connection, lanes: Sequence[int], *, sealed: bool) -> list[LaneResult]:
    """Return lanes with all their measurements.

    Args:
        connection: the connection.
        lanes: the numbers of the lanes.
        sealed: whether there are digests of the lanes.

    Raises:
        Mismatch: if one is not what lrfind wrote.
    """
    results, query = [], "SELECT digest FROM digests WHERE part = 'lane' AND name = ?"
    for lane, stored in zip(lanes, stored_lanes(connection, lanes), strict=True):
        if sealed and connection.execute(query, (str(lane),)).fetchone() != (stored.digest,):
            raise Mismatch(f"lane {lane} is not what lrfind wrote")
        results.append(as_lane(stored))
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
    if not all(map(isinstance, row, types)):
        raise Mismatch(f"{what} holds a value of the wrong type")


def as_lane(stored: StoredLane) -> LaneResult:
    """Return a lane from what is stored of it.

    Raises:
        Mismatch: if something in it is not what lrfind writes.
    """
    lane, seed, planned, peak, outcome, rung, seconds, error, variant = stored.row
    what = f"lane {str(lane)[:40]}"
    _check(stored.row, LANE_TYPES, what)
    columns, health = stored.measured.steps, stored.measured.health
    length = columns["lr"].size
    if outcome not in OUTCOMES or min(lane, seed, planned - length) < 0 or not peak >= 0:
        raise Mismatch(f"{what} has an outcome, a seed, an lr or a length that no lane has")
    if not (columns["lr"] >= 0).all():
        raise Mismatch(f"{what} has an lr that is not a number, or is negative")
    for row in stored.evaluations:
        _check(row, EVALUATION_TYPES, f"an evaluation of {what}")
    if any(not 0 <= row[0] <= length for row in stored.evaluations):
        raise Mismatch(f"{what} has an evaluation at a step that it did not take")
    if any(not 0 <= look.step < length for look in health):
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
            for step, val_loss, metric in stored.evaluations
        ),
        rung=rung,
        seconds=seconds,
        error=error,
        variant=variant,
        health=health,
        **{name: columns[name] for name in OPTIONAL if name in columns and not np.isnan(columns[name]).all()},
    )
