"""The run directory: run.sqlite holds all data of a run; the other files below can be written again from it.

config.yaml       the config as given          resolved.yaml   with every default and override
environment.json  versions, device, threads    run.sqlite      all data of the run
steps.csv         one row per step             lanes.csv       one row per lane
health.csv        one row per layer and look   *.png, *.svg    plots
summary.json      what --json prints           best.yaml       the config with the answer
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock, Timeout

from lrfind.analysis.lanes import LaneResult, Outcome, PlannedLane
from lrfind.catalog import KINDS
from lrfind.config.experiment import Experiment, check
from lrfind.config.resolved import resolved_text
from lrfind.errors import UsageError
from lrfind.runs.database import VERSION, Database, Facts
from lrfind.runs.result import RunRecord
from lrfind.runs.tables import health_frame, lanes_frame, steps_frame

DATABASE = "run.sqlite"
LOCK = ".lock"
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
    """Return whether this is a run directory."""
    try:
        return (path / DATABASE).is_file()
    except OSError:  # a name too long to be one
        return False


class Run:
    """One run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path / DATABASE)

    @classmethod
    def start(
        cls, path: Path, command: str, experiment: Experiment, config: str, overrides: Sequence[str]
    ) -> Run:
        """Make the run directory of an experiment, with its config as given and its resolved config.

        Args:
            path: the directory; it must be new or empty.
            command: the command that makes the run, a key of `catalog.KINDS`.
            experiment: what the config and the overrides describe.
            config: the text of the config.
            overrides: the overrides of the config, as the user typed them.

        Raises:
            UsageError: see `create`.
        """
        resolved = resolved_text(experiment)
        facts = {"command": command, "config": config, "overrides": [*overrides], "resolved": resolved}
        run = cls.create(path, facts)
        run.write("config.yaml", config)
        run.write("resolved.yaml", resolved)
        return run

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, Any] = MappingProxyType({})) -> Run:
        """Make a new run directory with these facts in it. Nothing that exists is ever overwritten.

        Raises:
            UsageError: if the directory is taken or cannot be written to.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            draft = path / f".{DATABASE}.part"  # so that a killed process leaves no half-written database
            draft.unlink(missing_ok=True)  # left by a run that was killed as it began
            if any(path.iterdir()):
                raise UsageError(
                    f"'{path}' is not empty, and a run never overwrites anything; give another --out."
                )
            Database.create(draft, facts)
            draft.replace(path / DATABASE)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"'{path}' cannot be a run directory: a file is in the way.") from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise UsageError(
                f"cannot write to '{path}': {error.strerror}; give --out a directory that you may write to."
            ) from None
        except sqlite3.OperationalError as error:
            raise UsageError(f"cannot write to '{path}': {error}; give another --out.") from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run directory.

        Raises:
            UsageError: if the path is not a run directory, or its database cannot be read.
        """
        run = cls(path)
        if not is_run(path):
            raise UsageError(f"'{path}' is not a run directory: it has no {DATABASE}.")
        try:
            with run.kept_open():
                facts = run.facts()
                if facts.version != VERSION:
                    raise UsageError(
                        f"'{path}' was written by another version of lrfind (format {facts.version}, not"
                        f" {VERSION}). Run its config.yaml again, or use that version."
                    )
                if facts.command not in KINDS:
                    raise ValueError(f"it names the command '{facts.command}', which there is not")
                run._database.verify()
        except (sqlite3.DatabaseError, KeyError, ValueError, TypeError) as error:
            raise UsageError(
                f"'{path / DATABASE}' cannot be read: {error}. The file is damaged; restore a copy, or"
                f" run '{path / 'config.yaml'}' again."
            ) from None
        return run

    def discard_if_empty(self) -> bool:
        """Remove the run's files if it never measured a step; return whether they were removed."""
        if any(lane.lr.size for lane in self.lanes()):
            return False
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it has files of the user's, or is the working directory
            self.path.rmdir()
        return True

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
    def concluded(self) -> bool:
        """Whether everything is done, tables and plots too."""
        return self.facts().concluded

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment that the run was started with."""
        resolved = self.facts().resolved
        if not resolved:
            raise UsageError(f"'{self.path / DATABASE}' does not say which config it was run with.")
        return check(resolved, source=str(self.path / "resolved.yaml"))

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

    def outcomes(self) -> dict[int, Outcome]:
        """Return the outcomes of the stored lanes: lane number -> outcome."""
        return self._database.outcomes()

    def lanes(self) -> list[LaneResult]:
        """Return every stored lane, in the order of the numbers."""
        return self._database.lanes()

    def record(self) -> RunRecord:
        """Read everything that the run holds at this moment, over one connection."""
        with self.kept_open():
            return RunRecord(
                self.path, self.experiment, self.facts(), tuple(self.plan()), tuple(self.lanes())
            )

    def export(self, lanes: Sequence[LaneResult]) -> None:
        """Write steps.csv, lanes.csv and, where layers were looked at, health.csv."""
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
        """Write plain data as JSON; it must not contain NaN."""
        self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the run against other processes, and keep the database open, inside the block.

        The operating system releases the lock when this process dies.

        Raises:
            UsageError: if another process has locked the run; the message says which one.
        """
        lock = FileLock(self.path / LOCK, timeout=1)  # `holder` may have the lock for a moment
        try:
            lock.acquire()
        except Timeout:
            holder = self.facts().holder
            raise UsageError(
                f"'{self.path}' is being run by process {holder['pid']} on {holder['host']} since"
                f" {holder['since']}; wait for it, or stop it."
            ) from None
        try:
            with self.kept_open():
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                self.keep_facts(holder={"pid": os.getpid(), "host": platform.node(), "since": since})
                yield
        finally:
            lock.release()

    @property
    def holder(self) -> Mapping[str, Any] | None:
        """The process that runs the lanes at this moment: pid, host, since; None if there is none."""
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            with lock:
                return None
        except Timeout:
            return self.facts().holder
        except OSError:  # this user may not lock the file
            return None


def default_path(name: str, command: str) -> Path:
    """Return runs/<name>-<command>-<time>, with a number at the end if that path exists."""
    base = f"{name}-{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / base, 2
    while path.exists():
        path, number = Path("runs") / f"{base}-{number}", number + 1
    return path


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Return the runs in a folder, the oldest first, and for each run that cannot be read the reason.

    Raises:
        UsageError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no directory '{folder}'; runs are made in ./runs, or where --out says.")
    readable, unreadable = [], []
    for database in sorted(folder.glob(f"*/{DATABASE}"), key=lambda file: file.stat().st_ctime):
        try:
            readable.append(Run.open(database.parent))
        except UsageError as error:
            unreadable.append(str(error))
    return readable, unreadable
