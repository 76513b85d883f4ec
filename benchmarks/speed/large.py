"""How long large runs take, how much memory they need, and which share of their time goes into storing.

    python benchmarks/speed/large.py [--turns 3] [--json PATH]

The runs are sweeps of 1,000 lanes x 1,000 steps (500 rates, 2 seeds) of a linear regression on the full batch
of 64 samples with 4 features, and a range test of 100,000 steps of the same. What is measured:

commands           Whole commands in processes of their own, with one thread: the sweep and the range test,
                   then `status`, `show`, `plot` and `report` of these runs, and `suggest` on a CSV of a
                   million rows. In turns with them, the same commands run on a tiny run or CSV. The
                   difference is how long a command takes beyond its imports.
memory             The peak of the resident memory of the sweep's process, beside that of 100 and of 4 lanes.
storing            The same sweep in this process, with a clock around all calls of the run's database and
                   another around the tables. The whole lasts from `Run.start` to the end of `run_sweep`:
                   it has the training and the summary, but neither imports nor plots.
a small sweep      The case `linear` of sweep.py, 16 lanes x 300 steps, in a mode that is given: how long
                   everything but the training takes.

Seconds are medians over the turns. Pin it to one core, as with `taskset -c 0`, for figures of one core.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from figures import Row, write

from lrfind.config.experiment import Experiment, check
from lrfind.experiments import sweep
from lrfind.experiments.sweep import run_sweep
from lrfind.runs.database import Database
from lrfind.runs.store import Run
from lrfind.training.mode import Mode
from lrfind.training.watch import Observer

CONFIG = """
seed: 0
device: cpu
model: linear
data: {{name: regression, batch_size: {batch_size}, args: {{samples: {samples}, features: {features}}}}}
loss: mse
optimizer: {{name: sgd, lr: 0.1}}
training: {{steps: {steps}}}
grid: {{low: 1e-3, high: {high}, points: {points}, seeds: {seeds}}}
range_test: {{start_lr: 1e-5, end_lr: 100, steps: {ramp}, seeds: 1}}
"""
FULL = {"batch_size": "full", "samples": 64, "features": 4, "high": 3, "ramp": 100_000}
LARGE = FULL | {"points": 500, "seeds": 2, "steps": 1000}
MEDIUM = LARGE | {"points": 50}
TINY = FULL | {"points": 2, "seeds": 2, "steps": 20, "ramp": 100}
SMALL = {
    "batch_size": 64,
    "samples": 512,
    "features": 8,
    "high": 1e-2,
    "points": 16,
    "seeds": 1,
    "steps": 300,
}
LANES = {"large": "1,000", "medium": "100", "tiny": "4"}
STACKED = Mode("stacked", "given", threads=1, seconds_per_step=1e-6, stack_size=1024)
ROWS = 1_000_000
MANY_LANES, LONG_RAMP = "1,000 lanes x 1,000 steps", "100,000 steps"
DATABASE_CALLS = (
    "create",
    "verify",
    "keep_facts",
    "facts",
    "add_plan",
    "plan",
    "add_lanes",
    "outcomes",
    "lanes",
)


def command(*words: str | Path) -> tuple[float, float]:
    """Run an lrfind command to its end, and return its seconds and the peak of its memory in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "lrfind", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        raise click.ClickException(f"`lrfind {' '.join(map(str, words))}` ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def beyond(case: str, turns: int, name: str, large: Path, tiny: Path) -> Row:
    """Time a command on a large and on a tiny source in turns, and report the difference too."""
    times = [(command(name, large)[0], command(name, tiny)[0]) for _ in range(turns)]
    gap = statistics.median(one - other for one, other in times)
    seconds = statistics.median(one for one, _ in times)
    return Row(case, f"lrfind {name}", seconds, None, f"{gap:.2f} s beyond the same of a tiny one")


def write_curve(file: Path, rows: int) -> None:
    """Write a noisy ramp as a CSV."""
    lr, draw = np.geomspace(1e-6, 10, rows), np.random.default_rng(0)
    loss = 2.3 - 1.5 / (1 + (1e-2 / lr) ** 1.5) + 5 * np.maximum(np.log10(lr), 0) ** 2
    loss += 0.05 * draw.standard_normal(rows)
    pairs = zip(lr.tolist(), loss.tolist(), strict=True)
    file.write_text("lr,loss\n" + "".join(f"{a!r},{b!r}\n" for a, b in pairs))


def command_rows(folder: Path, turns: int) -> Iterator[Row]:
    """Time whole commands on large runs."""
    sizes, seconds, memory = {"tiny": TINY, "medium": MEDIUM, "large": LARGE}, 0.0, {}
    for size, values in sizes.items():
        config = folder / f"{size}.yaml"
        config.write_text(CONFIG.format(**values))
        seconds, memory[size] = command("grid", config, "--out", folder / f"grid-{size}", "--quiet")
    peaks = ", ".join(f"{memory[size]:.0f} MB with {lanes} lanes" for size, lanes in LANES.items())
    yield Row(MANY_LANES, "lrfind grid", seconds, None, f"at most {peaks}")
    for size in ("tiny", "large"):
        out = folder / f"ramp-{size}"
        seconds, _ = command("range-test", folder / f"{size}.yaml", "--out", out, "--quiet")
    yield Row(LONG_RAMP, "lrfind range-test", seconds, None, "with plots and report")
    write_curve(folder / "large.csv", ROWS)
    write_curve(folder / "tiny.csv", 100)
    for name in ("status", "show", "plot", "report"):
        yield beyond(MANY_LANES, turns, name, folder / "grid-large", folder / "grid-tiny")
    for name in ("status", "plot", "report", "suggest"):
        yield beyond(LONG_RAMP, turns, name, folder / "ramp-large", folder / "ramp-tiny")
    yield beyond("1,000,000 rows", turns, "suggest", folder / "large.csv", folder / "tiny.csv")


class Clock:
    """Sums the seconds of the calls of each name, without those of other names inside them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[str] = []

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function with a clock around it."""

        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            if name in self._inside:
                return function(*args, **options)
            outer = self._inside[-1] if self._inside else None
            self._inside.append(name)
            began = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self._inside.pop()
                passed = time.perf_counter() - began
                self.seconds[name] = self.seconds.get(name, 0.0) + passed
                if outer is not None:
                    self.seconds[outer] = self.seconds.get(outer, 0.0) - passed

        return timed


@contextmanager
def clocked() -> Iterator[Clock]:
    """Put clocks around the database, the tables and the training inside the block."""
    clock = Clock()
    places: list[tuple[Any, str, str]] = [(Database, name, "database") for name in DATABASE_CALLS]
    places += [(Run, "export", "tables"), (sweep, "run_lanes", "training")]
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in places]
    for owner, name, label in places:
        method = vars(owner)[name]
        inner = method.__func__ if isinstance(method, classmethod) else method
        timed = clock.around(label, inner)
        setattr(owner, name, classmethod(timed) if isinstance(method, classmethod) else timed)
    try:
        yield clock
    finally:
        for owner, name, method in before:
            setattr(owner, name, method)


