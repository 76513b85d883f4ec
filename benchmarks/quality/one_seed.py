"""How much one seed tells about the others: the regret of its best rate, according to the truth.

    python benchmarks/quality/one_seed.py [--split judging] [--only TASK]

For each training with two or more seeds in the truth, the rate that ended lowest with one of them, among all
rates that were trained, is judged by the others, and so in turn for each seed. That is what a search would
learn if it did a whole training at every rate with one seed, and took the best. The script prints the mean
regret with its 95 % interval from the bootstrap over tasks, and how often it is above 0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import pandas as pd
from bootstrap import bootstrap
from options import task_options
from regret import FAILED, cell_of
from rows import cells_with_something_to_find
from tasks import LONG, Split, read_tasks


@click.command()
@task_options
def main(splits: Sequence[Split], only: tuple[str, ...], truth: Path) -> None:
    """Judge the best rate of each seed by the other seeds."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    named = {cell.name for cell in cells_with_something_to_find(truth, tasks)}
    rows = []
    for name, training in pd.read_csv(truth).groupby(["task", "schedule", "steps"]):
        if name not in named or training.seed.nunique() < 2:
            continue
        for seed in training.seed.unique():
            seen, others = cell_of(training[training.seed == seed]), cell_of(training[training.seed != seed])
            regret = float(others.regret(seen.log_lr[seen.regrets.argmin()]))
            rows.append({"task": name[0], "long": name[2] >= LONG, "method": "best", "regret": regret})
    for long, frame in pd.DataFrame(rows).groupby("long"):
        mean, low, high = bootstrap(frame, "regret").of("best")
        title, fails = f"{LONG:,} steps" if long else "short", (frame.regret > FAILED).mean()
        click.echo(
            f"{title}: {frame.task.nunique()} tasks, {len(frame)} seeds of trainings; regret {mean:.4f}"
            f" [{low:.4f}, {high:.4f}], fails {fails:.1%}"
        )


if __name__ == "__main__":
    main()
