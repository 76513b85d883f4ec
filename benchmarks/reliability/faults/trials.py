"""The runs that are hurt, the table of what became of them, and their comparison with undisturbed runs."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from processes import Process, without_rendering

from lrfind.runs.connection import COMPANIONS, copied

CONFIG = """
name: hurt
model: {name: mlp, args: {hidden: [32], dropout: 0.2}}
data: {name: mnist_mini, batch_size: 64}
loss: cross_entropy
optimizer: adam
training: {steps: 80, eval_every: 40, checkpoint_every: 20}
find: {lanes: single, threads: 1, budget: 400}
range_test: {steps: 200, seeds: 2}
grid: {low: 1e-4, high: 1e-1, points: 4, seeds: 2, threads: 1}
search: {sampler: tpe, trials: 6, seeds: 1, batch: 2, threads: 1, lanes: single}
compare: {schedules: [constant, one_cycle], peaks: [1e-3, 1e-2], seeds: 2, threads: 1, lanes: stacked}
"""
WAYS = {
    "find": ("find",),
    "range-test": ("range-test",),
    "grid, single": ("grid", "--lanes", "single"),
    "grid, stacked": ("grid", "--lanes", "stacked"),
    "search": ("search",),
    "compare": ("compare",),
    "train": ("train", "--schedule", "one_cycle", "--steps", "600", "--seeds", "2"),
    "small find": ("find", "--set", "find.budget=150"),
    "small grid": (
        *("grid", "--lanes", "single", "--lrs", "1e-3,1e-2", "--seeds", "1"),
        *("--set", "training.steps=20", "--set", "training.checkpoint_every=15"),
    ),
    "small train": ("train", "--steps", "20", "--set", "training.checkpoint_every=15"),
    "long grid": (
        *("grid", "--lanes", "single", "--lrs", "1e-3,3e-3,1e-2,3e-2", "--seeds", "1"),
        *("--set", "training.steps=1000", "--set", "training.eval_every=500"),
    ),
}
"""The runs that are hurt: name -> command and options."""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        fault: what was done to the runs.
        times: how often.
        lost: the lanes that were stored before a fault and were not, or not as they were, at the end.
        twice: the lanes and steps that a final table has twice.
        unequal: the final tables that differ from those of the undisturbed run.
        tracebacks: the processes that printed a traceback.
        exits: exit code -> number of the hurt processes that ended with it.
        surprises: what else was not as it should be, one sentence each.
    """

    fault: str
    times: int = 0
    lost: int = 0
    twice: int = 0
    unequal: int = 0
    tracebacks: int = 0
    exits: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the fault harmed nothing."""
        return self.times > 0 and not (
            self.lost or self.twice or self.unequal or self.tracebacks or self.surprises
        )

    def take(self, process: Process, *expected: int, says: str = "") -> int | None:
        """Wait for the end of a hurt process, and note what was wrong with it.

        Args:
            process: the process.
            expected: the exit codes that it may have.
            says: what it must have printed, if its exit code is neither 0 nor that of a signal.
        """
        code = process.code
        self.exits["never ended" if code is None else str(code)] += 1
        if "Traceback (most recent call last)" in process.text:
            self.tracebacks += 1
        if code not in expected or (code is not None and code > 0 and says not in process.text):
            self.surprises.append(f"exit {code}: {process.text[-500:].strip()}")
        return code


@dataclass(frozen=True)
class Tables:
    """What a run ended with, without the seconds that it took."""

    lanes: pd.DataFrame
    steps: str
    weights: dict[str, bytes]
    answer: Any

    @classmethod
    def of(cls, run: Path) -> Tables:
        """Read the tables, the weights and the answer of a run."""
        weights = {
            f"{file.name} {name}": value.numpy().tobytes()
            for file in sorted(run.glob("*.pt"))
            if not file.name.startswith("checkpoint")
            for name, value in torch.load(file, weights_only=True).items()
        }
        lanes = pd.read_csv(run / "lanes.csv").drop(columns="train_seconds")
        answer = json.loads((run / "summary.json").read_text())["answer"]
        return cls(lanes, (run / "steps.csv").read_text(), weights, answer)

    @property
    def repeated(self) -> int:
        """The number of lanes and of steps that are there twice."""
        steps = [line.split(",")[:3] for line in self.steps.splitlines()]
        keys = pd.Series([" ".join(step) for step in steps], dtype=str)
        return int(self.lanes["lane"].duplicated().sum() + keys.duplicated().sum())

    def equal(self, other: Tables) -> bool:
        """Return whether everything is the same to the last bit."""
        return (
            self.lanes.equals(other.lanes)
            and self.steps == other.steps
            and self.weights == other.weights
            and self.answer == other.answer
        )


class Stage:
    """The place where runs are hurt.

    Args:
        folder: the folder for all runs.
        seed: the seed of everything that is drawn.
        times: how often each fault is tried; see `few`.
    """

    def __init__(self, folder: Path, seed: int, times: float = 1.0) -> None:
        self.folder, self.random, self._times = folder, random.Random(seed), times
        self.config, self._count = folder / "hurt.yaml", 0
        self.config.write_text(CONFIG)
        self._undisturbed: dict[str, tuple[Path, Tables, float]] = {}
        self._unrendered: dict[str, float] = {}

    def few(self, number: int) -> int:
        """Return how often to try a fault that the whole suite tries `number` times."""
        return max(1, round(number * self._times))

    def new_path(self, name: str = "run") -> Path:
        """Return a path that nothing has used."""
        self._count += 1
        return self.folder / f"{name}-{self._count}"

    def process(self, *arguments: object, **how: Any) -> Process:
        """Call lrfind."""
        return Process(arguments, self.new_path("log"), **how)

    def start(self, way: str, run: Path, *options: str, **how: Any) -> Process:
        """Start a run, or resume it if it has begun."""
        if (run / "run.sqlite").exists():
            return self.process("resume", run, *options, **how)
        return self.process(WAYS[way][0], self.config, "--out", run, *WAYS[way][1:], *options, **how)

    def unrendered_seconds(self, way: str) -> float:
        """Return how long a run takes without the rendering of its plots."""
        if way not in self._unrendered:
            began = time.perf_counter()
            assert self.start(way, self.new_path(), before=without_rendering).code == 0
            self._unrendered[way] = time.perf_counter() - began
        return self._unrendered[way]

    def undisturbed(self, way: str) -> tuple[Path, Tables, float]:
        """Return a run that nothing hurts, its tables and its seconds; it runs once."""
        if way not in self._undisturbed:
            run, began = self.new_path("undisturbed"), time.perf_counter()
            process = self.start(way, run)
            if process.code != 0:
                raise SystemExit(f"an undisturbed run ({way}) ended with {process.code}:\n{process.text}")
            self._undisturbed[way] = run, Tables.of(run), time.perf_counter() - began
        return self._undisturbed[way]


class Trial:
    """One run that is hurt, and what it has held so far.

    Args:
        stage: where.
        row: the line of the table that it belongs to.
        way: a key of `WAYS`.
        run: the directory of the run; a new one unless it is given.
    """

    def __init__(self, stage: Stage, row: Row, way: str, run: Path | None = None) -> None:
        self.stage, self.row, self.way = stage, row, way
        self.run = run or stage.new_path()
        self._stored: dict[int, Any] = {}

    def start(self, *options: str, **how: Any) -> Process:
        """Start the run, or resume it."""
        return self.stage.start(self.way, self.run, *options, **how)

    def look(self) -> None:
        """Compare the stored lanes with those that were stored before: none may go, and none may change."""
        stored = stored_lanes(self.run)
        self.row.lost += sum(stored.get(lane) != row for lane, row in self._stored.items())
        self._stored = stored

    def finish(self, *options: str, **how: Any) -> None:
        """Resume the run to its end, and compare it with the undisturbed one."""
        process = self.start(*options, **how)
        code = process.code
        if "Traceback (most recent call last)" in process.text:
            self.row.tracebacks += 1
        if code != 0:
            self.row.surprises.append(f"resume: exit {code}: {process.text[-500:].strip()}")
            self.row.unequal += 1
            return
        self.look()
        undisturbed, expected, _ = self.stage.undisturbed(self.way)
        names, tables = {file.name for file in undisturbed.iterdir()}, Tables.of(self.run)
        log = {"run.sqlite" + ending for ending in (*COMPANIONS, "-shm")}  # stays, if it cannot be merged
        if surprises := (names ^ {file.name for file in self.run.iterdir()}) - log:
            self.row.surprises.append(f"files that are missing, or left behind: {sorted(surprises)}")
        self.row.lost += len({*expected.lanes["lane"]} - {*tables.lanes["lane"]})
        self.row.twice += tables.repeated
        self.row.unequal += not tables.equal(expected)


def stored_lanes(run: Path) -> dict[int, Any]:
    """Return the lanes that have settled, with the seconds that they took: number -> row."""
    if not (run / "run.sqlite").exists():
        return {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        copy = copied(run / "run.sqlite", folder)  # reading the file itself would tidy up after the fault
        connection = stack.enter_context(closing(sqlite3.connect(copy)))
        rows = connection.execute("SELECT * FROM lanes WHERE outcome != 'interrupted'").fetchall()
    return {row[0]: row for row in rows}


def planned_lanes(run: Path) -> int:
    """Return the number of lanes that a sweep has planned; it trains from then on."""
    if not (run / "run.sqlite").exists():
        return 0
    with closing(sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM plan").fetchone()[0])
