"""Shapes: from a schedule, as a config names it, to what it makes of every step of a training."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import Reaction, Shape
from lrfind.catalog import SCHEDULES
from lrfind.config.arguments import is_epochs
from lrfind.config.mistakes import say
from lrfind.config.registry import import_path, load, resolve
from lrfind.config.sections import Component, name_only
from lrfind.errors import LrfindError, UsageError
from lrfind.schedules.functions import join


def shape_of(schedule: Component, steps: int, steps_per_epoch: float | None = None) -> Shape:
    """The shape of a schedule.

    Args:
        schedule: its name and args; lengths among these are in steps, shares of the training, or a text such
            as "2 epochs".
        steps: T.
        steps_per_epoch: None where the data does not tell.

    Raises:
        UsageError: if the args make no schedule.
    """
    args = {key: _steps(value, steps_per_epoch) for key, value in schedule.args.items()}
    row = SCHEDULES.get(schedule.name)
    if row is not None and row.watches is not None:
        react = partial(_found(schedule), **args)
        _asked(schedule, lambda: react([1.0], 1.0))
        return Shape(np.ones(steps), reaction=Reaction(row.watches, react))
    step = np.arange(steps, dtype=np.float64)
    multiplier = np.asarray(_asked(schedule, lambda: function_of(schedule, steps_per_epoch)(step, steps)))
    if multiplier.shape != step.shape or not (np.isfinite(multiplier) & (multiplier >= 0)).all():
        raise UsageError(
            f"schedule: {schedule.name} must give a number of 0 or more for each of the {steps} steps."
        )
    if not multiplier.any():
        raise UsageError(f"schedule: {schedule.name} is 0 at each of the {steps} steps.")
    if row is None or row.momentum is None:
        return Shape(multiplier)
    move = load(row.momentum)
    return Shape(multiplier, _asked(schedule, lambda: move(step, steps, **args)))


def watched_by(schedule: Component) -> Literal["val_loss", "grad_norm"] | None:
    """Return what a schedule reacts to; None for a function of the step alone."""
    row = SCHEDULES.get(schedule.name)
    return None if row is None else row.watches


def patience_of(schedule: Component) -> int | None:
    """Return how many evaluations a schedule waits for an improvement; None for one that does not wait."""
    if watched_by(schedule) != "val_loss":
        return None
    known = inspect.signature(_found(schedule)).parameters.get("patience")
    return None if known is None else schedule.args.get("patience", known.default)


def function_of(schedule: Component, steps_per_epoch: float | None) -> Callable[[Array, int], Array]:
    """A schedule as a function of (step (N,), steps), its args filled in."""
    if watched_by(schedule) is not None:
        raise UsageError(f"schedule: {schedule.name} reacts to the training, so it cannot be joined.")
    args = {key: _steps(value, steps_per_epoch) for key, value in schedule.args.items()}
    if schedule.name == "join":
        joined = [function_of(part, steps_per_epoch) for part in _parts(args.pop("parts", ()))]
        return partial(join, parts=joined, **args)
    found = _found(schedule)
    if schedule.name in SCHEDULES:
        return partial(found, **args)

    def of_each(step: Array, steps: int) -> Array:
        return np.array([float(found(int(t), steps, **args)) for t in step])

    return of_each


def _parts(parts: Any) -> list[Component]:
    """The schedules that one joins."""
    if not isinstance(parts, list | tuple):
        raise UsageError(f"schedule: join: parts must be a list of schedules; found {parts!r}.")
    made = []
    for part in parts:
        try:
            made.append(Component.model_validate(name_only(part)))
        except ValidationError as error:
            said = "; ".join(say(details) for details in error.errors())
            raise UsageError(f"schedule: join: the part {part!r} is no schedule: {said}.") from None
    return made


def _steps(value: Any, steps_per_epoch: float | None) -> Any:
    """Lengths in epochs as steps, also in lists; all else as it is."""
    if isinstance(value, list | tuple):
        return [_steps(each, steps_per_epoch) for each in value]
    if not is_epochs(value):
        return value
    if steps_per_epoch is None:
        raise UsageError(f"schedule: '{value}' needs data that tells how long an epoch is; give steps.")
    return max(1, round(float(value.split()[0]) * steps_per_epoch))


def _found(schedule: Component) -> Callable[..., Any]:
    found = resolve(import_path("schedule", schedule.name))
    if not callable(found) or inspect.isclass(found):
        raise UsageError(f"schedule: '{schedule.name}' must be a function of (step, steps), 1 at the peak.")
    made: Callable[..., Any] = found
    return made


def _asked(schedule: Component, compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except UsageError as error:
        raise UsageError(f"schedule: {schedule.name}: {str(error).removeprefix('schedule: ')}") from error
    except LrfindError:
        raise
    except (Exception, SystemExit) as error:  # anything may go wrong in a user's function
        raise UsageError(f"schedule: {schedule.name} failed: {type(error).__name__}: {error}") from error
