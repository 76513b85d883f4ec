"""The repair of a damaged run: what is whole goes into a new run, which can be resumed."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrfind.analysis.lanes import LaneResult, PlannedLane
from lrfind.catalog import KINDS
from lrfind.config.experiment import own_names, restored
from lrfind.errors import LrfindError, UsageError, counted, in_one_line, listed
from lrfind.runs.connection import LONGEST_VALUE, copied, limit_work
from lrfind.runs.database import PLAN, has_digests
from lrfind.runs.directory import DATABASE, is_run, why_no_run
from lrfind.runs.facts import fact_value, facts_of
from lrfind.runs.measurements import Mismatch
from lrfind.runs.rows import CHILDREN, digest, lane_digests, planned_lane, read_lanes
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result

UNREADABLE = (sqlite3.Error, ValueError, TypeError, OverflowError, RecursionError)
"""What reading a damaged database may raise."""
NEEDED = ("command", "config", "resolved")
PROBED = ("probing", "planned", "planned_training")
"""The facts of a `find` that are stored together with its probes."""
DERIVED = ("concluded", "holder", "version", "written_by")
"""The facts that the new run has from itself."""

UNSEALED = "the digests, so that a flipped bit in what was saved would not be noticed"


@dataclass
class Salvage:
    """What is whole in a damaged run.

    Attributes:
        facts: name -> value.
        plan: the planned lanes; empty if one is missing, because they are planned again from the lanes.
        lanes: the lanes.
        lost: what was there and is not whole, as words.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    plan: list[PlannedLane] = field(default_factory=list)
    lanes: list[LaneResult] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def repair(source: Path, target: Path) -> tuple[Run, list[str]]:
    """Write a new run with all facts and lanes of a damaged run that are whole.

    Args:
        source: the directory of the damaged run; it is not changed.
        target: the directory of the new run; it must be new or empty.

    Returns:
        The new run, and what was lost, as words.

    Raises:
        UsageError: if the source is no run, is being run, or too little of it is whole.
    """
    if not is_run(source) or (source / DATABASE).is_symlink():
        raise UsageError(why_no_run(source))
    if Run(source).taken:
        raise UsageError(f"'{source}' is being run by another process; wait for it, or stop it.")
    with tempfile.TemporaryDirectory(prefix="lrfind-") as folder:
        salvage = _salvage(copied(source / DATABASE, Path(folder)))
    _complete_facts(salvage, source)
    _fit_together(salvage)
    while True:
        run = _write(salvage, target)
        try:
            _check(Run.open(target))
        except LrfindError as error:
            run.discard()
            if not _drop_more(salvage):
                why = in_one_line(error, 200)
                raise UsageError(
                    f"nothing of '{source}' can be saved ({why}); run its config.yaml again."
                ) from None
        else:
            break
    for file in sorted(source.glob("*.pt")):  # weights and checkpoints of a training
        if file.is_file() and not file.is_symlink():
            shutil.copyfile(file, target / file.name)
    run.release()
    return run, salvage.lost


