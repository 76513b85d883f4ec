"""Judge any way to choose a learning rate, on trainings whose best rate is known.

    python benchmarks/quality/judge.py --method my_package.my_module:suggest [--split judging] [--budget 400]
        [--only TASK] [--at-most 1000] [--runs 1] [--workers 2] [--no-find] [--plot FILE.png]

The method is a function that is given a training and returns a learning rate, or None if it has none:

    import itertools

    def suggest(problem, budget):
        best, lowest = None, float("inf")
        for lr in (1e-4, 1e-3, 1e-2, 1e-1):
            trial = problem.anew()
            trial.set_lr(lr)
            for inputs, targets in itertools.islice(trial.loader, budget // 4):
                loss = trial.loss_fn(trial.model(inputs), targets)
                trial.optimizer.zero_grad()
                loss.backward()
                trial.optimizer.step()
            if loss.item() < lowest:
                best, lowest = lr, loss.item()
        return best

`problem` is a `Training`; what it offers is described there. `budget` is the number of gradient steps that
the method may take: that of --budget, or otherwise the number of the training's own steps. The script
counts the steps of the optimizers that it hands out, and says so if they were more.

The rate is the peak of the training's schedule. It is not tried: `truth.csv` has the final validation
losses L of each training at many rates, and the regret (L - L_best) / (L_initial - L_best) is read from
them. It is 0 for the best rate, and 1 for a rate at which nothing is learned, or if there is no rate, or if
the method raises an exception, which is shown. A method fails if its regret is above 0.1. Intervals (95 %)
are those of the bootstrap over tasks. The performance profile is the share of the trainings whose regret is
at most r.

Beside it stands `lrfind find`, within --budget, or within as many steps as it usually takes. Use the tasks
of `design` to develop a method, and those of `judging` only once it is ready.
"""

from __future__ import annotations

import importlib
import itertools
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click
import pandas as pd
import torch
from answers import FIRST_SEED, training_of
from bootstrap import bootstrap
from budgets import answer_at
from judge_plot import draw_profiles
from options import at_most_option, task_options, workers_option
from regret import FAILED, Cell
from rows import FIND, cells_with_something_to_find
from tasks import Split, Task, read_tasks
from torch import nn

from lrfind.errors import counted, text_of
from lrfind.problem.problem import Problem, from_config
from lrfind.problem.randomness import capture, restore

LEVELS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # regrets of the performance profile


class Loader:
    """The batches (inputs, targets) of one training; each pass over it begins with the first batch again.

    Args:
        problem: what is trained.
        seed: the seed of the batches' order.
        steps: the number of batches in a pass.
    """

    def __init__(self, problem: Problem, seed: int, steps: int) -> None:
        self._problem, self._seed, self._steps = problem, seed, steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Any]:
        random = capture()
        batches = self._problem.setup(self._seed).batches  # this seeds the global generators
        restore(random)
        return itertools.islice(batches, self._steps)


@dataclass(frozen=True)
class Training:
    """A training that a learning rate is looked for, with its parts, fresh and ready to train.

    Attributes:
        model: the untouched model, in training mode.
        optimizer: the training's optimizer over the parameters of `model`, with its own settings. Choose its
            rate with `set_lr`, which keeps the ratios between its param groups.
        loss_fn: the loss, a function of (outputs, targets).
        loader: an iterable of batches (inputs, targets) of tensors on the CPU. It has as many batches as the
            training has steps, and can be passed over again.
        steps: T, the number of the training's optimizer steps, one a batch.
        schedule: the course of the lr: "constant", or "cosine" with a linear warmup of 5 %, at least 10
            steps.
        optimizer_name: the name of the optimizer's class in lower case, such as "adamw".
        set_lr: a function that gives the optimizer a rate.
        anew: a function that returns this training with fresh parts, as they are here before any step.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: Callable[..., torch.Tensor]
    loader: Loader
    steps: int
    schedule: str
    optimizer_name: str
    set_lr: Callable[[float], None] = field(repr=False)
    anew: Callable[[], Training] = field(repr=False)


def training_for_method(
    problem: Problem, task: Task, cell: Cell, seed: int, count: Callable[..., None]
) -> Training:
    """Return a training with fresh parts.

    Args:
        problem: what to train.
        task: the task that it belongs to.
        cell: the training.
        seed: the seed of weights and batches.
        count: called after each step of the optimizer.
    """
    setup = problem.setup(seed)
    setup.optimizer.register_step_post_hook(count)
    return Training(
        model=setup.model,
        optimizer=setup.optimizer,
        loss_fn=setup.loss_fn,  # type: ignore[arg-type]
        loader=Loader(problem, seed, cell.steps),
        steps=cell.steps,
        schedule=cell.schedule,
        optimizer_name=task.experiment.optimizer.name,
        set_lr=setup.set_lr,
        anew=lambda: training_for_method(problem, task, cell, seed, count),
    )


class Judged(NamedTuple):
    """The regret of a method's rate for one training in one run, and the steps that it took."""

    task: str
    schedule: str
    steps: int
    method: str
    run: int
    lr: float
    taken: float
    budget: int
    regret: float


def judge_task(
    task: Task, cells: Sequence[Cell], method: str, budget: int | None, runs: int, find: bool
) -> list[Judged]:
    """Judge a method, and `find` on request, on the trainings of a task."""
    problem, suggest = from_config(task.experiment), imported(method)
    judged = []
    for cell, run in itertools.product(cells, range(runs)):
        seed, most = FIRST_SEED + run, budget or cell.steps
        answers = {method: _suggested(suggest, problem, task, cell, seed, most)}
        if find:
            training = training_of(task, problem, cell.schedule, cell.steps)
            answers[FIND] = answer_at(problem, training, cell.schedule, budget, seed)
        for name, (lr, taken) in answers.items():
            regret = 1.0 if lr is None else float(cell.regret(math.log10(lr)))
            judged.append(Judged(*cell.name, name, run, math.nan if lr is None else lr, taken, most, regret))
    return judged


