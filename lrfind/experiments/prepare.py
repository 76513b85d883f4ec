"""What trainings side by side begin with: problems, shapes, the way to run them, and what it will cost."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from lrfind import __version__
from lrfind.analysis import halving
from lrfind.analysis.lanes import Shape
from lrfind.config.experiment import Experiment, lanes_section
from lrfind.config.sections import CompareSection, SearchSection, SweepSection, TrainingSection
from lrfind.config.shapes import shape_of
from lrfind.config.variants import Variant, variants_of
from lrfind.errors import UsageError
from lrfind.experiments.rounds import first_round
from lrfind.problem.problem import Problem, from_configs
from lrfind.training.calibration import Engine, calibrate
from lrfind.training.evaluation import Metric, evaluate, evaluating, score
from lrfind.training.explanations.failures import first_steps_failed
from lrfind.training.loop import has_momentum, set_momentum
from lrfind.training.team import Conditions

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
    """Trainings that are ready to run.

    Attributes:
        variants: what is compared; one where nothing is.
        problems: what they train: one for all, or where optimizers are compared, one for each.
        engines: how the lanes of each problem are trained.
        shapes: of each variant.
        steps: T.
        conditions: of all lanes.
        metric: what the task's metric is called.
        cost: of the whole.
        notes: what should be known, in sentences.
    """

    variants: Sequence[Variant]
    problems: Sequence[Problem]
    engines: Sequence[Engine]
    shapes: Mapping[str, Shape]
    steps: int
    conditions: Conditions
    metric: Metric | None
    cost: Cost
    notes: Sequence[str] = field(default=())

    def place(self, variant: str) -> int:
        """Which of the problems a variant trains."""
        return [each.name for each in self.variants].index(variant) if len(self.problems) > 1 else 0


def prepare(experiment: Experiment, command: str, engines: Sequence[Engine] = ()) -> Prepared:
    """Load the data, choose the engines unless they are given, and estimate the cost.

    Raises:
        LrfindError: if a part cannot be made as described, or a lane cannot take its first steps.
    """
    variants, section = variants_of(experiment, command), lanes_section(experiment, command)
    optimizers = {id(variant.experiment.optimizer): variant.experiment for variant in variants}
    problems = from_configs([*optimizers.values()])
    steps = training_steps(experiment.training, problems[0])
    by_variant = problems if len(problems) > 1 else problems * len(variants)
    shapes = {v.name: variant_shape(v, p, steps) for v, p in zip(variants, by_variant, strict=True)}
    lanes = first_round(section, {v.name: v.experiment.optimizer.lr for v in variants}, experiment.seed)
    together = [lane for lane in lanes if lane.seed == lanes[0].seed]
    if not engines:
        peaks = [
            [lane.peak for lane in together if len(problems) == 1 or lane.variant == variant.name]
            for variant, _ in zip(variants, problems, strict=False)
        ]
        engines = [
            calibrate(problem, section, len(of_one), min(of_one), experiment.seed)
            for problem, of_one in zip(problems, peaks, strict=True)
        ]
    conditions = training_conditions(experiment)
    if isinstance(section, SweepSection) and section.prune:
        conditions = replace(conditions, rungs=halving.rungs(steps))
    metric, seconds = evaluate_once(problems[0], experiment.seed)
    evaluations = 1 + (steps - 1) // (conditions.eval_every or steps)
    counts = {variant.name: sum(lane.variant == variant.name for lane in lanes) for variant in variants}
    if isinstance(section, SearchSection):
        counts = {"": section.trials * section.seeds}
    elif isinstance(section, CompareSection) and section.one_peak is None:
        counts = {name: count + section.seeds for name, count in counts.items()}
    count = sum(counts.values())
    of_variant = engines if len(engines) > 1 else [*engines] * len(variants)
    training = sum(
        steps * engine.seconds_per_step * counts[variant.name]
        for variant, engine in zip(variants, of_variant, strict=True)
    )
    cost = Cost(count, steps, training + count * evaluations * seconds, count * steps * BYTES_PER_STEP)
    notes = [note for problem in problems for note in problem.notes][:1]
    notes += [note for variant in variants for note in idle_watches(variant.experiment.training, steps)]
    return Prepared(variants, problems, engines, shapes, steps, conditions, metric, cost, notes)


def training_conditions(experiment: Experiment, pause_every: int | None = None) -> Conditions:
    """What the lanes of whole trainings have in common."""
    training = experiment.training
    return Conditions(
        eval_every=training.eval_every,
        early_stop=training.early_stop,
        pause_every=pause_every,
        looks=experiment.looks,
    )


def variant_shape(variant: Variant, problem: Problem, steps: int) -> Shape:
    """The shape of a variant's schedule.

    A momentum that the schedule moves unasked stays where it is if the optimizer uses none.

    Raises:
        UsageError: if the schedule does not fit the training, the optimizer or the data.
    """
    training = variant.experiment.training
    batches = problem.batches_per_epoch
    shape = shape_of(training.schedule, steps, None if batches is None else batches / training.accumulate)
    watching = [training.schedule.name] if shape.reaction and shape.reaction.to == "val_loss" else []
    watching += ["early_stop"] if training.early_stop else []
    if watching and training.eval_every is None:
        raise UsageError(f"{watching[0]} watches the validation loss: give training.eval_every, in steps.")
    if watching and problem.validation is None:
        raise UsageError(f"{watching[0]} watches the validation loss, and the data has no validation part.")
    if shape.momentum is None:
        return shape
    optimizer = problem.setup(variant.experiment.seed).optimizer
    if "momentum" in training.schedule.args:
        set_momentum(optimizer, float(shape.momentum[0]))  # or say why not
        return shape
    return shape if has_momentum(optimizer) else replace(shape, momentum=None)


def idle_watches(training: TrainingSection, steps: int) -> list[str]:
    """What watches the validation loss, but cannot have seen enough of it before the end; in sentences."""
    schedule, early = training.schedule, training.early_stop
    looks = steps // (training.eval_every or steps)
    patience = {"early_stop": early.patience} if early else {}
    if schedule.name == "reduce_on_plateau":
        patience[schedule.name] = schedule.args.get("patience", 10)
    return [
        f"{name} can do nothing here: its patience is {least} evaluations, and {steps} steps have {looks} of"
        " them; evaluate more often (eval_every), or give it less patience."
        for name, least in patience.items()
        if looks <= least
    ]


def training_steps(training: TrainingSection, problem: Problem) -> int:
    """T, the steps of a training.

    Raises:
        UsageError: if it is given in epochs and the data does not tell how long one is, or they are too few
            batches for a step.
    """
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None  # the config has exactly one of them
    if problem.batches_per_epoch is None:
        raise UsageError("training.epochs: the data has no length; give training.steps instead.")
    batches = training.epochs * problem.batches_per_epoch
    if batches < training.accumulate:
        raise UsageError(
            f"training.accumulate: a step takes {training.accumulate} batches, and {training.epochs} epochs"
            f" have {batches}; train longer, or accumulate less."
        )
    return batches // training.accumulate


def evaluate_once(problem: Problem, seed: int) -> tuple[Metric | None, float]:
    """The name of the task's metric, and the seconds that one evaluation of a lane takes.

    Raises:
        LrfindError: if the model cannot be evaluated; says what does not fit.
    """
    if problem.validation is None:
        return None, 0.0
    setup = problem.setup(seed)
    began = time.perf_counter()
    try:
        with evaluating(setup.model), torch.no_grad():
            _, _, metric = evaluate(lambda b: score(setup.model, setup.loss_fn, b), problem.validation())
    except (Exception, SystemExit) as error:
        raise first_steps_failed(error) from error
    return metric, time.perf_counter() - began


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device, threads."""
    return {
        "lrfind": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
