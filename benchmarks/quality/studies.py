"""Optuna's searches for a learning rate, which stop poor trainings early, on lrfind's problems.

A study asks its sampler for a rate (log-uniform within `HALF_RANGE` decades of the optimizer's default lr,
as in the random search), trains at it from the same weights and on the same batches, and evaluates the
validation loss after a ninth, a third and all of the steps. There its pruner may stop the training. Its
answer is the rate with the lowest final loss; while no training has ended, that with the lowest loss at the
latest rung. The study runs until it has taken ten trainings' worth of gradient steps, and its answers
within one and four are those that it had when the next part of a training would have exceeded that. The
budget limits gradient steps; the cost also counts the evaluations.

Samplers and pruners have Optuna's defaults. Seeds are not those of the truth, so all of it judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from answers import FIRST_SEED
from peers import undisturbed
from rows import Job, Row
from spending import default_lr, evaluation_cost
from table_searches import HALF_RANGE
from tasks import schedule_of

from lrfind.analysis.curves import Array
from lrfind.config.shapes import shape_of
from lrfind.problem.problem import Problem, from_config
from lrfind.problem.setup import Setup
from lrfind.training.evaluation import evaluate, evaluating, score
from lrfind.training.loop import train

TRAININGS = (1, 4, 10)  # budgets, as numbers of whole trainings
REDUCTION, RUNGS = 3, (1, 3, 9)  # rungs in ninths of a training


def _sampler(name: str) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        import optuna

        return getattr(optuna.samplers, name)(seed=seed)

    return make


def _hyperband() -> Any:
    import optuna

    return optuna.pruners.HyperbandPruner(RUNGS[0], RUNGS[-1], REDUCTION)


def _successive_halving() -> Any:
    import optuna

    return optuna.pruners.SuccessiveHalvingPruner(RUNGS[0], REDUCTION)


STUDIES: dict[str, tuple[Callable[[int], Any], Callable[[], Any]]] = {
    "TPE, Hyperband": (_sampler("TPESampler"), _hyperband),
    "GP, Hyperband": (_sampler("GPSampler"), _hyperband),
    "CMA-ES, Hyperband": (_sampler("CmaEsSampler"), _hyperband),
    "ASHA": (_sampler("RandomSampler"), _successive_halving),
}
"""The sampler, made from a seed, and the pruner of each study. ASHA draws its rates at random."""


class Spent:
    """The gradient steps and evaluations that a study has taken, and its answers within each budget.

    Args:
        steps: T.

    Attributes:
        taken: the number of gradient steps.
        evaluations: the number of evaluations.
        losses: (rung, loss, lr) of each evaluation with a finite loss.
        answers: for each budget that is used up: its number of trainings, the lr and what had been taken.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.taken, self.evaluations = steps, 0, 0
        self.losses: list[tuple[int, float, float]] = []
        self.answers: list[tuple[int, float | None, int, int]] = []

    def affords(self, steps: int) -> bool:
        """Return whether the largest budget has so many steps left; note the answers of the others."""
        for trainings in TRAININGS[len(self.answers) :]:
            if self.taken + steps > trainings * self.steps:
                self.answers.append((trainings, self.best(), self.taken, self.evaluations))
        return len(self.answers) < len(TRAININGS)

    def best(self) -> float | None:
        """Return the rate with the lowest loss at the latest rung; None if no loss was finite."""
        order = sorted(self.losses, key=lambda seen: (-seen[0], seen[1]))
        return order[0][2] if order else None


def study_rows(job: Job) -> list[Row]:
    """Return a row for each run and budget of a study."""
    problem = from_config(job.task.experiment)
    evaluation, start = evaluation_cost(problem), math.log10(default_lr(problem))
    rows = []
    for cell, run, _ in job.runs:
        shape = shape_of(schedule_of(cell.schedule, cell.steps), cell.steps, None)
        spent = run_study(job.method, problem, shape.multiplier, start, FIRST_SEED + run)
        for trainings, lr, taken, evaluations in spent.answers:
            regret = 1.0 if lr is None else float(cell.regret(math.log10(lr)))
            cost = taken + evaluations * evaluation
            rows.append(Row(*cell.name, job.method, run, trainings * cell.steps, cost, regret))
    return rows


def run_study(method: str, problem: Problem, multiplier: Array, start: float, seed: int) -> Spent:
    """Run a study until its largest budget is used up.

    Args:
        method: its name in `STUDIES`.
        problem: what to train.
        multiplier: (T,) the schedule, as multiples of the peak.
        start: log10 of the optimizer's default lr.
        seed: the seed of the sampler, the weights and the batches.
    """
    import optuna

    sampler, pruner = STUDIES[method]
    spent = Spent(multiplier.size)
    low, high = (10 ** (start + side * HALF_RANGE) for side in (-1, 1))
    with undisturbed():
        study = optuna.create_study(sampler=sampler(seed), pruner=pruner())
        while True:
            trial = study.ask()
            lr = trial.suggest_float("lr", low, high, log=True)
            outcome = _run_trial(trial, lr, problem.setup(seed), problem, multiplier, spent)
            if outcome is None:
                return spent
            if math.isfinite(outcome):
                study.tell(trial, outcome)
            else:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _run_trial(
    trial: Any, lr: float, setup: Setup, problem: Problem, multiplier: Array, spent: Spent
) -> float | None:
    """Train at a rate until the trial ends or is pruned.

    Returns:
        The final loss; infinity if the trial diverged or was pruned; None if all budgets are used up.
    """
    steps, done, loss = multiplier.size, 0, math.inf
    for rung in RUNGS:
        until = round(steps * rung / RUNGS[-1])
        if not spent.affords(until - done):
            return None
        for step in train(setup, lr * multiplier[done:until], start=done):
            spent.taken += 1
            if not math.isfinite(step.loss):
                return math.inf
        done, loss = until, _val_loss(setup, problem)
        spent.evaluations += 1
        if not math.isfinite(loss):
            return math.inf
        spent.losses.append((rung, loss, lr))
        trial.report(loss, rung)
        if rung < RUNGS[-1] and trial.should_prune():
            return math.inf
    return loss


def _val_loss(setup: Setup, problem: Problem) -> float:
    assert problem.validation is not None
    with evaluating(setup.model), torch.no_grad():
        loss, _, _ = evaluate(lambda batch: score(setup.model, setup.loss_fn, batch), problem.validation())
    return float(loss[0])
