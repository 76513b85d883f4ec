"""Fit what `lrfind.analysis.recommendation` adds to the rate that learns fastest, on the design tasks alone.

    python benchmarks/quality/probes.py FOLDER     (once; half an hour)
    python benchmarks/quality/fit.py FOLDER [--truth FILE]

Probing is that of `lrfind.analysis.probing`, on the recorded losses. The fitted constants are a shift for
each family of optimizers, one for plateaus, one for slow starts, and five slopes: how the rate changes with
the length of the training (for Adagrad and for the others), with further passes over data that was repeated
often, with the schedule, and how far the rate of an adaptive optimizer is pulled to a usual one. The fit
minimises the mean regret, in which a task counts once at each length; slopes are held near `BEGIN` where
the regret hardly depends on them. Each rate is blurred by a fifth of a decade to either side, so that a cliff
next to a rate counts before the rate is beyond it. The script prints the constants; their regret on tasks
that were left out of the fit, in eight parts in turn, with and without the slope of repetition, and the
difference with its bootstrap interval over tasks; the same for the tasks of one draw, left out together; how
good the answers are, by their gain; and how good the rates in intervals of several widths are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import pandas as pd
from answers import training_of
from bootstrap import bootstrap, interval
from regret import FAILED, WORTH, Cell, read_cells
from scipy.optimize import minimize
from tasks import LONG, LONGEST, Task, read_tasks
from truth import TRUTH

from lrfind.analysis import planned_training, recommendation
from lrfind.analysis.curves import Array
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.probe_search import ProbeSearch
from lrfind.analysis.probing import ENOUGH, MOST_COST, Probe, ProbeResult
from lrfind.analysis.refusals import why_no_rate
from lrfind.errors import counted
from lrfind.problem.problem import Problem, from_config

FAMILIES = ("SGD", "MOMENTUM", "ADAM", "RMSPROP", "ADAGRAD")
SLOPES = ("per_length", "per_length, Adagrad", "PER_DECAY", "PULL", "PER_REPETITION")
NAMES = (*FAMILIES, "ON_A_PLATEAU", "SLOW_START", *SLOPES)
BEGIN = (-0.3, -0.7, -0.4, 0.0, 0.3, 0.1, 0.2, -0.5, -0.3, 0.8, 0.2, -0.5)
HELD = 0.0005  # weight of the squared distance of the slopes from `BEGIN`
LAST_DRAW = "_draw12_"  # in the names of the tasks that judged the version before
LENGTHS = {"short": 0, "3,000 steps": LONG, "10,000 steps": LONGEST}  # 0: whatever the task says
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
        length: (N,) the steps of the training if it is a long one; 0 for a short one.
        blurred: (C, G) the regret that is minimised: that of the rates nearby, and no worse than `WORST`.
    """

    cell: Array
    task: Array
    base: Array
    features: Array
    gain: Array
    breadth: Array
    cost: Array
    regret: Array
    length: Array
    blurred: Array

    def regrets(self, log_lr: Array, *, blurred: bool = False) -> Array:
        place = np.clip(np.round((np.nan_to_num(log_lr) - GRID[0]) / 0.02), 0, len(GRID) - 1)
        table = self.blurred if blurred else self.regret
        return np.where(np.isnan(log_lr), 1.0, table[self.cell, place.astype(int)])


def sample(folder: Path, tasks: Sequence[Task], cells: Sequence[Cell]) -> Samples:
    by_name = {task.name: number for number, task in enumerate(tasks)}
    rows, probed, problems = [], dict[str, list[tuple[ProbeResult, int]]](), dict[str, Problem]()
    for number, cell in enumerate(cells):
        task = tasks[by_name[cell.task]]
        if cell.task not in probed:
            problems[cell.task] = from_config(task.experiment)
            start = training_of(task, problems[cell.task], "constant", task.steps)
            probed[cell.task] = _probe_again(folder / f"{cell.task}.npz", start)
        training = training_of(task, problems[cell.task], cell.schedule, cell.steps)
        family = [int(training.family is getattr(planned_training, name)) for name in FAMILIES]
        family = [0, 1, 0, 0, 0] if training.momentum else family
        adaptive = training.family is not None and training.family.adaptive
        adagrad = training.family is planned_training.ADAGRAD
        lengths = math.log10(training.steps / planned_training.USUAL_STEPS)
        repetition = planned_training.repetition_shift(training) / planned_training.PER_REPETITION
        decay = -math.log10(training.mean_multiplier)
        for result, cost in probed[cell.task]:
            shift = [*family, 0, 0]
            if result.on_a_plateau or recommendation.has_slow_start(result, training):
                shift = [0, 0, 0, 0, 0, result.on_a_plateau, not result.on_a_plateau]
            away = (recommendation.USUAL_LOG_LR - result.middle) * adaptive * (not result.on_a_plateau)
            refused = why_no_rate(result) is not None
            base, gain, breadth = (
                (math.nan, 0.0, 0.0) if refused else (result.middle, result.gain, result.breadth)
            )
            slopes = (lengths * (not adagrad), lengths * adagrad, decay, away, repetition)
            known = (gain, breadth, cost, cell.steps if cell.steps in LENGTHS.values() else 0)
            rows.append((number, by_name[cell.task], base, *shift, *slopes, *known))
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
        length=table[:, -1].astype(int),
        blurred=np.array(
            [np.mean([np.minimum(cell.regret(GRID + by), WORST) for by in BLUR], axis=0) for cell in cells]
        ),
    )


