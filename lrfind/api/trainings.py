"""What trainings make of a recommendation: with a larger budget they refine it, and on request verify it."""

from __future__ import annotations

from dataclasses import replace

from lrfind.analysis.lanes import Shape
from lrfind.analysis.refinement import refine_plan, refined_answer
from lrfind.analysis.verification import moved_answer, verified_lrs
from lrfind.api.results import Recommendation
from lrfind.config.sections import FindSection
from lrfind.errors import NoSuggestion
from lrfind.experiments.refine import refine
from lrfind.experiments.verify import verify_rate
from lrfind.problem.problem import Problem
from lrfind.training.executor import Conditions
from lrfind.training.watch import Watch


def refined(
    best: Recommendation, problem: Problem, budget: int, seed: int, shape: Shape, watch: Watch
) -> Recommendation:
    """Return a recommendation that trainings refined, if the budget allows any.

    Raises:
        NoSuggestion: if no training finished.
    """
    steps = max(result.steps for result in best.results)
    plan = refine_plan(best.lr, steps, best.training, budget, seed)
    if plan is None:
        return best
    trainings = refine(problem, plan, shape, "train_loss", Conditions(evaluated=False), watch=watch)
    changes = refined_answer(best.lr, best.confidence, steps, best.training, plan, trainings, "train_loss")
    cost = best.cost + sum(lane.lr.size for lane in trainings)
    if "lr" in changes and changes["lr"] is None:
        raise NoSuggestion(changes["reason"], cost)
    return replace(best, **changes, cost=cost, refinement=trainings)


def verified(
    best: Recommendation,
    problem: Problem,
    section: FindSection,
    seed: int,
    shape: Shape,
    watch: Watch,
) -> Recommendation:
    """Return a recommendation that whole trainings verified, and moved if another rate was better.

    Raises:
        NoSuggestion: if no training learned anything.
    """
    verdict, trainings = verify_rate(problem, best.lr, best.training.steps, shape, section, seed, watch=watch)
    cost = best.cost + sum(lane.lr.size for lane in trainings)
    lrs = verified_lrs(best.lr, section.verify_beyond)
    changes = {} if verdict.lr == best.lr else moved_answer(verdict, best.lr, lrs)
    if changes and changes["lr"] is None:
        raise NoSuggestion(changes["reason"], cost)
    return replace(best, **changes, cost=cost, verdict=verdict, verification=trainings)
