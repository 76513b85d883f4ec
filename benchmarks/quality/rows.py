"""Rows of the comparison at equal cost, the file that keeps them, and the processes that make them."""

from __future__ import annotations

import csv
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import click
import pandas as pd
import torch
from regret import WORTH, Cell, read_cells
from tasks import Task

from lrfind.errors import counted, in_one_line

FIND = "lrfind find"


class Row(NamedTuple):
    """What a method reached for one training within a budget.

    Attributes:
        task: the name of the task.
        schedule: the name of the training's schedule.
        steps: T, the number of the training's steps.
        method: the name of the method.
        run: the number of the run, from 0.
        budget: the number of gradient steps that the method may take.
        cost: the cost of what it took, in gradient steps; a forward pass alone counts a third of one.
        regret: the regret of its answer; 1 where it gives none.
    """

    task: str
    schedule: str
    steps: int
    method: str
    run: int
    budget: int
    cost: float
    regret: float


class Run(NamedTuple):
    """One run of a method for one training, within one budget or, if that is None, within all of its own."""

    cell: Cell
    number: int
    budget: int | None = None

    def is_in(self, done: pd.DataFrame) -> bool:
        """Return whether the rows of one method and task, `done`, have this run."""
        rows = done[
            (done.schedule == self.cell.schedule)
            & (done.steps == self.cell.steps)
            & (done.run == self.number)
        ]
        return len(rows if self.budget is None else rows[rows.budget == self.budget]) > 0


class Job(NamedTuple):
    """The runs of one method on one task, which one process makes.

    Attributes:
        task: the task.
        method: the name of the method.
        runs: the runs that are missing.
        truth: the table that truth.py made.
    """

    task: Task
    method: str
    runs: Sequence[Run]
    truth: Path


def cells_with_something_to_find(
    truth: Path, tasks: Sequence[Task], longest: int | None = None
) -> list[Cell]:
    """Read the trainings of these tasks that are no longer than `longest` and in which some rate learns."""
    cells = [cell for cell in read_cells(truth, tasks) if longest is None or cell.steps <= longest]
    kept = [cell for cell in cells if cell.drop >= WORTH]
    if not kept:
        raise click.ClickException(
            f"{truth} has no training of these tasks from which something can be learned; run truth.py first."
        )
    return kept


def tasks_per_kind(tasks: Sequence[Task], most: int) -> list[Task]:
    """Return the first few tasks of each kind, in the order of all; a kind is the name before `_draw`."""
    count: dict[str, int] = {}
    chosen = []
    for task in tasks:
        kind = task.name.rsplit("_draw", 1)[0] if "_draw" in task.name else task.name.split("_")[0]
        count[kind] = count.get(kind, 0) + 1
        if count[kind] <= most:
            chosen.append(task)
    return chosen


def read_rows(path: Path) -> pd.DataFrame:
    """Read the rows in a file; none if there is no file."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(Row._fields))


def add_rows(rows: Sequence[Row], path: Path) -> None:
    """Append the rows of one job to the file."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        text = [Row._fields, *rows] if new else rows
        lines.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in text)


def missing(job: Job, done: pd.DataFrame) -> Job:
    """Return the job without the runs that are in `done`."""
    rows = done[(done.task == job.task.name) & (done.method == job.method)]
    return job._replace(runs=[run for run in job.runs if not run.is_in(rows)])


def run_jobs(work: Callable[[Job], list[Row]], jobs: Sequence[Job], workers: int, path: Path) -> None:
    """Do the jobs that are not in the file yet, in their order, and append the rows of each as it ends.

    Raises:
        ClickException: if a job failed; the others are done first.
    """
    done = read_rows(path)
    jobs = [job for job in (missing(job, done) for job in jobs) if job.runs]
    failed = []
    # Processes are spawned, because forks of a process that has torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        names = {pool.submit(_timed, work, job): f"{job.task.name}, {job.method}" for job in jobs}
        for number, future in enumerate(as_completed(names), 1):
            error, note = future.exception(), ""
            if error is None:
                rows, seconds = future.result()
                add_rows(rows, path)
                note = f"{counted(len(rows), 'row')} in {seconds:.1f} s"
            else:
                failed.append(names[future])
                note = f"failed: {in_one_line(error, 300)}"
            click.echo(f"{number} of {len(jobs)}: {names[future]}: {note}", err=True)
    if failed:
        raise click.ClickException(f"{counted(len(failed), 'job')} failed: {'; '.join(failed)}.")


def _timed(work: Callable[[Job], list[Row]], job: Job) -> tuple[list[Row], float]:
    began = time.perf_counter()
    return work(job), time.perf_counter() - began
