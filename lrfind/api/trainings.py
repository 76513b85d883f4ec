"""What trainings make of an answer: with a larger budget they refine it, and on request they verify it."""

from __future__ import annotations

from typing import Any

from lrfind.analysis.lanes import Shape, Watch
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.recommendation import Answer
from lrfind.analysis.refined import refined_answer
from lrfind.analysis.refinement import refine_plan
from lrfind.analysis.verification import moved_answer, verified_lrs
from lrfind.config.sections import FindSection
from lrfind.errors import NoSuggestion
from lrfind.experiments.refine import refine
from lrfind.experiments.verify import verify_rate
from lrfind.problem.problem import Problem
from lrfind.training.executor import Conditions


def provisional(refusal: NoSuggestion) -> Answer:
    """Return the rate at which trainings begin where the probes recommend none.

    Raises:
        NoSuggestion: `refusal`, if trainings would tell no more.
    """
    if refusal.start is None:
        raise refusal
    start = refusal.start
    return Answer(start, start, start, "low", None, refusal.reason, refusal.cost)


def refined(
    answer: Answer,
    training: PlannedTraining,
    probe_steps: int,
    problem: Problem,
    budget: int,
    seed: int,
    shape: Shape,
    watch: Watch,
    refusal: NoSuggestion | None = None,
) -> dict[str, Any]:
    """Return what trainings change of a recommendation; nothing if the budget allows none.

    Raises:
        NoSuggestion: if no training finished; or, if the answer is only `provisional` because of a refusal,
            if the trainings learned nothing either, or if there was no budget for them.
    """
    plan = refine_plan(answer.lr, probe_steps, training, budget, seed)
    if plan is None:
        if refusal is not None:
            raise refusal
        return {}
    trainings = refine(problem, plan, shape, "train_loss", Conditions(evaluated=False), watch=watch)
    why = None if refusal is None else refusal.reason
    changes = refined_answer(
        answer.lr, answer.confidence, probe_steps, training, plan, trainings, "train_loss", refusal=why
    )
    cost = answer.cost + sum(lane.lr.size for lane in trainings)
    if changes.get("lr", None if refusal else answer.lr) is None:
        raise NoSuggestion(changes["reason"], cost)
    return {**changes, "cost": cost, "refinement": trainings}


def verified(
    answer: Answer,
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
    verdict, trainings = verify_rate(problem, answer.lr, shape, section, seed, watch=watch)
    cost = answer.cost + sum(lane.lr.size for lane in trainings)
    lrs = verified_lrs(answer.lr, section.verify_beyond)
    changes = {} if verdict.lr == answer.lr else moved_answer(verdict, answer.lr, lrs)
    if changes and changes["lr"] is None:
        raise NoSuggestion(changes["reason"], cost)
    return {**changes, "cost": cost, "verdict": verdict, "verification": trainings}
