"""The run directory: run.sqlite is the truth, everything else in it is an export that can be made again.

config.yaml       the config as given          resolved.yaml   with every default and override
environment.json  versions, device, threads    run.sqlite      the truth
health.csv        a row a look at a layer
steps.csv         a row a step                 lanes.csv       a row a lane
summary.json      what --json prints           *.png, *.svg    plots
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import platform
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from filelock import FileLock, Timeout

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation, LaneResult, Outcome, PlannedLane
from lrfind.config.experiment import Experiment, check, dump
from lrfind.errors import UsageError
from lrfind.runs.tables import health_frame, lanes_frame, steps_frame

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
DATABASE = "run.sqlite"
LOCK = ".lock"
UNKNOWN_HOLDER = {"pid": "unknown", "host": "unknown", "since": "unknown"}
VERSION = 4
ASKED_FOR = ("held_out_loss", "grad_norm", "momentum", "skipped")
"""Columns of a step that only some runs have."""
FILES = (
    DATABASE,
    LOCK,
    "config.yaml",
    "resolved.yaml",
    "environment.json",
    "steps.csv",
    "lanes.csv",
    "health.csv",
    "summary.json",
)


def is_run(path: Path) -> bool:
    """Whether this is a run directory."""
    try:
        return (path / DATABASE).is_file()
    except OSError:  # a name too long to be one
        return False


class Run:
    """One run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def start(
        cls, path: Path, command: str, experiment: Experiment, config: str, overrides: Sequence[str]
    ) -> Run:
        """Make the run directory of an experiment, with the config as given and resolved in it.

        Args:
            path: the directory itself; it must be new or empty.
            command: range-test, ...
            experiment: what the config and the overrides make.
            config: the text of the config.
            overrides: what was typed beside it.

        Raises:
            UsageError: as `create`.
        """
        resolved = dump(experiment)
        facts = {"command": command, "config": config, "overrides": [*overrides], "resolved": resolved}
        run = cls.create(path, facts)
        run.write("config.yaml", config)
        run.write("resolved.yaml", resolved)
        return run

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, Any] = MappingProxyType({})) -> Run:
        """Make a new run directory with these facts in it; nothing that exists is ever overwritten.

        Raises:
            UsageError: if the directory is taken, or cannot be written to.
        """
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            draft = path / f".{DATABASE}.part"  # whole or not at all: a kill leaves no half a database
            draft.unlink(missing_ok=True)  # of a run that was killed as it began
            if any(path.iterdir()):
                raise UsageError(f"'{path}' is not empty, and a run never overwrites; give another --out.")
            with closing(sqlite3.connect(draft)) as database, database:
                database.executescript(SCHEMA)
                rows = [(name, json.dumps(value)) for name, value in {"version": VERSION, **facts}.items()]
                database.executemany("INSERT INTO facts VALUES (?, ?)", rows)
            draft.replace(path / DATABASE)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"'{path}' cannot be a run directory: a file is in the way.") from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise UsageError(
                f"cannot write to '{path}': {error.strerror}; give --out a directory of yours."
            ) from None
        except sqlite3.OperationalError as error:
            raise UsageError(f"cannot write to '{path}': {error}; give another --out.") from None
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run directory.

        Raises:
            UsageError: if it is none.
        """
        run = cls(path)
        if not is_run(path):
            raise UsageError(f"'{path}' is not a run directory: it has no {DATABASE}.")
        try:
            version = run.facts()["version"]
            if version != VERSION:
                raise UsageError(f"'{path}' was written by another lrfind (format {version}, not {VERSION}).")
            with run._connect() as database:
                (bad,) = database.execute(NOT_AN_LR).fetchone()
            if bad:
                raise ValueError("it has an lr that is no number, or negative")
        except (sqlite3.DatabaseError, KeyError, ValueError, TypeError) as error:
            raise UsageError(f"'{path / DATABASE}' cannot be read: {error}.") from None
        return run

    def discard_if_empty(self) -> bool:
        """Remove what the run wrote, if no step was ever measured in it; True if that was so."""
        if any(lane.lr.size for lane in self.lanes()):
            return False
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something of the user's is in it, or it is the working directory
            self.path.rmdir()
        return True

    def set_fact(self, name: str, value: Any) -> None:
        """Keep something that is known of the run besides its lanes, as JSON."""
        with self._connect() as database:
            row = (name, json.dumps(value, allow_nan=False))
            database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", row)

    def facts(self) -> dict[str, Any]:
        """What is known of the run besides its lanes."""
        with self._connect() as database:
            rows = database.execute("SELECT name, value FROM facts").fetchall()
        return {name: json.loads(value) for name, value in rows}

    @property
    def concluded(self) -> bool:
        """Whether everything is done, tables and plots too."""
        return bool(self.facts().get("concluded", False))

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment that the run was started with."""
        resolved = self.facts().get("resolved")
        if not isinstance(resolved, str):
            raise UsageError(f"'{self.path / DATABASE}' does not say which config it was run with.")
        return check(resolved, source=str(self.path / "resolved.yaml"))

    def add_plan(self, lanes: Sequence[PlannedLane]) -> None:
        """Keep which lanes shall be run, before they are."""
        with self._connect() as database:
            database.executemany("INSERT INTO plan VALUES (?, ?, ?, ?)", lanes)

    def plan(self) -> list[PlannedLane]:
        """The lanes that shall be run, by number."""
        with self._connect() as database:
            rows = database.execute("SELECT lane, seed, lr, variant FROM plan ORDER BY lane").fetchall()
        return [PlannedLane(*row) for row in rows]

    def add_lane(self, result: LaneResult) -> None:
        """Keep one lane; see `add_lanes`."""
        self.add_lanes([result])

    def add_lanes(self, results: Sequence[LaneResult]) -> None:
        """Keep lanes with all their steps, in one transaction; they replace what was kept of an interruption.

        Raises:
            sqlite3.IntegrityError: if one of them has settled already.
        """
        with self._connect() as database:
            for result in results:
                self._forget_interrupted(database, result.lane)
                self._insert(database, result)

    def _forget_interrupted(self, database: sqlite3.Connection, lane: int) -> None:
        query = "DELETE FROM lanes WHERE lane = ? AND outcome = 'interrupted'"
        if database.execute(query, (lane,)).rowcount:
            for table in ("steps", "evaluations", "health"):
                database.execute(f"DELETE FROM {table} WHERE lane = ?", (lane,))

    def _insert(self, database: sqlite3.Connection, result: LaneResult) -> None:
        none = [None] * result.lr.size
        columns = [
            none if column is None else column.tolist()
            for column in (result.lr, result.loss, *(getattr(result, name) for name in ASKED_FOR))
        ]
        rows = zip([result.lane] * result.lr.size, range(result.lr.size), *columns, strict=True)
        lane = (result.lane, result.seed, result.planned, result.peak, result.outcome, result.rung)
        database.execute(
            "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*lane, result.seconds, result.error, result.variant),
        )
        database.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        evaluations = [(result.lane, *evaluation) for evaluation in result.evaluations]
        database.executemany("INSERT INTO evaluations VALUES (?, ?, ?, ?)", evaluations)
        looks = [(result.lane, place, *row) for place, row in enumerate(result.health)]
        marks = ", ".join("?" * (2 + len(LayerHealth._fields)))
        database.executemany(f"INSERT INTO health VALUES ({marks})", looks)

    def outcomes(self) -> dict[int, Outcome]:
        """How each lane that was kept ended, by number."""
        with self._connect() as database:
            return dict(database.execute("SELECT lane, outcome FROM lanes ORDER BY lane").fetchall())

    def lanes(self) -> list[LaneResult]:
        """Every lane that was kept."""
        with self._connect() as database:
            lanes = database.execute(
                "SELECT lane, seed, planned, lr, outcome, rung, seconds, error, variant FROM lanes"
                " ORDER BY lane"
            ).fetchall()
            return [self._lane(database, row) for row in lanes]

    def _lane(self, database: sqlite3.Connection, row: tuple[Any, ...]) -> LaneResult:
        lane, seed, planned, peak, outcome, rung, seconds, error, variant = row
        columns = ("lr", "loss", *ASKED_FOR)
        query = f"SELECT {', '.join(columns)} FROM steps WHERE lane = ? ORDER BY step"
        steps = database.execute(query, (lane,)).fetchall()
        table = np.array(steps, dtype=np.float64).reshape(len(steps), len(columns))  # NULL becomes NaN

        query = "SELECT step, val_loss, metric FROM evaluations WHERE lane = ? ORDER BY step"
        evaluations = [
            Evaluation(step, math.nan if val_loss is None else val_loss, metric)
            for step, val_loss, metric in database.execute(query, (lane,))
        ]

        query = f"SELECT {', '.join(LayerHealth._fields)} FROM health WHERE lane = ? ORDER BY place"
        health = [
            LayerHealth(step, layer, size, bool(trained), bool(matrix), *measured)
            for step, layer, size, trained, matrix, *measured in database.execute(query, (lane,))
        ]

        def asked(name: str) -> Any:
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
            **{name: asked(name) for name in ASKED_FOR},
        )

    def export(self) -> None:
        """Write steps.csv, lanes.csv and, where layers were looked at, health.csv from the database."""
        lanes = self.lanes()
        self.write("steps.csv", steps_frame(lanes).to_csv(index=False, na_rep="nan"))
        self.write("lanes.csv", lanes_frame(lanes).to_csv(index=False, na_rep="nan"))
        if any(lane.health for lane in lanes):
            self.write("health.csv", health_frame(lanes).to_csv(index=False, na_rep="nan"))

    def write(self, name: str, text: str) -> None:
        """Write a file of the run, whole or not at all."""
        draft = self.path / f".{name}.part"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.path / name)

    def write_json(self, name: str, value: Any) -> None:
        """Write plain data as JSON; there must be no NaN in it."""
        self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process from running this run's lanes; the system lets go when this one dies.

        Raises:
            UsageError: if another process holds it; says which.
        """
        lock = FileLock(self.path / LOCK, timeout=1)  # `holder` may have it for a moment
        try:
            lock.acquire()
        except Timeout:
            who = self.facts().get("holder", UNKNOWN_HOLDER)
            raise UsageError(
                f"'{self.path}' is being run by process {who['pid']} on {who['host']} since {who['since']};"
                " wait for it, or stop it."
            ) from None
        try:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            self.set_fact("holder", {"pid": os.getpid(), "host": platform.node(), "since": since})
            yield
        finally:
            lock.release()

    @property
    def holder(self) -> dict[str, Any] | None:
        """Which process runs it at the moment: pid, host, since; None if none does."""
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            with lock:
                return None
        except Timeout:
            found: dict[str, Any] = self.facts().get("holder", UNKNOWN_HOLDER)
            return found
        except OSError:  # not ours to lock
            return None

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """One transaction; a full disk is an OSError here too, as everywhere."""
        try:
            with closing(sqlite3.connect(self.path / DATABASE)) as database, database:
                yield database
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            raise OSError(errno.ENOSPC, str(error), str(self.path / DATABASE)) from error


def default_path(name: str, command: str) -> Path:
    """runs/<name>-<command>-<time>, with a number behind it if that is taken."""
    base = f"{name}-{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / base, 2
    while path.exists():
        path, number = Path("runs") / f"{base}-{number}", number + 1
    return path


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs in a folder, the oldest first, and why others cannot be read.

    Raises:
        UsageError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no directory '{folder}'; runs are made in ./runs, or where --out says.")
    found, unreadable = [], []
    for database in sorted(folder.glob(f"*/{DATABASE}"), key=lambda file: file.stat().st_ctime):
        try:
            found.append(Run.open(database.parent))
        except UsageError as error:
            unreadable.append(str(error))
    return found, unreadable
