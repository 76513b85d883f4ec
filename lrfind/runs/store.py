"""Runs: all that is stored of one, and which process runs it; `lrfind.runs.directory` lists its files."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lrfind.analysis.lanes import LaneResult, Outcome, PlannedLane
from lrfind.catalog import KINDS
from lrfind.config.experiment import Experiment, restored
from lrfind.config.resolved import resolved_text
from lrfind.errors import LrfindError, UsageError, in_one_line
from lrfind.runs.connection import DamagedRun
from lrfind.runs.database import Database, OtherFormat
from lrfind.runs.directory import DATABASE, DRAFT, FILES, is_run, why_no_run
from lrfind.runs.facts import Facts, found_again, imported_facts, moment, resume_command, variants_fact
from lrfind.runs.files import absolute, new_directory, write_whole
from lrfind.runs.lock import LOCK, RunLock
from lrfind.runs.result import RunRecord
from lrfind.runs.tables import health_rows, lane_rows, rows_csv, steps_csv


class Run:
    """One run directory.

    Attributes:
        path: the directory as it was given, for messages.
        folder: the same as an absolute path, for its files: a user's code may change the working directory.
        listeners: functions that are called with the results of lanes after these were stored, for example
            to write them elsewhere too.
    """

    def __init__(self, path: Path) -> None:
        self.listeners: list[Callable[[Sequence[LaneResult]], None]] = []
        self.path, self.folder = path, absolute(path)
        self._database = Database(path / DATABASE)
        self._lock = RunLock(path)

    @classmethod
    def start(
        cls, path: Path, command: str, experiment: Experiment, config: str, overrides: Sequence[str]
    ) -> Run:
        """Make and lock the run directory of an experiment, with its config as given and as resolved.

        Args:
            path: the directory; it must be new or empty.
            command: the command that makes the run, a key of `catalog.KINDS`.
            experiment: what the config and the overrides describe.
            config: the text of the config.
            overrides: the overrides of the config, as the user typed them.

        Raises:
            UsageError: see `create`; or if there is a mistake in what the command compares.
        """
        try:
            resolved = resolved_text(experiment)
            facts: dict[str, Any] = {
                "command": command,
                "config": config,
                "overrides": [*overrides],
                "resolved": resolved,
                **imported_facts(experiment, command),
            }
        except LrfindError:
            with contextlib.suppress(OSError):
                path.rmdir()  # `default_path` made it
            raise
        run = cls.create(path, facts)
        run.experiment = experiment  # `resolved_text` has read it again
        try:
            with new_directory(path):
                run.write("config.yaml", config)
                run.write("resolved.yaml", resolved)
        except BaseException:
            run.discard()
            raise
        return run

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, Any] = MappingProxyType({})) -> Run:
        """Make a new run directory with these facts in it, and lock it until `release`.

        Nothing that exists is ever overwritten, and nothing is written before the directory is locked.

        Raises:
            UsageError: if the directory is taken or cannot be written to.
            StorageError: if the disk is full.
        """
        run = cls(path)
        with new_directory(path):
            path.mkdir(parents=True, exist_ok=True)
            run._refuse_unless_empty()
            run._lock.acquire(lambda: run.facts().holder)
            try:
                run._refuse_unless_empty()
                Database.create(path / DRAFT, {"began": moment(), **facts, "holder": _this_process()})
                (path / DRAFT).replace(path / DATABASE)
            except UsageError:
                run.release()
                raise
            except BaseException:
                run.discard()
                raise
        return run

    def _refuse_unless_empty(self) -> None:
        """Refuse a directory that has files in it, except those of a run that was killed as it began."""
        if {file.name for file in self.folder.iterdir()} - {LOCK, DRAFT}:
            message = f"'{self.path}' is not empty, and a run never overwrites anything; give another --out."
            with contextlib.suppress(LrfindError, OSError):  # it may hold anything
                message += f" {found_again(self.path, Run.open(self.path).facts())}"
            raise UsageError(message)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run directory. Nothing in it is run or imported.

        Raises:
            UsageError: if the path is not a run directory, or its database cannot be read.
        """
        run = cls(path)
        if not is_run(path):
            raise UsageError(why_no_run(path))
        with run.kept_open():
            try:
                run._database.verify()
            except OtherFormat as error:
                raise UsageError(f"'{path}' {error}") from None
            command = run.facts().command
        if command not in KINDS:
            raise DamagedRun(run.file, f"it names the command '{command[:40]}', which there is not")
        return run

    def discard_if_empty(self) -> bool:
        """Remove the run's files if it never measured a step; return whether they were removed.

        Raises:
            UsageError: if another process runs it.
        """
        with self._locked():
            if any(lane.lr.size for lane in self.lanes()):
                return False
            self.discard()
            return True

    def discard(self) -> None:
        """Remove the files of a run that this process has locked, and give the lock back."""
        with contextlib.suppress(OSError):  # it has files of the user's, or is the working directory
            for name in (*FILES, LOCK):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()
        self.release()

    def release(self) -> None:
        """Let other processes run this run, if this one has locked it."""
        while self._lock.mine:
            self._lock.release()

    def kept_open(self) -> contextlib.AbstractContextManager[None]:
        """Keep the database open inside, so that all reads and writes share one connection."""
        return self._database.kept_open()

    def keep_facts(self, **facts: Any) -> None:
        """Store facts, all in one transaction; see `Facts` for their names."""
        self._database.keep_facts(**facts)

    def facts(self) -> Facts:
        """Return what is known of the run besides its lanes."""
        return self._database.facts()

    def add_note(self, text: str) -> None:
        """Add a sentence to the notes of the run."""
        self.keep_facts(notes=[*self.facts().notes, text])

    @property
    def file(self) -> Path:
        """The database."""
        return self.path / DATABASE

    @property
    def taken(self) -> bool | None:
        """Whether a process has locked the run; None if this user may not look."""
        return self._lock.taken()

    @property
    def mine(self) -> bool:
        """Whether this process has locked the run with this object."""
        return self._lock.mine

    @property
    def concluded(self) -> bool:
        """Whether everything is done, tables and plots too."""
        return self.facts().concluded

    @property
    def resume_command(self) -> str:
        """The command that continues the run."""
        return resume_command(self.path, self.facts())

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment that the run was started with."""
        try:
            return restored(self.facts().resolved, str(self.path / "resolved.yaml"))
        except LrfindError as error:
            what = f"its config cannot be read ({in_one_line(error, 200)})"
            raise DamagedRun(self.file, what) from error

    def add_plan(self, lanes: Sequence[PlannedLane], planned: int) -> None:
        """Store lanes before they run, and how many lanes the run will have in all, as far as is known."""
        self._database.add_plan(lanes, planned)

    def plan(self) -> list[PlannedLane]:
        """Return the planned lanes, in the order of their numbers."""
        return self._database.plan()

    def add_lane(self, result: LaneResult) -> None:
        """Store one lane; see `add_lanes`."""
        self.add_lanes([result])

    def add_lanes(self, results: Sequence[LaneResult], **facts: Any) -> None:
        """Store lanes with all their steps, and facts, in one transaction.

        A lane that an interruption cut off before is replaced.

        Raises:
            sqlite3.IntegrityError: if one of the lanes has settled before.
        """
        self._database.add_lanes(results, **facts)
        for listener in self.listeners:
            listener(results)

    def outcomes(self) -> dict[int, Outcome]:
        """Return the outcomes of the stored lanes: lane number -> outcome."""
        return self._database.outcomes()

    def lanes(self) -> list[LaneResult]:
        """Return every stored lane, in the order of the numbers."""
        return self._database.lanes()

    def lane(self, number: int) -> LaneResult:
        """Return one stored lane."""
        return self._database.lane(number)

    def record(self) -> RunRecord:
        """Read everything that the run holds at this moment, over one connection."""
        with self.kept_open():
            facts = self.facts()
            return RunRecord(self.path, self.experiment, facts, tuple(self.plan()), tuple(self.lanes()))

    def export(self, lanes: Sequence[LaneResult]) -> None:
        """Write steps.csv, lanes.csv and, where layers were looked at, health.csv."""
        self.write("steps.csv", steps_csv(lanes))
        self.write("lanes.csv", rows_csv(lane_rows(lanes)))
        if any(lane.health for lane in lanes):
            self.write("health.csv", rows_csv(health_rows(lanes)))

    def write(self, name: str, text: str | Iterator[str]) -> None:
        """Write a file of the run, whole or not at all; its text may come in parts."""
        write_whole(self.folder / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write plain data as JSON; it must not contain NaN."""
        self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the run against other processes, and keep the database open for writing, inside the block.

        Raises:
            UsageError: if another process has locked the run; the message says which one.
        """
        with self._locked(), self._database.kept_open(writing=True):
            if self._database.upgrade():
                self.keep_facts(variants=variants_fact(self.experiment, self.facts().command))
            self.keep_facts(holder=_this_process())
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.acquire(lambda: self.facts().holder)
        try:
            if not is_run(self.folder):
                self.discard()
                raise UsageError(f"'{self.path}' is no run any more: the process that made it removed it.")
            yield
        finally:
            if self._lock.mine:
                self._lock.release()

    @property
    def holder(self) -> Mapping[str, Any] | None:
        """The process that runs the lanes at this moment: pid, host, since; None if there is none."""
        taken, facts = self.taken, self.facts()
        return facts.holder if taken or (taken is None and not facts.concluded) else None


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def default_path(name: str, command: str) -> Path:
    """Make the new directory runs/<name>-<command>-<time>, with a number at the end if that is taken."""
    base = f"{name}-{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / base, 2
    with new_directory(path):
        path.parent.mkdir(exist_ok=True)
        while True:
            try:
                path.mkdir()  # exclusive, so that two processes never get the same
            except FileExistsError:
                path, number = Path("runs") / f"{base}-{number}", number + 1
            else:
                return path
