"""What trainings make of an answer: with a larger budget they refine it, and on request they verify it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lrfind.analysis.lanes import Lane, LaneResult, Shape
from lrfind.analysis.recommendation import Answer, PlannedTraining
from lrfind.analysis.refinement import refine_plan, refined_answer
from lrfind.analysis.verification import moved_answer, verified_lrs
from lrfind.config.sections import FindSection
from lrfind.errors import NoSuggestion, UsageError
from lrfind.experiments.refine import refine
from lrfind.experiments.verify import verify_rate
from lrfind.problem.problem import Problem
from lrfind.training.executor import Conditions
from lrfind.training.run import run_lane
from lrfind.training.watch import Watch

SAME = 1e-3  # relative difference of two losses of the same model on the same batch


def refined(
    answer: Answer,
    training: PlannedTraining,
    probe_steps: int,
    problem: Problem,
    budget: int,
    seed: int,
    shape: Shape,
    watch: Watch,
) -> dict[str, Any]:
    """Return what trainings change of a recommendation; nothing if the budget allows none.

    Raises:
        NoSuggestion: if no training finished.
    """
    plan = refine_plan(answer.lr, probe_steps, training, budget, seed)
    if plan is None:
        return {}
    trainings = refine(problem, plan, shape, "train_loss", Conditions(evaluated=False), watch=watch)
    changes = refined_answer(
        answer.lr, answer.confidence, probe_steps, training, plan, trainings, "train_loss"
    )
    cost = answer.cost + sum(lane.lr.size for lane in trainings)
    if "lr" in changes and changes["lr"] is None:
        raise NoSuggestion(changes["reason"], cost)
    return {**changes, "cost": cost, "refinement": trainings}


def verified(
    answer: Answer,
    steps: int,
    problem: Problem,
    section: FindSection,
    seed: int,
    shape: Shape,
    watch: Watch,
) -> dict[str, Any]:
    """Return what whole trainings change of a recommendation: their verdict, and the rate if it moved.

    Raises:
        NoSuggestion: if no training learned anything.
    """
    verdict, trainings = verify_rate(problem, answer.lr, steps, shape, section, seed, watch=watch)
    cost = answer.cost + sum(lane.lr.size for lane in trainings)
    lrs = verified_lrs(answer.lr, section.verify_beyond)
    changes = {} if verdict.lr == answer.lr else moved_answer(verdict, answer.lr, lrs)
    if changes and changes["lr"] is None:
        raise NoSuggestion(changes["reason"], cost)
    return {**changes, "cost": cost, "verdict": verdict, "verification": trainings}


def refuse_changed_model(problem: Problem, seed: int, untouched: LaneResult) -> None:
    """Refuse a model whose first loss is not what it was when it was probed.

    Args:
        problem: what to train.
        seed: the seed of the batch.
        untouched: the losses that the untouched model had with this seed.

    Raises:
        UsageError: if its weights are others.
    """
    now = run_lane(problem, Lane(0, seed, np.zeros(1)), Conditions(evaluated=False)).loss[0]
    then = untouched.loss[0]
    if not np.isclose(now, then, rtol=SAME, equal_nan=True):
        raise UsageError(
            f"the model has changed since `find` was called: its first loss is {now:.4g}, and it was"
            f" {then:.4g}. Load the weights that it had then, or call find(..., verify=True)."
        )
