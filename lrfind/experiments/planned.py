"""Planned trainings: the number of steps and the course of the lr, from whatever a user has for them."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import Shape
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.catalog import SCHEDULES, TRANSFORMERS_ARGS, TRANSFORMERS_SCHEDULES, optimizer_named
from lrfind.config.numbers import whole
from lrfind.config.registry import load
from lrfind.config.sections import MOST_STEPS, Component
from lrfind.config.shapes import shape_of
from lrfind.errors import UsageError, as_exception, in_one_line, unknown
from lrfind.problem.data import length_of
from lrfind.problem.rates import Group, group_peaks, groups_of, innermost
from lrfind.problem.snapshot import Snapshot
from lrfind.training.loop import has_momentum

NEGLIGIBLE = 0.01
"""A multiple of the peak below which an lr hardly trains."""


def planned_training(
    optimizers: Sequence[Any],
    steps: int,
    mean_multiplier: float,
    epoch: float | None = None,
    schedule: str = "",
) -> PlannedTraining:
    """Describe the training for which a rate is looked for.

    Args:
        optimizers: its optimizers; the first innermost one whose lr is not 0 decides the family.
        steps: T.
        mean_multiplier: the mean of its schedule divided by the peak.
        epoch: the number of steps of one pass over the data; None if it is not known.
        schedule: the name of the schedule; empty if it has none.
    """
    candidates = [
        (optimizer, group) for optimizer in innermost(optimizers) for group in optimizer.param_groups
    ]
    peaks = [group_peaks([group])[0] for _, group in candidates]
    optimizer, group = next((c for c, peak in zip(candidates, peaks, strict=True) if peak > 0), candidates[0])
    name = type(optimizer).__name__.lower()
    row = optimizer_named(name)
    momentum = float(group.get("momentum", 0.0)) if row is not None and row.family == "sgd" else 0.0
    return PlannedTraining(name, steps, momentum, mean_multiplier, epoch, schedule)


def planned_steps(steps: Any, data: Any, accumulate: int) -> int:
    """Return `steps`, or if it is None the number of steps of an epoch.

    Raises:
        UsageError: if it is not a whole number, or if it is None and the data has no length.
    """
    if steps is None and (epoch := steps_per_epoch(data, accumulate)) is not None:
        return max(1, int(epoch))
    if steps is None:
        raise UsageError(
            "steps: the data has no length; give the number of steps of the training that you plan."
        )
    count = whole(steps)
    if count is None or not 1 <= count <= MOST_STEPS:
        raise UsageError(f"steps: must be a whole number from 1 to {MOST_STEPS:,}; found {steps!r}.")
    return count


def steps_per_epoch(data: Any, accumulate: int) -> float | None:
    """Return the number of steps of one pass over the data; None if the data has no length."""
    length = length_of(data)
    return None if length is None else length / accumulate


def fitting_shape(
    schedule: Any, steps: int, epoch: float | None, optimizers: Sequence[Any], eval_every: int | None = None
) -> Shape:
    """Return the course of the lr for these optimizers; see `planned_shape`.

    If a schedule moves the momentum only by default and an optimizer uses no momentum, only the lr moves.
    """
    shape = planned_shape(schedule, steps, epoch, eval_every)
    if shape.momentum is None:
        return shape
    if not shape.of_scheduler and "momentum" in named_schedule(schedule).args:
        return shape
    inner = innermost(optimizers)
    moved = all(map(has_momentum, inner)) and not (shape.of_scheduler and len(inner) > 1)
    return shape if moved else replace(shape, momentum=None)  # a scheduler moves that of one optimizer


def planned_shape(schedule: Any, steps: int, epoch: float | None, eval_every: int | None = None) -> Shape:
    """Return the course of the lr, as multiples of its peak.

    Args:
        schedule: one of these: a name; (name, args) or {"name": name, "args": args}; a function of the step
            that returns the lr or a multiple of it; a scheduler of torch on the training's optimizer; a
            function or class that makes one from an optimizer. A scheduler takes one step per optimizer step.
        steps: T.
        epoch: the number of steps in an epoch, for lengths such as "2 epochs"; None if it is not known.
        eval_every: the number of steps between evaluations; None if there is only one, at the end.

    Raises:
        UsageError: if it has none of these forms, or fails.
    """
    if _is_scheduler(schedule):
        return _course_of(schedule, steps)
    if callable(schedule):
        return _called(schedule, steps)
    return shape_of(named_schedule(schedule), steps, epoch, eval_every)


def early_end(shape: Shape, epoch: float | None) -> str | None:
    """Return a sentence on a schedule that leaves hardly any lr to most of the steps; None for all others.

    The usual reason is a scheduler that is meant to take its steps at the ends of epochs.

    Args:
        shape: the course of the lr.
        epoch: the number of steps in an epoch; None if it is not known.
    """
    steps = len(shape.multiplier)
    low = int((shape.multiplier < NEGLIGIBLE).sum())
    if low <= steps / 2 or (epoch is not None and epoch >= steps):
        return None
    length = "steps_per_epoch" if epoch is None else f"{math.ceil(epoch)}"
    return (
        f"In {low:,} of the {steps:,} steps this schedule gives less than a hundredth of its peak. A schedule"
        " moves at every optimizer step. If yours moves once per epoch, the rate is too high; give a function"
        f" of the step instead, such as schedule=lambda step: 0.1 ** (step // {length} // 30)."
    )


def named_schedule(schedule: Any) -> Component:
    """Return a schedule given by its name, or by its name and its args.

    Raises:
        UsageError: if it has neither form, or an argument that lrfind's schedule of this name does not take.
    """
    name, args = schedule, {}
    if isinstance(schedule, Mapping):
        name, args = schedule.get("name"), schedule.get("args", {})
    elif isinstance(schedule, tuple | list) and len(schedule) == 2:
        name, args = schedule
    if not isinstance(name, str) or not isinstance(args, Mapping):
        raise UsageError(
            "schedule: must be a name from `lrfind ls schedules`, (name, args), a function of the step, or a"
            f" scheduler of torch; found {schedule!r:.80}."
        )
    name = name.value if hasattr(name, "value") else name  # transformers has an enum of names
    ours = TRANSFORMERS_SCHEDULES.get(name, name)
    args = {TRANSFORMERS_ARGS.get(key, key): value for key, value in args.items()}
    if name == "cosine_with_restarts":  # transformers counts the cycles, one by default
        cycles = args.pop("num_cycles", 1)
        ours, args = (ours, args | {"period": 1 / cycles}) if cycles > 1 else ("cosine", args)
    if ours in SCHEDULES:
        known = [*inspect.signature(load(SCHEDULES[ours].path)).parameters][2:]  # after step and steps
        if (strange := next((key for key in args if key not in known), None)) is not None:
            raise UsageError(f"schedule: {ours}: {unknown('argument', str(strange), known)}")
    return Component(name=ours, args=args)


def _is_scheduler(value: Any) -> bool:
    return isinstance(value, torch.optim.lr_scheduler.LRScheduler)


def _called(function: Callable[..., Any], steps: int) -> Shape:
    """Return the course of a function of the step, or of one that makes a scheduler."""
    if not inspect.isclass(function):
        try:
            with as_exception():
                first = function(0)
        except Exception as error:
            reason = error
        else:
            if isinstance(first, int | float | np.number | torch.Tensor):
                return Shape(_relative([_value_at(function, step) for step in range(steps)]))
            reason = TypeError(f"it returned a {type(first).__name__} for step 0")
    else:
        reason = TypeError("it is a class")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    try:
        made = function(optimizer)
    except Exception as error:
        raise UsageError(
            "schedule: it must be a function of the step that returns a number, or a function of the"
            f" optimizer that returns a scheduler of torch. Called with step 0: {in_one_line(reason, 120)}."
            f" Called with an optimizer: {in_one_line(error, 120)}."
        ) from error
    if not _is_scheduler(made):
        raise UsageError(
            f"schedule: it must return a number or a scheduler of torch; it returned a {type(made).__name__}."
        )
    return _course_of(made, steps)


def _value_at(function: Callable[..., Any], step: int) -> float:
    """Return the value of a schedule function at a step.

    Raises:
        UsageError: if it fails, or returns no number.
    """
    try:
        with as_exception():
            return float(function(step))
    except Exception as error:
        raise UsageError(
            f"schedule: the function failed at step {step}: {in_one_line(error, 200)}. It must return a"
            " number at every step of the training."
        ) from error


def _course_of(scheduler: Any, steps: int) -> Shape:
    """Return the course of a scheduler from where it is.

    Raises:
        UsageError: if it fails before the last step.
    """
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        return Shape(np.ones(steps))  # it reacts to the training; until then its lr is constant
    lrs, momenta, error = _ahead(scheduler, steps)
    if error is not None:
        raise UsageError(
            f"schedule: the scheduler {type(scheduler).__name__} failed after {len(lrs)} of {steps} steps:"
            f" {in_one_line(error)}. It takes one step per optimizer step; make it for {steps} steps."
        ) from error
    moved = len({*momenta}) > 1 and None not in momenta
    return Shape(_relative(lrs), np.array(momenta) if moved else None, of_scheduler=True)


def _ahead(scheduler: Any, steps: int) -> tuple[list[float], list[float | None], Exception | None]:
    """Step a scheduler through a training, and set everything back.

    Returns:
        At each step, the highest lr of all param groups, and their momentum (None if they have none, or not
        the same); and the error that ended the course early.
    """
    before = Snapshot([scheduler.optimizer], kept=[scheduler])
    groups = groups_of([scheduler.optimizer])
    lrs, momenta = list[float](), list[float | None]()
    try:
        with warnings.catch_warnings(action="ignore"):  # that no optimizer step comes in between
            for _ in range(steps):
                lrs.append(max(float(group["lr"]) for group in groups))
                momenta.append(_common_momentum(groups))
                if len(lrs) < steps:
                    scheduler.step()
    except Exception as error:
        return lrs, momenta, error
    finally:
        before.restore()
    return lrs, momenta, None


def _common_momentum(groups: Sequence[Group]) -> float | None:
    """Return the momentum of param groups, or the first of their betas; None if they differ or have none."""
    values = {group["momentum"] if "momentum" in group else group.get("betas", [None])[0] for group in groups}
    value = values.pop()
    return None if values or value is None else float(value)


def highest_lr(scheduler: Any, steps: int) -> float | None:
    """Return the highest lr that a scheduler gives in the next steps; None if that cannot be told.

    That is so for what is no scheduler of torch, for one that reacts to the training, and where something
    else has moved the lrs too, such as a second scheduler.
    """
    if not _is_scheduler(scheduler) or isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        return None
    if (alone := getattr(scheduler, "_get_closed_form_lr", None)) is not None:
        lrs = [float(group["lr"]) for group in scheduler.optimizer.param_groups]
        if not np.allclose([float(lr) for lr in alone()], lrs, rtol=1e-3, atol=0):
            return None
    lrs, _, _ = _ahead(scheduler, steps)
    highest = max(lrs)
    return highest if 0 < highest < math.inf else None


def _relative(lrs: Sequence[float]) -> Array:
    """Return lrs divided by their peak.

    Raises:
        UsageError: if one is negative or not finite, or if all are 0.
    """
    table = np.array(lrs)
    if not (np.isfinite(table) & (table >= 0)).all() or not table.any():
        raise UsageError(
            "schedule: it must give a finite lr of 0 or more at every step, and more than 0 at some step."
        )
    relative: Array = table / table.max()
    return relative
