"""How much regret the rule of version 3 has beside that of version 4, read from the same probes.

    python benchmarks/quality/versions.py [--split judging] [--only TASK] [--runs 3]

Version 3 knows nothing of the passes over the data, and its other constants were fitted on fewer tasks. It
appears twice: as it was judged, and with the slope of the length that was corrected after its judging. The
probes are those of version 4, whose rules differ little from those of version 3. Refusals are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pandas as pd
from answers import FIRST_SEED, ours, read_ours, training_of
from bootstrap import bootstrap, interval
from options import task_options
from regret import FAILED
from rows import cells_with_something_to_find
from tasks import LONG, LONGEST, Split, read_tasks

from lrfind.analysis import recommendation
from lrfind.analysis.recommendation import FAMILIES, MOMENTUM, SGD
from lrfind.problem.problem import from_config

SHIFTS = {"sgd": -0.27, "adam": -0.43, "rmsprop": 0.0, "adagrad": 0.27}
VERSION_3: dict[str, Any] = {
    "FAMILIES": {name: replace(family, shift=SHIFTS[name]) for name, family in FAMILIES.items()},
    "SGD": replace(SGD, shift=-0.27),
    "MOMENTUM": replace(MOMENTUM, shift=-0.69),
    "PER_REPETITION": 0.0,
    "PER_DECAY": 0.8,
    "PULL": 0.23,
}
RULES: dict[str, Mapping[str, Any]] = {
    "version 4": {},
    "version 3, judged": VERSION_3 | {"PER_LENGTH": {False: -0.56, True: 0.0}},
    "version 3, corrected": VERSION_3 | {"PER_LENGTH": {False: -0.56, True: -0.3}},
}
"""The constants of `lrfind.analysis.recommendation` that differ from those of now, by version."""


@contextmanager
def constants(changed: Mapping[str, Any]) -> Iterator[None]:
    """Let the recommendation have other constants for a while."""
    saved = {name: getattr(recommendation, name) for name in changed}
    try:
        for name, value in changed.items():
            setattr(recommendation, name, value)
        yield
    finally:
        for name, value in saved.items():
            setattr(recommendation, name, value)


@click.command()
@task_options
@click.option("--runs", default=3, help="The number of seeds of the probes.")
def main(splits: Sequence[Split], runs: int, only: tuple[str, ...], truth: Path) -> None:
    """Compare the rules of the versions on the same probes."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells = cells_with_something_to_find(truth, tasks)
    rows = []
    for task in tasks:
        problem = from_config(task.experiment)
        for run in range(runs):
            probing = ours(task, problem, FIRST_SEED + run)
            for cell in (cell for cell in cells if cell.task == task.name):
                training = training_of(task, problem, cell.schedule, cell.steps)
                for version, changed in RULES.items():
                    with constants(changed):
                        lr = read_ours(probing, training).lr
                    regret = 1.0 if lr is None else float(cell.regret(math.log10(lr)))
                    rows.append((*cell.name, version, run, regret))
        click.echo(f"{task.name}: done", err=True)
    frame = pd.DataFrame(rows, columns=["task", "schedule", "steps", "method", "run", "regret"])
    for title, kind in (
        ("Short trainings", frame.steps < LONG),
        (f"{LONG:,} steps", frame.steps == LONG),
        (f"{LONGEST:,} steps", frame.steps == LONGEST),
    ):
        if kind.any():
            report(title, frame[kind])


def report(title: str, frame: pd.DataFrame) -> None:
    """Print the regrets of the versions, how often they fail, and the differences, paired by task."""
    drawn = bootstrap(frame, "regret")
    now = next(iter(RULES))
    click.echo(f"\n{title}: {frame.task.nunique()} tasks")
    for version in RULES:
        mean, low, high = drawn.of(version)
        fails = (frame[frame.method == version].regret > FAILED).mean()
        least, most = interval(drawn.draws[now] - drawn.draws[version])
        click.echo(
            f"  {version:20}  {mean:.4f} [{low:.4f}, {high:.4f}]  fails {fails:5.1%}"
            f"  {now} less this: {drawn.mean[now] - mean:+.4f} [{least:+.4f}, {most:+.4f}]"
        )


if __name__ == "__main__":
    main()
