"""How an answer reaches the optimizers and schedulers of a user."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from lrfind.problem.rates import apply_lr, groups_of


def apply_rate(lr: float, optimizer: Any, scheduler: Any, shares: Sequence[float] | None = None) -> None:
    """Give a rate to optimizers and schedulers; warn if a scheduler was made that is not given."""
    optimizers = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    scheduled = any("initial_lr" in group for group in groups_of(optimizers))
    apply_lr(lr, optimizers, scheduler, shares)
    if scheduled and scheduler is None:
        warnings.warn(
            "the optimizer has had a scheduler. If you go on to use it, it will overwrite the lr at its next"
            " step; give it too: apply(optimizer, scheduler). A new scheduler starts from the rate.",
            stacklevel=3,
        )
