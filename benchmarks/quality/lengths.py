"""How much lower is the best rate of a longer training? The truth alone answers; nothing is trained.

    python benchmarks/quality/lengths.py --split design

Many tasks were trained for several lengths with the same schedule: 200 to 600 steps, 3,000 and 10,000. For
each pair of lengths S < T, the best rate of S steps is moved to T steps by a slope, in decades of the rate
for each decade of the length. The script prints the mean regret of the moved rates in the trainings of T
steps, by the family of the optimizer and the slope, and the difference that the slope of lrfind makes beside
none, with the 95 % interval of the bootstrap over tasks. The best rate of S steps is estimated as refinement
estimates it from shortened trainings, and is also moved by what the passes over the data change.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from answers import training_of
from bootstrap import bootstrap, interval
from options import task_options
from regret import Cell
from rows import cells_with_something_to_find
from tasks import LONG, Split, Task, read_tasks

from lrfind.analysis.planned_training import FAMILIES, MOMENTUM, repetition_shift
from lrfind.analysis.refined import SHARPNESS
from lrfind.problem.problem import from_config

SLOPES = tuple(-number / 10 for number in range(10))


def moved(task: Task, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the regret of the moved rate for each slope and each pair of a task's lengths."""
    problem, rows = from_config(task.experiment), []
    for shorter, longer in itertools.permutations(cells, 2):
        if shorter.schedule != longer.schedule or shorter.steps >= longer.steps:
            continue
        before, after = (training_of(task, problem, cell.schedule, cell.steps) for cell in (shorter, longer))
        log_lr = best_log_lr(shorter) + repetition_shift(after) - repetition_shift(before)
        decades = math.log10(longer.steps / shorter.steps)
        begin = f"{shorter.steps:,}" if shorter.steps >= LONG else "short"
        pair = {"task": task.name, "family": before.family.name, "lengths": f"{begin} to {longer.steps:,}"}
        rows += [
            pair | {"method": slope, "regret": float(longer.regret(log_lr + slope * decades))}
            for slope in SLOPES
        ]
    return rows


def best_log_lr(cell: Cell) -> float:
    """Return log10 of the best rate of a training, from the losses at all its rates."""
    weights = np.exp(-np.minimum(cell.regrets / SHARPNESS, 60))
    return float(np.average(cell.log_lr, weights=weights))


def report(rows: pd.DataFrame) -> None:
    """Print the mean regret at each slope, by the family and the lengths."""
    for family in (*FAMILIES.values(), MOMENTUM):
        click.echo(f"\n{family.name}, {family.per_length} in lrfind")
        click.echo(
            f"  {'steps':16} trainings" + "".join(f"{slope:7.1f}" for slope in SLOPES) + "   difference"
        )
        for lengths, pairs in rows[rows.family == family.name].groupby("lengths", sort=False):
            drawn = bootstrap(pairs, "regret")
            means = "".join(f"{drawn.mean[slope]:7.3f}" for slope in SLOPES)
            low, high = interval(drawn.draws[family.per_length] - drawn.draws[0.0])
            difference = drawn.mean[family.per_length] - drawn.mean[0.0]
            count = len(pairs) // len(SLOPES)
            click.echo(f"  {lengths:16} {count:9}{means}   {difference:+.3f} [{low:+.3f}, {high:+.3f}]")


@click.command()
@task_options
def main(splits: Sequence[Split], only: tuple[str, ...], truth: Path) -> None:
    """Print how much regret the best rates of shorter trainings have in longer ones, moved by a slope."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells = cells_with_something_to_find(truth, tasks)
    rows = [row for task in tasks for row in moved(task, [cell for cell in cells if cell.task == task.name])]
    report(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
