"""How much one seed tells about the others: the regret of what it recommends, according to the truth.

    python benchmarks/quality/one_seed.py [--split judging] [--only TASK]

For each training with two or more seeds in the truth, all rates are trained with one of them, and the rate
that these trainings recommend is judged by the other seeds, and so in turn for each seed. That is what a
search learns that does 10 or more whole trainings. Two ways to recommend a rate are compared:

the best rate      The rate that ended lowest.
the weighted mean  The mean of all rates in log lr, with the weights that `find` gives to its whole trainings:
                   rates that end hardly higher than the lowest count nearly as much.

The script prints the mean regret with its 95 % interval from the bootstrap over tasks, and how often it is
above 0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from bootstrap import bootstrap
from options import task_options
from regret import FAILED, Cell, cell_of
from rows import cells_with_something_to_find
from tasks import LONG, Split, read_tasks

from lrfind.analysis.refinement import WHOLE_SHARPNESS


def best_rate(seen: Cell) -> float:
    """Return log10 of the rate that ended lowest."""
    return float(seen.log_lr[seen.regrets.argmin()])


def weighted_mean(seen: Cell) -> float:
    """Return the mean of log10 of the rates, with weights that fall with the regret."""
    return float(np.average(seen.log_lr, weights=np.exp(-seen.regrets / WHOLE_SHARPNESS)))


WAYS = {"the best rate": best_rate, "the weighted mean": weighted_mean}


@click.command()
@task_options
def main(splits: Sequence[Split], only: tuple[str, ...], truth: Path) -> None:
    """Judge what each seed recommends by the other seeds."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    named = {cell.name for cell in cells_with_something_to_find(truth, tasks)}
    rows = []
    for name, training in pd.read_csv(truth).groupby(["task", "schedule", "steps"]):
        if name not in named or training.seed.nunique() < 2:
            continue
        for seed in training.seed.unique():
            seen, others = cell_of(training[training.seed == seed]), cell_of(training[training.seed != seed])
            about = {"task": name[0], "long": name[2] >= LONG}
            rows += [
                about | {"method": way, "regret": float(others.regret(recommended(seen)))}
                for way, recommended in WAYS.items()
            ]
    for long, frame in pd.DataFrame(rows).groupby("long"):
        title, seeds = f"{LONG:,} steps" if long else "short", len(frame) // len(WAYS)
        click.echo(f"{title}: {frame.task.nunique()} tasks, {seeds} seeds of trainings")
        means = bootstrap(frame, "regret")
        for way in WAYS:
            mean, low, high = means.of(way)
            fails = (frame.regret[frame.method == way] > FAILED).mean()
            click.echo(f"  {way:18} regret {mean:.4f} [{low:.4f}, {high:.4f}], fails {fails:.1%}")


if __name__ == "__main__":
    main()
