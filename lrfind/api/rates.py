"""How an answer reaches the optimizers and schedulers of a user."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lrfind.errors import UsageError
from lrfind.experiments.planned import highest_lr
from lrfind.problem.applied import apply_lr, take_back
from lrfind.problem.rates import Group, groups_of, is_optimizer


def apply_rate(
    lr: float,
    optimizer: Any,
    scheduler: Any,
    shares: Sequence[float] | None = None,
    steps: int | None = None,
) -> None:
    """Give a rate to optimizers and schedulers; warn if a scheduler was made that is not given.

    Args:
        lr: the rate.
        optimizer: the optimizer, or a list of several.
        scheduler: the scheduler, or a list of several; None if there is none.
        shares: see `apply_lr`.
        steps: the number of steps in which the highest lr of the scheduler is the rate; None if the rate is
            that from which the scheduler starts, or its peak.

    Raises:
        UsageError: if what was given is no optimizer; see also `apply_lr`.
    """
    optimizers = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    if others := [type(one).__name__ for one in optimizers if not is_optimizer(one)]:
        raise UsageError(
            "apply takes an optimizer of torch, or a list of several, and after it the scheduler; found an"
            f" object of type {others[0]}."
        )
    scheduled = any("initial_lr" in group for group in groups_of(optimizers))
    if scheduler is not None:
        take_back(scheduler)
    apply_lr(lr, optimizers, scheduler, shares, () if steps is None else _highest(scheduler, steps))
    if scheduled and scheduler is None:
        warnings.warn(
            "the optimizer has had a scheduler. If you go on to use it, it will overwrite the lr at its next"
            " step; give it too: apply(optimizer, scheduler). A new scheduler starts from the rate.",
            stacklevel=3,
        )


def _highest(scheduler: Any, steps: int) -> list[tuple[Sequence[Group], float]]:
    """Return the param groups under each scheduler, and the highest lr that they get in the next steps.

    Several schedulers of one optimizer may each step at times of their own, so nothing is told of them.
    """
    schedulers = scheduler if isinstance(scheduler, list | tuple) else [scheduler]
    count = Counter(id(getattr(single, "optimizer", None)) for single in schedulers)
    alone = [single for single in schedulers if count[id(getattr(single, "optimizer", None))] == 1]
    tops = [(single, highest_lr(single, steps)) for single in alone]
    return [(single.optimizer.param_groups, top) for single, top in tops if top is not None]
