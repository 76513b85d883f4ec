"""Searches over whole trainings that need no new training, because the truth has the losses at every rate.

A search sees the final losses of one seed of the truth alone. Its answer is judged by the mean losses of the
*other* seeds, so no method is judged by a training that it saw. A training whose truth has only one seed
(10,000 steps) therefore has no such rows. The best rate of fewer seeds has a slightly lower loss than that of
all, so the regret is higher than in `report.py` by about 0.001 (0.002 at 3,000 steps, where one seed judges).

Between the rates of the truth, losses are interpolated in log lr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from regret import cell_of
from rows import Job, Row
from spending import default_lr, evaluation_cost

from lrfind.problem.problem import from_config

HALF_RANGE = 3.0  # decades below and above the optimizer's default lr, in which rates are drawn
TRAININGS = (1, 2, 4, 10, 20)  # budgets, as numbers of whole trainings
GRID_RATES = 7
RANDOM_RUNS = 12  # runs of the random search, which costs nothing here; the others have one run a seed

See = Callable[[float], float]
"""A function from log10 lr to the regret of a training at this rate, with the one seed that a search sees."""

Search = Callable[[See, float, np.random.Generator], Sequence[float]]
"""A function from what a search sees, log10 of the default lr, and chance, to log10 of the rates it tries.

The rates are in the order of its trainings, of which there are at most `TRAININGS[-1]`."""


def hill_climb(see: See, start: float, random: np.random.Generator) -> list[float]:
    """Climb in half decades from the default lr, until both neighbours of the best rate are worse.

    While no rate learns anything, the rates go outward in turns, downward first.
    """
    tried = {0: see(start)}  # place in half decades -> regret
    while len(tried) < TRAININGS[-1]:
        best = min(tried, key=tried.__getitem__)
        near = [best + 1, best - 1] if tried[best] < 1 else sorted([min(tried) - 1, max(tried) + 1], key=abs)
        new = [place for place in near if place not in tried]
        if not new:
            break
        tried[new[0]] = see(start + new[0] / 2)
    return [start + place / 2 for place in tried]


def decade_grid(see: See, start: float, random: np.random.Generator) -> list[float]:
    """Train at seven rates, one a decade, from the default lr outward."""
    return [start + place for place in sorted(range(-(GRID_RATES // 2), GRID_RATES // 2 + 1), key=_outward)]


def _outward(place: int) -> tuple[int, int]:
    return abs(place), -place


def random_search(see: See, start: float, random: np.random.Generator) -> list[float]:
    """Train at rates that are log-uniform within `HALF_RANGE` decades of the default lr."""
    return list(start + random.uniform(-HALF_RANGE, HALF_RANGE, TRAININGS[-1]))


TABLE_SEARCHES: dict[str, Search] = {
    "hill climb": hill_climb,
    "decade grid": decade_grid,
    "random search": random_search,
}


def table_runs(method: str, seeds: int) -> int:
    """Return the number of runs for a training whose truth has so many seeds; 0 if none could judge."""
    if seeds < 2:
        return 0
    return RANDOM_RUNS if method == "random search" else seeds


def table_rows(job: Job) -> list[Row]:
    """Return a row for each run and budget of a search."""
    problem = from_config(job.task.experiment)
    evaluation, start = evaluation_cost(problem), np.log10(default_lr(problem))
    frame = pd.read_csv(job.truth)
    frame = frame[frame.task == job.task.name]
    rows = []
    for cell, run, _ in job.runs:
        trainings = frame[(frame.schedule == cell.schedule) & (frame.steps == cell.steps)]
        for budget, cost, regret in judged_by_others(trainings, TABLE_SEARCHES[job.method], start, run):
            steps = cell.steps
            spent = cost * (steps + evaluation)
            rows.append(Row(*cell.name, job.method, run, budget * steps, spent, regret))
    return rows


def judged_by_others(
    trainings: pd.DataFrame, search: Search, start: float, run: int
) -> list[tuple[int, int, float]]:
    """Let a search see one seed of a training's truth, and judge its answers by the others.

    Args:
        trainings: the rows of the truth about one training.
        search: the search.
        start: log10 of the default lr.
        run: the number of the run, which decides the seed that is seen, and chance.

    Returns:
        For each of `TRAININGS`: this budget, the trainings that the search took within it, and the regret.
    """
    seeds = sorted(trainings.seed.unique())
    sees = trainings.seed == seeds[run % len(seeds)]
    seen, judge = cell_of(trainings[sees]), cell_of(trainings[~sees])
    random = np.random.default_rng([run, *trainings.task.iloc[0].encode()])
    rates = search(lambda log_lr: float(seen.regret(log_lr)), start, random)
    answers = []
    for budget in TRAININGS:
        tried = rates[:budget]
        best = min(tried, key=lambda log_lr: float(seen.regret(log_lr)))
        answers.append((budget, len(tried), float(judge.regret(best))))
    return answers
