"""The database of a run: its facts, its planned lanes, and what its lanes measured, in one SQLite file."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

from lrfind import __version__
from lrfind.analysis.lanes import LaneResult, Outcome, PlannedLane
from lrfind.errors import UsageError, listed
from lrfind.runs.connection import Connections, DamagedRun, Value, explained
from lrfind.runs.facts import FACT_NAMES, Facts, fact_value, facts_of
from lrfind.runs.files import new_file
from lrfind.runs.measurements import TOGETHER, Mismatch
from lrfind.runs.rows import as_lane, digest, insert_lanes, planned_lane, read_lanes
from lrfind.runs.schema import DIGESTS, LAYOUTS, MEASUREMENTS, VERSION, WITHOUT_DIGESTS

LAYOUT = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
PLAN = "SELECT lane, seed, lr, variant FROM plan ORDER BY lane"
STORED_VERSION = "SELECT value FROM facts WHERE name = 'version'"
STORE_DIGEST = "INSERT OR REPLACE INTO digests VALUES (?, ?, ?)"


class OtherFormat(UsageError):  # noqa: N818 - the name says what is wrong
    """The database has a format that this version of lrfind does not read; the text ends a sentence."""

    def __init__(self, version: int, writer: str) -> None:
        age = "a newer" if version > VERSION else "an older"
        by = f"lrfind {writer}" if writer else f"{age} version of lrfind"
        super().__init__(
            f"was written by {by} (format {version}); this is lrfind {__version__}, which reads the"
            f" formats {listed(LAYOUTS)}. Read it with that version, or run its config.yaml again."
        )


class Database(Connections):
    """The SQLite file of a run. Every write is one transaction.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # Nobody else writes inside `kept_open(writing=True)`.
        self._planned: list[PlannedLane] | None = None
        self._stored: dict[int, LaneResult] = {}

    @contextlib.contextmanager
    def kept_open(self, *, writing: bool = False) -> Iterator[None]:
        """Share one connection inside the block. What is known there is not read again there."""
        with super().kept_open(writing=writing):
            try:
                yield
            finally:
                if writing:
                    self._planned = None
                    self._stored.clear()

    @classmethod
    def create(cls, draft: Path, facts: Mapping[str, Any]) -> None:
        """Write a new database with these facts; the caller puts the file in its place."""
        os.close(new_file(draft))
        try:
            with closing(sqlite3.connect(draft)) as connection, connection:
                connection.execute("PRAGMA journal_mode = MEMORY")  # a draft that fails is thrown away
                # One transaction is on the disk at once.
                connection.executescript(f"BEGIN; {LAYOUTS[VERSION]};")
                _keep_facts(connection, {"version": VERSION, "written_by": __version__, **facts})
        except sqlite3.Error as error:
            raise explained(error, draft, writing=True) from error

    def verify(self) -> None:
        """Check that the file is whole, and that it holds the tables of its format and nothing else.

        Raises:
            OtherFormat: if another version of lrfind wrote it.
            DamagedRun: if it is damaged.
        """

        def check(connection: sqlite3.Connection) -> None:
            layout = {*connection.execute(LAYOUT).fetchall()}
            if ("table", "facts") not in {(kind, name) for kind, name, _ in layout}:
                raise Mismatch("it has no table of facts")
            version = stored_version(connection)
            if version not in LAYOUTS:
                if layout == _layout(VERSION):
                    _compare_version(connection)
                raise OtherFormat(version, _writer(connection))
            surprises = layout ^ _layout(version)
            if surprises:
                names = listed(sorted({str(name) for _, name, _ in surprises}))
                raise Mismatch(f"its tables are not those that lrfind made: see {names[:200]}")
            (report,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if report != "ok":
                raise Mismatch(" ".join(str(report).split()))

        self._whole(check)

    def keep_facts(self, **facts: Any) -> None:
        """Store facts as JSON, all in one transaction; a fact that was stored before is replaced."""
        self.write(lambda connection: _keep_facts(connection, facts), wait=False)

    def facts(self) -> Facts:
        """Return what is known of the run besides its lanes."""

        def read(connection: sqlite3.Connection) -> Facts:
            stored = connection.execute("SELECT name, value FROM facts").fetchall()
            digests = stored_digests(connection, "fact")
            if digests is not None and digests.keys() != {name for name, _ in stored}:
                raise Mismatch("a fact is missing")
            return facts_of({name: fact_value(name, text, digests) for name, text in stored})

        return self._whole(read)

    def add_plan(self, lanes: Sequence[PlannedLane], planned: int) -> None:
        """Store lanes before they run, and how many lanes the run will have in all, as far as is known."""

        def add(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT INTO plan VALUES (?, ?, ?, ?)", lanes)
            _keep_plan_digests(connection)
            _keep_facts(connection, {"planned": planned})

        self._planned = None
        self.write(add, wait=False)

    def plan(self) -> list[PlannedLane]:
        """Return the planned lanes, in the order of their numbers."""

        def read(connection: sqlite3.Connection) -> list[PlannedLane]:
            rows, digests = connection.execute(PLAN).fetchall(), stored_digests(connection, "plan")
            if digests is not None and digests.keys() != {str(row[0]) for row in rows}:
                raise Mismatch("a planned lane is missing")
            return [planned_lane(row, digests) for row in rows]

        lanes = self._whole(read) if self._planned is None else self._planned
        if self._writable:
            self._planned = lanes
        return [*lanes]

    def add_lanes(self, results: Sequence[LaneResult], **facts: Any) -> None:
        """Store lanes with all their steps, and facts, in one transaction.

        A lane that an interruption cut off before is replaced.

        Raises:
            sqlite3.IntegrityError: if one of the lanes has settled before.
        """

        def add(connection: sqlite3.Connection) -> list[LaneResult]:
            query = "DELETE FROM lanes WHERE lane = ? AND outcome = 'interrupted'"
            connection.executemany(query, [(result.lane,) for result in results])
            stored = _insert_lanes(connection, results)
            _keep_facts(connection, facts)
            return stored

        stored = self.write(add)
        if self._writable:
            self._stored |= {result.lane: result for result in stored}

    def outcomes(self) -> dict[int, Outcome]:
        """Return the outcomes of the stored lanes: lane number -> outcome."""
        query = "SELECT lane, outcome FROM lanes ORDER BY lane"
        return dict(self.read(lambda connection: connection.execute(query).fetchall()))

    def lanes(self) -> list[LaneResult]:
        """Return every stored lane, in the order of the numbers; they are read in short transactions."""

        def read(connection: sqlite3.Connection) -> tuple[list[int], bool]:
            rows = connection.execute("SELECT lane FROM lanes ORDER BY lane").fetchall()
            digests = stored_digests(connection, "lane")
            if digests is not None and digests.keys() != {str(lane) for (lane,) in rows}:
                raise Mismatch("a lane is missing")
            return [lane for (lane,) in rows], digests is not None

        with self.kept_open():
            numbers, sealed = self._whole(read)
            lanes = {number: self._stored[number] for number in numbers if number in self._stored}
            missing = [number for number in numbers if number not in lanes]
            for at in range(0, len(missing), TOGETHER):
                part = partial(read_lanes, lanes=missing[at : at + TOGETHER], sealed=sealed)
                lanes |= {lane.lane: lane for lane in self._whole(part)}
            return [lanes[number] for number in numbers]

    def lane(self, number: int) -> LaneResult:
        """Return one stored lane."""

        def read(connection: sqlite3.Connection) -> LaneResult:
            (result,) = read_lanes(connection, [number], sealed=has_digests(connection))
            return result

        return self._whole(read)

    def upgrade(self) -> bool:
        """Bring a database of an older format to this format; return whether that was needed.

        Raises:
            DamagedRun: if a lane is not what lrfind wrote.
        """
        if self.read(stored_version) == VERSION:
            return False
        results = self.lanes()

        def change(connection: sqlite3.Connection) -> None:
            if not has_digests(connection):
                connection.execute(DIGESTS)
                stored = connection.execute("SELECT name, value FROM facts").fetchall()
                _keep_facts(connection, {name: json.loads(value) for name, value in stored})
            _keep_facts(connection, {"version": VERSION})
            _keep_plan_digests(connection)
            for statement in ("DROP TABLE steps", "DROP TABLE health", *MEASUREMENTS.split(";")):
                connection.execute(statement)
            connection.execute("DELETE FROM lanes")
            _insert_lanes(connection, results)

        self.write(change)
        return True

    def _whole(self, query: Callable[[sqlite3.Connection], Value]) -> Value:
        """Read like `read`; content that lrfind did not write is damage too."""
        try:
            return self.read(query)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise DamagedRun(self.path, str(error)[:300]) from error


@cache
def _layout(version: int) -> frozenset[tuple[str, str, str]]:
    """Return the type, the name and the SQL of everything in a database of this format."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"{LAYOUTS[version]};")
        return frozenset(connection.execute(LAYOUT).fetchall())


def stored_version(connection: sqlite3.Connection) -> int:
    """Return the format of a database.

    Raises:
        Mismatch: if it does not say which it is.
    """
    row = connection.execute(STORED_VERSION).fetchone()
    version = None if row is None else json.loads(row[0])
    if type(version) is not int:
        raise Mismatch("it does not say which format it has")
    return version


def _compare_version(connection: sqlite3.Connection) -> None:
    """Compare the format that a database says it has with its digest: a flipped bit is no other format.

    Raises:
        Mismatch: if they differ.
    """
    (text,) = connection.execute(STORED_VERSION).fetchone()
    fact_value("version", text, stored_digests(connection, "fact"))


def has_digests(connection: sqlite3.Connection) -> bool:
    """Return whether a database has a format with digests."""
    return stored_version(connection) != WITHOUT_DIGESTS


def _writer(connection: sqlite3.Connection) -> str:
    """Return the version of lrfind that wrote a database of any format; "" if it does not say so."""
    with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
        stored = dict(connection.execute("SELECT name, value FROM facts").fetchall())
        if "written_by" in stored:
            return str(json.loads(stored["written_by"]))[:40]
        return str(json.loads(stored["environment"])["lrfind"])[:40] if "environment" in stored else ""
    return ""


def stored_digests(connection: sqlite3.Connection, part: str) -> dict[str, bytes] | None:
    """Return the digests of all facts, planned lanes or lanes by name; None in a format without digests."""
    if not has_digests(connection):
        return None
    return dict(connection.execute("SELECT name, digest FROM digests WHERE part = ?", (part,)).fetchall())


def _keep_facts(connection: sqlite3.Connection, facts: Mapping[str, Any]) -> None:
    """Store facts as JSON, with their digests. A name that is not in `Facts` is a bug."""
    unknown = sorted(facts.keys() - FACT_NAMES)
    assert not unknown, f"no such facts: {unknown}"
    for name, value in facts.items():
        text = json.dumps(value, allow_nan=False)
        connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text))
        connection.execute(STORE_DIGEST, ("fact", name, digest(name, text)))


def _keep_plan_digests(connection: sqlite3.Connection) -> None:
    """Store the digests of the planned lanes that have none yet."""
    known = stored_digests(connection, "plan") or {}
    rows = [row for row in connection.execute(PLAN).fetchall() if str(row[0]) not in known]
    connection.executemany(STORE_DIGEST, [("plan", str(row[0]), digest(*row)) for row in rows])


def _insert_lanes(connection: sqlite3.Connection, results: Sequence[LaneResult]) -> list[LaneResult]:
    """Insert lanes, with their digests, and return them as they are stored."""
    lanes: list[LaneResult] = []  # a few at once, because their blobs need memory
    for at in range(0, len(results), TOGETHER):
        stored = [*insert_lanes(connection, results[at : at + TOGETHER])]
        connection.executemany(STORE_DIGEST, [("lane", str(one.row[0]), one.digest) for one in stored])
        lanes += map(as_lane, stored)
    return lanes
