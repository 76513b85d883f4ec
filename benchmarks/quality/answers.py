"""The answer of each method for the trainings of the quality tasks, and its regret."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click
import pandas as pd
import torch
from climb import Climbed, climb, climbed_log_lr
from peers import suggest
from regret import Cell
from tasks import Task, schedule_of

from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.recommendation import recommend
from lrfind.config.sections import FindSection
from lrfind.config.shapes import shape_of
from lrfind.errors import NoSuggestion
from lrfind.experiments.budget import Budget
from lrfind.experiments.find import Probing, probe_rates
from lrfind.experiments.prober import LaneProber
from lrfind.problem.problem import Problem, from_config

FIRST_SEED = 100  # far from the seeds of the truth
OURS, CLIMB, ALWAYS = "ours", "climb", "always 0.01"


class Answer(NamedTuple):
    """The answer of a method. If `lr` is None, the method refuses to give a rate."""

    lr: float | None
    cost: int
    low: float = math.nan
    high: float = math.nan
    confidence: str = ""


class Row(NamedTuple):
    """The answer of a method for one training in one run, with its regret."""

    task: str
    schedule: str
    steps: int
    method: str
    run: int
    lr: float
    cost: int
    regret: float
    low: float
    high: float
    confidence: str


def training_of(task: Task, problem: Problem, schedule: str, steps: int) -> PlannedTraining:
    shape = shape_of(schedule_of(schedule, steps), steps, None)
    optimizer = task.experiment.optimizer
    momentum = optimizer.args.get("momentum", 0.0)
    mean = float(shape.multiplier.mean())
    return PlannedTraining(optimizer.name, steps, momentum, mean, problem.batches_per_epoch)


def ours(task: Task, problem: Problem, seed: int) -> Probing:
    """The search of lrfind: the same for every length and schedule, which differ in how it is read."""
    training = training_of(task, problem, "constant", task.steps)
    return probe_rates(problem, FindSection(lanes="single"), seed, training)


def read_ours(probing: Probing, training: PlannedTraining) -> Answer:
    try:
        answer = recommend(probing.results, training, probing.cost)
    except NoSuggestion:
        return Answer(None, probing.cost)
    return Answer(answer.lr, answer.cost, answer.low, answer.high, answer.confidence)


def read_climb(climbed: Climbed, training: PlannedTraining, schedule: str) -> Answer:
    log_lr = climbed_log_lr(climbed, training, schedule)
    return Answer(None if log_lr is None else 10**log_lr, climbed.cost)


def run_task(task: Task, cells: Sequence[Cell], runs: int, peers: bool) -> list[Row]:
    """Return the rows of every method for the trainings of a task."""
    problem = from_config(task.experiment)
    rows = []
    for run in range(runs):
        seed = FIRST_SEED + run
        searched = ours(task, problem, seed)
        climbed = climb(LaneProber(problem, seed, Budget(math.inf)))
        fixed = {ALWAYS: Answer(0.01, 0)}
        if peers:
            suggestions = suggest(task, problem, seed)
            fixed |= {suggested.method: Answer(suggested.lr, suggested.cost) for suggested in suggestions}
        for cell in cells:
            training = training_of(task, problem, cell.schedule, cell.steps)
            read = {OURS: read_ours(searched, training), CLIMB: read_climb(climbed, training, cell.schedule)}
            rows += [_row(cell, method, run, answer) for method, answer in (read | fixed).items()]
    return rows


def _row(cell: Cell, method: str, run: int, answer: Answer) -> Row:
    lr, cost, *interval = answer
    answered = lr is not None
    regret = float(cell.regret(math.log10(lr))) if answered else 1.0
    return Row(*cell.name, method, run, lr if answered else math.nan, cost, regret, *interval)


def run_all(
    tasks: Sequence[Task], cells: Sequence[Cell], runs: int, peers: bool, workers: int
) -> pd.DataFrame:
    """Return a row for each training, run and method."""
    cells_by_task = [[cell for cell in cells if cell.task == task.name] for task in tasks]
    calls = [
        (task, task_cells, runs, peers)
        for task, task_cells in zip(tasks, cells_by_task, strict=True)
        if task_cells
    ]
    rows: list[Row] = []
    # Processes are spawned, because forks of a process that has torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        for task_rows in pool.map(run_task, *zip(*calls, strict=True)):
            rows += task_rows
            click.echo(f"{task_rows[0].task}: done", err=True)
    return pd.DataFrame(rows, columns=list(Row._fields))


def read_answers(path: Path, cells: Sequence[Cell]) -> pd.DataFrame:
    """Read the answers that an earlier report wrote with --out, and compute their regrets anew."""
    by_name = {cell.name: cell for cell in cells}
    frame = pd.read_csv(path)
    frame = frame[[name in by_name for name in zip(frame.task, frame.schedule, frame.steps, strict=True)]]
    regrets = [
        1.0
        if math.isnan(row.lr)
        else float(by_name[row.task, row.schedule, row.steps].regret(math.log10(row.lr)))
        for row in frame.itertuples()
    ]
    return frame.assign(regret=regrets)
