"""Processes that are killed or stopped: the driver of a run, its workers, and the scheduler of a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import LONGEST, Process, descendants
from trials import Row, Stage, Trial, planned_lanes, stored_lanes

KILLED = ("find", "range-test", "grid, single", "grid, stacked", "search", "compare", "train")
KILLS = 50
"""The number of kills of the driver in all."""
ORPHANS_MAY_LIVE = 5.0
"""The seconds that workers may live after their driver."""


def drivers(stage: Stage) -> Iterator[Row]:
    """Kill the driver at random moments, and resume the run."""
    ways = KILLED if stage.few(KILLS) >= len(KILLED) else KILLED[2 : 2 + stage.few(KILLS)]
    for way in ways:
        row, (*_, seconds) = Row(f"kill -9 of the driver: {way}"), stage.undisturbed(way)
        while row.times < stage.few(KILLS) / len(ways):
            trial = Trial(stage, row, way)
            for _ in range(3):
                process = trial.start()
                if process.ended_within(stage.random.uniform(0.02, seconds)):
                    break
                process.kill()
                row.times += row.take(process, -signal.SIGKILL, 0) != 0
                trial.look()
            trial.finish()
        yield row


def with_workers(stage: Stage) -> Iterator[Row]:
    """Kill and stop workers, and the driver of workers."""
    yield _worker_killed(stage)
    yield _worker_stopped(stage, "SIGSTOP of a worker, SIGCONT after 3 s", continued=True)
    yield _worker_stopped(stage, "SIGSTOP of a worker for ever", continued=False)
    yield _driver_of_workers_killed(stage)


def _worker_killed(stage: Stage) -> Row:
    row = Row("kill -9 of a worker in a lane")
    for _ in range(stage.few(3)):
        trial, row.times = Trial(stage, row, "long grid"), row.times + 1
        process = trial.start("--workers", "2", afresh=True)
        os.kill(_busy_worker(trial, process), signal.SIGKILL)
        row.take(process, 0)
        trial.finish()
    return row


def _worker_stopped(stage: Stage, fault: str, *, continued: bool) -> Row:
    row = Row(fault)
    for _ in range(stage.few(1)):
        trial, row.times = Trial(stage, row, "long grid"), row.times + 1
        process = trial.start("--workers", "2", afresh=True, environment=SOON)
        worker = _busy_worker(trial, process)
        os.kill(worker, signal.SIGSTOP)
        if continued:
            process.ended_within(3)
            os.kill(worker, signal.SIGCONT)
        row.take(process, 0)
        trial.finish()
    return row


SOON = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "8s"}
"""Lets Dask give up a silent worker after 8 seconds, and not only after 5 minutes."""


def _driver_of_workers_killed(stage: Stage) -> Row:
    row = Row("kill -9 of the driver of 2 workers")
    for _ in range(stage.few(2)):
        trial, row.times = Trial(stage, row, "long grid"), row.times + 1
        process = trial.start("--workers", "2", afresh=True)
        _busy_worker(trial, process)
        _wait_for_a_lane(trial, process)
        workers = {*descendants(process.pid)}
        process.kill()
        row.take(process, -signal.SIGKILL)
        trial.look()
        deadline = time.monotonic() + ORPHANS_MAY_LIVE
        while orphans := [pid for pid in workers if _alive(pid)]:
            if time.monotonic() > deadline:
                row.surprises.append(f"{len(orphans)} orphans after {ORPHANS_MAY_LIVE:g} s")
                break
            time.sleep(0.1)
        trial.look()
        trial.finish()
    return row


def schedulers(stage: Stage) -> Iterator[Row]:
    """Kill the scheduler of a cluster that was started by hand, and resume the run on another cluster."""
    row = Row("kill -9 of the scheduler")
    for _ in range(stage.few(2)):
        trial, row.times = Trial(stage, row, "long grid"), row.times + 1
        with _cluster(stage) as (file, scheduler):
            process = trial.start("--cluster", str(file), afresh=True)
            _wait_for_a_lane(trial, process)
            scheduler.kill()
            row.take(process, 4, says="the connection to the scheduler of the cluster is lost")
            trial.look()
        with _cluster(stage) as (file, _):
            trial.finish("--cluster", str(file), afresh=True)
    yield row


@contextmanager
def _cluster(stage: Stage) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Start a scheduler and a worker by hand; yield the scheduler's file, and its process."""
    file, here = stage.new_path("scheduler"), stage.new_path("cluster")
    here.mkdir()
    quiet = {"cwd": here, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask, one = [sys.executable, "-m", "dask"], ["--no-dashboard", "--scheduler-file", str(file)]
    scheduler = subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *one], **quiet)
    single = ["--nworkers", "1", "--nthreads", "1", "--no-nanny", "--memory-limit", "0"]
    worker = subprocess.Popen([*dask, "worker", *single, *one], **quiet)
    try:
        deadline = time.monotonic() + LONGEST
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield file, scheduler
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


def _busy_worker(trial: Trial, process: Process) -> int:
    """Wait until a worker is in the middle of a lane; return its process."""
    _wait(lambda: planned_lanes(trial.run) > 0, process)
    workers = [pid for pid in descendants(process.pid) if b"spawn_main" in _command(pid)]
    before, busy = {pid: _ticks(pid) for pid in workers}, list[int]()

    def look() -> bool:
        busy[:] = [pid for pid in workers if _ticks(pid) > before[pid] + 10]
        return bool(busy)

    _wait(look, process)
    return busy[0]


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _ticks(pid: int) -> float:
    """Return the processor time that a process has used, in hundredths of a second."""
    with contextlib.suppress(OSError):
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
    return 0.0


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _wait_for_a_lane(trial: Trial, process: Process) -> None:
    _wait(lambda: len(stored_lanes(trial.run)) > 0, process)


def _wait(reached: Callable[[], bool], process: Process) -> None:
    """Wait until something is reached, or the process has ended."""
    deadline = time.monotonic() + LONGEST
    while not reached() and time.monotonic() < deadline and not process.ended_within(0.05):
        pass
