"""Fit the model of the risk in `lrfind.analysis.confidence`: how often such answers fail.

    python benchmarks/quality/confidence.py [--split design] [--runs 2] [--workers 2]

Each task is probed by `find` without a budget. Then a logistic model of the measurements of
`RiskMeasurements` is fitted to the answers that fail (regret above 0.1). The script prints the model,
and how well it predicts on tasks that were left out of its fit, an eighth at a time: the area under the
curve, how many answers fail in each range of predicted risks, and in each confidence.

With `--split judging`, nothing is fitted: the model in lrfind predicts.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from answers import FIRST_SEED, ours, read_ours, training_of
from options import task_options, workers_option
from regret import FAILED, Cell
from rows import cells_with_something_to_find
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import LONG, Split, Task, read_tasks

from lrfind.analysis.confidence import RiskMeasurements, risk_measurements, risk_of
from lrfind.problem.problem import from_config

MEASURED = [*RiskMeasurements._fields]
EIGHTHS, DRAWS = 8, 4  # parts that are left out in turn, and how often the tasks are dealt to them anew
EDGES = (0.0, 0.03, 0.1, 0.2, 0.4, 1.0)
REGULARISATION = 0.3  # the inverse strength, of measurements with a deviation of 1


def answers_of(task: Task, cells: Sequence[Cell], runs: int) -> list[dict[str, Any]]:
    """Return what the probes measured, the risk that lrfind tells, and whether the answer fails."""
    problem, rows = from_config(task.experiment), []
    for run in range(runs):
        probing = ours(task, problem, FIRST_SEED + run)
        for cell in cells:
            training = training_of(task, problem, cell.schedule, cell.steps)
            answer = read_ours(probing, training)
            if answer.lr is None:
                continue
            measured = risk_measurements(probing.results, training, answer.lr)
            fails = float(cell.regret(np.log10(answer.lr))) > FAILED
            told = {"risk": risk_of(probing.results, training, answer.lr), "confidence": answer.confidence}
            about = {"task": task.name, "long": cell.steps >= LONG, "fails": fails}
            rows.append(measured._asdict() | told | about)
    return rows


def model() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION))


def left_out(frame: pd.DataFrame) -> pd.Series:
    """Return the risk of each answer by a model that its task had no part in."""
    tasks, risk = frame.task.unique(), pd.Series(0.0, frame.index)
    for draw in range(DRAWS):
        dealt = np.random.default_rng(draw).permutation(len(tasks)) % EIGHTHS
        part = frame.task.map(dict(zip(tasks, dealt, strict=True)))
        for eighth in range(EIGHTHS):
            fitted = model().fit(frame.loc[part != eighth, MEASURED], frame.fails[part != eighth])
            risk[part == eighth] += fitted.predict_proba(frame.loc[part == eighth, MEASURED])[:, 1] / DRAWS
    return risk


def report(frame: pd.DataFrame) -> None:
    """Print how well the risks predict the failures."""
    click.echo(f"  area under the curve {roc_auc_score(frame.fails, frame.risk):.3f}")
    if frame.long.nunique() > 1:
        for name, some in (("short", frame[~frame.long]), ("long", frame[frame.long])):
            click.echo(f"    {name} trainings {roc_auc_score(some.fails, some.risk):.3f}")
    for low, high in itertools.pairwise(EDGES):
        within = frame[(frame.risk >= low) & (frame.risk < high)]
        if len(within):
            click.echo(
                f"  risk from {low:4.0%} to {high:4.0%}: {len(within):5,} answers, of which"
                f" {within.fails.mean():5.1%} fail; the mean risk is {within.risk.mean():5.1%}"
            )


def report_confidence(frame: pd.DataFrame) -> None:
    """Print how often the answers of each confidence fail."""
    for confidence in ("high", "moderate", "low"):
        some = frame[frame.confidence == confidence]
        if len(some):
            click.echo(
                f"  confidence {confidence:8}: {len(some):5,} answers, of which {some.fails.mean():.1%} fail"
            )


@click.command()
@task_options
@workers_option
@click.option("--runs", default=2, help="The number of seeds of the probes.")
def main(splits: Sequence[Split], runs: int, only: tuple[str, ...], truth: Path, workers: int) -> None:
    """Fit and judge the model of the risk."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells = cells_with_something_to_find(truth, tasks)
    calls = [(task, [cell for cell in cells if cell.task == task.name], runs) for task in tasks]
    rows: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        for answers in pool.map(answers_of, *zip(*calls, strict=True)):
            rows += answers
    frame = pd.DataFrame(rows)
    click.echo(f"{frame.task.nunique()} tasks, {len(frame):,} answers, {frame.fails.mean():.1%} fail")
    click.echo("the model in lrfind:")
    report(frame)
    report_confidence(frame)
    if "judging" in splits:
        return
    fitted = model().fit(frame[MEASURED], frame.fails)
    scaler, logistic = fitted[0], fitted[1]
    slopes = logistic.coef_[0] / scaler.scale_
    intercept = logistic.intercept_[0] - float(slopes @ scaler.mean_)
    click.echo(
        f"fitted: intercept {intercept:.2f}, {dict(zip(MEASURED, slopes.round(2).tolist(), strict=True))}"
    )
    click.echo("on tasks that were left out of the fit:")
    report(frame.assign(risk=left_out(frame)))


if __name__ == "__main__":
    main()
