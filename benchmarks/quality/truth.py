"""The truth about the quality tasks: the final loss at each learning rate, by lrfind's own grid.

    python benchmarks/quality/truth.py [--only NAME ...] [--part 0/2]

A row of `truth.csv` is one training: its task, schedule, steps, lr, seed and outcome, its final loss on the
validation split, and that of the untouched model. If the script was stopped, it continues where it was. It
may run twice at the same time, on two halves of the tasks. The short grid has 17 rates, four in a decade, or
10, three in a decade. It is extended outward while the best rate is within two of its end. The long grid has
7 rates, three in a decade, around the best rate of the short grid. Both are extended upward until the highest
rate harms, because the loss at any higher rate would be a guess. The longest grid has 5 rates, three in a
decade, around the best rate of the long grid, and is extended in the same way.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from tasks import HERE, LONG, LONGEST, SPLITS, Split, Task, grid, read_tasks, schedule_of

from lrfind.analysis.lanes import LaneResult, PlannedLane
from lrfind.config.sections import GridSection
from lrfind.config.shapes import shape_of
from lrfind.errors import counted
from lrfind.problem.problem import Problem, from_config
from lrfind.training.calibration import Plan, calibrate
from lrfind.training.evaluation import evaluate, evaluating, score
from lrfind.training.executor import Conditions
from lrfind.training.run import run_lanes

TRUTH = HERE / "truth.csv"
COLUMNS = ("task", "schedule", "steps", "lr", "seed", "outcome", "val_loss", "first_loss")
LONG_SEEDS = 2
FIRST_RATES = {4: 17, 3: 10}  # rates of a decade -> rates of the short grid before it is extended
ROOM, MORE, MOST = 2, 4, 37  # rates needed beyond the best, rates added at a time, most rates in all
HARM = 0.3  # the highest rate must have at least this regret, so that no answer lies beyond the truth


def train(task: Task, problem: Problem, schedule: str, steps: int, lrs: Iterable[float], seeds: int) -> list:
    """Train at each rate with each seed, and return rows of the truth in the order of `COLUMNS`."""
    shape = shape_of(schedule_of(schedule, steps), steps, None)
    peaks = [float(f"{lr:.6g}") for lr in lrs]
    planned = [PlannedLane(i, s, lr) for s in range(seeds) for i, lr in enumerate(peaks)]
    lanes = [lane.shaped(shape) for lane in planned]
    results: list[LaneResult] = []
    mode = calibrate(problem, GridSection(threads=1), Plan(len(peaks), steps, seeds, min(peaks)), 0)
    run_lanes(problem, lanes, Conditions(), mode, keep=results.extend)
    first_losses = {seed: first_loss(problem, seed) for seed in range(seeds)}
    return [
        [task.name, schedule, steps, r.peak, r.seed, r.outcome, r.val_loss, first_losses[r.seed]]
        for r in results
    ]


def first_loss(problem: Problem, seed: int) -> float:
    """Return the untouched model's loss on the validation split."""
    setup = problem.setup(seed)
    assert problem.validation is not None
    with evaluating(setup.model), torch.no_grad():
        loss, _, _ = evaluate(lambda batch: score(setup.model, setup.loss_fn, batch), problem.validation())
    return float(loss[0])


