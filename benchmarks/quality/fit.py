"""Fit what `lrfind.analysis.recommendation` adds to the rate that learns fastest, on the design tasks alone.

    python benchmarks/quality/probes.py FOLDER     (once; half an hour)
    python benchmarks/quality/fit.py FOLDER [--truth FILE]

Probing is that of `lrfind.analysis.probing`, on the recorded losses. The fitted constants are a shift for
each family of optimizers, a shift for plateaus, and three slopes: how the rate changes with the length of the
training (that of adaptive optimizers is given), how it changes with the schedule, and how far the rate of an
adaptive optimizer is pulled to a usual one. The fit minimises the mean regret, in which a task counts once at
each length. Each rate is blurred by a fifth of a decade to either side, so that a cliff next to a rate counts
before the rate is beyond it. The script prints the constants; their regret on tasks that were left out of the
fit, in eight parts in turn; how good the answers are, by their gain; and how good the rates in intervals of
several widths are.
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
from lrfind.analysis.probe_search import ProbeSearch
from lrfind.analysis.probing import ENOUGH, MOST_COST, Probe, ProbeResult
from lrfind.analysis.refusals import why_no_rate
from lrfind.errors import counted

FAMILIES = ("SGD", "MOMENTUM", "ADAM", "RMSPROP", "ADAGRAD")
NAMES = (*FAMILIES, "ON_A_PLATEAU", "PER_LENGTH", "PER_DECAY", "PULL")
BEGIN = (-0.3, -0.7, -0.4, 0.0, 0.3, 0.1, -0.5, 0.8, 0.3)
BLUR = (-0.2, -0.1, 0.0, 0.1, 0.2)  # decades
WORST = 0.5  # beyond this regret it does not matter how bad a rate is
ALIKE = 0.001  # weight of the variance of the families' shifts, so that they do not differ without need
GRID = np.arange(-9, 5, 0.02)  # log10 lr
PARTS = 8  # of the tasks, each of which is left out once


class Table:
    """A prober that reads a table of recorded losses.

    Args:
        lr: (L,) the recorded rates, ascending.
        loss: (L, T) the losses of one seed at these rates.
    """

    def __init__(self, lr: Array, loss: Array) -> None:
        self._log_lr, self._loss, self.taken = np.log10(lr), loss, dict[float, int]()

    def untouched(self, steps: int) -> Array:
        """Return the losses at the lowest rate, which changes the model hardly at all."""
        return self._loss[0, :steps]

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        return [self._probe(lr, steps, ceiling) for lr in lrs]

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        left = sum(steps - self.taken.get(lr, 0) for lr in lrs) + more * steps
        return sum(self.taken.values()) + left <= MOST_COST

    def _probe(self, lr: float, steps: int, ceiling: Array) -> Probe:
        place = round((math.log10(lr) - self._log_lr[0]) / (self._log_lr[1] - self._log_lr[0]))
        above = place >= len(self._loss)  # the training diverges at any rate above the table
        loss = np.append(self._loss[0, :1], np.nan) if above else self._loss[max(place, 0), :steps]
        with np.errstate(invalid="ignore"):
            stopped = ~(loss <= ceiling[: len(loss)])
        self.taken[lr] = int(stopped.argmax()) + 1 if stopped.any() else steps
        return Probe(lr, loss[: self.taken[lr]], bool(stopped.any()))


@dataclass(frozen=True)
class Samples:
    """The results of probing for every training of its task: one row for each training and seed.

    Attributes:
        cell: (N,) the number of the training.
        task: (N,) the number of its task.
        base: (N,) log10 of the lr that learns fastest; NaN for a refusal.
        features: (N, P) the factors that the parameters are multiplied with.
        gain: (N,) see `ProbeResult.gain`; 0 for a refusal.
        breadth: (N,) see `ProbeResult.breadth`.
        cost: (N,) the number of gradient steps.
        regret: (C, G) the regret of each training over `GRID`.
        long: (N,) whether the training is a long one.
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
    rows, probed = [], dict[str, list[tuple[ProbeResult, int]]]()
    for number, cell in enumerate(cells):
        task = tasks[by_name[cell.task]]
        if cell.task not in probed:
            probed[cell.task] = _probe_again(folder / f"{cell.task}.npz", task)
        training = training_of(task, cell.schedule, cell.steps)
        family = [int(training.family is getattr(recommendation, name)) for name in FAMILIES]
        family = [0, 1, 0, 0, 0] if training.momentum else family
        adaptive = training.family is not None and training.family.adaptive
        length = math.log10(training.steps / recommendation.USUAL_STEPS)
        given, length = (recommendation.PER_LENGTH[True] * length, 0.0) if adaptive else (0.0, length)
        decay = -math.log10(training.mean_multiplier)
        for result, cost in probed[cell.task]:
            shift = [0, 0, 0, 0, 0, 1] if result.on_a_plateau else [*family, 0]
            away = (recommendation.USUAL_LOG_LR - result.middle) * adaptive * (not result.on_a_plateau)
            refused = why_no_rate(result) is not None
            base, gain, breadth = (
                (math.nan, 0.0, 0.0) if refused else (result.middle + given, result.gain, result.breadth)
            )
            known = (gain, breadth, cost, cell.steps == LONG)
            rows.append((number, by_name[cell.task], base, *shift, length, decay, away, *known))
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