def swept(experiment: Experiment, config: str, mode: Mode) -> dict[str, float]:
    """Run a sweep in a mode in a new directory, and return the seconds of its parts and of the whole."""
    with tempfile.TemporaryDirectory() as folder, clocked() as clock:
        began = time.perf_counter()
        run = Run.start(Path(folder) / "run", "grid", experiment, config, [])
        with run.held():
            run.keep_facts(modes=[asdict(mode)])
            run_sweep(run, Observer())
        return clock.seconds | {"whole": time.perf_counter() - began}


def storing_rows(turns: int) -> Iterator[Row]:
    """Time what a large and a small sweep spend beside the training, after a turn that does not count."""
    for case, sizes in ((MANY_LANES, LARGE), ("16 lanes x 300 steps", FULL | SMALL)):
        config = CONFIG.format(**sizes)
        experiment = check(config)
        parts = [swept(experiment, config, STACKED) for _ in range(turns + 1)][1:]
        for part in ("database", "tables"):
            share = statistics.median(100 * turn[part] / turn["whole"] for turn in parts)
            whole = statistics.median(turn["whole"] for turn in parts)
            seconds = statistics.median(turn[part] for turn in parts)
            yield Row(case, part, seconds, None, f"{share:.1f} % of {whole:.2f} s")
        rest = statistics.median(turn["whole"] - turn["training"] for turn in parts)
        yield Row(case, "all but the training", rest, None, "")


@click.command()
@click.option("--turns", default=3, type=click.IntRange(min=1), help="How often each thing is measured.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(turns: int, file: Path | None) -> None:
    """Print how long large runs take."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # The commands come first: Linux counts the memory of this process as a peak of those that it starts.
        for part in (command_rows(Path(folder), turns), storing_rows(turns)):
            for row in part:
                rows.append(row)
                click.echo(f"{row.case:26} {row.what:22} {row.seconds:7.3f} s   {row.note}")
    if file is not None:
        write(file, rows)


if __name__ == "__main__":
    main()
