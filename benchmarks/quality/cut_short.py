"""What the pull toward the usual rate does where a budget ended probing before it was done.

    python benchmarks/quality/cut_short.py [--split design] [--only TASK] [--workers 2]

Each task is probed within budgets of 32, 60, 100 and 300 steps and of one training. Where that ended probing
early and left an answer, the answer for each short training is compared with the one that the same probes
would give if they had ended by themselves. Both are rates of the probes alone, without any refinement.

The script prints, for each budget, how many trainings there are, in how many of them probing was cut, on a
plateau and elsewhere, and how many got no rate; then the mean regret of both answers where it was cut, with
the 95 % interval of the bootstrap over tasks for the difference.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch
from answers import FIRST_SEED, training_of
from bootstrap import bootstrap, interval
from budgets import steps_of
from options import task_options, workers_option
from regret import Cell
from rows import cells_with_something_to_find
from tasks import LONG, Split, Task, read_tasks

from lrfind.analysis.probing import ProbeResult
from lrfind.analysis.recommendation import log_lr
from lrfind.analysis.refusals import why_no_rate
from lrfind.config.sections import FindSection
from lrfind.experiments.find import probe_rates
from lrfind.problem.problem import from_config

BUDGETS = ("32", "60", "100", "300", "1T")
BEFORE, PULLED, REFUSED = "as if whole", "pulled", "no rate"


def probed(task: Task, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the regrets of both answers for a task's trainings, within each budget."""
    problem, rows = from_config(task.experiment), []
    for name in BUDGETS:
        section = FindSection(lanes="single", budget=steps_of(name, task.steps))
        training = training_of(task, problem, "constant", task.steps)
        (result,) = probe_rates(problem, section, FIRST_SEED, training).results
        fact = {"task": task.name, "budget": name, "cut": result.cut, "plateau": result.on_a_plateau}
        answers: dict[str, ProbeResult | None] = {BEFORE: replace(result, cut=False), PULLED: result}
        if why_no_rate(result) is not None:
            answers = {REFUSED: None}
        for cell in cells:
            training = training_of(task, problem, cell.schedule, cell.steps)
            for method, one in answers.items():
                regret = 1.0 if one is None else float(cell.regret(log_lr(one, training)))
                rows.append(fact | {"method": method, "regret": regret})
    return rows


def report(frame: pd.DataFrame) -> None:
    """Print the counts and the regrets within one budget."""
    refused = frame[frame.method == REFUSED]
    whole, cut = frame[(frame.method == PULLED) & ~frame.cut], frame[frame.cut & (frame.method != REFUSED)]
    count = len(refused) + len(whole) + len(cut) // 2
    regret = f" (regret {whole.regret.mean():.4f})" if len(whole) else ""
    click.echo(
        f"\nwithin {frame.budget.iloc[0]}: {frame.task.nunique()} tasks, {count:,} trainings; whole"
        f" {len(whole):,}{regret}, no rate {len(refused):,}"
    )
    for title, rows in (("cut", cut[~cut.plateau]), ("cut on a plateau", cut[cut.plateau])):
        if rows.empty:
            continue
        drawn = bootstrap(rows, "regret")
        low, high = interval(drawn.draws[PULLED] - drawn.draws[BEFORE])
        click.echo(
            f"  {title + ':':18} {len(rows) // 2:5,} trainings; {BEFORE} {drawn.mean[BEFORE]:.4f}, {PULLED}"
            f" {drawn.mean[PULLED]:.4f}, difference {drawn.mean[PULLED] - drawn.mean[BEFORE]:+.4f}"
            f" [{low:+.4f}, {high:+.4f}]"
        )


@click.command()
@task_options
@workers_option
def main(splits: Sequence[Split], only: tuple[str, ...], truth: Path, workers: int) -> None:
    """Compare the answers of probes that a budget cut short, with and without the pull."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells: dict[str, list[Cell]] = {}
    for cell in cells_with_something_to_find(truth, tasks, LONG - 1):
        cells.setdefault(cell.task, []).append(cell)
    tasks = [task for task in tasks if task.name in cells]
    rows: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        for part in pool.map(probed, tasks, [cells[task.name] for task in tasks]):
            rows += part
    frame = pd.DataFrame(rows)
    for budget in BUDGETS:
        report(frame[frame.budget == budget])


if __name__ == "__main__":
    main()
