"""Whole trainings of a user's objects: their courses, their conditions, and whether seeds change them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lrfind.analysis.lanes import Lane, LaneResult, Shape
from lrfind.analysis.sweeps import judge_in_force
from lrfind.api.arguments import notes_on
from lrfind.catalog import Judge
from lrfind.errors import LrfindError, UsageError, sentence
from lrfind.experiments.planned import fitting_shape, steps_per_epoch
from lrfind.problem.objects import Objects
from lrfind.problem.problem import Problem
from lrfind.problem.ranks import rank_count
from lrfind.runs.summaries.parts import judge_warning
from lrfind.training.executor import Conditions
from lrfind.training.run import run_lane

ALIKE = (
    "Another seed gives the same training (the data comes in a fixed order, and the model draws no random"
    " numbers), so there is one training in each place, and nothing is known of the noise; let the loader"
    " shuffle."
)


def shape_of_lanes(objects: Objects, schedule: Any, steps: int, eval_every: int | None) -> Shape:
    """Return the course of the lr of whole trainings.

    Raises:
        UsageError: if it has none of the forms that `find` takes, or watches a loss that is not measured.
    """
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise UsageError(
            "schedule: ReduceLROnPlateau reacts to the training; give the name 'reduce_on_plateau' with its"
            " args, val and eval_every."
        )
    epoch = steps_per_epoch(objects.data, objects.recipe.accumulate)
    shape = fitting_shape(schedule, steps, epoch, objects.optimizers, eval_every)
    watches = shape.reaction is not None and shape.reaction.to == "val_loss"
    if watches and (objects.validation is None or eval_every is None):
        raise UsageError(f"schedule: {schedule!r:.80} watches the validation loss; give val and eval_every.")
    return shape


def conditions_of_lanes(
    objects: Objects, judge: Judge, eval_every: int | None, looks: int, steps: int
) -> Conditions:
    """Return what all trainings have in common.

    Raises:
        UsageError: if there are too few evaluations for the judge, or if evaluations are not possible.
    """
    if objects.validation is not None and rank_count() > 1:
        raise UsageError("val: with several ranks, only the training loss can decide; leave val out.")
    if judge == "best_val_loss" and (objects.validation is None or (eval_every or steps) >= steps):
        raise UsageError(
            "judge: best_val_loss takes the lowest of several evaluations; give val, and an eval_every below"
            f" {steps}, for example {max(1, steps // 10)}."
        )
    blind = objects.own_step is not None or objects.sharded
    return Conditions(
        eval_every=eval_every, evaluated=objects.validation is not None, looks=0 if blind else looks
    )


def seeds_are_alike(problem: Problem, seed: int, lr: float) -> bool:
    """Return whether another seed changes nothing in the first two steps, to the last bit.

    The first loss does not tell: where the last layer begins with zeros, no batch changes it. The norm of the
    gradient does, and in a step of the user's own, which has none, the loss after an update.

    Raises:
        LrfindError: if the first step fails.
    """
    lanes: list[LaneResult] = []
    for number in range(2):
        lane = Lane(0, seed + number, np.full(2, lr))
        try:
            run_lane(problem, lane, Conditions(evaluated=False, grad_norm=True), keep=lanes.append)
        except LrfindError:
            if rank_count() > 1 or not lanes[-1].lr.size:
                raise
    first, second = ([*lane.loss, *([] if lane.grad_norm is None else lane.grad_norm)] for lane in lanes)
    return np.array_equal(first, second, equal_nan=True)


def notes_on_lanes(objects: Objects, lanes: Sequence[LaneResult], judge: Judge, alike: bool) -> list[str]:
    """Return what to know about the answer of whole trainings; see also `notes_on`.

    Args:
        objects: the user's objects.
        lanes: the trainings.
        judge: the loss that was to decide.
        alike: whether another seed gives the same training.
    """
    notes = notes_on(objects)
    if objects.validation is not None and any(lane.outcome == "finished" for lane in lanes):
        notes += map(sentence, judge_warning(lanes, judge, judge_in_force(lanes, judge)))
    return [*notes, ALIKE] if alike else notes


def refuse_without_any(lanes: Sequence[LaneResult]) -> None:
    """Raise the error of the first lane if every lane failed.

    Raises:
        LrfindError: if no lane ended otherwise.
    """
    if all(lane.outcome == "failed" for lane in lanes):
        raise LrfindError(f"every training failed. The first one: {lanes[0].error}")