def _suggested(
    suggest: Callable[..., Any], problem: Problem, task: Task, cell: Cell, seed: int, budget: int
) -> tuple[float | None, float]:
    """Return the rate of a method, None if it has none, and the optimizer steps that it took."""
    taken = 0

    def count(*_: Any) -> None:
        nonlocal taken
        taken += 1

    try:
        lr = suggest(training_for_method(problem, task, cell, seed, count), budget)
        usable = lr is not None and math.isfinite(lr) and lr > 0
    except Exception as error:  # whatever it is, this method has no rate for this training
        click.echo(f"{task.name} {cell.schedule} {cell.steps}: {text_of(error)}", err=True)
        return None, taken
    return (float(lr) if usable else None), taken


def imported(method: str) -> Callable[..., Any]:
    """Import a function from its path `package.module:name`; modules in the working directory count.

    Raises:
        ClickException: if there is none.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    module, _, name = method.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise click.ClickException(
            f"--method: {method} cannot be imported ({error}); give it as package.module:function."
        ) from error
    return function


def judge_all(
    tasks: Sequence[Task],
    cells: Sequence[Cell],
    method: str,
    budget: int | None,
    runs: int,
    find: bool,
    workers: int,
) -> pd.DataFrame:
    """Return a row for each training, run and method."""
    by_task = {task.name: [cell for cell in cells if cell.task == task.name] for task in tasks}
    calls = [(task, by_task[task.name], method, budget, runs, find) for task in tasks if by_task[task.name]]
    rows: list[Judged] = []

    def take(results: Iterable[list[Judged]]) -> None:
        for number, judged in enumerate(results, 1):
            rows.extend(judged)
            click.echo(f"{number} of {len(calls)}: {judged[0].task}", err=True)

    if workers == 1:
        take(itertools.starmap(judge_task, calls))
    else:
        # Processes are spawned, because forks of a process that has torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
            take(pool.map(judge_task, *zip(*calls, strict=True)))
    return pd.DataFrame(rows, columns=list(Judged._fields))


def profile(regret: pd.Series) -> list[float]:
    """Return the share of trainings whose regret is at most each of `LEVELS`."""
    return [float((regret <= level).mean()) for level in LEVELS]


def report(frame: pd.DataFrame) -> None:
    """Print the regret, the fails and the performance profile of each method."""
    trainings = len(frame.drop_duplicates(["task", "schedule", "steps"]))
    click.echo(f"{frame.task.nunique()} tasks, {trainings} trainings, {counted(frame.run.nunique(), 'run')}")
    regret, failed = (
        bootstrap(frame, "regret"),
        bootstrap(frame.assign(failed=frame.regret > FAILED), "failed"),
    )
    width = max(map(len, frame.method.unique()))
    click.echo(f"\n  {'method':{width}}  steps  {'mean regret':20}  fails, %")
    for method, rows in frame.groupby("method", sort=False):
        mean, low, high = regret.of(method)
        share, least, most = (100 * value for value in failed.of(method))
        click.echo(
            f"  {method:{width}}  {rows.taken.mean():5.0f}  {mean:.3f} [{low:.3f}, {high:.3f}]"
            f"  {share:4.0f} [{least:3.0f}, {most:3.0f}]"
        )
    click.echo(f"\n  Share of trainings with a regret of at most\n  {'':{width}}" + _cells(LEVELS, "7g"))
    for method, rows in frame.groupby("method", sort=False):
        click.echo(
            f"  {method:{width}}" + _cells([100 * share for share in profile(rows.regret)], "6.0f", "%")
        )
    theirs = frame[(frame.method != FIND) & (frame.taken > frame.budget)]
    if len(theirs):
        click.echo(f"\n  {theirs.method.iloc[0]} took more steps than its budget in {len(theirs)} runs.")


def _cells(values: Sequence[float], form: str, unit: str = "") -> str:
    return "".join(f"  {value:{form}}{unit}" for value in values)


@click.command()
@click.option("--method", required=True, help="The function, as package.module:function.")
@task_options
@click.option(
    "--budget",
    type=click.IntRange(min=16),
    help="The gradient steps that the method may take; as many as the training has when omitted.",
)
@at_most_option
@click.option("--runs", default=1, help="The number of seeds.")
@workers_option
@click.option("--find/--no-find", default=True, help="Also judge lrfind find.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write each regret into this CSV."
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the profiles into this file."
)
def main(
    method: str,
    splits: Sequence[Split],
    budget: int | None,
    only: tuple[str, ...],
    at_most: int | None,
    runs: int,
    workers: int,
    find: bool,
    truth: Path,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Judge a function that suggests a learning rate, beside lrfind find."""
    imported(method)
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells = cells_with_something_to_find(truth, tasks, at_most)
    frame = judge_all(tasks, cells, method, budget, runs, find, workers)
    if out is not None:
        frame.to_csv(out, index=False, float_format="%.6g")
    report(frame)
    if plot is not None:
        profiles = {name: profile(rows.regret) for name, rows in frame.groupby("method", sort=False)}
        draw_profiles(LEVELS, profiles, plot)


if __name__ == "__main__":
    main()
