"""The run directory: run.sqlite is the truth, everything else in it is an export that can be made again.

    config.yaml       the config as given          resolved.yaml   with every default and override
    environment.json  versions, device, threads    run.sqlite      the truth
    steps.csv         a row a step                 lanes.csv       a row a lane
    summary.json      what --json prints           *.png, *.svg    plots

steps.csv: lane, seed, step, lr (used by the optimizer at that step), loss (measured before the update that
uses lr), smoothed_loss (see `lrfind.curves.smooth`; nan from the first non-finite loss on), and, where
asked for, probe_loss and grad_norm. lanes.csv: lane, seed, lr (the peak; a ramp's end), outcome, steps,
first_loss, best_loss, last_loss, metric (nan where none was measured), train_seconds. Floats are written
so that reading them gives the same bits.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from lrfind.config import Experiment, check, dump
from lrfind.errors import UsageError
from lrfind.plan import LaneResult, Outcome

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY, seed INTEGER NOT NULL, planned INTEGER NOT NULL, lr REAL NOT NULL,
    outcome TEXT NOT NULL, seconds REAL NOT NULL, error TEXT
);
CREATE TABLE steps (
    lane INTEGER NOT NULL REFERENCES lanes, step INTEGER NOT NULL, lr REAL NOT NULL,
    loss REAL, probe_loss REAL, grad_norm REAL, PRIMARY KEY (lane, step)
) WITHOUT ROWID;
"""
DATABASE = "run.sqlite"
VERSION = 1
FILES = (
    DATABASE,
    "config.yaml",
    "resolved.yaml",
    "environment.json",
    "steps.csv",
    "lanes.csv",
    "summary.json",
)


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
        run = cls.create(path)
        facts = {"command": command, "config": config, "overrides": [*overrides], "resolved": resolved}
        for name, value in facts.items():
            run.add_fact(name, value)
        run.write("config.yaml", config)
        run.write("resolved.yaml", resolved)
        return run

    @classmethod
    def create(cls, path: Path) -> Run:
        """Make a new run directory; nothing that exists is ever overwritten.

        Raises:
            UsageError: if the directory is taken, or cannot be written to.
        """
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UsageError(f"'{path}' is not empty, and a run never overwrites; give another --out.")
            with run._connect() as database:
                database.executescript(SCHEMA)
            run.add_fact("version", VERSION)
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
        if not (path / DATABASE).is_file():
            raise UsageError(f"'{path}' is not a run directory: it has no {DATABASE}.")
        try:
            version = run.facts()["version"]
            curves = [lane.curve for lane in run.lanes()]
            if not all((curve.lr > 0).all() for curve in curves):
                raise ValueError("it has an lr that is not positive")
        except (sqlite3.DatabaseError, KeyError, ValueError, TypeError) as error:
            raise UsageError(f"'{path / DATABASE}' cannot be read: {error}.") from None
        if version != VERSION:
            raise UsageError(f"'{path}' was written by another lrfind (format {version}, not {VERSION}).")
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

    def add_fact(self, name: str, value: Any) -> None:
        """Keep something that is known of the run besides its lanes, as JSON."""
        with self._connect() as database:
            database.execute("INSERT INTO facts VALUES (?, ?)", (name, json.dumps(value, allow_nan=False)))

    def facts(self) -> dict[str, Any]:
        """What is known of the run besides its lanes."""
        with self._connect() as database:
            rows = database.execute("SELECT name, value FROM facts").fetchall()
        return {name: json.loads(value) for name, value in rows}

    @property
    def experiment(self) -> Experiment:
        """The experiment that the run was started with."""
        resolved = self.facts().get("resolved")
        if not isinstance(resolved, str):
            raise UsageError(f"'{self.path / DATABASE}' does not say which config it was run with.")
        return check(resolved, source=str(self.path / "resolved.yaml"))

    @property
    def summary(self) -> dict[str, Any]:
        """What the run found, from summary.json."""
        found: dict[str, Any] = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        return found

    def add_lane(self, result: LaneResult) -> None:
        """Keep a lane and all its steps, in one transaction."""
        none = [None] * result.lr.size
        columns = (
            result.lr,
            result.loss,
            none if result.probe_loss is None else result.probe_loss,
            none if result.grad_norm is None else result.grad_norm,
        )
        steps = [
            (result.lane, t, *(None if value is None else float(value) for value in row))
            for t, row in enumerate(zip(*columns, strict=True))
        ]
        lane = (result.lane, result.seed, result.planned, result.peak, result.outcome)
        with self._connect() as database:
            database.execute(
                "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*lane, result.seconds, result.error),
            )
            database.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)", steps)

    def lanes(self) -> list[LaneResult]:
        """Every lane that was kept."""
        with self._connect() as database:
            lanes = database.execute("SELECT * FROM lanes ORDER BY lane").fetchall()
            return [self._lane(database, row) for row in lanes]

    def _lane(self, database: sqlite3.Connection, row: tuple[Any, ...]) -> LaneResult:
        lane, seed, planned, peak, outcome, seconds, error = row
        query = "SELECT lr, loss, probe_loss, grad_norm FROM steps WHERE lane = ? ORDER BY step"
        steps = database.execute(query, (lane,)).fetchall()
        table = np.array(steps, dtype=np.float64).reshape(len(steps), 4)  # NULL becomes NaN

        def asked(column: int) -> Any:
            return table[:, column] if any(step[column] is not None for step in steps) else None

        return LaneResult(
            lane=lane,
            seed=seed,
            planned=planned,
            peak=peak,
            outcome=cast(Outcome, outcome),
            lr=table[:, 0],
            loss=table[:, 1],
            probe_loss=asked(2),
            grad_norm=asked(3),
            seconds=seconds,
            error=error,
        )

    def export(self) -> None:
        """Write steps.csv and lanes.csv from the database."""
        lanes = self.lanes()
        self.write("steps.csv", steps_frame(lanes).to_csv(index=False, na_rep="nan"))
        self.write("lanes.csv", lanes_frame(lanes).to_csv(index=False, na_rep="nan"))

    def write(self, name: str, text: str) -> None:
        """Write a file of the run, whole or not at all."""
        draft = self.path / f".{name}.part"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.path / name)

    def write_json(self, name: str, value: Any) -> None:
        """Write plain data as JSON; there must be no NaN in it."""
        self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

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


def steps_frame(lanes: list[LaneResult]) -> pd.DataFrame:
    """One row per lane and step; the columns of steps.csv."""
    frames = []
    for result in lanes:
        columns = {
            "lane": result.lane,
            "seed": result.seed,
            "step": np.arange(result.lr.size),
            "lr": result.lr,
            "loss": result.loss,
            "smoothed_loss": result.curve.smoothed,
        }
        if result.probe_loss is not None:
            columns["probe_loss"] = result.probe_loss
        if result.grad_norm is not None:
            columns["grad_norm"] = result.grad_norm
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def lanes_frame(lanes: list[LaneResult]) -> pd.DataFrame:
    """One row per lane; the columns of lanes.csv."""
    return pd.DataFrame(
        [
            {
                "lane": result.lane,
                "seed": result.seed,
                "lr": result.peak,
                "outcome": result.outcome,
                "steps": result.lr.size,
                "first_loss": result.loss[0] if result.loss.size else np.nan,
                "best_loss": np.nanmin(result.loss) if result.curve.length else np.nan,
                "last_loss": result.loss[-1] if result.loss.size else np.nan,
                "metric": np.nan,
                "train_seconds": result.seconds,
            }
            for result in lanes
        ]
    )
