"""The database of a run: its facts, its planned lanes, and what its lanes measured, in one SQLite file."""

from __future__ import annotations

import errno
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation, LaneResult, Outcome, PlannedLane

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE plan (
    lane INTEGER PRIMARY KEY, seed INTEGER NOT NULL, lr REAL NOT NULL, variant TEXT NOT NULL
);
CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY, seed INTEGER NOT NULL, planned INTEGER NOT NULL, lr REAL NOT NULL,
    outcome TEXT NOT NULL, rung INTEGER, seconds REAL NOT NULL, error TEXT, variant TEXT NOT NULL
);
CREATE TABLE evaluations (
    lane INTEGER NOT NULL REFERENCES lanes, step INTEGER NOT NULL, val_loss REAL, metric REAL,
    PRIMARY KEY (lane, step)
) WITHOUT ROWID;
CREATE TABLE steps (
    lane INTEGER NOT NULL REFERENCES lanes, step INTEGER NOT NULL, lr REAL NOT NULL,
    loss REAL, held_out_loss REAL, grad_norm REAL, momentum REAL, skipped REAL, PRIMARY KEY (lane, step)
) WITHOUT ROWID;
CREATE TABLE health (
    lane INTEGER NOT NULL REFERENCES lanes, place INTEGER NOT NULL, step INTEGER NOT NULL,
    layer TEXT NOT NULL, size INTEGER NOT NULL, trained INTEGER NOT NULL, matrix INTEGER NOT NULL,
    grad_norm REAL, weight_norm REAL, update_ratio REAL, zero_share REAL, nonfinite_share REAL,
    dead_share REAL, clipped_share REAL, PRIMARY KEY (lane, place)
) WITHOUT ROWID;
"""
NOT_AN_LR = "SELECT COUNT(*) FROM steps WHERE typeof(lr) != 'real' OR NOT lr >= 0"
VERSION = 5
OPTIONAL = ("held_out_loss", "grad_norm", "momentum", "skipped")
"""The columns of a step that only some runs have."""


@dataclass(frozen=True)
class Facts:
    """All that is known of a run, except for its lanes. Facts that are not known yet are None or empty.

    Attributes:
        version: the version of the format of the database.
        command: the command that made the run, a key of `catalog.KINDS`.
        config: the text of the config, as given.
        overrides: the overrides of the config, as the user typed them.
        resolved: the YAML of the experiment, with every default and override.
        environment: versions, device and threads.
        data: the facts of the data (see `problem.data.Stream.facts`).
        notes: events of the run that its reader should know, in sentences.
        metric: the name of the task's metric on the validation split.
        modes: how lanes run, one row for each problem (see `training.mode.Mode`).
        threads: the number of torch's threads in a final training.
        planned: the number of lanes that the run will have in all, as far as is known.
        stability_edge: `lr` and `reason` of the edge that a range test measured by bisection.
        planned_training: the training for which `find` looks for a rate.
        probing: the result of probing: `answer`, `probes` and `cost`. It never changes, even if a later
            version of the method would give another answer.
        verified: the rate that whole trainings verify.
        holder: the process that runs the lanes, or ran them last: `pid`, `host` and `since`.
        concluded: whether everything is done, tables and plots too.
    """

    version: int
    command: str = ""
    config: str = ""
    overrides: Sequence[str] = ()
    resolved: str = ""
    environment: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    metric: str | None = None
    modes: Sequence[Mapping[str, Any]] = ()
    threads: int | None = None
    planned: int | None = None
    stability_edge: Mapping[str, Any] | None = None
    planned_training: Mapping[str, Any] | None = None
    probing: Mapping[str, Any] | None = None
    verified: float | None = None
    holder: Mapping[str, Any] = field(
        default_factory=lambda: {"pid": "unknown", "host": "unknown", "since": "unknown"}
    )
    concluded: bool = False


FACT_NAMES = frozenset(column.name for column in fields(Facts))
STORE_FACT = "INSERT OR REPLACE INTO facts VALUES (?, ?)"


class Database:
    """The SQLite file of a run. Every write is one transaction.

    Each call opens the file by itself, except inside `kept_open`, where all calls share one connection.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shared: sqlite3.Connection | None = None

    @classmethod
    def create(cls, draft: Path, facts: Mapping[str, Any]) -> None:
        """Write a new database with these facts; the caller puts the file in its place."""
        rows = [(name, json.dumps(value)) for name, value in {"version": VERSION, **facts}.items()]
        with closing(sqlite3.connect(draft)) as connection, connection:
            connection.executescript(SCHEMA)
            connection.executemany("INSERT INTO facts VALUES (?, ?)", rows)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Share one connection among all calls inside the block, also among those in nested blocks."""
        if self._shared is not None:
            yield
            return
        with closing(sqlite3.connect(self.path)) as self._shared:
            try:
                yield
            finally:
                self._shared = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Make one transaction; a full disk is an OSError here, as it is everywhere else."""
        try:
            if self._shared is not None:
                with self._shared:
                    yield self._shared
            else:
                with closing(sqlite3.connect(self.path)) as connection, connection:
                    yield connection
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            raise OSError(errno.ENOSPC, str(error), str(self.path)) from error

    def verify(self) -> None:
        """Check that all tables are there, and that every lr is a number that is not negative.

        Raises:
            sqlite3.OperationalError: if a table is missing.
            ValueError: if an lr is wrong.
        """
        with self._transaction() as connection:
            for table in ("plan", "lanes", "evaluations", "steps", "health"):
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1")
            (bad,) = connection.execute(NOT_AN_LR).fetchone()
        if bad:
            raise ValueError("it holds an lr that is not a number or is negative")

    def keep_facts(self, **facts: Any) -> None:
        """Store facts as JSON, all in one transaction; a fact that was stored before is replaced."""
        rows = _fact_rows(facts)
        with self._transaction() as connection:
            connection.executemany(STORE_FACT, rows)

    def facts(self) -> Facts:
        """Return what is known of the run besides its lanes."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT name, value FROM facts").fetchall()
        return Facts(**{name: json.loads(value) for name, value in rows})

    def add_plan(self, lanes: Sequence[PlannedLane], planned: int) -> None:
        """Store lanes before they run, and how many lanes the run will have in all, as far as is known."""
        with self._transaction() as connection:
            connection.executemany("INSERT INTO plan VALUES (?, ?, ?, ?)", lanes)
            connection.executemany(STORE_FACT, _fact_rows({"planned": planned}))

    def plan(self) -> list[PlannedLane]:
        """Return the planned lanes, in the order of their numbers."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT lane, seed, lr, variant FROM plan ORDER BY lane").fetchall()
        return [PlannedLane(*row) for row in rows]

    def add_lanes(self, results: Sequence[LaneResult], **facts: Any) -> None:
        """Store lanes with all their steps, and facts, in one transaction.

        A lane that an interruption cut off before is replaced.

        Raises:
            sqlite3.IntegrityError: if one of the lanes has settled before.
        """
        rows = _fact_rows(facts)
        with self._transaction() as connection:
            for result in results:
                _forget_interrupted(connection, result.lane)
                _insert(connection, result)
            connection.executemany(STORE_FACT, rows)

    def outcomes(self) -> dict[int, Outcome]:
        """Return the outcomes of the stored lanes: lane number -> outcome."""
        with self._transaction() as connection:
            return dict(connection.execute("SELECT lane, outcome FROM lanes ORDER BY lane").fetchall())

    def lanes(self) -> list[LaneResult]:
        """Return every stored lane, in the order of the numbers."""
        with self._transaction() as connection:
            lanes = connection.execute(
                "SELECT lane, seed, planned, lr, outcome, rung, seconds, error, variant FROM lanes"
                " ORDER BY lane"
            ).fetchall()
            return [_lane(connection, row) for row in lanes]


