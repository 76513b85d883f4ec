"""Refinement of the answer of `find`: trainings with the planned schedule, as far as the budget goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from lrfind.analysis.confidence import Confidence
from lrfind.analysis.lanes import SETTLED, LaneResult, PlannedLane, Shape, Watch
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.refined import refined_answer
from lrfind.analysis.refinement import REFINE, RefinePlan, next_training, refine_plan
from lrfind.analysis.sweeps import judge_in_force
from lrfind.analysis.verification import verify_count
from lrfind.catalog import Judge
from lrfind.config.sections import FindSection
from lrfind.experiments.prepare import evaluate_once, schedule_shape, training_conditions
from lrfind.problem.problem import Problem
from lrfind.problem.ranks import over_ranks
from lrfind.runs.store import Run
from lrfind.training.executor import Conditions
from lrfind.training.run import run_lane
from lrfind.training.watch import Observer, unwatched


def left_steps(section: FindSection, steps: int, cost: int, began: float) -> float:
    """Return the gradient steps that a budget of steps and of seconds leaves; infinite if none is given.

    Args:
        section: the budget.
        steps: the number of steps of the planned training.
        cost: the gradient steps that were taken.
        began: when the first of them began, by the monotonic clock; the pace since then counts.
    """
    budget = section.budget_steps(steps)
    left = math.inf if budget is None else budget - cost
    if section.max_seconds is not None:
        seconds = time.monotonic() - began
        pace = max(seconds, 1e-6) / max(cost, 1)
        left = min(left, over_ranks((section.max_seconds - seconds) / pace))
    return max(left, 0.0)


def left_budget(section: FindSection, steps: int, cost: int, began: float) -> int:
    """Return the gradient steps that are left for refinement, as `left_steps`; 0 if there is no budget."""
    left = left_steps(section, steps, cost, began)
    return int(left) if math.isfinite(left) else 0


def refine(
    problem: Problem,
    plan: RefinePlan,
    shape: Shape,
    judge: Judge,
    conditions: Conditions,
    *,
    first: int = 0,
    done: Sequence[LaneResult] = (),
    keep: Callable[[Sequence[LaneResult]], None] = lambda results: None,
    watch: Watch = unwatched,
) -> list[LaneResult]:
    """Train one rate after another, as `analysis.refinement.next_training` decides, and return all trainings.

    Args:
        problem: what to train.
        plan: the plan.
        shape: the planned schedule, which is compressed to the steps of the plan.
        judge: the loss that decides.
        conditions: when trainings are evaluated.
        first: the number of the first training among the lanes of a run.
        done: the trainings that have ended before.
        keep: called with every further training when it ends, or when it is interrupted.
        watch: called after every step.
    """
    results, course = [*done], shape.compressed(plan.steps)
    while (following := next_training(plan, results, judge_in_force(results, judge))) is not None:
        lr, seed = following
        lane = PlannedLane(first + len(results), seed, lr, REFINE).shaped(course)
        kept = run_lane(problem, lane, conditions, keep=lambda result: keep([result]), watch=watch)
        results.append(kept)
    return results


def refine_run(run: Run, problem: Problem, observer: Observer) -> None:
    """Refine the answer of the probes of a run with the budget that is left, and store what comes of it.

    Where the probes recommend no rate because they saw nothing fall, longer trainings may.
    """
    facts, experiment = run.facts(), run.experiment
    assert facts.probing is not None  # probing has ended
    assert facts.planned_training is not None
    answer = facts.probing["answer"]
    start = facts.probing.get("start", answer["lr"])
    if start is None or facts.refined is not None:
        return
    training = PlannedTraining(**facts.planned_training)
    probe_steps = max(row["steps"] for row in facts.probing["probes"])
    plan = refine_plan(start, probe_steps, training, facts.left_budget, experiment.seed)
    if plan is None:
        return
    lanes = run.lanes()
    done = [lane for lane in lanes if lane.variant == REFINE and lane.outcome in SETTLED]
    first = sum(lane.variant != REFINE for lane in lanes)
    if facts.metric is None:
        run.keep_facts(metric=evaluate_once(problem, experiment.seed)[0])
    results = refine(
        problem,
        plan,
        schedule_shape(experiment, problem, training.steps),
        experiment.find.judge,
        training_conditions(experiment),
        first=first,
        done=done,
        keep=run.add_lanes,
        watch=observer.watch(None, plan.steps),
    )
    trust: Confidence = answer["confidence"] or "low"
    refusal = answer["reason"] if answer["lr"] is None else None
    judge = experiment.find.judge
    changes = refined_answer(start, trust, probe_steps, training, plan, results, judge, refusal=refusal)
    answered = changes.get("lr", answer["lr"]) is not None
    section, verifying = experiment.find, 0
    if section.verify and answered:
        verifying = verify_count(section.verify_beyond, section.verify_seeds)
    refined = asdict(plan) | {"answer": changes}
    run.keep_facts(refined=refined, planned=first + len(results) + verifying)
