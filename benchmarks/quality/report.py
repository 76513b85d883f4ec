"""How good `lrfind find` is, beside the peers, according to the trainings in `truth.csv`.

    python benchmarks/quality/report.py [--split judging] [--runs 3] [--no-peers] [--only TASK] [--out FILE]
    python benchmarks/quality/report.py --answers FILE.csv

The regret of a rate is (L - L_best) / (L_initial - L_best) of the final validation loss. It is 0 for the best
rate, and 1 for a training that learns nothing or where a method suggests no rate. A method fails if its
regret is above 0.1. Intervals are those of the bootstrap over tasks, because the question is how a method
does on another task. The peers know neither the length of the training nor its schedule, so their suggestions
are judged on every training of a task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from answers import ALWAYS, CLIMB, OURS, Row, read_answers, run_all
from bootstrap import DRAWS, bootstrap, interval
from options import task_options, workers_option
from regret import FAILED, WORTH, Cell, read_cells
from tasks import LONG, LONGEST, Split, read_tasks

from lrfind.analysis.curves import Array
from lrfind.errors import listed

LOST, BEHIND = 0.05, 0.02  # ours loses above this regret, or so far above the regret of the best peer
FINE = 41  # points of an interval whose regret is read
CONFIDENCES = ("high", "moderate", "low")


def spread(rows: pd.DataFrame) -> float:
    """Return the standard deviation of log10 lr between runs, as a mean over trainings."""
    log_lr = np.log10(rows.lr).groupby([rows.task, rows.schedule, rows.steps])
    return float(log_lr.std().mean())


def peers_of(frame: pd.DataFrame) -> list[str]:
    return [method for method in frame.method.unique() if method not in (OURS, CLIMB, ALWAYS)]


def report(title: str, frame: pd.DataFrame, plateaus: set[str]) -> None:
    """Print the whole report on the trainings of one length; `plateaus` are the tasks marked as plateaus."""
    regret, failed = bootstrap(frame, "regret"), bootstrap(frame, "failed")
    cells = len(frame.drop_duplicates(["task", "schedule", "steps"]))
    click.echo(f"\n{title}: {frame.task.nunique()} tasks, {cells} trainings, {frame.run.nunique()} runs")
    click.echo(f"  {'method':20} steps  {'mean regret':20}  {'fails, %':15}  spread  tasks")
    for method, rows in frame.groupby("method", sort=False):
        mean, low, high = regret.of(method)
        share, least, most = (100 * value for value in failed.of(method))
        click.echo(
            f"  {method:20} {rows.cost.mean():5.0f}  {mean:.3f} [{low:.3f}, {high:.3f}]  "
            f"{share:4.0f} [{least:3.0f}, {most:3.0f}]  {spread(rows):6.2f}  {rows.task.nunique():5}"
        )
    peer = min(peers_of(frame), key=lambda method: regret.mean[method], default=None)
    click.echo("\n  Mean regret, ours less that of another, on the same tasks:")
    marked = frame.task.isin(plateaus)
    report_differences("all", frame, [method for method in frame.method.unique() if method != OURS])
    for kind, rows in (("marked plateau", frame[marked]), ("others", frame[~marked])):
        report_differences(kind, rows, [CLIMB, peer] if peer else [CLIMB])
    report_lost(frame, peer)
    report_intervals(frame[(frame.method == OURS)])


def report_differences(kind: str, frame: pd.DataFrame, others: Sequence[str]) -> None:
    """Print how far the regret of ours is from that of others, paired by task, with counts of trainings."""
    if frame.empty:
        return
    regret = bootstrap(frame, "regret")
    means = frame.groupby(["task", "schedule", "steps", "method"], sort=False).regret.mean().unstack()
    for other in others:
        further = means[OURS] - means[other]
        difference = regret.draws[OURS] - regret.draws[other]
        low, high = interval(difference)
        click.echo(
            f"  {other:20} {regret.mean[OURS] - regret.mean[other]:+.3f} [{low:+.3f}, {high:+.3f}];"
            f" by over {BEHIND} higher in {(further > BEHIND).sum()}, lower in {(further < -BEHIND).sum()} of"
            f" {len(means)} trainings ({kind}: {frame.task.nunique()} tasks)"
        )


def report_lost(frame: pd.DataFrame, peer: str | None) -> None:
    """Print the trainings for which ours is not good, or clearly worse than the best peer."""
    means = frame.groupby(["task", "schedule", "steps", "method"], sort=False).regret.mean().unstack()
    beside = means[peer] if peer else pd.Series(math.nan, means.index)
    lost = means[(means[OURS] > LOST) | (means[OURS] > beside + BEHIND)]
    others = f", and that of {peer}" if peer else ""
    click.echo(f"\n  The median regret of ours is {means[OURS].median():.3f}.")
    click.echo(f"  Where ours loses ({len(lost)} of {len(means)} trainings): its mean regret{others}")
    for (task, schedule, steps), row in lost.iterrows():
        other = f"  {row[peer]:.3f}" if peer else ""
        click.echo(f"  {task:28} {schedule:9} {steps:5}  {row[OURS]:.3f}{other}")


def report_intervals(rows: pd.DataFrame) -> None:
    """Print whether the rates in our interval train about as well, and whether our confidence holds."""
    answered = rows[rows.lr.notna()]
    if answered.empty:
        return
    inside, width = np.concatenate(answered.inside.to_list()), np.log10(answered.high / answered.low)
    click.echo(
        f"\n  Our interval: regret of at most 0.05 in {(inside <= 0.05).mean():.1%} of it, of at most 0.1 in"
        f" {(inside <= 0.1).mean():.1%}; {width.mean():.2f} decades wide"
    )
    for confidence in CONFIDENCES:
        group = answered[answered.confidence == confidence]
        if len(group):
            click.echo(
                f"  confidence {confidence:9} regret {group.regret.mean():.3f},"
                f" fails {group.failed.mean():.1%} ({len(group)} answers)"
            )
    if 0 < answered.failed.mean() < 1:
        area, low, high = area_of_confidence(answered)
        click.echo(f"  confidence predicts failures with an area of {area:.2f} [{low:.2f}, {high:.2f}]")
    if refused := len(rows) - len(answered):
        click.echo(f"  refused: {refused} times")


def area_of_confidence(answered: pd.DataFrame) -> tuple[float, float, float]:
    """Return the area under the curve of confidence as a sign of failure, and its 95 % interval.

    It is the share of the pairs of a failed answer and another in which the failed one has the lower
    confidence; pairs of equal confidence count half.
    """
    tables = [
        pd.crosstab(answered.task, answered.confidence.where(answered.failed == failed))
        .reindex(index=answered.task.unique(), columns=CONFIDENCES, fill_value=0)
        .to_numpy()
        for failed in (True, False)
    ]
    drawn = np.random.default_rng(0).integers(len(tables[0]), size=(DRAWS, len(tables[0])))
    areas = _area(*(table[drawn].sum(axis=1) for table in tables))
    mean = _area(*(table.sum(axis=0) for table in tables))
    return float(mean), *interval(pd.Series(areas).dropna())


def _area(failed: Array, fine: Array) -> Array:
    """Return the area for (..., C) numbers of failed and other answers of each of `CONFIDENCES`."""
    higher = fine.cumsum(axis=-1) - fine / 2
    pairs = failed.sum(axis=-1) * fine.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.divide((failed * higher).sum(axis=-1), pairs)


def with_inside(frame: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """Add the column `inside`: the regrets across the interval of an answer that has one."""
    by_name = {cell.name: cell for cell in cells}
    ends = np.log10(frame[["low", "high"]])
    return frame.assign(
        inside=[
            by_name[task, schedule, steps].regret(np.linspace(low, high, FINE))
            for task, schedule, steps, low, high in zip(
                frame.task, frame.schedule, frame.steps, ends.low, ends.high, strict=True
            )
        ]
    )


@click.command()
@task_options
@click.option("--runs", default=3, help="The number of seeds of every method.")
@click.option("--peers/--no-peers", default=True, help="Also run the peers.")
@workers_option
@click.option(
    "--answers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge the answers in this file, which --out wrote, again, and run nothing.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write every answer into this CSV file."
)
def main(
    splits: Sequence[Split],
    runs: int,
    peers: bool,
    only: tuple[str, ...],
    workers: int,
    truth: Path,
    answers: Path | None,
    out: Path | None,
) -> None:
    """Judge lrfind and the peers on tasks whose truth is known."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells = read_cells(truth, tasks)
    for cell in cells:
        if cell.drop < WORTH:
            click.echo(f"left out, because no rate learns anything: {cell.task} {cell.schedule} {cell.steps}")
    cells = [cell for cell in cells if cell.drop >= WORTH]
    if not cells:
        raise click.ClickException(
            f"{truth} has no training of these tasks from which something can be learned; run truth.py first."
        )
    missing = [task.name for task in tasks if task.name not in {cell.task for cell in cells}]
    if missing:
        click.echo(f"not judged: {listed(missing)}")
    frame = read_answers(answers, cells) if answers else run_all(tasks, cells, runs, peers, workers)
    frame["failed"] = (frame.regret > FAILED) | frame.lr.isna()
    if out is not None:
        frame.to_csv(out, columns=list(Row._fields), index=False, float_format="%.6g")
    judged = with_inside(frame, cells)
    lengths = {
        "Short trainings": judged.steps < LONG,
        f"{LONG:,} steps": judged.steps == LONG,
        f"{LONGEST:,} steps": judged.steps == LONGEST,
    }
    for title, kind in lengths.items():
        if kind.any():
            report(title, judged[kind], {task.name for task in tasks if task.plateau})
    click.echo("\nAll lengths")
    report_intervals(judged[judged.method == OURS])


if __name__ == "__main__":
    main()