def mean_losses(rows: Sequence[Sequence[object]]) -> pd.Series:
    """Return the mean loss over seeds by lr; a training that learned nothing counts with its first loss."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    loss = frame.val_loss.astype(float).fillna(math.inf)
    frame["loss"] = np.minimum(loss, frame.first_loss)
    return frame.groupby("lr").loss.mean().sort_index()


def short_truth(task: Task, problem: Problem, schedule: str, done: list) -> list:
    """Return the rows of the short grid that are still missing beside those in `done`."""

    def more(low: float, points: int) -> list:
        return train(task, problem, schedule, task.steps, grid(low, points, task.per_decade), task.seeds)

    rows = done or more(task.low, FIRST_RATES[task.per_decade])
    return (rows if not done else []) + outward(rows, more, task.per_decade, ROOM, MORE, MOST)


def long_truth(task: Task, problem: Problem, schedule: str, done: list, best: float) -> list:
    """Return the rows of the long grid that are still missing; `best` is the best lr of the short one."""

    def more(low: float, points: int) -> list:
        return train(task, problem, schedule, LONG, grid(low, points, 3), LONG_SEEDS)

    rows = done or more(round(4 * math.log10(best)) / 4 - 4 / 3, 7)
    return (rows if not done else []) + outward(rows, more, 3, 1, 3, 18)


def longest_truth(task: Task, problem: Problem, schedule: str, done: list, best: float) -> list:
    """Return the rows of the longest grid that are still missing; `best` is the best lr of the long one."""

    def more(low: float, points: int) -> list:
        return train(task, problem, schedule, LONGEST, grid(low, points, 3), 1)

    rows = done or more(round(3 * math.log10(best)) / 3 - 1, 5)
    return (rows if not done else []) + outward(rows, more, 3, 1, 2, 12)


def outward(
    rows: list, more: Callable[[float, int], list], per_decade: int, room: int, at_a_time: int, most: int
) -> list:
    """Return rows of further rates, until the best one is not near an end and the highest one harms."""
    added: list = []
    while True:
        losses = mean_losses([*rows, *added])
        exponents, best = np.log10(losses.index.to_numpy(dtype=float)).round(4), int(losses.argmin())
        first = float(np.mean([row[-1] for row in rows]))
        harm = (losses.iloc[-1] - losses.min()) / ((first - losses.min()) or 1.0)
        if len(losses) >= most:
            return added
        if best < room:
            added += more(exponents[0] - at_a_time / per_decade, at_a_time)
        elif best >= len(losses) - room or harm < HARM:
            added += more(exponents[-1] + 1 / per_decade, at_a_time)
        else:
            return added


def read_truth() -> pd.DataFrame:
    return pd.read_csv(TRUTH) if TRUTH.exists() else pd.DataFrame(columns=list(COLUMNS))


def add(rows: list, path: Path = TRUTH) -> None:
    """Append the rows of one cell at once, so that the cell is written as a whole or not at all."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        text = [COLUMNS, *rows] if new else rows
        lines.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in text)


@click.command()
@click.option("--only", multiple=True, help="Train only this task; may be repeated.")
@click.option("--part", default="0/1", help="A share of the tasks: 0/2 and 1/2 are every second task.")
@click.option(
    "--split",
    "splits",
    type=click.Choice(SPLITS),
    multiple=True,
    help="The part of the tasks; all when omitted.",
)
@click.option("--lengths", default="short,long,longest", help="The lengths of the trainings.")
def main(only: tuple[str, ...], part: str, splits: Sequence[Split], lengths: str) -> None:
    """Add the missing trainings to truth.csv."""
    which, parts = (int(number) for number in part.split("/"))
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only][which::parts]
    for length in lengths.split(","):
        for task in tasks:
            done = read_truth()
            done = done[done.task == task.name]
            problem = None
            for schedule, steps in task.trainings:
                if steps != {"short": task.steps, "long": LONG, "longest": LONGEST}[length]:
                    continue
                problem = problem or from_config(task.experiment)
                began = time.perf_counter()
                cells = {
                    number: rows.values for number, rows in done[done.schedule == schedule].groupby("steps")
                }
                present = cells[steps].tolist() if steps in cells else []
                if length == "short":
                    rows = short_truth(task, problem, schedule, present)
                else:
                    shorter = cells[task.steps if length == "long" else LONG]
                    more = long_truth if length == "long" else longest_truth
                    rows = more(task, problem, schedule, present, float(mean_losses(shorter).idxmin()))
                if not rows:
                    continue
                add(rows)
                best, seconds = mean_losses([*present, *rows]), time.perf_counter() - began
                click.echo(
                    f"{task.name} {schedule} {steps}: {counted(len(rows), 'training')} in {seconds:.0f} s,"
                    f" best lr {best.idxmin():.3g} of {best.index[0]:.3g} to {best.index[-1]:.3g}"
                )


if __name__ == "__main__":
    main()
