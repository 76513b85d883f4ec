"""Record the losses of short trainings at constant rates, on which probing is designed without training anew.

    python benchmarks/quality/probes.py FOLDER [--split design] [--part 0/2]

For each task the script writes a file FOLDER/NAME.npz with `lr` (L,) and `loss` (S, L, T): the loss of each
of S seeds before each of T updates, NaN after a divergence. Any method that probes at these rates, from the
initial weights and on the same batches, or continues such probes, is a function of this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from tasks import SPLITS, Split, grid, read_tasks

from lrfind.analysis.lanes import Lane, LaneResult
from lrfind.config.sections import GridSection
from lrfind.problem.problem import from_config
from lrfind.training.calibration import Plan, calibrate
from lrfind.training.executor import Conditions
from lrfind.training.run import run_lanes

STEPS, SEEDS, FIRST_SEED = 128, 5, 100
RATES, PER_DECADE, BELOW = 33, 4, 2  # rates, rates of a decade, decades below the lowest rate of the truth


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--split",
    "splits",
    type=click.Choice(SPLITS),
    multiple=True,
    default=["design"],
    help="The part of the tasks that is recorded; may be repeated.",
)
@click.option("--part", default="0/1", help="A share of the tasks: 0/2 and 1/2 are every second task.")
def main(folder: Path, splits: Sequence[Split], part: str) -> None:
    """Record the probes of the tasks that have no file in FOLDER yet."""
    which, parts = (int(number) for number in part.split("/"))
    folder.mkdir(parents=True, exist_ok=True)
    for task in read_tasks(*splits)[which::parts]:
        path = folder / f"{task.name}.npz"
        if path.exists():
            continue
        lrs = grid(task.low - BELOW, RATES, PER_DECADE)
        problem = from_config(task.experiment)
        lanes = [
            Lane(number, FIRST_SEED + seed, np.full(STEPS, lr))
            for seed in range(SEEDS)
            for number, lr in enumerate(lrs, RATES * seed)
        ]
        mode = calibrate(problem, GridSection(threads=1), Plan(RATES, STEPS, SEEDS, float(lrs[0])), 0)
        results: list[LaneResult] = []
        run_lanes(problem, lanes, Conditions(factor=1e9, evaluated=False), mode, keep=results.extend)
        loss = np.full((SEEDS * RATES, STEPS), np.nan)
        for result in results:
            loss[result.lane, : result.loss.size] = result.loss
        np.savez_compressed(path, lr=lrs, loss=loss.reshape(SEEDS, RATES, STEPS).astype(np.float32))
        click.echo(f"{task.name}: {np.isfinite(loss).sum()} steps")


if __name__ == "__main__":
    main()
