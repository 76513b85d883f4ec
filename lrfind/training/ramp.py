"""Ramps: whether the loss rose because of the lr or because of the batches."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from lrfind.analysis.divergence import DivergenceRule
from lrfind.analysis.lanes import Outcome
from lrfind.errors import counted, first_few
from lrfind.problem.batches import batch_loss, users_function
from lrfind.problem.ranks import on_any_rank, over_ranks
from lrfind.problem.replay import HeldBatch
from lrfind.problem.setup import Setup
from lrfind.problem.snapshot import Snapshot
from lrfind.training.explanations.values import nonfinite_parts, why_not_float16

WATCHED = 4  # batches


@dataclass
class _TakenStep:
    """A step's loss and batches, and their loss at the untouched weights; NaN until it is needed."""

    loss: float
    batches: list[HeldBatch]
    untouched: float = math.nan
    evaluated: bool = False


class RampBatches:
    """The batches of a ramp: an iterator that holds those of the last three steps and of the best three.

    The best steps are those whose median is the lowest so far (`DivergenceRule.best`). When the rule says
    that the loss has diverged, its rise from there to the last three steps has two possible reasons: the
    weights became worse, or the batches became harder, as in data that is sorted by class. A batch is harder
    if its loss is higher at the untouched weights, those before the first step. So both threes are evaluated
    there. Batches that are harder by half of the rise or more are its reason: the rule fires only above four
    times the noise, and batches in a random order do not differ by half of that. Until the rule fires,
    nothing is computed; only a copy of the weights is kept.

    Args:
        setup: the parts of the lane, before its first step.
    """

    def __init__(self, setup: Setup) -> None:
        self._source, self._accumulate = setup.batches, setup.recipe.accumulate
        self._setup = setup
        self._now: list[HeldBatch] = []
        self._watched, self._watch = 0, HeldBatch(())
        self._filled_again = False
        self._last: deque[_TakenStep] = deque(maxlen=3)
        self._calm: list[_TakenStep] = []
        self._best = math.inf
        self._steps = self._harder_steps = 0
        self._why_not_finite = ""
        self._start: Snapshot | None = None
        with contextlib.suppress(Exception):  # lazy layers have no weights yet; then the rule's word stands
            self._start = self._snapshot()

    def __iter__(self) -> RampBatches:
        return self

    def __next__(self) -> Any:
        if len(self._now) == self._accumulate:
            self._now = []
        batch = next(self._source)
        self._now.append(HeldBatch(batch, copied=self._is_filled_again(batch)))
        return batch

    def _is_filled_again(self, batch: Any) -> bool:
        """Return whether a loader, or a model that changes its input, may fill the memory of a batch again.

        It may where something else keeps that memory, as a loader does that has several places for its
        batches in turn. The first few batches show it; until then it may.
        """
        if self._watched > WATCHED:
            return self._filled_again
        self._filled_again |= self._watch.release()
        self._watched, self._watch = self._watched + 1, HeldBatch(() if self._watched == WATCHED else batch)
        return True

    def judge(self, loss: float, rule: DivergenceRule, outcome: Outcome | None) -> Outcome | None:
        """Take the loss of the last step, and find out whether the lr is the reason where it diverged.

        If harder batches are the reason, the lane goes on. If the loss is not finite for another reason than
        the lr, the lane is finished.

        Args:
            loss: the loss of the last step.
            rule: the rule of the lane, which has taken this loss.
            outcome: the outcome of the lane according to the rule.

        Returns:
            The outcome of the lane; None if it goes on. `remark` says what was found out.
        """
        self._steps += 1
        self._last.append(_TakenStep(loss, self._now))
        if rule.best < self._best:
            self._best, self._calm = rule.best, [*self._last]
        if outcome != "diverged":
            return outcome
        if math.isfinite(loss):
            return None if self._are_harder() else outcome
        optimizers = self._setup.all_optimizers
        reasons = (self._nonfinite_data(), *map(why_not_float16, optimizers))
        self._why_not_finite = next(filter(None, reasons), "")
        return "finished" if self._why_not_finite else outcome

    @property
    def remark(self) -> str:
        """Say what something else than the lr did to the losses; "" if nothing is known."""
        if self._why_not_finite or not self._harder_steps:
            return self._why_not_finite
        at = f"at {counted(self._harder_steps, 'step')}"
        return (
            f"the order of the data shows in the curve: {at} the loss was high because the batch was harder,"
            " and not because of the lr; shuffle the training data, as DataLoader(..., shuffle=True) does."
        )

    def _are_harder(self) -> bool:
        """Return whether the loss at which the rule fires has risen because of its batches."""
        if not self._calm:  # no loss has counted as finite
            return False
        rise = median(step.loss for step in self._last) - self._best
        self._evaluate_untouched([*self._last, *self._calm])
        now, calm = (np.median([step.untouched for step in steps]) for steps in (self._last, self._calm))
        harder = bool(now - calm >= rise / 2)  # not if one of them is NaN
        self._harder_steps += harder
        return harder

    def _nonfinite_data(self) -> str:
        """Say which values of the last step's batches make its loss NaN or inf; "" if it is the weights.

        It is the weights if the untouched ones give these batches a finite loss.
        """
        step, before = self._last[-1], (self._steps - 1) * self._accumulate
        described = [
            f"batch {before + number} (step {self._steps - 1}): {values}"
            for number, batch in enumerate(step.batches, 1)
            if not batch.lost
            for values in nonfinite_parts(batch.copy())
        ]
        if not on_any_rank(bool(described)):
            return ""
        self._evaluate_untouched([step])
        if math.isfinite(step.untouched):
            return ""
        if not described:
            return "a batch of another rank holds values that are not finite; the message there says which."
        return (
            "the data holds values that are not finite (NaN or inf), which give a loss that is not finite at"
            f" any lr. They are in {first_few(described)}. Leave such rows out of the data set, or fill in"
            " numbers."
        )

    def _evaluate_untouched(self, steps: Iterable[_TakenStep]) -> None:
        """Evaluate the batches of these steps at the untouched weights; all state stays as it is.

        Where that fails, for example without memory for another copy of the weights, the losses are NaN.
        """
        steps = [step for step in steps if not step.evaluated]
        if self._start is None or not steps:
            return
        state = self._snapshot()
        try:
            self._start.restore()
            for step in steps:
                step.evaluated = True
                step.untouched = over_ranks(self._loss_of(step))
        finally:
            state.restore()

    def _loss_of(self, step: _TakenStep) -> float:
        """Return the loss of a step's batches; NaN if the user's code does not bear another evaluation."""
        assert self._start is not None
        try:
            return fmean(self._untouched_loss(self._start, batch) for batch in step.batches)
        except Exception:
            return math.nan

    def _untouched_loss(self, start: Snapshot, batch: HeldBatch) -> float:
        setup = self._setup
        if setup.own_step is not None:
            start.restore()  # a step changes the weights, a forward pass does not
            return setup.own_step.take(batch.copy())
        with setup.casting():
            return batch_loss(setup.model, setup.loss_fn, batch.copy()).item()

    def _snapshot(self) -> Snapshot:
        setup = self._setup
        if setup.own_step is not None:
            return Snapshot(setup.trained, kept=setup.kept, with_data=False, copy_grads=True)
        return Snapshot([setup.model, users_function(setup.loss_fn)], kept=setup.kept, with_data=False)
