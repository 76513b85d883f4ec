"""Shapes: the values of a config's schedule at every step of a training, and what is wrong with its args."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import BeforeValidator, ValidationError

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import Reaction, Shape
from lrfind.catalog import SCHEDULES
from lrfind.config.arguments import is_epochs, length_in_epochs
from lrfind.config.mistakes import merge_unions, message_of
from lrfind.config.registry import import_path, load, resolve
from lrfind.config.sections import Component, name_only
from lrfind.errors import LrfindError, UsageError, as_exception, in_one_line
from lrfind.schedules.functions import ArgumentError, join, length_in_steps, warmup_steps

_PART = Annotated[Component, BeforeValidator(name_only)]  # each schedule in the `parts` of a join


def shape_of(
    schedule: Component, steps: int, steps_per_epoch: float | None = None, eval_every: int | None = None
) -> Shape:
    """Compute the shape of a schedule.

    Args:
        schedule: the schedule's name and args; the lengths in them are numbers of steps, shares of the
            training, or texts such as "2 epochs".
        steps: the number of steps of the training, T.
        steps_per_epoch: the number of steps in an epoch; None if it is not known.
        eval_every: the number of steps between evaluations; None if there is only one, at the end.

    Raises:
        UsageError: if the args do not fit the schedule.
    """
    step = np.arange(steps, dtype=np.float64)
    multiplier, momentum = _values(schedule, step, steps, steps_per_epoch)
    if multiplier.shape != step.shape or not (np.isfinite(multiplier) & (multiplier >= 0)).all():
        raise UsageError(
            f"schedule: {schedule.name} must give a number of 0 or more for each of the {steps:,} steps."
        )
    reacting = reacting_part(schedule)
    if reacting is not None:
        reaction = _guarded(
            schedule, lambda: _reaction(schedule, reacting, steps, steps_per_epoch, eval_every)
        )
        return Shape(multiplier, reaction=reaction)
    if not multiplier.any():
        raise UsageError(f"schedule: {schedule.name} is 0 at each of the {steps:,} steps.")
    return Shape(multiplier, momentum)


def _values(
    schedule: Component, step: Array, steps: int, steps_per_epoch: float | None
) -> tuple[Array, Array | None]:
    """Return the multipliers (N,) and the momenta (N,) of a schedule at these steps, before any reaction."""
    args, row = _args_in_steps(schedule, steps_per_epoch), SCHEDULES.get(schedule.name)
    multiplier = _guarded(schedule, lambda: function_of(planned(schedule), steps_per_epoch)(step, steps))
    if row is None or row.momentum is None:
        return np.asarray(multiplier), None
    momentum = load(row.momentum)
    return multiplier, _guarded(schedule, lambda: momentum(step, steps, **args))


def reacting_part(schedule: Component) -> Component | None:
    """Return the schedule that reacts to the training: the schedule itself, or the last part of a join.

    Returns:
        None for a schedule that depends only on the step.
    """
    row = SCHEDULES.get(schedule.name)
    if row is not None and row.watches is not None:
        return schedule
    parts = schedule.args.get("parts") if schedule.name == "join" else None
    if not isinstance(parts, list | tuple) or not parts:
        return None
    return reacting_part(_part(parts[-1], len(parts) - 1))


def watched_by(schedule: Component) -> Literal["val_loss", "grad_norm"] | None:
    """Return the quantity that a schedule reacts to; None if the schedule depends only on the step."""
    reacting = reacting_part(schedule)
    return None if reacting is None else SCHEDULES[reacting.name].watches


def patience_of(schedule: Component) -> int | None:
    """Return the number of evaluations that a schedule waits for an improvement; None if it does not wait."""
    reacting = reacting_part(schedule)
    if reacting is None or watched_by(reacting) != "val_loss":
        return None
    parameter = inspect.signature(_resolved(reacting)).parameters.get("patience")
    return None if parameter is None else reacting.args.get("patience", parameter.default)


def planned(schedule: Component) -> Component:
    """Return the part of a schedule that is known before the training.

    Where the schedule reacts, this is its warmup; any other schedule is returned as it is.
    """
    reacting = reacting_part(schedule)
    if reacting is None:
        return schedule
    if reacting is schedule:
        return Component(name="linear_warmup", args={"warmup": schedule.args.get("warmup", 0)})
    *parts, last = parts_of(schedule)
    return Component(name="join", args=schedule.args | {"parts": [*map(dict, parts), dict(planned(last))]})


def reaction_start(schedule: Component, steps: int, steps_per_epoch: float | None) -> int:
    """Return the step at which a schedule that reacts begins to do so: after its warmup and earlier parts."""
    args = _args_in_steps(schedule, steps_per_epoch)
    if schedule.name != "join":
        return warmup_steps(args.get("warmup", 0), steps)
    begin = length_in_steps("at", args["at"][-1], steps)
    return begin + reaction_start(parts_of(schedule)[-1], steps - begin, steps_per_epoch)


def _reaction(
    schedule: Component,
    reacting: Component,
    steps: int,
    steps_per_epoch: float | None,
    eval_every: int | None,
) -> Reaction:
    """Return the reaction of a schedule; it ignores what was measured before the schedule starts to react."""
    react = partial(_resolved(reacting), **_args_in_steps(reacting, steps_per_epoch))
    react([1.0], 1.0)  # a call now shows whether the args are good
    start, watches = reaction_start(schedule, steps, steps_per_epoch), watched_by(reacting)
    assert watches is not None  # it reacts
    skipped = start if watches == "grad_norm" else max(0, (start - 1) // (eval_every or steps))
    return Reaction(watches, partial(_after, skipped, react) if skipped else react)


def _after(
    skipped: int, react: Callable[[Sequence[float], float], float], measured: Sequence[float], peak: float
) -> float:
    """Return the multiplier of a reaction to all measurements but the first `skipped` ones."""
    return react(measured[skipped:], peak) if len(measured) > skipped else 1.0


def function_of(schedule: Component, steps_per_epoch: float | None) -> Callable[[Array, int], Array]:
    """Return a schedule as a function of (step (N,), steps), with its args filled in."""
    if watched_by(schedule) is not None:
        raise ArgumentError(
            f"schedule: {schedule.name} reacts to the training, so it can only be the last part of a join."
        )
    args = _args_in_steps(schedule, steps_per_epoch)
    if schedule.name == "join":
        parts = parts_of(schedule)
        functions = [_part_function(number, part, steps_per_epoch) for number, part in enumerate(parts)]
        return partial(join, **args | {"parts": functions})
    function = _resolved(schedule)
    if schedule.name in SCHEDULES:
        return partial(function, **args)
    if reacting := [n for n, row in SCHEDULES.items() if row.watches and row.path == schedule.name]:
        raise UsageError(f"schedule: it reacts to the training; write its name instead: {reacting[0]}.")

    def step_by_step(step: Array, steps: int) -> Array:
        return np.array([float(function(int(t), steps, **args)) for t in step])

    return step_by_step


def _part_function(
    number: int, part: Component, steps_per_epoch: float | None
) -> Callable[[Array, int], Array]:
    """Return a part of a join as a function; its errors lead to the part's args in the args of the join."""

    def placed(compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except ArgumentError as error:
            raise ArgumentError(str(error), "parts", number, "args", *error.path) from error

    function = placed(lambda: function_of(part, steps_per_epoch))
    return lambda step, steps: placed(lambda: function(step, steps))


def parts_of(schedule: Component) -> list[Component]:
    """Return the schedules that a join joins; none for any other schedule."""
    if schedule.name != "join":
        return []
    parts = schedule.args.get("parts", ())
    if not isinstance(parts, list | tuple):
        raise ArgumentError(f"schedule: parts must be a list of schedules; found {parts!r}.", "parts")
    return [_part(part, number) for number, part in enumerate(parts)]


def _part(part: Any, number: int) -> Component:
    """Return a part of a join as a schedule."""
    try:
        return Component.model_validate(name_only(part))
    except ValidationError as error:
        reasons = "; ".join(message_of(d) for d in merge_unions(error.errors(), _PART, part))
        message = f"schedule: the part {part!r} of the join is not a schedule: {reasons}."
        raise ArgumentError(message, "parts", number) from None


def named_in(schedule: Component) -> Iterator[Component]:
    """Yield a schedule and, if it is a join, all schedules that it joins."""
    yield schedule
    for part in parts_of(schedule):
        yield from named_in(part)


def _args_in_steps(schedule: Component, steps_per_epoch: float | None) -> dict[str, Any]:
    """Return the args of a schedule, with lengths in epochs as numbers of steps."""
    return {key: _in_steps(value, steps_per_epoch) for key, value in schedule.args.items()}


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
        with as_exception():
            return compute()
    except UsageError as error:
        text = f"schedule: {schedule.name}: {str(error).removeprefix('schedule: ')}"
        if isinstance(error, ArgumentError):
            raise ArgumentError(text, *error.path) from error
        raise UsageError(text) from error
    except LrfindError:
        raise
    except Exception as error:  # anything may go wrong in a user's function
        text = f"schedule: {schedule.name} failed: {in_one_line(error)}"
        if ":" in schedule.name:
            text += ". A schedule is a function of (step, steps) that is 1 at the peak."
        raise UsageError(text) from error


@dataclass(frozen=True)
class Misfit:
    """What is wrong with a schedule, and the path to it in the schedule's part of the config."""

    message: str
    path: tuple[str | int, ...]


def misfit_of(schedule: Component, steps: int | None, epochs: int | None) -> Misfit | None:
    """Return why no training of this length can have a schedule; None if nothing is wrong for certain.

    Where the number of steps in an epoch matters, which only the data knows, several numbers are tried. No
    code of the user is imported; a function of the user counts as good.

    Args:
        schedule: the schedule's name and args.
        steps: the number of steps of the training; None if it is given in epochs or not known.
        epochs: the number of epochs of the training; None if it is given in steps or not known.
    """
    try:
        built_in = _built_in(schedule)
    except ArgumentError as error:
        return Misfit(f"join: {_text(error)}", ("args", *error.path))
    errors = []
    for epoch in _epochs_to_try(built_in, steps):
        length = steps or max(1, round(epoch * (epochs or 1)))
        try:
            _values(built_in, np.array([0.0, length - 1.0]), length, epoch)
            if (reacting := reacting_part(built_in)) is not None:
                _guarded(built_in, partial(_reaction, built_in, reacting, length, epoch, None))
        except UsageError as error:
            errors.append(error)
        else:
            return None
    paths = {error.path if isinstance(error, ArgumentError) else () for error in errors}
    if len(paths) > 1:
        return None
    message, path = _text(errors[0]), paths.pop()
    if len({str(error) for error in errors}) > 1:  # the messages quote the numbers of steps that were tried
        message = (
            f"{schedule.name}: {path[-1] if path else 'it'} does not fit the length of the training, whatever"
            " the number of steps in an epoch is"
        )
    return Misfit(message, ("args", *path) if path else ())


def _text(error: UsageError) -> str:
    return str(error).removeprefix("schedule: ").removesuffix(".")


def _epochs_to_try(schedule: Component, steps: int | None) -> Sequence[float]:
    """Return numbers of steps in an epoch; a schedule that none of them fits is certainly wrong.

    In a longer training, every length in steps fits better, except for periods that become shorter.
    """
    shrinks = any(part.args.get("growth", 1) < 1 for part in named_in(schedule))
    if steps is None and not shrinks:
        return (100_000, 1000)
    return (100_000, 1000, 10, 1, 0.1) if steps is None or length_in_epochs(schedule.args) else (1,)


def _built_in(schedule: Component) -> Component:
    """Return the schedule with `constant` in place of every function of the user."""
    if ":" in schedule.name:
        return Component(name="constant")
    if schedule.name != "join":
        return schedule
    parts = [dict(_built_in(part)) for part in parts_of(schedule)]
    return Component(name="join", args=schedule.args | {"parts": parts})
