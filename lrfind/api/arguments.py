"""The arguments that all calls share, checked, and work on a user's objects that leaves no trace."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from lrfind.config.experiment import section_of
from lrfind.config.numbers import whole
from lrfind.config.sections import TrainingSection
from lrfind.errors import UsageError
from lrfind.experiments.check import refuse_silent_misfit
from lrfind.experiments.script import HELD
from lrfind.problem.limits import limits_of
from lrfind.problem.objects import Objects, from_objects
from lrfind.problem.problem import Problem, recipe_of
from lrfind.problem.ranks import rank_count, together
from lrfind.problem.rates import groups_of, innermost, ratios_in_words
from lrfind.problem.setup import Recipe
from lrfind.problem.snapshot import Snapshot, preserved

T = TypeVar("T")


def recipe_from(accumulate: Any, precision: Any, clip_norm: Any, clip_value: Any) -> Recipe:
    """Return how a step is made of batches.

    Raises:
        UsageError: if one of the arguments is out of range.
    """
    return recipe_of(
        section_of(
            TrainingSection,
            steps=1,
            accumulate=accumulate,
            precision=precision,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
    )


def without_trace(objects: Objects, work: Callable[[Problem], T], *, seed: int = 0) -> T:
    """Do some work on a user's problem, on all ranks, and restore everything afterwards.

    Args:
        objects: the user's objects.
        work: the work.
        seed: the seed of the batch on which output and y are compared first.

    Raises:
        UsageError: if output and y do not fit, although torch would compute a loss; or in a script that
            `lrfind script` has started, whose lr it holds already.
    """
    if os.environ.get(HELD):
        raise UsageError(
            "`lrfind script` runs this script, which itself asks lrfind for a learning rate. Run it with"
            " `python` as it is, or take the call of lrfind out of it."
        )
    snapshots: list[Snapshot] = []

    def on_this_rank() -> T:
        with preserved(objects.trained, objects.all_data, kept=objects.kept) as snapshot:
            snapshots.append(snapshot)
            for limit in limits_of(objects, snapshot):
                warnings.warn(limit, stacklevel=5)  # at the line that called `find` or `range_test`
            problem = from_objects(objects, snapshot)
            if objects.own_step is None:
                refuse_silent_misfit(problem.setup(seed))
            return work(problem)

    def undo() -> None:
        for snapshot in snapshots:
            snapshot.restore()

    return together(on_this_rank, undo)


def notes_on(objects: Objects, *, scheduled: bool = True, shared: bool = True) -> list[str]:
    """Return what to know about a rate: the param group it is for, the batch that it is for, its schedule.

    Args:
        objects: the user's objects.
        scheduled: whether the schedule is known for which the rate is.
        shared: whether all param groups share one rate, in the ratios that they have.
    """
    notes = []
    ratios = ratios_in_words(objects.optimizers) if shared else None
    if ratios is not None:
        notes.append(f"{ratios}.")
    groups = groups_of(innermost(objects.optimizers))
    if not scheduled and any("initial_lr" in group for group in groups):
        notes.append(
            "The optimizer has a scheduler, but `schedule` was not given, so the rate is for a constant lr;"
            " give schedule=scheduler."
        )
    if (count := rank_count()) > 1:
        notes.append(f"The rate is for the batches of all {count} ranks together.")
    return notes


def checked_looks(looks: Any) -> int:
    """Return a number of looks.

    Raises:
        UsageError: if it is no whole number, or negative.
    """
    count = whole(looks)
    if count is None or count < 0:
        raise UsageError(f"looks: must be a whole number, 0 or more; found {looks!r}.")
    return count


def checked_interval(eval_every: Any) -> int | None:
    """Return the number of steps between evaluations; None for one at the end.

    Raises:
        UsageError: if it is no whole number, or less than 1.
    """
    steps = whole(eval_every)
    if eval_every is not None and (steps is None or steps < 1):
        raise UsageError(f"eval_every: must be a whole number of steps, 1 or more; found {eval_every!r}.")
    return steps


def checked_seed(seed: Any) -> int:
    """Return a seed, which all generators must take.

    Raises:
        UsageError: if it is no whole number, or out of range.
    """
    number = whole(seed)
    if number is None or not 0 <= number < 2**32:
        raise UsageError(f"seed: must be a whole number from 0 to {2**32 - 1}; found {seed!r}.")
    return number