def _salvage(file: Path) -> Salvage:
    """Read all facts and lanes of a database that are whole."""
    salvage, cut = Salvage(), _ended_at_cut(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA writable_schema = ON")  # else SQLite reads nothing of a file that was cut
        tables = {
            name
            for name, kind in _rows(connection, "SELECT name, type FROM sqlite_master")
            if kind == "table"
        }
        if not tables:
            salvage.lost.append(f"all of {DATABASE}, which cannot be read")
        elif "digests" in tables and cut and not _any_digest_fits(connection, tables):
            tables.discard("digests")  # they stood behind the cut, which changed nothing in front of it
            salvage.lost.append(UNSEALED)
        elif "digests" not in tables and not _is_older(connection):
            salvage.lost.append(UNSEALED)
        digests = {part: _digests(connection, part, tables) for part in ("fact", "plan", "lane")}
        _read_facts(connection, tables, digests["fact"], salvage)
        _read_plan(connection, tables, digests["plan"], salvage)
        _read_lanes(connection, tables, digests["lane"], salvage)
    return salvage


def _is_older(connection: sqlite3.Connection) -> bool:
    """Return whether the format of a database had no digests yet."""
    try:
        return not has_digests(connection)
    except UNREADABLE:
        return False


def _ended_at_cut(file: Path) -> bool:
    """Let the header of a copy that was cut off say how many pages are left; return whether it was.

    Where pages are missing that the header counts (SQLite's file format, section 1.3), SQLite reads zeros.
    """
    with file.open("r+b") as content:
        header = content.read(100)
        page_size, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
        if page_size == 0:  # not even the header is whole
            return True
        page_size = 65536 if page_size == 1 else page_size
        whole = file.stat().st_size // page_size
        if whole < pages:
            content.truncate(whole * page_size)
            content.seek(28)
            content.write(whole.to_bytes(4))
        return whole < pages


def _any_digest_fits(connection: sqlite3.Connection, tables: set[str]) -> bool:
    """Return whether the digest of any fact or lane can be read and is right; if none is, they are lost."""
    facts, lanes = _digests(connection, "fact", tables) or {}, _digests(connection, "lane", tables) or {}
    if "facts" in tables:
        stored = _rows(connection, "SELECT name, value FROM facts ORDER BY rowid")
        if any(facts.get(name) == digest(name, text) for name, text in stored):
            return True
    for number in filter(str.isdecimal, map(str, lanes)):
        with contextlib.suppress(*UNREADABLE):
            if lane_digests(connection, [int(number)]) == [lanes[number]]:
                return True
    return False


def _digests(connection: sqlite3.Connection, part: str, tables: set[str]) -> dict[str, bytes] | None:
    if "digests" not in tables:
        return None  # an older format
    return dict(_rows(connection, f"SELECT name, digest FROM digests WHERE part = '{part}' ORDER BY name"))


def _rows(connection: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query up to the damage, and those that come after it in the other direction."""
    rows: dict[tuple[Any, ...], None] = {}
    for direction in ("", " DESC") if "ORDER BY" in query else ("",):
        limit_work(connection)
        try:
            rows.update(dict.fromkeys(connection.execute(query + direction)))
        except UNREADABLE:
            continue
        break
    return list(rows)


def _read_facts(
    connection: sqlite3.Connection, tables: set[str], digests: dict[str, bytes] | None, salvage: Salvage
) -> None:
    rows = (
        dict(_rows(connection, "SELECT name, value FROM facts ORDER BY rowid")) if "facts" in tables else {}
    )
    for name in sorted({*rows, *(digests or ())} - {*DERIVED}, key=str):
        try:
            if name not in rows:
                raise Mismatch("it is missing")
            value = fact_value(name, rows[name], digests)
            facts_of({"version": 0, name: value})
        except UNREADABLE:
            salvage.lost.append(f"the fact '{str(name)[:40]}'")
        else:
            salvage.facts[name] = value


def _read_plan(
    connection: sqlite3.Connection, tables: set[str], digests: dict[str, bytes] | None, salvage: Salvage
) -> None:
    try:
        rows = connection.execute(PLAN).fetchall() if "plan" in tables else []
        whole = [planned_lane(row, digests) for row in rows]
        complete = digests is None or digests.keys() == {str(row[0]) for row in rows}
        if not complete or [lane.lane for lane in whole] != list(range(len(whole))):
            raise Mismatch("a planned lane is missing")
    except UNREADABLE:
        salvage.lost.append("the plan of the lanes, which is made again")
    else:
        salvage.plan = whole


def _read_lanes(
    connection: sqlite3.Connection, tables: set[str], digests: dict[str, bytes] | None, salvage: Salvage
) -> None:
    query = "SELECT lane FROM lanes ORDER BY lane"
    numbers = {number for (number,) in _rows(connection, query)} if "lanes" in tables else set()
    numbers |= {int(name) for name in digests or () if str(name).isdecimal()}
    readable = {"lanes", *CHILDREN} <= tables
    gone = []
    for number in sorted(numbers):
        limit_work(connection)
        try:
            if not readable:
                raise Mismatch("a table is missing")
            salvage.lanes += read_lanes(connection, [number], sealed=digests is not None)
        except UNREADABLE:
            gone.append(number)
    if gone:
        word = "lane" if len(gone) == 1 else "lanes"
        salvage.lost.append(f"{word} {listed(gone)}")


def _complete_facts(salvage: Salvage, source: Path) -> None:
    """Take what every run needs from the files beside the database, where the database lost it."""
    facts = salvage.facts
    for name, file in (("config", "config.yaml"), ("resolved", "resolved.yaml")):
        if not facts.get(name) and (source / file).is_file() and not (source / file).is_symlink():
            facts[name] = (source / file).read_text(encoding="utf-8", errors="replace")
            salvage.lost = [what for what in salvage.lost if what != f"the fact '{name}'"]
    if not facts.get("command"):
        try:
            facts["command"] = json.loads((source / "summary.json").read_bytes())["command"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            facts["command"] = ""
    try:
        experiment = restored(str(facts.get("resolved", "")), "resolved.yaml")
    except LrfindError:
        experiment = None
    if experiment is None or facts["command"] not in KINDS:
        what = "which command made it" if experiment else "which config it was run with"
        raise UsageError(
            f"'{source}' cannot be repaired: nothing in it says {what}. Run its config.yaml again."
        )


def _fit_together(salvage: Salvage) -> None:
    """Drop what is whole, but has no meaning without something that was lost."""
    kind = KINDS[salvage.facts["command"]]
    if kind.rounds is None:
        salvage.plan = []
    if kind.lanes == "probes" and any(salvage.facts.get(name) is None for name in PROBED):
        for name in (*PROBED, "verified"):
            salvage.facts.pop(name, None)
        if salvage.lanes:
            salvage.lost.append(
                f"{counted(len(salvage.lanes), 'probe')}, made again together with the answer"
            )
        salvage.lanes = []


def _drop_more(salvage: Salvage) -> bool:
    """Drop the facts that a run can find again or, if that was done, its lanes; return whether it could."""
    kept = (*NEEDED, "overrides", "variants", "import_root", "origin")
    extra = sorted(salvage.facts.keys() - {*kept})
    if extra:
        salvage.facts = {name: value for name, value in salvage.facts.items() if name in kept}
        salvage.lost.append(f"the facts {listed(extra)}, which do not fit together")
    elif salvage.lanes or salvage.plan:
        salvage.lost.append(f"{counted(len(salvage.lanes), 'lane')} that did not fit the config")
        salvage.lanes, salvage.plan = [], []
    else:
        return False
    _fit_together(salvage)
    return True


def _write(salvage: Salvage, target: Path) -> Run:
    run = Run.create(target, salvage.facts)
    run.write("config.yaml", salvage.facts["config"])
    run.write("resolved.yaml", salvage.facts["resolved"])
    if salvage.plan:
        run.add_plan(salvage.plan, salvage.facts.get("planned") or len(salvage.plan))
    run.add_lanes(salvage.lanes)
    return run


def _check(run: Run) -> None:
    """Read a new run as every command will."""
    record = run.record()
    if record.facts.variants or record.kind.variants is None or not own_names(record.experiment):
        read_result(run)  # otherwise the summary needs code of the user, which `resume` may import
