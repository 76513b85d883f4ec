"""Kill runs without warning at random moments, resume them, and hold them against undisturbed runs.

    python benchmarks/reliability/kill_and_resume.py [KILLS] [SEED]

Every kill is SIGKILL, after a random time between the start of the process and its end. Prints a line a way
and fails if a finished table differs from the undisturbed one by anything but times, or a weight by one bit.
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
    """The bits of every weight that a training left."""
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
    """Start or resume the run until it ends, and kill it after each of these seconds; returns the kills."""
    done = 0
    for wait in [*kills, None]:
        process = start(way, config, run)
        try:
            code = process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
            continue
        if code:
            raise SystemExit(process.stderr.read().decode() if process.stderr else f"exit {code}")
        break
    return done


def main(kills: int, seed: int) -> None:
    chance = random.Random(seed)
    total = 0
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "killed.yaml"
        config.write_text(CONFIG)
        for number, way in enumerate(WAYS):
            calm = Path(name) / f"calm-{number}"
            began = time.perf_counter()
            assert start(way, config, calm).wait() == 0
            seconds = time.perf_counter() - began
            here, runs = 0, 0
            while here < kills / len(WAYS):
                run = Path(name) / f"run-{number}-{runs}"
                here += disturbed(way, config, run, [chance.uniform(0.2, seconds) for _ in range(3)])
                runs += 1
                (lanes, steps), (expected, expected_steps) = tables(run), tables(calm)
                pd.testing.assert_frame_equal(lanes, expected)
                assert steps == expected_steps
                assert weights(run) == weights(calm)
            total += here
            click.echo(
                f"{' '.join(way)}: {len(expected)} lanes in {seconds:.0f} s; {here} kills in {runs} runs,"
                " the same tables and weights"
            )
    click.echo(f"{total} kills: no lane lost, none twice")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