def _fact_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return facts as rows of the table: name and JSON. A name that is not in `Facts` is a bug."""
    unknown = sorted(facts.keys() - FACT_NAMES)
    assert not unknown, f"no such facts: {unknown}"
    return [(name, json.dumps(value, allow_nan=False)) for name, value in facts.items()]


def _forget_interrupted(connection: sqlite3.Connection, lane: int) -> None:
    query = "DELETE FROM lanes WHERE lane = ? AND outcome = 'interrupted'"
    if connection.execute(query, (lane,)).rowcount:
        for table in ("steps", "evaluations", "health"):
            connection.execute(f"DELETE FROM {table} WHERE lane = ?", (lane,))


def _insert(connection: sqlite3.Connection, result: LaneResult) -> None:
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
    connection.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", steps)
    evaluations = [(result.lane, *evaluation) for evaluation in result.evaluations]
    connection.executemany("INSERT INTO evaluations VALUES (?, ?, ?, ?)", evaluations)
    looks = [(result.lane, place, *row) for place, row in enumerate(result.health)]
    marks = ", ".join("?" * (2 + len(LayerHealth._fields)))
    connection.executemany(f"INSERT INTO health VALUES ({marks})", looks)


def _lane(connection: sqlite3.Connection, row: tuple[Any, ...]) -> LaneResult:
    lane, seed, planned, peak, outcome, rung, seconds, error, variant = row
    columns = ("lr", "loss", *OPTIONAL)
    query = f"SELECT {', '.join(columns)} FROM steps WHERE lane = ? ORDER BY step"
    steps = connection.execute(query, (lane,)).fetchall()
    table = np.array(steps, dtype=np.float64).reshape(len(steps), len(columns))  # NULL becomes NaN

    query = "SELECT step, val_loss, metric FROM evaluations WHERE lane = ? ORDER BY step"
    evaluations = [
        Evaluation(step, math.nan if val_loss is None else val_loss, metric)
        for step, val_loss, metric in connection.execute(query, (lane,))
    ]

    query = f"SELECT {', '.join(LayerHealth._fields)} FROM health WHERE lane = ? ORDER BY place"
    health = [
        LayerHealth(step, layer, size, bool(trained), bool(matrix), *measured)
        for step, layer, size, trained, matrix, *measured in connection.execute(query, (lane,))
    ]

    def optional(name: str) -> Any:
        column = columns.index(name)
        return table[:, column] if any(step[column] is not None for step in steps) else None

    return LaneResult(
        lane=lane,
        seed=seed,
        planned=planned,
        peak=peak,
        outcome=cast(Outcome, outcome),
        lr=table[:, 0],
        loss=table[:, 1],
        evaluations=tuple(evaluations),
        rung=rung,
        seconds=seconds,
        error=error,
        variant=variant,
        health=tuple(health),
        **{name: optional(name) for name in OPTIONAL},
    )
