"""The truth about the quality tasks: what each learning rate comes to, by lrfind's own grid.

    python benchmarks/quality/truth.py [--only NAME ...] [--part 0/2]

A row of `truth.csv` is one training: task, schedule, steps, lr, seed, its outcome, its final loss on the
validation split and that of the untouched model. The script goes on where it was stopped; it may run twice at
once, on two halves of the tasks. The short grid has 17 rates, four a decade, and goes on outward while the
best is within two of its end; the long one has 9, three a decade, around the best of the short one. Both go
on upward until the highest rate harms: what a rate beyond it comes to would be a guess.
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
from tasks import HERE, LONG, SCHEDULES, SPLITS, Split, Task, grid, read_tasks, schedule_of

from lrfind.analysis.lanes import LaneResult, PlannedLane
from lrfind.config.sections import GridSection
from lrfind.config.shapes import shape_of
from lrfind.problem.problem import Problem, from_config
from lrfind.training.calibration import calibrate, computing_with
from lrfind.training.evaluation import evaluate, evaluating, score
from lrfind.training.run import run_lanes
from lrfind.training.team import Conditions

TRUTH = HERE / "truth.csv"
COLUMNS = ("task", "schedule", "steps", "lr", "seed", "outcome", "val_loss", "first_loss")
SEEDS, PLATEAU_SEEDS, LONG_SEEDS = 3, 6, 2
ROOM, MORE, MOST = 2, 4, 37  # rates beyond the best, rates that are added at a time, and in all
HARM = 0.3  # regret that the highest rate must have, so that no answer lies where nothing is known


def train(task: Task, problem: Problem, schedule: str, steps: int, lrs: Iterable[float], seeds: int) -> list:
    """Rows of the truth, in the order of `COLUMNS`."""
    shape = shape_of(schedule_of(schedule, steps), steps, None)
    peaks = [float(f"{lr:.6g}") for lr in lrs]
    planned = [PlannedLane(i, s, lr) for s in range(seeds) for i, lr in enumerate(peaks)]
    lanes = [lane.shaped(shape) for lane in planned]
    results: list[LaneResult] = []
    engine = calibrate(problem, GridSection(threads=1), len(peaks), min(peaks), 0)
    with computing_with(engine.threads):
        run_lanes(problem, lanes, Conditions(), engine, keep=results.extend)
    first = {seed: first_loss(problem, seed) for seed in range(seeds)}
    return [
        [task.name, schedule, steps, r.peak, r.seed, r.outcome, r.val_loss, first[r.seed]] for r in results
    ]


def first_loss(problem: Problem, seed: int) -> float:
    """The untouched model's loss on the validation split."""
    setup = problem.setup(seed)
    assert problem.validation is not None
    with evaluating(setup.model), torch.no_grad():
        loss, _, _ = evaluate(lambda batch: score(setup.model, setup.loss_fn, batch), problem.validation())
    return float(loss[0])


def mean_losses(rows: Sequence[Sequence[object]]) -> pd.Series:
    """By lr, the mean over seeds of the loss, of which a training that came to nothing has the first."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    loss = frame.val_loss.astype(float).fillna(math.inf)
    frame["loss"] = np.minimum(loss, frame.first_loss)
    return frame.groupby("lr").loss.mean().sort_index()


def short_truth(task: Task, problem: Problem, schedule: str, done: list) -> list:
    """The rows that it still needs, besides those that are done."""
    seeds = PLATEAU_SEEDS if task.plateau else SEEDS

    def more(low: float, points: int) -> list:
        return train(task, problem, schedule, task.steps, grid(low, points, 4), seeds)

    rows = done or more(task.low, 17)
    return (rows if not done else []) + outward(rows, more, 4, ROOM, MORE, MOST)


def long_truth(task: Task, problem: Problem, schedule: str, done: list, best: float) -> list:
    """The rows that it still needs, besides those that are done; `best` is that of the short one."""

    def more(low: float, points: int) -> list:
        return train(task, problem, schedule, LONG, grid(low, points, 3), LONG_SEEDS)

    rows = done or more(round(4 * math.log10(best)) / 4 - 2, 9)
    return (rows if not done else []) + outward(rows, more, 3, 1, 3, 18)


def outward(
    rows: list, more: Callable[[float, int], list], per_decade: int, room: int, at_a_time: int, most: int
) -> list:
    """Rows of further rates: while the best one is near an end, or the highest one does little harm."""
    found: list = []
    while True:
        losses = mean_losses([*rows, *found])
        exponents, best = np.log10(losses.index.to_numpy(dtype=float)).round(4), int(losses.argmin())
        first = float(np.mean([row[-1] for row in rows]))
        harm = (losses.iloc[-1] - losses.min()) / ((first - losses.min()) or 1.0)
        if len(losses) >= most:
            return found
        if best < room:
            found += more(exponents[0] - at_a_time / per_decade, at_a_time)
        elif best >= len(losses) - room or harm < HARM:
            found += more(exponents[-1] + 1 / per_decade, at_a_time)
        else:
            return found


def known() -> pd.DataFrame:
    return pd.read_csv(TRUTH) if TRUTH.exists() else pd.DataFrame(columns=list(COLUMNS))


def add(rows: list, path: Path = TRUTH) -> None:
    """Write what belongs together at once, so that a cell is there as a whole or not at all."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        text = [COLUMNS, *rows] if new else rows
        lines.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in text)


@click.command()
@click.option("--only", multiple=True, help="Tasks to do; all when omitted.")
@click.option("--part", default="0/1", help="Of the tasks, every second one for example: 0/2, 1/2.")
@click.option(
    "--split", "splits", type=click.Choice(SPLITS), multiple=True, help="Of the tasks; all when omitted."
)
@click.option("--lengths", default="short,long", help="Which trainings.")
def main(only: tuple[str, ...], part: str, splits: Sequence[Split], lengths: str) -> None:
    """Fill truth.csv."""
    which, parts = (int(number) for number in part.split("/"))
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only][which::parts]
    for length in lengths.split(","):
        for task in tasks:
            done = known()
            done = done[done.task == task.name]
            problem = None
            for schedule in SCHEDULES:
                of_it = done[done.schedule == schedule]
                steps = task.steps if length == "short" else LONG
                if length == "long" and not task.long:
                    continue
                problem = problem or from_config(task.experiment)
                began, there = time.perf_counter(), of_it[of_it.steps == steps].values.tolist()
                if length == "short":
                    rows = short_truth(task, problem, schedule, there)
                else:
                    short = of_it[of_it.steps == task.steps].values
                    rows = long_truth(task, problem, schedule, there, float(mean_losses(short).idxmin()))
                if not rows:
                    continue
                add(rows)
                best, seconds = mean_losses([*there, *rows]), time.perf_counter() - began
                click.echo(
                    f"{task.name} {schedule} {steps}: {len(rows)} trainings in {seconds:.0f} s, best lr"
                    f" {best.idxmin():.3g} of {best.index[0]:.3g} to {best.index[-1]:.3g}"
                )


if __name__ == "__main__":
    main()
