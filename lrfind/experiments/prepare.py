"""The preparation of a run's lanes: their problems, schedules, modes and cost."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lrfind import __version__
from lrfind.analysis import halving
from lrfind.analysis.lanes import Lane, PlannedLane, Shape
from lrfind.config.experiment import Experiment, section_for
from lrfind.config.sections import MOST_STEPS, LanesSection, SweepSection, TrainingSection
from lrfind.config.shapes import patience_of, shape_of
from lrfind.config.variants import Variant, variants_of
from lrfind.errors import UsageError, as_exception, counted
from lrfind.experiments.rounds import rounds_of
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem, from_configs
from lrfind.training.calibration import Plan, calibrate
from lrfind.training.cores import core_count
from lrfind.training.cost import BYTES_PER_STEP, SweepCost
from lrfind.training.evaluation import Metric, evaluate, evaluating, score
from lrfind.training.executor import Conditions
from lrfind.training.explanations.failures import raise_explained
from lrfind.training.loop import has_momentum, set_momentum
from lrfind.training.mode import Mode


@dataclass(frozen=True)
class Job:
    """The lanes of a sweep that train one problem: all of them, or those of one optimizer of a comparison.

    Attributes:
        problem: what they train.
        mode: how they run.
        shapes: variant -> the shape of its schedule.
    """

    problem: Problem
    mode: Mode
    shapes: dict[str, Shape]

    def lanes(self, planned: Sequence[PlannedLane]) -> list[Lane]:
        """Return the planned lanes that belong to this job, with their lrs."""
        return [lane.shaped(self.shapes[lane.variant]) for lane in planned if lane.variant in self.shapes]


@dataclass(frozen=True)
class Trainable:
    """Lanes that are ready to train.

    Attributes:
        jobs: one job, or one for each optimizer that is compared.
        conditions: what all lanes have in common.
    """

    jobs: Sequence[Job]
    conditions: Conditions


@dataclass(frozen=True)
class Outlook:
    """What is known of a sweep before its first lane; plain data, unlike the problems that it trains.

    Attributes:
        steps: T, the number of steps of each lane.
        modes: the mode of each job.
        metric: the name of the task's metric.
        cost: the cost of the whole sweep.
        notes: what the user should know, in sentences.
        environment: the surroundings that can change its numbers; see `environment`.
        data: the facts about the data.
    """

    steps: int
    modes: Sequence[Mode]
    metric: Metric | None
    cost: SweepCost
    notes: Sequence[str]
    environment: dict[str, Any]
    data: dict[str, Any]


@dataclass(frozen=True)
class Prepared(Trainable):
    """A sweep that is ready to run.

    Attributes:
        outlook: what is known of it.
    """

    outlook: Outlook


def prepare(experiment: Experiment, command: str, modes: Sequence[Mode] = ()) -> Prepared:
    """Load the data, choose the modes unless they are given, and estimate the cost.

    Args:
        experiment: the config.
        command: the command that is to be run: "grid", "search", "compare".
        modes: the mode of each job, as it was chosen when the run began; empty to choose the modes now.

    Raises:
        LrfindError: if a part cannot be made as described, or a lane cannot take its first steps.
    """
    variants, section = variants_of(experiment, command), section_for(experiment, command)
    # One problem for each different optimizer, and the lanes of the first round for each problem.
    by_optimizer: dict[int, list[Variant]] = {}
    for variant in variants:
        by_optimizer.setdefault(id(variant.experiment.optimizer), []).append(variant)
    problems = from_configs([group[0].experiment for group in by_optimizer.values()])
    steps = training_steps(experiment.training, problems[0])
    lrs = {variant.name: variant.experiment.optimizer.lr for variant in variants}
    rounds = rounds_of(experiment, command)
    first = rounds.first(lrs)
    jobs = []
    for number, (problem, group) in enumerate(zip(problems, by_optimizer.values(), strict=True)):
        shapes = {variant.name: schedule_shape(variant.experiment, problem, steps) for variant in group}
        if modes:
            mode = modes[number]
        else:
            mode = calibrate(
                problem, section, mode_plan(problem, section, first, steps, shapes), experiment.seed
            )
        jobs.append(Job(problem, mode, shapes))
    # The conditions of all lanes, and the cost of the whole sweep.
    conditions = training_conditions(experiment)
    if isinstance(section, SweepSection) and section.prune:
        by_val_loss = section.judge == "best_val_loss"
        conditions = replace(conditions, rungs=halving.rungs(steps), prune_by_val_loss=by_val_loss)
    if section.judge == "best_val_loss":
        require_evaluations(problems[0], conditions, steps)
    metric, seconds = evaluate_once(problems[0], experiment.seed)
    lanes = rounds.lanes_in_all(first)
    evaluations = 1 + (steps - 1) // (conditions.eval_every or steps)
    share = lanes / len(first)  # every round divides its lanes among the jobs in the same way
    training = sum(steps * job.mode.seconds_per_step * share * len(job.lanes(first)) for job in jobs)
    cost = SweepCost(lanes, steps, training + lanes * evaluations * seconds, lanes * steps * BYTES_PER_STEP)
    notes = [note for problem in problems for note in problem.notes][:1]
    notes += [note for variant in variants for note in idle_watches(variant.experiment.training, steps)]
    surroundings, data = environment(problems[0].device), problems[0].data
    outlook = Outlook(steps, [job.mode for job in jobs], metric, cost, notes, surroundings, data)
    return Prepared(jobs, conditions, outlook)


def mode_plan(
    problem: Problem,
    section: LanesSection,
    planned: Sequence[PlannedLane],
    steps: int,
    variants: Container[str],
) -> Plan:
    """Return what the choice of a mode depends on, for the planned lanes of these variants."""
    lanes = [lane for lane in planned if lane.variant in variants]
    of_one_seed = [lane for lane in lanes if lane.seed == lanes[0].seed]
    cores = 1 if section.threads else core_count(problem.device)
    lr = min(lane.peak for lane in lanes)
    return Plan(len(of_one_seed), steps, len({lane.seed for lane in lanes}), lr, cores)


def training_conditions(experiment: Experiment, pause_every: int | None = None) -> Conditions:
    """Return the conditions that the lanes of whole trainings share."""
    training = experiment.training
    return Conditions(
        eval_every=training.eval_every,
        early_stop=training.early_stop,
        pause_every=pause_every,
        looks=experiment.looks,
    )


def require_evaluations(problem: Problem, conditions: Conditions, steps: int) -> None:
    """Check that lanes are evaluated often enough to be judged by their lowest validation loss.

    Raises:
        UsageError: if they are not evaluated at all, only at the end, or too late for pruning.
    """
    if problem.validation is None:
        raise UsageError(
            "judge: best_val_loss needs a validation loss, but the data has no validation part; give one"
            " (data.validation=0.1 holds out a tenth of a Dataset of your own), or judge by train_loss."
        )
    every = conditions.eval_every or steps
    if every >= steps:
        raise UsageError(
            f"judge: best_val_loss takes the lowest validation loss of a training, but these trainings are"
            f" evaluated only at their end, after {counted(steps, 'step')}; evaluate them more often, for"
            f" example with --eval-every {max(1, steps // 10)} (training.eval_every), or judge by val_loss."
        )
    if conditions.rungs and every > conditions.rungs[0]:
        raise UsageError(
            f"judge: best_val_loss also decides which lanes are pruned, first after"
            f" {counted(conditions.rungs[0], 'step')}; evaluate at least that often, with --eval-every"
            f" {conditions.rungs[0]} (training.eval_every), or do not prune."
        )


def schedule_shape(experiment: Experiment, problem: Problem, steps: int) -> Shape:
    """Return the shape of an experiment's schedule.

    If a schedule moves the momentum only by default and the optimizer uses no momentum, only the lr moves.

    Raises:
        UsageError: if the schedule does not fit the training, the optimizer or the data.
    """
    training = experiment.training
    shape = shape_of(training.schedule, steps, epoch_steps(training, problem), training.eval_every)
    watching = [training.schedule.name] if shape.reaction and shape.reaction.to == "val_loss" else []
    watching += ["early_stop"] if training.early_stop else []
    if watching and problem.validation is None:
        raise UsageError(f"{watching[0]} watches the validation loss, but the data has no validation part.")
    if shape.momentum is None:
        return shape
    optimizer = problem.setup(experiment.seed).optimizer
    if "momentum" in training.schedule.args:
        set_momentum(optimizer, float(shape.momentum[0]))  # raises an error if the optimizer has no momentum
        return shape
    return shape if has_momentum(optimizer) else replace(shape, momentum=None)


def idle_watches(training: TrainingSection, steps: int) -> list[str]:
    """Return sentences about the schedule and the early stop, if either sees too few evaluations to react."""
    schedule, early = training.schedule, training.early_stop
    evaluations = steps // (training.eval_every or steps)
    patience = {"early_stop": early.patience} if early else {}
    waits = patience_of(schedule)
    if waits is not None:
        patience[schedule.name] = waits
    return [
        f"{name} can do nothing here: its patience is {counted(least, 'evaluation')}, and"
        f" {counted(steps, 'step')} have {evaluations}; evaluate more often (eval_every), or give it less"
        " patience."
        for name, least in patience.items()
        if evaluations <= least
    ]


def epoch_steps(training: TrainingSection, problem: Problem) -> float | None:
    """Return the number of steps of one pass over the data; None if the data has no length."""
    batches = problem.batches_per_epoch
    return None if batches is None else batches / training.accumulate


def training_steps(training: TrainingSection, problem: Problem) -> int:
    """Return T, the number of steps of a training.

    Raises:
        UsageError: if the length is given in epochs and the length of an epoch is not known, or the epochs
            have too few batches for one step.
    """
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None  # the config has exactly one of them
    if problem.batches_per_epoch is None:
        raise UsageError("training.epochs: the data has no length; give training.steps instead.")
    batches = training.epochs * problem.batches_per_epoch
    if batches < training.accumulate:
        raise UsageError(
            f"training.accumulate: a step takes {counted(training.accumulate, 'batch')}, but"
            f" {counted(training.epochs, 'epoch')} {'has' if training.epochs == 1 else 'have'} only"
            f" {batches}; train longer, or accumulate less."
        )
    steps = batches // training.accumulate
    if steps > MOST_STEPS:
        raise UsageError(
            f"training.epochs: {counted(training.epochs, 'epoch')} have {counted(steps, 'step')}, and a"
            f" training has at most {MOST_STEPS:,}; train for fewer epochs."
        )
    return steps


def evaluate_once(problem: Problem, seed: int) -> tuple[Metric | None, float]:
    """Return the name of the task's metric, and the seconds that one evaluation of a lane takes.

    Raises:
        LrfindError: if the model cannot be evaluated; the message says which parts do not match.
    """
    if problem.validation is None:
        return None, 0.0
    setup = problem.setup(seed)
    began = time.perf_counter()
    try:
        with as_exception(), evaluating(setup.model), torch.no_grad():
            _, _, metric = evaluate(lambda b: score(setup.model, setup.loss_fn, b), problem.validation())
    except Exception as error:
        raise_explained(error)
    return metric, time.perf_counter() - began


def environment(device: torch.device) -> dict[str, Any]:
    """Return the surroundings of a run that can change its numbers: versions, device, threads."""
    return {
        "lrfind": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def seconds_of_a_pass(problem: Problem, seed: int) -> float:
    """Return the seconds of the second forward pass, since the first one also allocates; 0 if it fails.

    If a pass fails, probing will fail in the same way, and say why.
    """
    with contextlib.suppress(Exception), as_exception():
        setup = problem.setup(seed)
        for _ in range(2):
            began = time.perf_counter()
            with torch.no_grad():
                batch_loss(setup.model, setup.loss_fn, next(setup.batches)).item()  # waits for a GPU
        return setup.recipe.accumulate * (time.perf_counter() - began)
    return 0.0
