"""How much faster a grid is with worker processes, and what each lane costs the driver.

    python benchmarks/speed/workers.py [--workers 2] [--turns 3] [--steps 1200] [--lanes 1000]

There are two measurements, each of whole commands, from the start of Python to its end, plots included.

cnn       `lrfind grid` over 8 rates with the CNN of configs/mnist_cnn.yaml, lane by lane: in one process with
          one thread, and with --workers. The ways run in turns; the ratio is taken turn by turn. The tables
          must be the same to the byte, apart from the seconds.
lanes     `lrfind grid` of a linear regression with 20 steps a lane, with 10, with 100 and with --lanes rates.
          The cost of a lane is the difference of the times, divided by that of the lanes. Then the size of
          run.sqlite, and the time of `lrfind status`.

Other programs on the machine change the ratio. So the load is printed too, and the seconds that all processes
computed (CPU): twice those of one process, divided by those with two workers, is the ratio to expect of two
cores that nobody else uses.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click
import pandas as pd

ROOT = Path(__file__).parents[2]
LINEAR = """
model: linear
data: {name: regression, batch_size: full, args: {samples: 64, features: 4}}
loss: mse
optimizer: {name: sgd, lr: 0.1}
training: {steps: 20}
"""


class Seconds(NamedTuple):
    """How long a command took: by the clock, and as the sum of what its processes computed."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s (CPU {self.cpu:.1f} s)"


def computed() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def lrfind(*arguments: object) -> Seconds:
    """Run a command; a single step may have no best rate, which is exit code 3."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    began, before = time.perf_counter(), computed()
    done = subprocess.run(
        [sys.executable, "-m", "lrfind", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode not in (0, 3):
        raise click.ClickException(f"lrfind {arguments[0]} ended with {done.returncode}")
    return Seconds(time.perf_counter() - began, computed() - before)


def check_same_tables(one: Path, other: Path) -> None:
    lanes, others = (
        pd.read_csv(run / "lanes.csv", dtype=str).drop(columns="train_seconds") for run in (one, other)
    )
    if (one / "steps.csv").read_bytes() != (other / "steps.csv").read_bytes() or not lanes.equals(others):
        raise click.ClickException(f"{one} and {other} have different tables")


def load() -> str:
    return "load " + ", ".join(f"{value:.1f}" for value in os.getloadavg())


def measure_cnn(folder: Path, workers: int, turns: int, steps: int) -> None:
    common = ["grid", ROOT / "configs/mnist_cnn.yaml", "-q", "--lanes", "single", "--threads", 1]
    common += ["--seeds", 1, "--set", "grid.low=1e-3", "--set", "grid.high=0.1", "--set", "grid.points=8"]
    ratios = []
    for turn in range(turns):
        runs = folder / f"alone-{turn}", folder / f"workers-{turn}"
        empty = folder / f"empty-{turn}"
        alone = lrfind(*common, "--steps", steps, "--out", runs[0])
        spread = lrfind(*common, "--steps", steps, "--out", runs[1], "--workers", workers)
        start = lrfind(*common, "--steps", 1, "--out", empty)
        check_same_tables(*runs)
        ratios.append(alone.wall / spread.wall)
        click.echo(
            f"  turn {turn + 1}: {alone} in one process, {spread} with {workers} workers:"
            f" {ratios[-1]:.2f} times as fast, by the CPU {workers * alone.cpu / spread.cpu:.2f};"
            f" start and end take {start} of the first; {load()}"
        )
    click.echo(f"  median: {statistics.median(ratios):.2f} times as fast; the tables are the same")


def measure_lanes(folder: Path, workers: int, most: int) -> None:
    config = folder / "linear.yaml"
    config.write_text(LINEAR)
    for name, options in (("one process", []), (f"{workers} workers", ["--workers", workers])):
        before, last = 0, Seconds(0.0, 0.0)
        for lanes in (10, 100, most):
            run = folder / f"{name}-{lanes}"
            settings = ["--set", f"grid.points={lanes}", "--seeds", 1, "--lanes", "single", "--threads", 1]
            seconds = lrfind("grid", config, "-q", *settings, "--out", run, *options)
            trained = pd.read_csv(run / "lanes.csv").train_seconds.sum()
            wall, cpu = (
                1000 * (now - then) / (lanes - before) for now, then in zip(seconds, last, strict=True)
            )
            each = f", {wall:.1f} ms a further lane (CPU {cpu:.1f} ms)" if before else ""
            size = (run / "run.sqlite").stat().st_size
            click.echo(
                f"  {name}, {lanes} lanes: {seconds}{each}; its training is {1000 * trained / lanes:.1f} ms;"
                f" run.sqlite {size / 1000:.0f} kB; lrfind status {lrfind('status', run)}; {load()}"
            )
            before, last = lanes, seconds


@click.command()
@click.option("--workers", default=2, type=click.IntRange(min=1))
@click.option("--turns", default=3, type=click.IntRange(min=0), help="How often the CNN is measured.")
@click.option("--steps", default=1200, type=click.IntRange(min=1), help="The steps of each lane of the CNN.")
@click.option(
    "--lanes",
    default=1000,
    type=click.IntRange(min=0),
    help="The most lanes of the regression, more than 100; 0 leaves it out.",
)
def main(workers: int, turns: int, steps: int, lanes: int) -> None:
    """Print the ratio for the CNN, and the cost of a lane."""
    with tempfile.TemporaryDirectory() as name:
        click.echo(f"{os.cpu_count()} cores, {load()}")
        if turns:
            click.echo(f"cnn: 8 rates x {steps} steps")
            measure_cnn(Path(name), workers, turns, steps)
        if lanes:
            click.echo("lanes: a linear regression, 20 steps a lane")
            measure_lanes(Path(name), workers, lanes)


if __name__ == "__main__":
    main()