def _probe_again(path: Path, task: Task) -> list[tuple[ProbeResult, int]]:
    """Return what probing measures on the recorded losses, and its cost, for every seed."""
    with np.load(path) as held:
        lr, losses = held["lr"], held["loss"].astype(np.float64)
    training = training_of(task, "constant", task.steps)
    results = []
    for loss in losses:
        table = Table(lr, loss)
        result = ProbeSearch(table, longest=training.longest).run(training.start)
        results.append((result, sum(table.taken.values())))
    return results


def fit(samples: Samples, chosen: Array) -> Array:
    """Return the parameters in the order of `NAMES`."""
    chosen = chosen & ~np.isnan(samples.base)
    task_and_length = (2 * samples.task + samples.long)[chosen]
    weight = 1 / np.bincount(task_and_length)[task_and_length]

    def loss(parameters: Array) -> float:
        log_lr = samples.base + samples.features @ parameters
        regret = np.mean([np.minimum(samples.regrets(log_lr + shift), WORST) for shift in BLUR], axis=0)
        return float(np.average(regret[chosen], weights=weight) + ALIKE * np.var(parameters[: len(FAMILIES)]))

    options = {"maxiter": 20, "xtol": 0.01, "ftol": 1e-5}
    return np.asarray(minimize(loss, np.array(BEGIN), method="Powell", options=options).x)


def left_out(samples: Samples) -> Array:
    """Return the log10 lr of every row by parameters that were fitted without its task."""
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
    """Print how good the answers are, by the gain of their probes."""
    regret = samples.regrets(log_lr)
    for low, high in itertools.pairwise((-math.inf, *sorted(ENOUGH.values()), math.inf)):
        rows = (low <= samples.gain) & (samples.gain < high)
        tasks = len({*samples.task[rows]})
        click.echo(
            f"  gain {low:.2f} to {high:.2f}: {counted(int(rows.sum()), 'answer')} for"
            f" {counted(tasks, 'task')}, mean regret {regret[rows].mean():.3f}, fails"
            f" {(regret[rows] > FAILED).mean():.1%}"
        )


def widths(samples: Samples, log_lr: Array) -> None:
    """Print which share of the rates in intervals of several widths is usable."""
    answered = ~np.isnan(log_lr)
    for half in (0.12, 0.17, 0.22):
        for more in (0.0, 0.1, 0.25):
            width = half + more * samples.breadth
            inside = [samples.regrets(log_lr + share * width)[answered] for share in np.linspace(-1, 1, 21)]
            usable = [(np.array(inside) <= limit).mean() for limit in (0.05, 0.1)]
            click.echo(
                f"  half width {half:.2f} + {more:.2f} x breadth: {usable[0]:.1%} of it has a regret of at"
                f" most 0.05, {usable[1]:.1%} of at most 0.1; {2 * width[answered].mean():.2f} decades"
            )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--truth", type=click.Path(path_type=Path), default=TRUTH, help="The table that truth.py made.")
def main(folder: Path, truth: Path) -> None:
    """Fit the constants on the design tasks, with the probes that probes.py recorded in FOLDER."""
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
