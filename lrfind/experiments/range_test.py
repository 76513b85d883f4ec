"""Range tests: plan, run, keep, suggest. Everything that the command does, without its printing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any

import numpy as np

from lrfind.analysis.lanes import SETTLED, Lane, LaneResult, range_test_lanes
from lrfind.config.sections import RangeTestSection
from lrfind.config.variants import variants_of
from lrfind.errors import NoSuggestion
from lrfind.experiments.edge import TRIAL_STEPS, Edge, bisect_edge
from lrfind.experiments.prepare import environment
from lrfind.problem.problem import Problem, from_configs
from lrfind.runs.store import Run
from lrfind.runs.summary import conclude
from lrfind.schedules.functions import ramp
from lrfind.training.run import run_lane
from lrfind.training.team import ON_A_RAMP, Conditions
from lrfind.training.watch import Watch, WatchFor, unwatched

TRIAL = Conditions(evaluated=False)
"""Of the short lanes that the edge is bisected with."""


def range_test(
    problem: Problem,
    section: RangeTestSection,
    seed: int,
    *,
    keep: Callable[[LaneResult], None] = lambda result: None,
    watch: Watch = unwatched,
    settled: Container[int] = (),
    first: int = 0,
    variant: str = "",
    looks: int = 0,
) -> list[LaneResult]:
    """Run a range test, lane after lane.

    Args:
        problem: what to train.
        section: the ramp and the number of seeds.
        seed: of the first lane.
        keep: given each lane's result as soon as the lane ends; also a lane that was interrupted or failed,
            before the exception goes on.
        watch: told of every step.
        settled: numbers of lanes that are left out, because they were run before.
        first: number of the first lane.
        variant: what the lanes are a variant of.
        looks: how often the layers of a lane are looked at.

    Returns:
        One result per lane that was run.
    """
    lr = ramp(section.start_lr, section.end_lr, section.steps, spacing=section.spacing)
    conditions = replace(ON_A_RAMP, grad_norm=section.grad_norm, looks=looks)
    return [
        run_lane(problem, lane, conditions, keep=keep, watch=watch)
        for lane in range_test_lanes(lr, seed, section.seeds, first, variant)
        if lane.lane not in settled
    ]


def measure_edge(problem: Problem, seed: int, guess: float) -> tuple[Edge, int]:
    """Bisect for the real edge of stability, with short lanes at a constant lr from the weights of `seed`.

    Returns:
        The edge, and the training steps that it took to find.

    Raises:
        NoSuggestion: if every lr diverges, or none.
    """
    cost = 0

    def diverges(lr: float) -> bool:
        nonlocal cost
        lane = Lane(0, seed, np.full(TRIAL_STEPS, lr))
        trial = run_lane(problem, lane, TRIAL)
        cost += trial.lr.size
        return trial.outcome == "diverged"

    return bisect_edge(diverges, guess), cost


def run_range_test(run: Run, *, watch: WatchFor = lambda lanes, steps: unwatched) -> dict[str, Any]:
    """Run a range test, or go on with it: lanes that came to their end are kept, the others are run.

    What was measured is kept and exported also when it is interrupted or fails.

    Args:
        run: a run directory, held by this process.
        watch: makes what is told of every step.

    Returns:
        The summary, as in summary.json.
    """
    experiment = run.experiment
    section, facts = experiment.range_test, run.facts()
    settled = [lane for lane, outcome in run.outcomes().items() if outcome in SETTLED]
    try:
        variants = variants_of(experiment, "range-test")
        problems = from_configs(
            [variant.experiment for variant in variants], held_out=section.held_out, group=section.group
        )
        problem = problems[0]
        if "environment" not in facts:
            run.set_fact("environment", environment(problem.device))
            run.set_fact("data", problem.data)
        told = watch(section.seeds * len(variants), section.steps)
        for number, (variant, of_it) in enumerate(zip(variants, problems, strict=True)):
            range_test(
                of_it,
                section,
                experiment.seed,
                keep=run.add_lane,
                watch=told,
                settled=settled,
                first=number * section.seeds,
                variant=variant.name,
                looks=experiment.looks,
            )
        run.set_fact("notes", [*problem.notes])
        if section.edge and "edge" not in facts:
            ends = [float(lane.lr[-1]) for lane in run.lanes() if lane.outcome == "diverged"]
            guess = min(ends, default=section.end_lr)
            run.set_fact("edge", _edge_fact(problem, experiment.seed, guess))
    except BaseException:
        with contextlib.suppress(OSError):
            conclude(run)
        raise
    return conclude(run)


def _edge_fact(problem: Problem, seed: int, guess: float) -> dict[str, Any]:
    try:
        found, cost = measure_edge(problem, seed, guess)
    except NoSuggestion as refused:
        return {"lr": None, "is": f"not found by bisection: {refused.reason}"}
    ends = f"stable at {found.stable:.4g}, diverging at {found.diverging:.4g}"
    return {"lr": found.lr, "is": f"measured by bisection in {cost} steps: {ends}"}
