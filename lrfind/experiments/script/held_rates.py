"""Held rates: the lrs of all optimizers in a script's process, set for a step and given back after it."""

from __future__ import annotations

import weakref
from typing import Any

from torch.optim.optimizer import Optimizer

from lrfind.problem.rates import base_lr, groups_of, peak_lrs, ratios_in_words, set_lr

RAISED = 1.01  # a script has raised its lr if a later one is this multiple of the first


class HeldRates:
    """Holds the lrs of optimizers while they take a step.

    Args:
        lr: the lr of the first optimizer's first param group whose lr is not 0. All other groups and
            optimizers keep the ratios that they had when they were first stepped.

    Attributes:
        base: the script's own lr, which `lr` stands in for; None before the first step whose lr is not 0.
        words: how the lrs of the first optimizer's param groups differ; None if they do not.
        at_zero: the number of first steps that had lr 0, as a warmup by hand begins; they tell no ratios.
        raised: whether the script itself has raised its lr after the first step that was held.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.base: float | None = None
        self.words: str | None = None
        self.at_zero = 0
        self.raised = False
        self._ratios: weakref.WeakKeyDictionary[Optimizer, list[float]] = weakref.WeakKeyDictionary()
        self._own: list[tuple[dict[str, Any], float]] = []  # the lrs of the groups, as the script set them

    def hold(self, optimizer: Optimizer) -> bool:
        """Set the lr of every group of an optimizer, and keep those that the script has set.

        Returns:
            False for a step that is left as it is, because all lrs have been 0 so far.

        Raises:
            UsageError: if the lrs cannot be read.
        """
        groups, peaks = groups_of([optimizer]), peak_lrs([optimizer])
        if self.base is None and not any(peaks):
            self.at_zero += 1
            return False
        if self.base is None:
            self.base, self.words = base_lr([optimizer]), ratios_in_words([optimizer])
        ratios = self._ratios.setdefault(optimizer, [])
        ratios += [peak / self.base for peak in peaks[len(ratios) :]]
        if max(peaks, default=0.0) > RAISED * self.base * max(ratios, default=1.0):
            self.raised = True
        self._own = [(group, float(group["lr"])) for group in groups]
        for group, ratio in zip(groups, ratios, strict=False):
            set_lr(group, self.lr * ratio)
        return True

    def release(self) -> None:
        """Give the script's own lrs back, so that its schedulers compute what they always do."""
        for group, lr in self._own:
            set_lr(group, lr)

    def ratio(self, optimizer: Optimizer) -> float:
        """Return the largest lr of an optimizer that was held, as a multiple of the first one's."""
        return max(self._ratios[optimizer])
