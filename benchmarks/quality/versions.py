"""How much regret two versions of `find` have on the same trainings, paired.

    python benchmarks/quality/versions.py BEFORE.csv AFTER.csv [BEFORE.csv AFTER.csv ...]

Each pair of files was written by the same script from two checkouts of lrfind: by `report.py --out` (answers
without a budget) or by `budgets.py` (answers within budgets). Trainings, runs and budgets that only one of
them has are left out. For each length of training and each budget, the script prints the mean regret and the
failures of both versions, and the difference with the 95 % interval of the bootstrap over tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from answers import OURS
from bootstrap import bootstrap, interval
from budgets import BUDGETS, steps_of
from regret import FAILED
from rows import FIND
from tasks import LONG, LONGEST

WITHOUT = "no budget"
BEFORE, AFTER = "before", "after"


def answers_in(path: Path, version: str) -> pd.DataFrame:
    """Return the regrets of `find` in a file, with the name of each budget."""
    frame = pd.read_csv(path)
    frame = frame[frame.method.isin([OURS, FIND])]
    if "budget" not in frame:
        return frame.assign(label=WITHOUT, method=version)
    parts = []
    for budget in BUDGETS:
        steps = frame.steps.map(lambda steps, budget=budget: steps_of(budget, steps))
        parts.append(frame[frame.budget == steps].assign(label=budget, method=version))
    return pd.concat(parts)


def paired(before: Path, after: Path) -> pd.DataFrame:
    """Return the rows that both files have, the earlier version's first."""
    keys = ["task", "schedule", "steps", "run", "label"]
    first, second = answers_in(before, BEFORE), answers_in(after, AFTER)
    common = first[keys].merge(second[keys])
    return pd.concat([frame.merge(common, on=keys) for frame in (first, second)], ignore_index=True)


def report(title: str, frame: pd.DataFrame) -> None:
    """Print the regrets of both versions for one length of trainings."""
    click.echo(f"\n{title}: {frame.task.nunique()} tasks")
    for label in (WITHOUT, *BUDGETS):
        rows = frame[frame.label == label]
        if rows.empty:
            continue
        drawn = bootstrap(rows, "regret")
        low, high = interval(drawn.draws[AFTER] - drawn.draws[BEFORE])
        fails = (rows.regret > FAILED).groupby(rows.method).mean()
        click.echo(
            f"  {label:9}  before {drawn.mean[BEFORE]:.4f}, fails {fails[BEFORE]:5.1%}; after"
            f" {drawn.mean[AFTER]:.4f}, fails {fails[AFTER]:5.1%}; after less before"
            f" {drawn.mean[AFTER] - drawn.mean[BEFORE]:+.4f} [{low:+.4f}, {high:+.4f}]"
        )


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(files: Sequence[Path]) -> None:
    """Compare two versions of find, from the files that they wrote."""
    if len(files) % 2:
        raise click.UsageError("give files in pairs: that of the earlier version, then that of the later one")
    pairs = zip(files[::2], files[1::2], strict=True)
    frame = pd.concat([paired(before, after) for before, after in pairs], ignore_index=True)
    lengths = {"Short trainings": frame.steps < LONG}
    lengths |= {f"{steps:,} steps": frame.steps == steps for steps in (LONG, LONGEST)}
    for title, kind in lengths.items():
        if np.any(kind):
            report(title, frame[kind])


if __name__ == "__main__":
    main()
