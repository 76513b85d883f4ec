"""Shapes: the values of a config's schedule at every step of a training."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import BeforeValidator, ValidationError

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import Reaction, Shape
from lrfind.catalog import SCHEDULES
from lrfind.config.arguments import is_epochs
from lrfind.config.mistakes import merge_unions, message_of
from lrfind.config.registry import import_path, load, resolve
from lrfind.config.sections import Component, name_only
from lrfind.errors import LrfindError, UsageError, in_one_line
from lrfind.schedules.functions import join

_PART = Annotated[Component, BeforeValidator(name_only)]  # each schedule in the `parts` of a join


def shape_of(schedule: Component, steps: int, steps_per_epoch: float | None = None) -> Shape:
    """Compute the shape of a schedule.

    Args:
        schedule: the schedule's name and args; the lengths in them are numbers of steps, shares of the
            training, or texts such as "2 epochs".
        steps: the number of steps of the training, T.
        steps_per_epoch: the number of steps in an epoch; None if it is not known.

    Raises:
        UsageError: if the args do not fit the schedule.
    """
    args = {key: _in_steps(value, steps_per_epoch) for key, value in schedule.args.items()}
    row = SCHEDULES.get(schedule.name)
    if row is not None and row.watches is not None:
        react = partial(_resolved(schedule), **args)
        _guarded(schedule, lambda: react([1.0], 1.0))  # a call now shows whether the args are good
        return Shape(np.ones(steps), reaction=Reaction(row.watches, react))
    step = np.arange(steps, dtype=np.float64)
    multiplier = np.asarray(_guarded(schedule, lambda: function_of(schedule, steps_per_epoch)(step, steps)))
    if multiplier.shape != step.shape or not (np.isfinite(multiplier) & (multiplier >= 0)).all():
        raise UsageError(
            f"schedule: {schedule.name} must give a number of 0 or more for each of the {steps:,} steps."
        )
    if not multiplier.any():
        raise UsageError(f"schedule: {schedule.name} is 0 at each of the {steps:,} steps.")
    if row is None or row.momentum is None:
        return Shape(multiplier)
    momentum = load(row.momentum)
    return Shape(multiplier, _guarded(schedule, lambda: momentum(step, steps, **args)))


def watched_by(schedule: Component) -> Literal["val_loss", "grad_norm"] | None:
    """Return the quantity that a schedule reacts to; None if the schedule depends only on the step."""
    row = SCHEDULES.get(schedule.name)
    return None if row is None else row.watches


def patience_of(schedule: Component) -> int | None:
    """Return the number of evaluations that a schedule waits for an improvement; None if it does not wait."""
    if watched_by(schedule) != "val_loss":
        return None
    parameter = inspect.signature(_resolved(schedule)).parameters.get("patience")
    return None if parameter is None else schedule.args.get("patience", parameter.default)


def function_of(schedule: Component, steps_per_epoch: float | None) -> Callable[[Array, int], Array]:
    """Return a schedule as a function of (step (N,), steps), with its args filled in."""
    if watched_by(schedule) is not None:
        raise UsageError(f"schedule: {schedule.name} reacts to the training, so it cannot be joined.")
    args = {key: _in_steps(value, steps_per_epoch) for key, value in schedule.args.items()}
    if schedule.name == "join":
        parts = [function_of(part, steps_per_epoch) for part in _parts(args.pop("parts", ()))]
        return partial(join, parts=parts, **args)
    function = _resolved(schedule)
    if schedule.name in SCHEDULES:
        return partial(function, **args)
    if reacting := [n for n, row in SCHEDULES.items() if row.watches and row.path == schedule.name]:
        raise UsageError(f"schedule: it reacts to the training; write its name instead: {reacting[0]}.")

    def step_by_step(step: Array, steps: int) -> Array:
        return np.array([float(function(int(t), steps, **args)) for t in step])

    return step_by_step


def _parts(parts: Any) -> list[Component]:
    """Return the schedules that a join joins."""
    if not isinstance(parts, list | tuple):
        raise UsageError(f"schedule: join: parts must be a list of schedules; found {parts!r}.")
    schedules = []
    for part in parts:
        try:
            schedules.append(Component.model_validate(name_only(part)))
        except ValidationError as error:
            reasons = "; ".join(message_of(d) for d in merge_unions(error.errors(), _PART, part))
            raise UsageError(f"schedule: join: the part {part!r} is not a schedule: {reasons}.") from None
    return schedules


def _in_steps(value: Any, steps_per_epoch: float | None) -> Any:
    """Turn lengths in epochs into numbers of steps, also inside lists; return any other value unchanged."""
    if isinstance(value, list | tuple):
        return [_in_steps(item, steps_per_epoch) for item in value]
    if not is_epochs(value):
        return value
    if steps_per_epoch is None:
        raise UsageError(
            f"schedule: '{value}' needs data with a known number of steps per epoch; give the length in"
            " steps."
        )
    return max(1, round(float(value.split()[0]) * steps_per_epoch))


def _resolved(schedule: Component) -> Callable[..., Any]:
    """Import the function that a schedule names."""
    function = resolve(import_path("schedule", schedule.name))
    if not callable(function) or inspect.isclass(function):
        raise UsageError(
            f"schedule: '{schedule.name}' must be a function of (step, steps) that is 1 at the peak."
        )
    return cast("Callable[..., Any]", function)


def _guarded(schedule: Component, compute: Callable[[], Any]) -> Any:
    """Return what `compute` returns; turn its errors into a UsageError that names the schedule."""
    try:
        return compute()
    except UsageError as error:
        raise UsageError(f"schedule: {schedule.name}: {str(error).removeprefix('schedule: ')}") from error
    except LrfindError:
        raise
    except (Exception, SystemExit) as error:  # anything may go wrong in a user's function
        raise UsageError(f"schedule: {schedule.name} failed: {in_one_line(error)}") from error
