"""Range tests: ramping lanes, one after another, and on request the real edge of stability."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any

import numpy as np

from lrfind.analysis.lanes import SETTLED, Lane, LaneResult, Watch, range_test_lanes
from lrfind.analysis.probe_search import ceiling_over
from lrfind.config.sections import RangeTestSection
from lrfind.config.variants import variants_of
from lrfind.errors import NoSuggestion
from lrfind.experiments.edge import TRIAL_STEPS, Edge, bisect_edge
from lrfind.experiments.prepare import environment
from lrfind.problem.problem import Problem, from_configs
from lrfind.runs.best import conclude
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.schedules.functions import ramp
from lrfind.training.executor import ON_A_RAMP, Conditions
from lrfind.training.run import run_lane
from lrfind.training.watch import Observer, unwatched

TRIAL = Conditions(evaluated=False)
"""The conditions of the short lanes that bisect for the edge."""


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
    """Run the lanes of a range test, one after another.

    Args:
        problem: what to train.
        section: the ramp and the number of seeds.
        seed: the seed of the first lane.
        keep: called with each lane's result as soon as the lane ends. If a lane is interrupted or fails, this
            happens before the exception leaves this function.
        watch: called after every step.
        settled: the numbers of lanes that are left out because they ran before.
        first: the number of the first lane.
        variant: the variant that the lanes belong to.
        looks: the number of looks at the layers of each lane.

    Returns:
        One result for each lane that was run.
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
        The edge, and the number of training steps that it took to find it.

    Raises:
        NoSuggestion: if every lr diverges, or if no lr diverges.
    """
    cost = 0

    def trial(lr: float) -> LaneResult:
        nonlocal cost
        result = run_lane(problem, Lane(0, seed, np.full(TRIAL_STEPS, lr)), TRIAL)
        cost += result.lr.size
        return result

    highest = ceiling_over(trial(0.0).loss)

    def diverges(lr: float) -> bool:
        result = trial(lr)
        return result.outcome == "diverged" or float(np.median((result.loss - highest)[-3:])) > 0

    return bisect_edge(diverges, guess), cost


def run_range_test(run: Run, observer: Observer) -> RunResult:
    """Run a range test, or continue it: lanes whose outcome is final are kept, the others are run.

    The measurements are stored and exported even if the test is interrupted or fails.

    Args:
        run: a run directory that this process has locked.
        observer: is called as the run goes on, to show progress.
    """
    experiment = run.experiment
    section, facts = experiment.range_test, run.facts()
    settled = [lane for lane, outcome in run.outcomes().items() if outcome in SETTLED]
    try:
        variants = variants_of(experiment, facts.command)
        planned = section.seeds * len(variants)
        run.keep_facts(planned=planned)
        problems = from_configs(
            [variant.experiment for variant in variants], held_out=section.held_out, group=section.group
        )
        problem = problems[0]
        if facts.environment is None:
            run.keep_facts(environment=environment(problem.device), data=problem.data)
        watch = observer.watch(planned, section.steps)
        for number, (variant, variant_problem) in enumerate(zip(variants, problems, strict=True)):
            range_test(
                variant_problem,
                section,
                experiment.seed,
                keep=run.add_lane,
                watch=watch,
                settled=settled,
                first=number * section.seeds,
                variant=variant.name,
                looks=experiment.looks,
            )
        run.keep_facts(notes=[*problem.notes])
        if section.edge and facts.stability_edge is None:
            ends = [float(lane.lr[-1]) for lane in run.lanes() if lane.outcome == "diverged"]
            guess = min(ends, default=section.end_lr)
            run.keep_facts(stability_edge=_edge_fact(problem, experiment.seed, guess))
    except BaseException:
        with contextlib.suppress(OSError):
            conclude(run)
        raise
    return conclude(run)


def _edge_fact(problem: Problem, seed: int, guess: float) -> dict[str, Any]:
    try:
        edge, cost = measure_edge(problem, seed, guess)
    except NoSuggestion as refusal:
        return {"lr": None, "reason": f"not found by bisection: {refusal.reason}"}
    ends = f"stable at {edge.stable:.4g}, diverging at {edge.diverging:.4g}"
    return {"lr": edge.lr, "reason": f"measured by bisection in {cost} steps: {ends}"}
