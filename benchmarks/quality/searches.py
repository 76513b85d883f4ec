"""What other methods reach at equal cost: searches over whole trainings, Optuna, and rate-free optimizers.

    python benchmarks/quality/searches.py FILE.csv [--kind table] [--kind optuna] [--kind free]
        [--method NAME] [--split judging] [--only TASK] [--tasks-per-kind 2] [--at-most 1000]
        [--runs 3] [--workers 2]

Every method is judged on trainings of T steps whose truth is known, with their schedule. FILE.csv gets a
row for each training, method, run and budget, with the cost and the regret; see `rows.py`. Rows that it has
already are not computed again, so the script continues where it was stopped. `budgets.py` reads the file.

Cost is counted in gradient steps: forward and backward are 1, a forward pass alone is 1/3. It is all that a
method takes until its user has an answer. For a search over whole trainings and for Optuna this includes a
training at the answer, which could be kept. For an optimizer that needs no learning rate it is its only
training. The answer of `find` still needs its training.

- `table` (`table_searches.py`): a hill climb, a decade grid and a random search, within 1, 2, 4, 10 and 20
  trainings. They need no new training. One seed of the truth is what they see, and the others judge. A
  training that diverges counts as a whole one, because the truth does not say when it did.
- `optuna` (`studies.py`): Optuna's TPE, GP and CMA-ES samplers with Hyperband, and ASHA, within 1, 4 and 10
  trainings.
- `free` (`lr_free.py`): optimizers that need no learning rate; which is judged on which tasks is said there.

The regret is (L - L_best) / (L_initial - L_best), between 0 and 1: of the loss that the truth has at the
rate that a search answers, or of the loss that a rate-free optimizer reached. The latter may be better than
the best rate of the task's own optimizer; its regret is 0 then.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pandas as pd
from lr_free import LR_FREE, free_rows, is_judged_on
from options import at_most_option, task_options, workers_option
from regret import Cell
from rows import Job, Row, Run, cells_with_something_to_find, run_jobs, tasks_per_kind
from studies import STUDIES, study_rows
from table_searches import TABLE_SEARCHES, table_rows, table_runs
from tasks import Split, Task, read_tasks

from lrfind.errors import listed

KINDS: dict[str, tuple[Sequence[str], Callable[[Job], list[Row]]]] = {
    "table": (tuple(TABLE_SEARCHES), table_rows),
    "optuna": (tuple(STUDIES), study_rows),
    "free": (tuple(LR_FREE), free_rows),
}
"""The methods of each kind, and the function that does a job of theirs."""


def rows_of(job: Job) -> list[Row]:
    """Do a job of any method."""
    (work,) = [work for methods, work in KINDS.values() if job.method in methods]
    return work(job)


def runs_of(method: str, task: Task, cells: Sequence[Cell], runs: int, seeds: pd.Series) -> list[Run]:
    """Return the runs of a method on a task.

    Args:
        method: its name.
        task: the task.
        cells: the trainings of all tasks.
        runs: the number of runs of a method that trains.
        seeds: the number of seeds that each training has in the truth.
    """
    if method in LR_FREE and not is_judged_on(method, task):
        return []
    return [
        Run(cell, number)
        for cell in cells
        if cell.task == task.name
        for number in range(table_runs(method, seeds[cell.name]) if method in TABLE_SEARCHES else runs)
    ]


def refuse_missing_packages(methods: Sequence[str]) -> None:
    """Refuse to begin if a method cannot be imported.

    Raises:
        ClickException: if so; it names the packages.
    """
    modules = {LR_FREE[method].package for method in methods if method in LR_FREE}
    modules |= {"optuna" for method in methods if method in STUDIES}
    modules |= {"cmaes" for method in methods if method.startswith("CMA-ES")}
    absent = sorted(module for module in modules if importlib.util.find_spec(module) is None)
    if absent:
        raise click.ClickException(
            f'{listed(absent)} cannot be imported. Install them with pip install -e ".[bench]", or name the'
            " other methods with --method."
        )


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, help="The kinds of methods.")
@click.option(
    "--method",
    "named",
    type=click.Choice([method for methods, _ in KINDS.values() for method in methods]),
    multiple=True,
    help="Only this method; may be repeated.",
)
@task_options
@click.option(
    "--tasks-per-kind",
    "most_tasks",
    type=int,
    help="So many tasks of each kind of model, the first ones; all when omitted.",
)
@at_most_option
@click.option("--runs", default=3, help="The number of seeds of every method that trains.")
@workers_option
def main(
    file: Path,
    kinds: Sequence[str],
    named: Sequence[str],
    splits: Sequence[Split],
    only: tuple[str, ...],
    most_tasks: int | None,
    at_most: int | None,
    runs: int,
    workers: int,
    truth: Path,
) -> None:
    """Add what is missing in FILE: the cost and the regret of other methods."""
    methods = [
        method
        for kind, (members, _) in KINDS.items()
        for method in members
        if (method in named if named else kind in (kinds or KINDS))
    ]
    refuse_missing_packages(methods)
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells = cells_with_something_to_find(truth, tasks, at_most)
    judged = {cell.task for cell in cells}
    tasks = [task for task in tasks if task.name in judged]
    if most_tasks is not None:
        tasks = tasks_per_kind(tasks, most_tasks)
    seeds = pd.read_csv(truth).groupby(["task", "schedule", "steps"]).seed.nunique()
    # Task after task, so that an early end leaves whole tasks; cheap ones come first in the file.
    jobs = [
        Job(task, method, runs_of(method, task, cells, runs, seeds), truth)
        for task in tasks
        for method in methods
    ]
    run_jobs(rows_of, jobs, workers, file)


if __name__ == "__main__":
    main()
