"""What each method answers for the trainings of the quality tasks, and the regret of that."""

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

from lrfind.analysis.recommendation import Training, recommend
from lrfind.config.sections import FindSection
from lrfind.config.shapes import shape_of
from lrfind.errors import NoSuggestion
from lrfind.experiments.find import Found, find
from lrfind.experiments.prober import Budget, LaneProber
from lrfind.problem.problem import Problem, from_config

FIRST_SEED = 100  # apart from those of the truth
OURS, CLIMB, ALWAYS = "ours", "climb", "always 0.01"


class Said(NamedTuple):
    """What a method answers; without a rate, it refuses."""

    lr: float | None
    cost: int
    low: float = math.nan
    high: float = math.nan
    confidence: str = ""


class Row(NamedTuple):
    """What a method answers for one training, in one run, and how good that is."""

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


def training_of(task: Task, schedule: str, steps: int) -> Training:
    shape = shape_of(schedule_of(schedule, steps), steps, None)
    optimizer = task.experiment.optimizer
    momentum = optimizer.args.get("momentum", 0.0)
    return Training(optimizer.name, steps, momentum, float(shape.multiplier.mean()))


def ours(task: Task, problem: Problem, seed: int) -> Found:
    """The search of lrfind: the same for every length and schedule, which differ in how it is read."""
    return find(problem, FindSection(lanes="single"), seed, training_of(task, "constant", task.steps))


def read_ours(found: Found, training: Training) -> Said:
    try:
        answer = recommend(found.searches, training, found.cost)
    except NoSuggestion:
        return Said(None, found.cost)
    return Said(answer.lr, answer.cost, answer.low, answer.high, answer.confidence)


def read_climb(climbed: Climbed, training: Training, schedule: str) -> Said:
    log_lr = climbed_log_lr(climbed, training, schedule)
    return Said(None if log_lr is None else 10**log_lr, climbed.cost)


def run_task(task: Task, cells: Sequence[Cell], runs: int, peers: bool) -> list[Row]:
    """What every method says for a task's trainings."""
    problem = from_config(task.experiment)
    rows = []
    for run in range(runs):
        seed = FIRST_SEED + run
        searched = ours(task, problem, seed)
        climbed = climb(LaneProber(problem, seed, Budget(math.inf)))
        said = {ALWAYS: Said(0.01, 0)}
        if peers:
            said |= {each.method: Said(each.lr, each.cost) for each in suggest(task, problem, seed)}
        for cell in cells:
            training = training_of(task, cell.schedule, cell.steps)
            read = {OURS: read_ours(searched, training), CLIMB: read_climb(climbed, training, cell.schedule)}
            rows += [_row(cell, method, run, each) for method, each in (read | said).items()]
    return rows


def _row(cell: Cell, method: str, run: int, said: Said) -> Row:
    lr, cost, *interval = said
    known = lr is not None
    regret = float(cell.regret(math.log10(lr))) if known else 1.0
    return Row(*cell.name, method, run, lr if known else math.nan, cost, regret, *interval)


def run_all(
    tasks: Sequence[Task], cells: Sequence[Cell], runs: int, peers: bool, workers: int
) -> pd.DataFrame:
    """A row for each training, run and method."""
    of_each = [[cell for cell in cells if cell.task == task.name] for task in tasks]
    todo = [(task, of_it, runs, peers) for task, of_it in zip(tasks, of_each, strict=True) if of_it]
    rows: list[Row] = []
    # Spawned, as forks of a process that has torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        for made in pool.map(run_task, *zip(*todo, strict=True)):
            rows += made
            click.echo(f"{made[0].task}: done", err=True)
    return pd.DataFrame(rows, columns=list(Row._fields))


def read_said(path: Path, cells: Sequence[Cell]) -> pd.DataFrame:
    """What an earlier judging wrote with --out, with the regrets that the truth gives these answers now."""
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
