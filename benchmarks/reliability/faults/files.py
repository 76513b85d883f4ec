"""Databases that were damaged, or written by another version; other drivers, other configs, other times."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from processes import Process, without_rendering
from trials import WAYS, Row, Stage, Trial, stored_lanes

from lrfind.runs.measurements import COLUMNS
from lrfind.runs.rows import digest, lane_digests, read_lanes
from lrfind.runs.schema import LOOK_ROWS, STEP_ROWS, VERSION, WITHOUT_DIGESTS


def damaged(stage: Stage) -> Iterator[Row]:
    """Cut the database of a run that was killed, or flip its bits; repair it, and resume the repaired run."""
    half = _half_done(stage)
    data = (half / "run.sqlite").read_bytes()
    row = Row("run.sqlite truncated, repaired")
    pages = len(data) // 4096
    sizes = [0, 1, 100, 4096, *(page * 4096 + 2048 for page in range(1, pages))]
    for size in sizes if stage.few(9) > 1 else sizes[-1:]:
        _repaired(stage, row, half, data[:size], must_be_told=True)
    yield row
    row = Row("run.sqlite with flipped bits, repaired")
    for _ in range(stage.few(40)):
        changed = bytearray(data)
        for _ in range(stage.random.choice((1, 1, 8))):
            changed[stage.random.randrange(len(data))] ^= 1 << stage.random.randrange(8)
        _repaired(stage, row, half, bytes(changed), must_be_told=False)
    yield row


def _half_done(stage: Stage) -> Path:
    """Return a run that was killed when some of its lanes were stored; all of it is in one file."""
    trial = Trial(stage, Row(""), "grid, single")
    process = trial.start()
    while len(stored_lanes(trial.run)) < 3 and not process.ended_within(0.01):
        pass
    process.kill()
    with closing(sqlite3.connect(trial.run / "run.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return trial.run


def _repaired(stage: Stage, row: Row, half: Path, data: bytes, *, must_be_told: bool) -> None:
    """Damage a copy of a run, and see that the damage is told and that the repaired run ends as it should."""
    trial, row.times = Trial(stage, row, "grid, single"), row.times + 1
    shutil.copytree(half, trial.run)
    (trial.run / "run.sqlite").write_bytes(data)
    says = "is damaged: " if data else ""
    code = row.take(
        stage.process("resume", trial.run, before=without_rendering),
        *((2,) if must_be_told else (0, 2)),
        says=says,
    )
    if code == 0:  # the bits were in space that nothing uses
        trial.finish(before=without_rendering)
        return
    new = stage.new_path("repaired")
    process = stage.process("repair", trial.run, "--out", new)
    if process.code == 2 and "nothing in it says which command made it" in process.text:
        trial.run = new  # nothing is left; the user is told to start again
    elif row.take(process, 0) == 0:
        before = {lane for lane in stored_lanes(half) if f"lane {lane}" not in process.text}
        trial.run = new
        if "lanes" not in process.text and not before <= stored_lanes(new).keys():
            row.lost += 1
        trial.look()
    trial.finish(before=without_rendering)


def versions(stage: Stage) -> Iterator[Row]:
    """Let another version have written the run: it is read, or the message says which version reads it."""
    row, half = Row("run of an older or a newer version"), _half_done(stage)
    for version, words in (
        (VERSION + 1, f"(format {VERSION + 1})"),
        (WITHOUT_DIGESTS - 1, f"(format {WITHOUT_DIGESTS - 1})"),
        (WITHOUT_DIGESTS, ""),
        (WITHOUT_DIGESTS + 1, ""),
    ):
        trial, row.times = Trial(stage, row, "grid, single"), row.times + 1
        shutil.copytree(half, trial.run)
        before = (trial.run / "run.sqlite").read_bytes()
        with closing(sqlite3.connect(trial.run / "run.sqlite")) as connection, connection:
            connection.execute("UPDATE facts SET value = ? WHERE name = 'version'", (str(version),))
            for table in ("facts", "digests"):
                connection.execute(f"DELETE FROM {table} WHERE name = 'written_by'")
            connection.execute(
                "UPDATE digests SET digest = ? WHERE name = 'version'", (digest("version", str(version)),)
            )
            if not words:
                _give_each_step_a_row(connection)
            if version <= WITHOUT_DIGESTS:
                connection.execute("DROP TABLE digests")
        if words:
            for command in (("status", trial.run), ("resume", trial.run), ("plot", trial.run)):
                row.take(stage.process(*command), 2, says=words)
            (trial.run / "run.sqlite").write_bytes(before)
        trial.look()
        trial.finish(before=without_rendering)
    yield row


def _give_each_step_a_row(connection: sqlite3.Connection) -> None:
    """Store the steps and the looks of all lanes as the formats before 7 did."""
    numbers = [lane for (lane,) in connection.execute("SELECT lane FROM lanes")]
    lanes = read_lanes(connection, numbers, sealed=True)
    for statement in ("DROP TABLE steps", "DROP TABLE health", STEP_ROWS, LOOK_ROWS):
        connection.execute(statement)
    for lane in lanes:
        columns = [getattr(lane, name) for name in COLUMNS]
        for step in range(lane.lr.size):
            values = [None if column is None else float(column[step]) for column in columns]
            _insert(connection, "steps", lane.lane, step, *values)
        for place, look in enumerate(lane.health):
            _insert(connection, "health", lane.lane, place, *look)
        (seal,) = lane_digests(connection, [lane.lane])
        connection.execute(
            "UPDATE digests SET digest = ? WHERE part = 'lane' AND name = ?", (seal, str(lane.lane))
        )


def _insert(connection: sqlite3.Connection, table: str, *row: object) -> None:
    connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def changed_config(stage: Stage) -> Iterator[Row]:
    """Change the config of a run before it is resumed: that is refused, until it is as before."""
    row, half = Row("config changed before resume"), _half_done(stage)
    for name in ("config.yaml", "resolved.yaml"):
        for change in ("changed", "emptied", "deleted"):
            trial, row.times = Trial(stage, row, "grid, single"), row.times + 1
            shutil.copytree(half, trial.run)
            trial.look()
            file = trial.run / name
            before = file.read_text()
            if change == "deleted":
                file.unlink()
            else:
                file.write_text(before.replace("0.2", "0.3") if change == "changed" else "")
                row.take(stage.process("resume", trial.run), 2, says="the config has changed")
                file.write_text(before)
            trial.finish(before=without_rendering)
    yield row


def two_drivers(stage: Stage) -> Iterator[Row]:
    """Start a second driver on a run that is run already, or two at the same moment."""
    row = Row("two drivers on one run")
    for _ in range(stage.few(6)):
        trial, row.times = Trial(stage, row, "grid, single"), row.times + 1
        first, second = (_anew(trial) for _ in range(2))
        codes = sorted(str(row.take(driver, 0, 2)) for driver in (first, second))
        if codes != ["0", "2"]:
            row.surprises.append(f"two drivers that start one run end with {codes}")
        trial.finish(before=without_rendering)
    for _ in range(stage.few(6)):
        trial, row.times = Trial(stage, row, "grid, single"), row.times + 1
        first = trial.start(before=without_rendering)
        while not stored_lanes(trial.run) and not first.ended_within(0.005):
            pass
        row.take(trial.start(), 0, 2, says="is being run by process")
        if stage.random.random() < 0.5:
            first.kill()
        row.take(first, 0, -signal.SIGKILL)
        trial.look()
        rivals = [trial.start(before=without_rendering) for _ in range(2)]
        codes = [row.take(rival, 0, 2, says="is being run by process") for rival in rivals]
        if 0 not in codes:
            row.surprises.append("of two processes that resume a run, none does")
        trial.finish(before=without_rendering)
    yield row


def _anew(trial: Trial) -> Process:
    way = WAYS[trial.way]
    return trial.stage.process(
        way[0], trial.stage.config, "--out", trial.run, *way[1:], before=without_rendering
    )


JUMPS = (("86400", "0.3"), ("-86400", "0.2"), ("-1700000000", "0.5"), ("3000000000", "0.4"))
"""By how many seconds the clock jumps, and how often. Python cannot hold times beyond the year 2262."""


def clocks(stage: Stage) -> Iterator[Row]:
    """Let the clock jump forward and back while runs are killed and resumed; needs `shim.c`."""
    row = Row("clock jumps")
    for jump in JUMPS[: stage.few(len(JUMPS))]:
        for way in ("grid, single", "search", "train")[: stage.few(3)]:
            trial, row.times = Trial(stage, row, way), row.times + 1
            how = {"environment": {"FAULT_CLOCK": ",".join(jump)}, "before": without_rendering}
            process = trial.start(**how)
            if not process.ended_within(stage.random.uniform(0.1, 2)):
                process.kill()
            row.take(process, 0, -signal.SIGKILL)
            trial.look()
            trial.finish(**how)
    if stage.few(9) > 1:
        trial, row.times = Trial(stage, row, "long grid"), row.times + 1
        trial.finish("--workers", "2", afresh=True, environment={"FAULT_CLOCK": "86400,4"})
    yield row
