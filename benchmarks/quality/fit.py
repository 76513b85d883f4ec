"""Fit what `lrfind.analysis.recommendation` adds to the rate that learns fastest, on the design tasks alone.

    python benchmarks/quality/probes.py FOLDER     (once; half an hour)
    python benchmarks/quality/fit.py FOLDER [--truth FILE]

The searches are those of `lrfind.analysis.probing`, on the recorded losses. What is fitted: a shift for each
family of optimizers, one for plateaus, and how the rate goes with the length of the training and with its
schedule. What is minimised is the mean regret, that of a task counting once at each length, each rate
blurred by a fifth of a decade, so that a cliff next to a rate counts before the rate is over it. Printed:
the constants, and how they do on tasks that were left out of the fit, eight parts in turn; how sure they
are by what was gained; and what intervals of several widths hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from answers import training_of
from regret import FAILED, WORTH, Cell, read_cells
from scipy.optimize import minimize
from tasks import LONG, Task, read_tasks
from truth import TRUTH

from lrfind.analysis import recommendation
from lrfind.analysis.curves import Array
from lrfind.analysis.probing import ENOUGH, MOST_COST, Probe, Search, search

FAMILIES = ("SGD", "MOMENTUM", "ADAM", "RMSPROP", "ADAGRAD")
NAMES = (*FAMILIES, "ON_A_PLATEAU", "PER_LENGTH", "PER_DECAY")
BEGIN = (-0.3, -0.5, -0.4, 0.0, 0.1, 0.0, -0.3, 0.8)
BLUR = (-0.2, -0.1, 0.0, 0.1, 0.2)  # decades
WORST = 0.5  # regret beyond which it does not matter how bad a rate is
ALIKE = 0.001  # of the variance of the families' shifts: they should not differ for nothing
GRID = np.arange(-9, 5, 0.02)  # log10 lr
PARTS = 8


class Table:
    """A prober that reads a table of recorded losses.

    Args:
        lr: (L,) ascending.
        loss: (L, T) of one seed.
    """

    def __init__(self, lr: Array, loss: Array) -> None:
        self._log_lr, self._loss, self.taken = np.log10(lr), loss, dict[float, int]()

    def untouched(self, steps: int) -> Array:
        """Those of the lowest rate, which changes next to nothing."""
        return self._loss[0, :steps]

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        return [self._probe(lr, steps, ceiling) for lr in lrs]

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        left = sum(steps - self.taken.get(lr, 0) for lr in lrs) + more * steps
        return sum(self.taken.values()) + left <= MOST_COST

    def _probe(self, lr: float, steps: int, ceiling: Array) -> Probe:
        place = round((math.log10(lr) - self._log_lr[0]) / (self._log_lr[1] - self._log_lr[0]))
        above = place >= len(self._loss)  # where all tables end, rates blow up
        loss = np.append(self._loss[0, :1], np.nan) if above else self._loss[max(place, 0), :steps]
        with np.errstate(invalid="ignore"):
            bad = ~(loss <= ceiling[: len(loss)])
        self.taken[lr] = int(bad.argmax()) + 1 if bad.any() else steps
        return Probe(lr, loss[: self.taken[lr]], bool(bad.any()))


@dataclass(frozen=True)
class Samples:
    """What a search said for every training of its task: a row for each training and seed.

    Attributes:
        cell: (N,) number of the training.
        task: (N,) number of its task.
        base: (N,) log10 of the lr that learns fastest; NaN of a refusal.
        features: (N, P) what the parameters are multiplied with.
        gain: (N,) see `Search.gain`; 0 of a refusal.
        breadth: (N,) see `Search.breadth`.
        cost: (N,) gradient steps.
        regret: (C, G) of each training, over `GRID`.
        long: (N,) whether it is a long one.
    """

    cell: Array
    task: Array
    base: Array
    features: Array
    gain: Array
    breadth: Array
    cost: Array
    regret: Array
    long: Array

    def regrets(self, log_lr: Array) -> Array:
        place = np.clip(np.round((np.nan_to_num(log_lr) - GRID[0]) / 0.02), 0, len(GRID) - 1)
        return np.where(np.isnan(log_lr), 1.0, self.regret[self.cell, place.astype(int)])


def sample(folder: Path, tasks: Sequence[Task], cells: Sequence[Cell]) -> Samples:
    by_name = {task.name: number for number, task in enumerate(tasks)}
    rows, searches = [], dict[str, list[tuple[Search, int]]]()
    for number, cell in enumerate(cells):
        task = tasks[by_name[cell.task]]
        if cell.task not in searches:
            searches[cell.task] = _searches(folder / f"{cell.task}.npz", task)
        training = training_of(task, cell.schedule, cell.steps)
        family = [int(training.family is getattr(recommendation, name)) for name in FAMILIES]
        family = [0, 1, 0, 0, 0] if training.momentum else family
        length = math.log10(training.steps / recommendation.USUAL_STEPS)
        decay = -math.log10(training.mean_multiplier)
        for found, cost in searches[cell.task]:
            shift = [0, 0, 0, 0, 0, 1] if found.on_a_plateau else [*family, 0]
            refused = recommendation.refusal(found) is not None
            base, gain, breadth = (
                (math.nan, 0.0, 0.0) if refused else (found.middle, found.gain, found.breadth)
            )
            known = (gain, breadth, cost, cell.steps == LONG)
            rows.append((number, by_name[cell.task], base, *shift, length, decay, *known))
    table = np.array(rows, dtype=np.float64)
    return Samples(
        cell=table[:, 0].astype(int),
        task=table[:, 1].astype(int),
        base=table[:, 2],
        features=table[:, 3:-4],
        gain=table[:, -4],
        breadth=table[:, -3],
        cost=table[:, -2],
        regret=np.array([cell.regret(GRID) for cell in cells]),
        long=table[:, -1].astype(bool),
    )


def _searches(path: Path, task: Task) -> list[tuple[Search, int]]:
    """The search of every seed, and its cost."""
    with np.load(path) as held:
        lr, losses = held["lr"], held["loss"].astype(np.float64)
    training = training_of(task, "constant", task.steps)
    found = []
    for loss in losses:
        table = Table(lr, loss)
        made = search(table, training.start, longest=training.longest)
        found.append((made, sum(table.taken.values())))
    return found


def fit(samples: Samples, chosen: Array) -> Array:
    """The parameters, in the order of `NAMES`."""
    chosen = chosen & ~np.isnan(samples.base)
    task_and_length = (2 * samples.task + samples.long)[chosen]
    weight = 1 / np.bincount(task_and_length)[task_and_length]

    def loss(parameters: Array) -> float:
        log_lr = samples.base + samples.features @ parameters
        regret = np.mean([np.minimum(samples.regrets(log_lr + away), WORST) for away in BLUR], axis=0)
        return float(np.average(regret[chosen], weights=weight) + ALIKE * np.var(parameters[: len(FAMILIES)]))

    options = {"maxiter": 20, "xtol": 0.01, "ftol": 1e-5}
    return np.asarray(minimize(loss, np.array(BEGIN), method="Powell", options=options).x)


def left_out(samples: Samples) -> Array:
    """The log10 lr of every row, by parameters that were fitted without its task."""
    order = np.random.default_rng(0).permutation(samples.task.max() + 1)
    part, log_lr = order[samples.task] % PARTS, np.full(len(samples.base), np.nan)
    for number in range(PARTS):
        parameters = fit(samples, part != number)
        log_lr[part == number] = (samples.base + samples.features @ parameters)[part == number]
    return log_lr


def report(title: str, samples: Samples, log_lr: Array) -> None:
    for kind, rows in (("short", ~samples.long), ("long", samples.long)):
        if rows.any():
            regret, cells = samples.regrets(log_lr)[rows], samples.cell[rows]
            spread = np.nanmean([np.nanstd(log_lr[samples.cell == cell]) for cell in np.unique(cells)])
            click.echo(
                f"{title}, {kind}: {len({*cells})} trainings of {len({*samples.task[rows]})} tasks, mean"
                f" regret {regret.mean():.4f}, fails {(regret > FAILED).mean():.1%}, spread {spread:.3f},"
                f" {samples.cost[rows].mean():.0f} steps"
            )


def gains(samples: Samples, log_lr: Array) -> None:
    """How sure the answers of searches are whose loss has fallen by so much."""
    regret = samples.regrets(log_lr)
    for low, high in itertools.pairwise((-math.inf, *sorted(ENOUGH.values()), math.inf)):
        of_it = (low <= samples.gain) & (samples.gain < high)
        tasks = len({*samples.task[of_it]})
        click.echo(
            f"  gain {low:.2f} to {high:.2f}: {of_it.sum()} answers for {tasks} tasks, mean regret"
            f" {regret[of_it].mean():.3f}, fails {(regret[of_it] > FAILED).mean():.1%}"
        )


def widths(samples: Samples, log_lr: Array) -> None:
    """What share of intervals of several widths is usable, by how broad the searches' answers are."""
    known = ~np.isnan(log_lr)
    for half in (0.1, 0.15, 0.2, 0.25, 0.3):
        for more in (0.0, 0.25, 0.5):
            width = half + more * samples.breadth
            inside = [samples.regrets(log_lr + share * width)[known] for share in np.linspace(-1, 1, 21)]
            usable = [(np.array(inside) <= limit).mean() for limit in (0.05, 0.1)]
            click.echo(
                f"  half width {half:.2f} + {more:.2f} x breadth: {usable[0]:.1%} of it loses at most 5 %,"
                f" {usable[1]:.1%} at most 10 %; {2 * width[known].mean():.2f} decades"
            )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--truth", type=click.Path(path_type=Path), default=TRUTH, help="What truth.py made.")
def main(folder: Path, truth: Path) -> None:
    """Fit the constants on the design tasks."""
    tasks = [task for task in read_tasks("design") if (folder / f"{task.name}.npz").exists()]
    cells = [cell for cell in read_cells(truth, tasks) if cell.drop >= WORTH]
    samples = sample(folder, tasks, cells)
    parameters = fit(samples, np.ones(len(samples.base), dtype=bool))
    for name, value in zip(NAMES, parameters, strict=True):
        click.echo(f"{name:14} {value:+.2f}")
    report("fitted", samples, samples.base + samples.features @ parameters)
    others = left_out(samples)
    report("left out", samples, others)
    gains(samples, others)
    widths(samples, others)


if __name__ == "__main__":
    main()
