"""How much regret refinement has with either opening, replayed from the truth without any new training.

    python benchmarks/quality/replay.py [--split design] [--only TASK] [--workers 2]

Each task is probed by `find` without a budget. Then its long trainings are refined, as with a budget, but the
final losses of whole trainings are looked up in the truth of one seed, between whose rates they are
interpolated in log lr. (A training diverges if that at the nearest rate did; it counts with all of its steps,
because the truth does not say when it diverged.) The answer is judged by the other seeds. The truth of 10,000
steps has one seed, which judges what it has shown; this makes those regrets too low, with either opening.

The script prints the mean regret of the rates of the probes, and of the answers that so many whole trainings
refined: with the opening of short trainings (half a decade downward) and with that of long ones (a decade
upward too). The difference between the two has the 95 % interval of the bootstrap over tasks.
"""

from __future__ import annotations

import math
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
from bootstrap import bootstrap, interval
from options import task_options, workers_option
from regret import FAILED, Cell, cell_of
from rows import cells_with_something_to_find
from tasks import LONG, LONGEST, Split, Task, read_tasks

from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.refined import refined_answer
from lrfind.analysis.refinement import OPENING, RefinePlan, next_training
from lrfind.problem.problem import from_config

TRAININGS = (3, 4, 5)  # budgets, as numbers of whole trainings; more would need a further seed
PROBES, NARROW, WIDE = "probes", "narrow", "wide"


class NarrowPlan(RefinePlan):
    """A plan that opens as short trainings do, however long its trainings are."""

    opening = OPENING


PLANS = {NARROW: NarrowPlan, WIDE: RefinePlan}


def training_at(truth: pd.DataFrame, lr: float, steps: int, lane: int) -> LaneResult:
    """Return the training at a rate, according to the truth of one seed."""
    log_lrs, losses = np.log10(truth.lr.to_numpy()), truth.val_loss.to_numpy(dtype=float)
    finite, log_lr = np.isfinite(losses), math.log10(lr)
    diverged = not finite[abs(log_lrs - log_lr).argmin()]
    loss = math.inf if diverged else float(np.interp(log_lr, log_lrs[finite], losses[finite]))
    return LaneResult(
        lane=lane,
        seed=0,
        planned=steps,
        peak=lr,
        outcome="diverged" if diverged else "finished",
        lr=np.full(steps, lr),
        loss=np.full(steps, float(truth.first_loss.iloc[0])),
        evaluations=(Evaluation(steps, loss, None),),
    )


def answer_of(
    plan: RefinePlan, training: PlannedTraining, probe_steps: int, truth: pd.DataFrame
) -> float | None:
    """Return the rate that trainings by a plan answer, if the truth of one seed has their losses."""
    results: list[LaneResult] = []
    while (following := next_training(plan, results, "val_loss")) is not None and following[1] == plan.seed:
        results.append(training_at(truth, following[0], plan.steps, len(results)))
    changes = refined_answer(plan.start, "moderate", probe_steps, training, plan, results, "val_loss")
    return changes.get("lr", plan.start)


def replayed(task: Task, cells: Sequence[Cell], truth: Path) -> list[dict[str, Any]]:
    """Return the regrets of a task's long trainings, by the seed that was seen, the budget and the plan."""
    problem, rows = from_config(task.experiment), []
    probing = ours(task, problem, FIRST_SEED)
    frame = pd.read_csv(truth)
    frame = frame[frame.task == task.name].sort_values("lr")
    for cell in cells:
        training = training_of(task, problem, cell.schedule, cell.steps)
        lr = read_ours(probing, training).lr
        if lr is None:
            continue
        losses = frame[(frame.schedule == cell.schedule) & (frame.steps == cell.steps)]
        for seed in sorted(losses.seed.unique()):
            seen, others = losses[losses.seed == seed], losses[losses.seed != seed]
            judge = cell_of(others) if len(others) else cell
            name = {"task": task.name, "steps": cell.steps}
            told = float(judge.regret(math.log10(lr)))
            rows += [name | {"trainings": 0, "method": PROBES, "regret": told}]
            for count in TRAININGS:
                for method, kind in PLANS.items():
                    plan = kind(lr, cell.steps, count * cell.steps, 0)
                    refined = answer_of(plan, training, probing.results[0].steps, seen)
                    regret = 1.0 if refined is None else float(judge.regret(math.log10(refined)))
                    rows.append(name | {"trainings": count, "method": method, "regret": regret})
    return rows


def report(title: str, frame: pd.DataFrame) -> None:
    """Print the regrets of trainings of one length."""
    click.echo(f"\n{title}: {frame.task.nunique()} tasks")
    (told,) = bootstrap(frame[frame.trainings == 0], "regret").mean
    click.echo(f"  rates of the probes {told:.4f}")
    for count in TRAININGS:
        rows = frame[frame.trainings == count]
        drawn = bootstrap(rows, "regret")
        low, high = interval(drawn.draws[WIDE] - drawn.draws[NARROW])
        fails = (rows.regret > FAILED).groupby(rows.method).mean()
        click.echo(
            f"  {count} trainings: narrow {drawn.mean[NARROW]:.4f}, fails {fails[NARROW]:5.1%}; wide"
            f" {drawn.mean[WIDE]:.4f}, fails {fails[WIDE]:5.1%}; wide less narrow"
            f" {drawn.mean[WIDE] - drawn.mean[NARROW]:+.4f} [{low:+.4f}, {high:+.4f}]"
        )


@click.command()
@task_options
@workers_option
def main(splits: Sequence[Split], only: tuple[str, ...], truth: Path, workers: int) -> None:
    """Replay the refinement of long trainings with both openings."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells = [cell for cell in cells_with_something_to_find(truth, tasks) if cell.steps >= LONG]
    long = [task for task in tasks if any(cell.task == task.name for cell in cells)]
    calls = [(task, [cell for cell in cells if cell.task == task.name], truth) for task in long]
    rows: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        for part in pool.map(replayed, *zip(*calls, strict=True)):
            rows += part
    frame = pd.DataFrame(rows)
    for steps in (LONG, LONGEST):
        if (frame.steps == steps).any():
            report(f"{steps:,} steps", frame[frame.steps == steps])


if __name__ == "__main__":
    main()
