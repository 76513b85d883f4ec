"""Stacked and single lanes of many models: the measurements that the estimate of the faster mode rests on.

    python benchmarks/speed/modes.py [--turns 5] [--only NAME] [--out benchmarks/results/modes.csv]

A row is one model with one batch size and one number of lanes: the work of one step of a lane, as
`lrfind.training.work` counts it, the seconds of a single lane's step and of a stack's step on one thread
(medians, in turns), and the ratio: how many times as fast the stack is. With --fit the script fits the
constants of `lrfind.training.estimate` to the rows of the file, and prints them with the errors that rows
have when the constants are fitted without the row's model.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares

from lrfind.config.experiment import check
from lrfind.problem.problem import Problem, from_config
from lrfind.training.estimate import Constants, Estimate
from lrfind.training.loop import train
from lrfind.training.stack import Stack
from lrfind.training.work import Work, work_of

OUT = Path(__file__).parents[1] / "results" / "modes.csv"
LANES = (2, 4, 8, 16, 32)
COUNTED = ["operations", "bytes", "flops", "convolved"]
SECONDS = 0.1
"""The seconds for which each way steps in a turn."""
REGRESSION = "{name: regression, batch_size: BATCH, args: {samples: 512, features: FEATURES}}"
MNIST = "{name: mnist_mini, batch_size: BATCH}"
TEXT = "{name: text, batch_size: BATCH, args: {length: 32}}"
MODELS = {
    "linear 8": ("linear", REGRESSION.replace("FEATURES", "8"), "mse"),
    "linear 256": ("linear", REGRESSION.replace("FEATURES", "256"), "mse"),
    "mlp 16": ("{name: mlp, args: {hidden: [16]}}", REGRESSION.replace("FEATURES", "8"), "mse"),
    "mlp 64 x 3": (
        "{name: mlp, args: {hidden: [64, 64, 64]}}",
        REGRESSION.replace("FEATURES", "32"),
        "mse",
    ),
    "mlp 256 x 2": (
        "{name: mlp, args: {hidden: [256, 256]}}",
        REGRESSION.replace("FEATURES", "64"),
        "mse",
    ),
    "logistic mnist": ("{name: mlp, args: {hidden: []}}", MNIST, "cross_entropy"),
    "mlp mnist 32": ("{name: mlp, args: {hidden: [32]}}", MNIST, "cross_entropy"),
    "mlp mnist 128, 64": ("{name: mlp, args: {hidden: [128, 64]}}", MNIST, "cross_entropy"),
    "mlp mnist 512 x 2": ("{name: mlp, args: {hidden: [512, 512]}}", MNIST, "cross_entropy"),
    "cnn 4, 8": ("{name: small_cnn, args: {channels: [4, 8], hidden: 16}}", MNIST, "cross_entropy"),
    "cnn 16, 32, 32": ("{name: small_cnn, args: {channels: [16, 32, 32]}}", MNIST, "cross_entropy"),
    "lenet": ("lenet", MNIST, "cross_entropy"),
    "transformer 32": ("{name: transformer, args: {width: 32, layers: 2, heads: 2}}", TEXT, "cross_entropy"),
    "transformer 64": ("{name: transformer, args: {width: 64, layers: 2, heads: 4}}", TEXT, "cross_entropy"),
}


def problem_of(name: str, batch: int) -> Problem:
    model, data, loss = MODELS[name]
    text = f"""
