"""Disks that are full, files that may not grow, and directories that nobody may write or that vanish."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
from collections.abc import Iterator

from processes import Process, without_rendering
from trials import Row, Stage, Trial


def without_privileges() -> None:
    """Let this process obey the permissions of files, also as root (capset(2))."""
    if os.geteuid() == 0:
        header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None).capset(header, nothing):
            raise OSError("capset failed")


def full(stage: Stage) -> Iterator[Row]:
    """Fill the disk at the n-th write, for every n; needs the library of `shim.c`."""
    for way in ("small grid", "small train", "small find")[: stage.few(3)]:
        row = Row(f"disk full from the n-th write on: {way}")
        writes = _writes_of(stage, way)
        numbers = range(1, writes + 1) if stage.few(9) > 1 else (1, writes // 2)
        for number in numbers:
            trial, row.times = Trial(stage, row, way), row.times + 1
            hurt = {"FAULT_UNDER": str(trial.run), "FAULT_FROM": str(number)}
            process = trial.start(environment=hurt, before=without_rendering)
            row.take(process, 4, 0, says="the disk is full")
            trial.look()
            trial.finish(before=without_rendering)
            shutil.rmtree(trial.run)
        yield row


def _writes_of(stage: Stage, way: str) -> int:
    """Return the number of calls with which a run writes."""
    run, number = stage.new_path(), stage.new_path("writes")

    def keep_number() -> None:
        number.write_text(str(ctypes.CDLL(None).writes_counted()))

    environment = {"FAULT_UNDER": str(run)}
    process = stage.start(way, run, environment=environment, before=without_rendering, after=keep_number)
    if process.code != 0:
        raise SystemExit(process.text)
    return int(number.read_text())


def limited(stage: Stage) -> Iterator[Row]:
    """Forbid files to grow beyond a size, as `ulimit -f` does."""
    row = Row("files may not grow (RLIMIT_FSIZE)")
    for size in [0, 4_000, 20_000, 45_000, 60_000, 70_000, 90_000][:: 1 if stage.few(9) > 1 else 4]:
        trial, row.times = Trial(stage, row, "small grid"), row.times + 1

        def limit(size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            without_rendering()

        row.take(trial.start(before=limit), 4, 0)
        trial.look()
        trial.finish(before=without_rendering)
    yield row


def read_only(stage: Stage) -> Iterator[Row]:
    """Let a run begin, go on or be resumed in a directory that it may not write."""
    row = Row("read-only directory")

    def closed() -> None:
        without_rendering()
        without_privileges()

    # A run that may not begin
    place = stage.new_path("closed")
    place.mkdir(mode=0o555)
    trial, row.times = Trial(stage, row, "small grid", place / "run"), row.times + 1
    row.take(trial.start(before=closed), 2, says="give --out a directory that you may write to")
    if trial.run.exists():
        row.surprises.append("a run that may not begin left a directory")
    place.chmod(0o755)
    trial.finish(before=without_rendering)

    # A run whose directory is closed while it runs
    for _ in range(stage.few(5)):
        place = stage.new_path("closing")
        place.mkdir()
        trial, row.times = Trial(stage, row, "small grid", place / "run"), row.times + 1
        process = trial.start(before=closed)
        _some_time(stage, trial, process)
        if trial.run.exists():
            trial.run.chmod(0o555)
        place.chmod(0o555)
        row.take(process, 0, 4, says="you may not write there")
        # A run that may not be resumed
        if (trial.run / "run.sqlite").exists():
            row.take(trial.start(before=closed), 0, 2, 4)
            trial.run.chmod(0o755)
        trial.look()
        trial.finish(before=without_rendering)
    yield row


def vanishing(stage: Stage) -> Iterator[Row]:
    """Move or remove the directory of a run while it runs."""
    for how in ("moved away and back", "moved away and removed"):
        row = Row(f"directory {how}")
        for _ in range(stage.few(8)):
            trial, row.times = Trial(stage, row, "small grid"), row.times + 1
            process, elsewhere = trial.start(before=without_rendering), stage.new_path("elsewhere")
            _some_time(stage, trial, process)
            gone = (trial.run / "run.sqlite").exists()
            if gone:
                trial.run.rename(elsewhere)
            if "removed" in how:
                shutil.rmtree(elsewhere, ignore_errors=True)
            row.take(process, 4, 0, says="the directory was moved or removed")
            if gone and trial.run.exists():
                row.surprises.append(f"it was made again: {sorted(trial.run.iterdir())}")
                shutil.rmtree(trial.run)
            if elsewhere.exists():
                elsewhere.rename(trial.run)
                trial.look()
            trial.finish(before=without_rendering)
        yield row


def _some_time(stage: Stage, trial: Trial, process: Process) -> None:
    """Wait until the run has begun, and then for a random time in which it may end."""
    while not (trial.run / "run.sqlite").exists() and not process.ended_within(0.005):
        pass
    process.ended_within(stage.random.uniform(0, stage.unrendered_seconds("small grid")))
