"""Kill runs without warning at random moments, resume them, and compare them with undisturbed runs.

    python benchmarks/reliability/kill_and_resume.py [KILLS] [SEED]

Every kill is a SIGKILL at a random moment between the start and the end of the process. The script prints one
line for each way. It fails if a finished table differs from the undisturbed one in anything but times, or if
a weight differs in one bit.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import pandas as pd
import torch

from lrfind.errors import counted

CONFIG = """
name: killed
model: {name: mlp, args: {hidden: [64], dropout: 0.2}}
data: {name: mnist_mini, batch_size: 64}
loss: cross_entropy
optimizer: adam
training: {steps: 120, eval_every: 40}
grid: {low: 1e-4, high: 1, points: 9, seeds: 4}
search: {sampler: tpe, trials: 10, seeds: 2, batch: 2}
"""
WAYS = (
    ("grid", "--lanes", "single"),
    ("grid", "--lanes", "stacked", "--set", "grid.stack_memory=0.006"),
    ("grid", "--lanes", "single", "--prune"),
    ("search", "--lanes", "stacked"),
    ("compare", "--lanes", "stacked", "--schedules", "constant,one_cycle", "--seeds", "2"),
    ("train", "--schedule", "one_cycle", "--steps", "2500", "--seeds", "2", "--checkpoint-every", "40"),
)


def lrfind(*arguments: object) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-m", "lrfind", *map(str, arguments)]
    return subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def tables(run: Path) -> tuple[pd.DataFrame, str]:
    return pd.read_csv(run / "lanes.csv").drop(columns="train_seconds"), (run / "steps.csv").read_text()


def weights(run: Path) -> dict[str, bytes]:
    """Return the bits of every weight that a training saved."""
    return {
        f"{file.name} {name}": value.numpy().tobytes()
        for file in sorted(run.glob("*.pt"))
        for name, value in torch.load(file, weights_only=True).items()
    }


def start(way: tuple[str, ...], config: Path, run: Path) -> subprocess.Popen[bytes]:
    if (run / "run.sqlite").exists():
        return lrfind("resume", run)
    return lrfind(way[0], config, "--out", run, *way[1:])


def disturbed(way: tuple[str, ...], config: Path, run: Path, kills: list[float]) -> int:
    """Start or resume the run until it ends, and kill it after each of these seconds.

    Returns:
        The number of kills before the end of the run.
    """
    count = 0
    for wait in [*kills, None]:
        process = start(way, config, run)
        try:
            code = process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            count += 1
            continue
        if code:
            raise SystemExit(process.stderr.read().decode() if process.stderr else f"exit {code}")
        break
    return count


@click.command()
@click.argument("kills", default=20)
@click.argument("seed", default=0)
def main(kills: int, seed: int) -> None:
    """Kill runs at least KILLS times in all (20 by default), at moments drawn by SEED (0 by default)."""
    generator = random.Random(seed)
    total = 0
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "killed.yaml"
        config.write_text(CONFIG)
        for number, way in enumerate(WAYS):
            undisturbed = Path(name) / f"undisturbed-{number}"
            began = time.perf_counter()
            assert start(way, config, undisturbed).wait() == 0
            seconds = time.perf_counter() - began
            count, runs = 0, 0
            while count < kills / len(WAYS):
                run = Path(name) / f"run-{number}-{runs}"
                count += disturbed(way, config, run, [generator.uniform(0.2, seconds) for _ in range(3)])
                runs += 1
                (lanes, steps), (expected, expected_steps) = tables(run), tables(undisturbed)
                pd.testing.assert_frame_equal(lanes, expected)
                assert steps == expected_steps
                assert weights(run) == weights(undisturbed)
            total += count
            click.echo(
                f"{' '.join(way)}: {len(expected)} lanes in {seconds:.0f} s;"
                f" {counted(count, 'kill')} in {counted(runs, 'run')}, the same tables and weights"
            )
    click.echo(f"{counted(total, 'kill')}: no lane was lost, and none is there twice")


if __name__ == "__main__":
    main()