model: {model}
data: {data.replace("BATCH", str(batch))}
loss: {loss}
optimizer: {{name: adam, lr: 1.0e-4}}
training: {{steps: 10}}
"""
    return from_config(check(text))


def step_seconds(step: object, least: int = 3) -> float:
    """Return the median time of a step, over about SECONDS."""
    assert callable(step)
    times: list[float] = []
    while len(times) < least or sum(times) < SECONDS:
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def rows_of(name: str, batch: int, turns: int) -> list[dict[str, object]]:
    problem = problem_of(name, batch)
    work = work_of(problem.setup(0))
    single = problem.setup(0)

    def single_step() -> None:
        for _ in train(single, np.full(1, 1e-4)):
            pass

    rows = []
    for lanes in LANES:
        stack = Stack(problem.setup(0), lanes)
        table = np.full((1, lanes), 1e-4)
        single_step(), stack.train(table)
        times = [
            (step_seconds(single_step), step_seconds(lambda s=stack, t=table: s.train(t)))
            for _ in range(turns)
        ]
        alone, stacked = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(lanes * a / b for a, b in times)
        rows.append(
            {"model": name, "batch": batch, "lanes": lanes, **{key: vars(work)[key] for key in COUNTED}}
            | {"single_seconds": alone, "stack_seconds": stacked, "ratio": ratio}
        )
        if stacked > 1:
            break
    return rows


def fitted(rows: pd.DataFrame) -> Constants:
    """Fit the constants to the logarithms of both times and, with more weight, of their ratio."""

    def residuals(logs: np.ndarray) -> np.ndarray:
        constants = Constants(*np.exp(logs))
        singles = np.array([Estimate(work, 1.0, constants).alone for work in works])
        stacks = np.array(
            [Estimate(w, s, constants).stack(k) for w, s, k in zip(works, singles, rows.lanes, strict=True)]
        )
        times = [np.log(singles / rows.single_seconds), np.log(stacks / rows.stack_seconds)]
        return np.concatenate(
            [0.3 * times[0], 0.3 * times[1], np.log(rows.lanes * singles / stacks / rows.ratio)]
        )

    works = works_of(rows)
    first = np.log([1e-4, 5e-6, 2e-11, 1e-10, 1e-4, 5e-6, 1.0, 1.3, 1.0, 0.2])
    return Constants(*np.exp(least_squares(residuals, first, loss="soft_l1").x))


def works_of(rows: pd.DataFrame) -> list[Work]:
    return [Work(*values, memory=0) for values in rows[COUNTED].itertuples(index=False)]


def report_fit(rows: pd.DataFrame) -> None:
    """Print the constants, and how well each model's rows are estimated from those of the others."""
    constants = fitted(rows)
    for name, value in vars(constants).items():
        click.echo(f"  {name}={value:.3g},")
    wrong = lost = 0
    for name, part in rows.groupby("model", sort=False):
        others = fitted(rows[rows.model != name])
        estimates = [
            Estimate(work, row.single_seconds, others).ratio(row.lanes)
            for work, row in zip(works_of(part), part.itertuples(), strict=True)
        ]
        errors = np.log(estimates / part.ratio)
        chosen_badly = (np.array(estimates) > 1) != (part.ratio > 1)
        costs = np.where(chosen_badly, np.maximum(part.ratio, 1 / part.ratio), 1.0)
        wrong, lost = wrong + int(chosen_badly.sum()), max(lost, float(costs.max()))
        click.echo(
            f"{name}: the estimated ratio is {np.exp(np.median(np.abs(errors))):.2f} times off (median), the"
            f" slower mode is chosen in {chosen_badly.sum()} of {len(part)} rows, at most {costs.max():.2f}"
            " times as slow"
        )
    click.echo(f"in all: the slower mode in {wrong} of {len(rows)} rows, at most {lost:.2f} times as slow")


@click.command()
@click.option("--fit", is_flag=True, help="Fit the constants to the rows of the file instead.")
@click.option("--turns", default=3, type=click.IntRange(min=1))
@click.option("--only", multiple=True, type=click.Choice([*MODELS]))
@click.option("--out", default=OUT, type=click.Path(path_type=Path))
def main(fit: bool, turns: int, only: tuple[str, ...], out: Path) -> None:
    """Measure both modes of many models on one thread, and write one row for each."""
    if fit:
        report_fit(pd.read_csv(out))
        return
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for name in only or MODELS:
        for batch in (16, 64, 256):
            rows += rows_of(name, batch, turns)
            click.echo(
                f"{name}, batch {batch}: " + ", ".join(f"{r['ratio']:.2f}" for r in rows[-len(LANES) :])
            )
    pd.DataFrame(rows).to_csv(out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
