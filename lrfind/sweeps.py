"""Sweeps: many lanes at constant lrs, round after round, until the sampler has no more to propose."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from lrfind import pruning, samplers
from lrfind.calibration import Engine, calibrate, computing_with
from lrfind.conclusions import conclude, sweep_section
from lrfind.config import Experiment, GridSection, SearchSection, SweepSection, TrainingSection
from lrfind.environment import environment
from lrfind.errors import Stopped, UsageError
from lrfind.evaluation import Metric, evaluate, evaluating, score
from lrfind.lanes import run_lanes
from lrfind.plan import SETTLED, Lane, LaneResult, sweep_lanes
from lrfind.problem import Problem, from_config
from lrfind.readings import read_sweep
from lrfind.store import Run
from lrfind.teams import Conditions, WatchFor, unwatched

LOWEST, HIGHEST = 1e-9, 1e4
"""How far `extend` goes."""
BYTES_PER_STEP = 170
"""What a step of a lane takes on the disk, in the database and in steps.csv together, about."""


@dataclass(frozen=True)
class Cost:
    """What a sweep will take, about.

    Attributes:
        lanes: how many.
        steps: T of each.
        seconds: in all, if no lane stops early.
        bytes: on the disk.
    """

    lanes: int
    steps: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Prepared:
    """A sweep that is ready to run.

    Attributes:
        problem: what it trains.
        steps: T.
        conditions: of its lanes.
        engine: how they are trained.
        metric: what the task's metric is called.
        cost: of the whole.
    """

    problem: Problem
    steps: int
    conditions: Conditions
    engine: Engine
    metric: Metric | None
    cost: Cost


def prepare(experiment: Experiment, section: SweepSection, engine: Engine | None = None) -> Prepared:
    """Load the data, choose the engine unless it is given, and estimate the cost.

    Raises:
        LrfindError: if a part cannot be made as described, or a lane cannot take its first steps.
    """
    problem = from_config(experiment)
    steps = budget(experiment.training, problem)
    peaks = first_peaks(section, experiment.seed)
    if engine is None:
        engine = calibrate(problem, section, len(peaks), min(peaks), experiment.seed)
    conditions = Conditions(
        eval_every=experiment.training.eval_every, rungs=pruning.rungs(steps) if section.prune else ()
    )
    metric, seconds = _evaluation(problem, experiment.seed)
    count = (section.trials if isinstance(section, SearchSection) else len(peaks)) * section.seeds
    evaluations = 1 + (steps - 1) // (conditions.eval_every or steps)
    time_of_one = steps * engine.seconds_per_step + evaluations * seconds
    cost = Cost(count, steps, count * time_of_one, count * steps * BYTES_PER_STEP)
    return Prepared(problem, steps, conditions, engine, metric, cost)


def budget(training: TrainingSection, problem: Problem) -> int:
    """T, the steps of a training.

    Raises:
        UsageError: if it is given in epochs and the data does not tell how long one is.
    """
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None  # the config has exactly one of them
    if problem.steps_per_epoch is None:
        raise UsageError("training.epochs: the data has no length; give training.steps instead.")
    return training.epochs * problem.steps_per_epoch


def _evaluation(problem: Problem, seed: int) -> tuple[Metric | None, float]:
    """The name of the task's metric, and the seconds that one evaluation of a lane takes."""
    if problem.validation is None:
        return None, 0.0
    setup = problem.setup(seed)
    began = time.perf_counter()
    with evaluating(setup.model), torch.no_grad():
        _, _, metric = evaluate(lambda b: score(setup.model, setup.loss_fn, b), problem.validation())
    return metric, time.perf_counter() - began


