"""How good `lrfind find` is within each budget, beside other methods at equal cost.

    python benchmarks/quality/searches.py SEARCHES.csv     (what the others reach; hours)
    python benchmarks/quality/budgets.py SEARCHES.csv FIND.csv [--split judging] [--only TASK]
        [--at-most 1000] [--at-least 3000] [--runs 3] [--workers 2] [--paired 1T] [--plot FILE.png]

FIND.csv keeps what `find` answers within 32, 100 and 300 steps and within 1, 2, 4 and 10 trainings. What is
missing in it is computed first; remove the file when `find` has changed. The script then prints a row for
each method and budget: the mean cost, the mean regret with its interval from the bootstrap over tasks, and
how often it fails (regret above 0.1). Then it compares `find` with the searches within the same budget and
with the optimizers that need no learning rate, on the trainings that both have, and names the tasks where
`find` loses.

The cost of `find` counts the steps of its probes and, as a third each, the forward passes of the untouched
model. What cost and regret are for the others is said in `searches.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd
from answers import FIRST_SEED, training_of
from bootstrap import bootstrap, interval
from budget_plot import draw_budgets
from lr_free import LR_FREE
from options import at_most_option, task_options, workers_option
from regret import FAILED
from rows import FIND, Job, Row, Run, cells_with_something_to_find, read_rows, run_jobs
from spending import FORWARD, evaluation_cost
from table_searches import TABLE_SEARCHES
from tasks import SCHEDULES, Split, read_tasks, schedule_of

from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.refined import refined_answer
from lrfind.analysis.refinement import refine_plan
from lrfind.config.sections import FindSection
from lrfind.config.shapes import shape_of
from lrfind.experiments.find import Probing, probe_rates, probing_steps
from lrfind.experiments.refine import refine
from lrfind.problem.problem import Problem, from_config
from lrfind.runs.summaries.find import probing_fact
from lrfind.training.executor import Conditions

BUDGETS = ("32", "100", "300", "1T", "2T", "4T", "10T")  # of `find`: steps, or multiples of the training's
OTHERS = ("1T", "2T", "4T", "10T", "20T")  # of the other methods
TRAINING = ["task", "schedule", "steps"]  # the columns that name a training
RIVALS = (*TABLE_SEARCHES, "MoMo", "MoMo-Adam", "schedule-free", "Prodigy")
BEHIND = 0.02  # `find` loses a training if its regret is higher by more than this


def steps_of(budget: str, steps: int) -> int:
    """Return a budget in gradient steps, for a training of `steps` steps.

    >>> steps_of("32", 400), steps_of("2T", 400)
    (32, 800)
    """
    return int(budget[:-1]) * steps if budget.endswith("T") else int(budget)


def answer_at(
    problem: Problem,
    training: PlannedTraining,
    schedule: str,
    budget: int | None,
    seed: int,
    probing: Probing | None = None,
) -> tuple[float | None, float]:
    """Return the rate that `find` answers within a budget, None if it refuses, and the cost in steps.

    Args:
        problem: what to train.
        training: the planned training.
        schedule: the name of its schedule.
        budget: the most gradient steps; None for probes alone, as without a budget.
        seed: the seed of the probes.
        probing: what its probes within the budget measured; measured here when omitted.
    """
    if probing is None:
        probing = probe_rates(problem, FindSection(lanes="single", budget=budget), seed, training)
    passes = sum(len(result.untouched_loss) for result in probing.results)
    cost = probing.cost + FORWARD * passes
    steps = max((result.steps for result in probing.results), default=0)
    fact = probing_fact(probing.results, training, probing.cost)
    lr, trust, start = fact["answer"]["lr"], fact["answer"]["confidence"] or "low", fact["start"]
    plan = None
    if start is not None and budget is not None:
        plan = refine_plan(start, steps, training, budget - probing.cost, seed)
    if plan is None:
        return lr, cost
    shape = shape_of(schedule_of(schedule, training.steps), training.steps, None)
    results = refine(problem, plan, shape, "val_loss", Conditions())
    refusal = fact["answer"]["reason"] if lr is None else None
    changes = refined_answer(start, trust, steps, training, plan, results, "val_loss", refusal=refusal)
    cost += sum(len(result.lr) for result in results) + len(results) * evaluation_cost(problem)
    return changes.get("lr", lr), cost


def find_rows(job: Job) -> list[Row]:
    """Return a row for each run of `find`. Trainings that differ in their schedule share their probes."""
    problem, rows, probed = from_config(job.task.experiment), [], dict[tuple[int, ...], Probing]()
    for cell, run, budget in job.runs:
        assert budget is not None
        training = training_of(job.task, problem, cell.schedule, cell.steps)
        seed = FIRST_SEED + run
        section = FindSection(lanes="single", budget=budget)
        key = (seed, training.longest, *probing_steps(section, cell.steps))
        if key not in probed:
            probed[key] = probe_rates(problem, section, seed, training)
        lr, cost = answer_at(problem, training, cell.schedule, budget, seed, probed[key])
        regret = 1.0 if lr is None else float(cell.regret(math.log10(lr)))
        rows.append(Row(*cell.name, FIND, run, budget, cost, regret))
    return rows


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the name of their budget; a row that is within two named budgets appears twice."""
    parts = []
    for budget in dict.fromkeys((*BUDGETS, *OTHERS)):
        in_steps = frame.steps.map(lambda steps, budget=budget: steps_of(budget, steps))
        parts.append(frame[frame.budget == in_steps].assign(label=budget))
    labelled_rows = pd.concat(parts)
    ours = labelled_rows.method == FIND
    # 300 steps are also one training of 300, but only `find` has budgets in steps.
    return labelled_rows[ours | labelled_rows.label.isin(OTHERS)]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each method and budget: cost, regret and fails, with 95 % intervals over tasks.

    Not every method is judged on every training, so the column `beside` has the mean regret of `find` on
    the same ones, within the same budget (10 trainings where the method has 20).
    """
    lines = []
    ours = rows[rows.method == FIND]
    for method in rows.method.unique():
        by_label = rows[rows.method == method].groupby("label", sort=False)
        for label, group in by_label:
            beside = ours[ours.label == (BUDGETS[-1] if label not in BUDGETS else label)]
            lines.append(_line(str(method), str(label), group, beside))
    names = "method budget cost trainings regret low high failed least most judged beside"
    return pd.DataFrame(lines, columns=names.split())


def _line(method: str, label: str, rows: pd.DataFrame, ours: pd.DataFrame) -> tuple[Any, ...]:
    regret = bootstrap(rows, "regret").of(method)
    failed = bootstrap(rows.assign(failed=rows.regret > FAILED), "failed").of(method)
    trainings = float((rows.cost / rows.steps).mean())
    judged = rows[TRAINING].drop_duplicates()
    beside = float(ours.merge(judged, on=TRAINING).regret.mean())
    return method, label, float(rows.cost.mean()), trainings, *regret, *failed, len(judged), beside


def print_summary(table: pd.DataFrame) -> None:
    """Print the table of methods and budgets."""
    click.echo(
        f"\n  {'method':18} {'budget':>6}  {'cost in steps':>13}  {'in trainings':>12}"
        f"  {'mean regret':23}  {'fails, %':15}  trainings  find on these"
    )
    for row in table.itertuples():
        click.echo(
            f"  {row.method:18} {row.budget:>6}  {row.cost:13,.0f}  {row.trainings:12.2f}"
            f"  {row.regret:.4f} [{row.low:.4f}, {row.high:.4f}]"
            f"  {100 * row.failed:4.0f} [{100 * row.least:3.0f}, {100 * row.most:3.0f}]  {row.judged:9}"
            f"  {row.beside:13.4f}"
        )


def print_differences(rows: pd.DataFrame, budget: str) -> None:
    """Print how far the regret of `find` is from that of each rival, paired by training and drawn by task.

    The searches have the same budget; an optimizer without a learning rate has its one training.
    """
    click.echo(f"\n  Regret of find within {budget}, less that of the other:")
    ours = rows[(rows.method == FIND) & (rows.label == budget)]
    lost: list[str] = []
    for rival in RIVALS:
        theirs = rows[(rows.method == rival) & (rows.label == ("1T" if rival in LR_FREE else budget))]
        for schedule in SCHEDULES:
            both = pd.concat([ours, theirs])
            both = both[both.schedule == schedule].groupby([*TRAINING, "method"]).regret.mean().unstack()
            if not {FIND, rival} <= set(both.columns) or both.dropna().empty:
                continue
            both = both.dropna()[[FIND, rival]]
            drawn = bootstrap(both.stack().rename("regret").reset_index(), "regret")
            difference = drawn.draws[FIND] - drawn.draws[rival]
            low, high = interval(difference)
            behind = both[both[FIND] > both[rival] + BEHIND]
            click.echo(
                f"  {rival:14} {schedule:9} {drawn.mean[FIND]:.4f} - {drawn.mean[rival]:.4f} ="
                f" {drawn.mean[FIND] - drawn.mean[rival]:+.4f} [{low:+.4f}, {high:+.4f}];"
                f" find is behind by over {BEHIND} in {len(behind)} of {len(both)} trainings"
            )
            lost += [
                f"  {task:30} {schedule:9} {steps:6}  {row[FIND]:.3f}  {row[rival]:.3f} {rival}"
                for (task, _, steps), row in behind.iterrows()
            ]
    if lost:
        click.echo("\n  Where find loses: its regret, and that of the other")
        click.echo("\n".join(lost))


@click.command()
@click.argument("searches", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("find", type=click.Path(dir_okay=False, path_type=Path))
@task_options
@at_most_option
@click.option("--at-least", default=0, help="Only trainings of so many steps or more.")
@click.option("--runs", default=3, help="The number of seeds of find.")
@click.option(
    "--within",
    type=click.Choice(BUDGETS),
    multiple=True,
    default=BUDGETS,
    help="The budgets of find that are computed if they are missing; may be repeated.",
)
@workers_option
@click.option(
    "--paired",
    type=click.Choice(BUDGETS),
    multiple=True,
    default=["1T"],
    help="The budgets of find that are compared with each search and each rate-free optimizer.",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw regret against cost into this file."
)
def main(
    searches: Path,
    find: Path,
    splits: Sequence[Split],
    only: tuple[str, ...],
    at_most: int | None,
    at_least: int,
    runs: int,
    within: Sequence[str],
    workers: int,
    paired: Sequence[str],
    truth: Path,
    plot: Path | None,
) -> None:
    """Compare find within several budgets with the methods in SEARCHES; FIND keeps its answers."""
    tasks = [task for task in read_tasks(*splits) if not only or task.name in only]
    cells = cells_with_something_to_find(truth, tasks, at_most)
    cells = [cell for cell in cells if cell.steps >= at_least]
    jobs = []
    for task in tasks:
        pairs = [
            Run(cell, number, budget)
            for cell in cells
            if cell.task == task.name
            for budget in sorted({steps_of(name, cell.steps) for name in within})
            for number in range(runs)
        ]
        jobs.append(Job(task, FIND, pairs, truth))
    run_jobs(find_rows, jobs, workers, find)
    frame = pd.concat([read_rows(find), read_rows(searches)])
    names = {cell.name for cell in cells}
    judged = [name in names for name in zip(frame.task, frame.schedule, frame.steps, strict=True)]
    rows = labelled(frame[judged])
    table = summary(rows)
    trainings = rows.drop_duplicates(TRAINING)
    click.echo(f"{rows.task.nunique()} tasks, {len(trainings)} trainings")
    print_summary(table)
    for budget in paired:
        print_differences(rows, budget)
    if plot is not None:
        draw_budgets(table, set(LR_FREE), plot)


if __name__ == "__main__":
    main()
