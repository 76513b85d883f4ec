"""How good `lrfind find` is, beside the peers, by the truth of `truth.csv`.

    python benchmarks/quality.py [--split judging] [--runs 3] [--no-peers] [--only TASK ...] [--out FILE.csv]
    python benchmarks/quality.py --said FILE.csv

The regret of a rate is (L - L_best) / (L_initial - L_best) of the final validation loss: 0 for the best rate,
1 for a training that comes to nothing, or no suggestion. A method fails if that is above 0.1. Intervals are
those of the bootstrap over tasks: what is to be known is how it does on another task. Peers know neither the
length of the training nor its schedule: what they say is judged on every one.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pandas as pd
import torch
from climb import Climbed, climb, climbed_log_lr
from peers_live import suggest
from tasks import LONG, Split, Task, read_tasks, schedule_of
from truth import TRUTH, mean_losses

from lrfind.curves import Array
from lrfind.errors import NoSuggestion
from lrfind.finds import Found, find
from lrfind.probers import Budget, LaneProber
from lrfind.problem import Problem, from_config
from lrfind.recommendations import Training, recommend
from lrfind.sections import FindSection
from lrfind.shapes import shape_of

FIRST_SEED = 100  # apart from those of the truth
DRAWS = 2000  # of the bootstrap
WORTH = 0.02  # share of the initial loss that the best rate takes away, below which there is nothing to find
PER_DECADE_ABOVE = 2.0  # regret beyond the highest rate of the truth
FAILED = 0.1  # regret
LOST, BEHIND = 0.05, 0.02  # regret where ours loses: itself, and above the best peer's
FINE = 41  # points of an interval that are looked at
OURS, CLIMB, ALWAYS = "ours", "climb", "always 0.01"


@dataclass(frozen=True)
class Cell:
    """What every rate comes to in one training of a task.

    Attributes:
        task: its name.
        schedule: of the training.
        steps: of the training.
        log_lr: (N,) ascending.
        regrets: (N,) of these.
        drop: share of the initial loss that the best of them takes away.
    """

    task: str
    schedule: str
    steps: int
    log_lr: Array
    regrets: Array
    drop: float

    @property
    def name(self) -> tuple[str, str, int]:
        """What tells it from the others."""
        return self.task, self.schedule, self.steps

    def regret(self, log_lr: Array | float) -> Array:
        """Linear between the rates that are known; outside of them it goes on upward."""
        x, known = self.log_lr, self.regrets
        slope = max((known[0] - known[1]) / (x[1] - x[0]), 0.0)
        below = slope * np.maximum(x[0] - log_lr, 0)
        above = PER_DECADE_ABOVE * np.maximum(log_lr - x[-1], 0)
        return np.minimum(np.interp(log_lr, x, known) + below + above, 1.0)


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


def read_cells(path: Path, tasks: Sequence[Task]) -> list[Cell]:
    """The truth about these tasks, in their order."""
    frame = pd.read_csv(path)
    cells = []
    for task in tasks:
        of_it = frame[frame.task == task.name]
        for (steps, schedule), rows in of_it.groupby(["steps", "schedule"], sort=True):
            losses, initial = mean_losses(rows.values).astype(float), float(rows.first_loss.mean())
            gain = initial - losses.min()
            regrets = np.clip((losses - losses.min()) / (gain or 1.0), 0, 1).to_numpy()
            log_lr = np.log10(losses.index.to_numpy(dtype=np.float64))
            cells.append(Cell(task.name, schedule, steps, log_lr, regrets, gain / abs(initial)))
    return cells


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


class Bootstrapped(NamedTuple):
    """Means by method, and those of tasks drawn anew."""

    mean: pd.Series
    draws: pd.DataFrame

    def of(self, method: str) -> tuple[float, float, float]:
        """The mean, and its 95 % interval."""
        return float(self.mean[method]), *_interval(self.draws[method])


def bootstrap(frame: pd.DataFrame, column: str) -> Bootstrapped:
    """Over tasks, the same ones for every method: trainings of one task are not independent."""
    by_task = frame.assign(value=frame[column].astype(float)).groupby(["task", "method"], sort=False).value
    totals, counts = by_task.sum().unstack(), by_task.count().unstack()
    drawn = np.random.default_rng(0).integers(len(totals), size=(DRAWS, len(totals)))
    means = totals.to_numpy()[drawn].sum(axis=1) / counts.to_numpy()[drawn].sum(axis=1)
    return Bootstrapped(totals.sum() / counts.sum(), pd.DataFrame(means, columns=totals.columns))


def _interval(draws: pd.Series) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def spread(rows: pd.DataFrame) -> float:
    """The deviation of log10 lr between runs, as a mean over trainings."""
    log_lr = np.log10(rows.lr).groupby([rows.task, rows.schedule, rows.steps])
    return float(log_lr.std().mean())


def peers_of(frame: pd.DataFrame) -> list[str]:
    return [method for method in frame.method.unique() if method not in (OURS, CLIMB, ALWAYS)]


def report(title: str, frame: pd.DataFrame, plateaus: set[str]) -> None:
    """Everything about the trainings of one kind of length; `plateaus` are the tasks that are marked so."""
    regret, failed = bootstrap(frame, "regret"), bootstrap(frame, "failed")
    cells = len(frame.drop_duplicates(["task", "schedule", "steps"]))
    click.echo(f"\n{title}: {frame.task.nunique()} tasks, {cells} trainings, {frame.run.nunique()} runs")
    click.echo(f"  {'method':20} steps  {'mean regret':20}  {'fails, %':15}  spread  tasks")
    for method, rows in frame.groupby("method", sort=False):
        mean, low, high = regret.of(method)
        share, least, most = (100 * value for value in failed.of(method))
        click.echo(
            f"  {method:20} {rows.cost.mean():5.0f}  {mean:.3f} [{low:.3f}, {high:.3f}]  "
            f"{share:4.0f} [{least:3.0f}, {most:3.0f}]  {spread(rows):6.2f}  {rows.task.nunique():5}"
        )
    peer = min(peers_of(frame), key=lambda method: regret.mean[method], default=None)
    click.echo("\n  Mean regret, ours less that of another, on the same tasks:")
    marked = frame.task.isin(plateaus)
    for kind, rows in (("all", frame), ("marked plateau", frame[marked]), ("others", frame[~marked])):
        report_apart(kind, rows, [CLIMB, peer] if peer else [CLIMB])
    report_lost(frame, peer)
    report_intervals(frame[(frame.method == OURS)])


def report_apart(kind: str, frame: pd.DataFrame, others: Sequence[str]) -> None:
    """How far the regrets of ours and of others lie apart, paired by task."""
    if frame.empty:
        return
    regret = bootstrap(frame, "regret")
    for other in others:
        apart = regret.draws[OURS] - regret.draws[other]
        low, high = _interval(apart)
        click.echo(
            f"  {other:20} {regret.mean[OURS] - regret.mean[other]:+.3f} [{low:+.3f}, {high:+.3f}];"
            f" ours is lower in {(apart < 0).mean():.1%} of the draws ({kind}: {frame.task.nunique()} tasks)"
        )


def report_lost(frame: pd.DataFrame, peer: str | None) -> None:
    """The trainings for which ours is not good, or clearly worse than the best peer."""
    means = frame.groupby(["task", "schedule", "steps", "method"], sort=False).regret.mean().unstack()
    beside = means[peer] if peer else pd.Series(math.nan, means.index)
    lost = means[(means[OURS] > LOST) | (means[OURS] > beside + BEHIND)]
    others = f", and that of {peer}" if peer else ""
    click.echo(f"\n  Where ours loses ({len(lost)} of {len(means)} trainings): its mean regret{others}")
    for (task, schedule, steps), row in lost.iterrows():
        other = f"  {row[peer]:.3f}" if peer else ""
        click.echo(f"  {task:28} {schedule:9} {steps:5}  {row[OURS]:.3f}{other}")


def report_intervals(rows: pd.DataFrame) -> None:
    """Whether our interval holds rates that train about as well, and our confidence what it says."""
    answered = rows[rows.lr.notna()]
    if answered.empty:
        return
    inside, width = np.concatenate(answered.inside.to_list()), np.log10(answered.high / answered.low)
    click.echo(
        f"\n  Our interval: regret of at most 0.05 in {(inside <= 0.05).mean():.1%} of it, of at most 0.1 in"
        f" {(inside <= 0.1).mean():.1%}; {width.mean():.2f} decades wide"
    )
    for confidence in ("high", "moderate", "low"):
        of_it = answered[answered.confidence == confidence]
        if len(of_it):
            click.echo(f"  confidence {confidence:9} regret {of_it.regret.mean():.3f} ({len(of_it)} answers)")
    if refused := len(rows) - len(answered):
        click.echo(f"  refused: {refused} times")


def with_inside(frame: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """A column more: regrets across the interval of an answer that has one."""
    by_name = {cell.name: cell for cell in cells}
    ends = np.log10(frame[["low", "high"]])
    return frame.assign(
        inside=[
            by_name[task, schedule, steps].regret(np.linspace(low, high, FINE))
            for task, schedule, steps, low, high in zip(
                frame.task, frame.schedule, frame.steps, ends.low, ends.high, strict=True
            )
        ]
    )


@click.command()
@click.option("--split", type=click.Choice(["design", "judging"]), default="judging", help="Of the tasks.")
@click.option("--runs", default=3, help="Seeds of every method.")
@click.option("--peers/--no-peers", default=True, help="Also run the peers.")
@click.option("--only", multiple=True, help="Tasks; all when omitted.")
@click.option("--workers", default=2, help="Processes, of one thread each.")
@click.option("--truth", type=click.Path(path_type=Path), default=TRUTH, help="What truth.py made.")
@click.option(
    "--said",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What --out wrote: judge these answers again, and run nothing.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A CSV with every answer.")
def main(
    split: Split,
    runs: int,
    peers: bool,
    only: tuple[str, ...],
    workers: int,
    truth: Path,
    said: Path | None,
    out: Path | None,
) -> None:
    """Judge lrfind and the peers on tasks whose truth is known."""
    tasks = [task for task in read_tasks(split) if not only or task.name in only]
    cells = read_cells(truth, tasks)
    for cell in cells:
        if cell.drop < WORTH:
            click.echo(f"left out, as there is nothing to find: {cell.task} {cell.schedule} {cell.steps}")
    cells = [cell for cell in cells if cell.drop >= WORTH]
    if not cells:
        raise click.ClickException(f"{truth} has nothing about these tasks; run truth.py first.")
    unknown = [task.name for task in tasks if task.name not in {cell.task for cell in cells}]
    if unknown:
        click.echo(f"not judged: {', '.join(unknown)}")
    frame = read_said(said, cells) if said else run_all(tasks, cells, runs, peers, workers)
    frame["failed"] = (frame.regret > FAILED) | frame.lr.isna()
    if out is not None:
        frame.to_csv(out, columns=list(Row._fields), index=False, float_format="%.6g")
    judged = with_inside(frame, cells)
    for title, kind in (("Short trainings", judged.steps != LONG), (f"{LONG:,} steps", judged.steps == LONG)):
        if kind.any():
            report(title, judged[kind], {task.name for task in tasks if task.plateau})


if __name__ == "__main__":
    main()