def run_sweep(
    run: Run,
    *,
    watch: WatchFor = lambda lanes, steps: unwatched,
    note: Callable[[Prepared], None] = lambda prepared: None,
) -> dict[str, Any]:
    """Run a grid or a search, or go on with it: what has settled is kept, the rest is run.

    Args:
        run: a run directory, held by this process.
        watch: makes what is told of every step.
        note: told of the engine and the cost, before the first lane.

    Returns:
        The summary, as in summary.json.

    Raises:
        LrfindError: if the model or the data cannot be made or trained as described.
    """
    experiment, facts = run.experiment, run.facts()
    section = sweep_section(experiment, facts["command"])
    try:
        stored = Engine(**facts["engine"]) if "engine" in facts else None
        prepared = prepare(experiment, section, stored)
        if stored is None:
            run.set_fact("environment", environment(prepared.problem.device))
            run.set_fact("metric", prepared.metric)
            run.set_fact("engine", asdict(prepared.engine))
        note(prepared)
        while lanes := next_lanes(run, experiment, section, prepared.steps):
            with computing_with(prepared.engine.threads):
                run_lanes(
                    prepared.problem,
                    lanes,
                    prepared.conditions,
                    prepared.engine,
                    keep=run.add_lanes,
                    watch=watch(max(prepared.cost.lanes, lanes[-1].lane + 1), prepared.steps),
                    note=lambda text: run.set_fact("notes", [*run.facts().get("notes", ()), text]),
                )
    except (KeyboardInterrupt, Stopped):
        conclude(run)
        raise
    return conclude(run)


def next_lanes(run: Run, experiment: Experiment, section: SweepSection, steps: int) -> list[Lane]:
    """The planned lanes that have not settled, or else those of a new round, which are planned here."""
    plan, outcomes = run.plan(), run.outcomes()
    pending = [lane for lane in plan if outcomes.get(lane.lane) not in SETTLED]
    if pending:
        return [Lane(lane.lane, lane.seed, np.full(steps, lane.lr)) for lane in pending]
    if plan:
        peaks = next_peaks(section, [lane.lr for lane in plan], run.lanes(), experiment.seed)
    else:
        peaks = first_peaks(section, experiment.seed)
    lanes = sweep_lanes(peaks, steps, experiment.seed, section.seeds, first=len(plan))
    run.add_plan(lanes)
    return lanes


def first_peaks(section: SweepSection, seed: int) -> list[float]:
    """The lrs of the first round."""
    if isinstance(section, GridSection):
        return list(section.lrs or samplers.grid(section.low, section.high, section.points))
    assert isinstance(section, SearchSection)
    given = [] if section.start is None else [section.start]
    count = section.trials
    if section.sampler in ("tpe", "gp"):
        count = min(count, samplers.startup(section.trials))
    return given + _proposed(
        section, [samplers.Trial(lr, math.nan) for lr in given], count - len(given), seed
    )


def next_peaks(
    section: SweepSection, planned: Sequence[float], results: Sequence[LaneResult], seed: int
) -> list[float]:
    """The lrs of another round, from what all rounds before found; empty when the sweep is done.

    Args:
        section: of the config.
        planned: the lr of every lane so far, in order.
        results: of every lane so far.
        seed: of the search.
    """
    if isinstance(section, GridSection):
        return outward(section, results) if section.extend else []
    assert isinstance(section, SearchSection)
    rates = read_sweep(results, section.judge, section.tolerance).rates
    losses = {rate.lr: math.inf if rate.loss is None else rate.loss for rate in rates}
    history = [samplers.Trial(lr, losses[lr]) for lr in dict.fromkeys(planned)]
    return _proposed(section, history, min(section.batch, section.trials - len(history)), seed)


def _proposed(
    section: SearchSection, history: Sequence[samplers.Trial], count: int, seed: int
) -> list[float]:
    if count <= 0:
        return []
    return samplers.propose(section.sampler, section.low, section.high, history, count, section.trials, seed)


def outward(section: GridSection, results: Sequence[LaneResult]) -> list[float]:
    """The next lr outside a grid whose best lr is its lowest or highest, or all of whose lrs diverged."""
    reading = read_sweep(results, section.judge, section.tolerance)
    lrs = [rate.lr for rate in reading.rates]
    all_diverged = all(rate.outcome == "diverged" for rate in reading.rates)
    side = "low" if all_diverged else reading.boundary
    if side == "low":
        further = lrs[0] * (lrs[0] / lrs[1] if len(lrs) > 1 else 0.1)
    elif side == "high":
        further = lrs[-1] * (lrs[-1] / lrs[-2])
    else:
        return []
    return [float(f"{further:.12g}")] if LOWEST <= further <= HIGHEST else []