def _probe_again(path: Path, training: PlannedTraining) -> list[tuple[ProbeResult, int]]:
    """Return what probing measures on the recorded losses, and its cost, for every seed."""
    with np.load(path) as held:
        lr, losses = held["lr"], held["loss"].astype(np.float64)
    results = []
    for loss in losses:
        table = Table(lr, loss)
        result = ProbeSearch(table, longest=training.longest).run(training.start)
        results.append((result, sum(table.taken.values())))
    return results


def fit(samples: Samples, chosen: Array) -> Array:
    """Return the parameters in the order of `NAMES`."""
    chosen = chosen & ~np.isnan(samples.base)
    _, group = np.unique(np.stack([samples.task, samples.length])[:, chosen], axis=1, return_inverse=True)
    weight, begin, first_slope = 1 / np.bincount(group)[group], np.array(BEGIN), len(FAMILIES)

    def loss(parameters: Array) -> float:
        regret = samples.regrets(samples.base + samples.features @ parameters, blurred=True)
        alike = ALIKE * np.var(parameters[:first_slope])
        held = HELD * np.sum((parameters - begin)[first_slope:] ** 2)
        return float(np.average(regret[chosen], weights=weight) + alike + held)

    options = {"maxiter": 20, "xtol": 0.01, "ftol": 1e-5}
    return np.asarray(minimize(loss, begin, method="Powell", options=options).x)


def left_out(samples: Samples, part: Array) -> Array:
    """Return the log10 lr of every row by parameters that were fitted without its part; NaN for part -1."""
    log_lr = np.full(len(samples.base), np.nan)
    for number in range(part.max() + 1):
        parameters = fit(samples, part != number)
        log_lr[part == number] = (samples.base + samples.features @ parameters)[part == number]
    return log_lr


def compare(title: str, samples: Samples, part: Array) -> Array:
    """Print the regret of tasks left out, and what the slope of repetition changes of it.

    Returns:
        The log10 lr of every row that is left out.
    """
    features = samples.features.copy()
    features[:, NAMES.index("PER_REPETITION")] = 0.0
    without = replace(samples, features=features)
    log_lrs = {"with": left_out(samples, part), "without": left_out(without, part)}
    for name, log_lr in log_lrs.items():
        report(f"{title}, {name} the slope of repetition", samples, log_lr, part >= 0)
    frames = [
        pd.DataFrame({"task": samples.task, "method": name, "regret": samples.regrets(log_lr)})
        for name, log_lr in log_lrs.items()
    ]
    for kind, length in LENGTHS.items():
        rows = (samples.length == length) & (part >= 0)
        if rows.any():
            means = bootstrap(pd.concat([frame[rows] for frame in frames]), "regret")
            low, high = interval(means.draws["with"] - means.draws["without"])
            difference = means.mean["with"] - means.mean["without"]
            click.echo(f"  {kind}: with less without {difference:+.4f} [{low:+.4f}, {high:+.4f}]")
    return log_lrs["with"]


def report(title: str, samples: Samples, log_lr: Array, shown: Array | bool = True) -> None:
    for kind, length in LENGTHS.items():
        rows = (samples.length == length) & shown
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
        click.echo(f"{name:20} {value:+.2f}")
    report("fitted", samples, samples.base + samples.features @ parameters)
    order = np.random.default_rng(0).permutation(len(tasks))
    others = compare("left out in parts", samples, order[samples.task] % PARTS)
    last = np.array([LAST_DRAW in task.name for task in tasks])
    compare("last draw left out", samples, np.where(last[samples.task], 0, -1))
    gains(samples, others)
    widths(samples, others)


if __name__ == "__main__":
    main()
