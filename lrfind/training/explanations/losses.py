"""Losses: whether a ramp's loss rose because of its weights or of its batch, and why a loss is not finite."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrfind.analysis.curves import DivergenceRule
from lrfind.analysis.lanes import Outcome
from lrfind.errors import counted
from lrfind.problem.batches import batch_loss
from lrfind.problem.rates import groups_of
from lrfind.problem.replay import copy_of
from lrfind.problem.setup import Setup
from lrfind.problem.snapshot import Snapshot
from lrfind.training.explanations.forms import batch_parts, first_few, form, tensors_in
from lrfind.training.ranks import on_any_rank, over_ranks


@dataclass
class _TakenStep:
    """A step's loss and batches, and their loss at the untouched weights; NaN until it is needed."""

    loss: float
    batches: list[Any]
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
        self._now: list[Any] = []
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
        self._now.append(next(self._source))
        return self._now[-1]

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
        optimizers = self._setup.optimizers or [self._setup.optimizer]
        reasons = (self._nonfinite_data(), *map(why_float16_blows_up, optimizers))
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
            for values in nonfinite_parts(batch)
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
        with contextlib.suppress(Exception):  # the user's code may not bear this; then the rule's word stands
            state = self._snapshot()
            self._start.restore()
            try:
                for step in steps:
                    step.evaluated = True
                    losses = [self._untouched_loss(self._start, batch) for batch in step.batches]
                    step.untouched = over_ranks(fmean(losses))
            finally:
                state.restore()

    def _untouched_loss(self, start: Snapshot, batch: Any) -> float:
        setup = self._setup
        if setup.own_step is not None:
            start.restore()  # a step changes the weights, a forward pass does not
            return setup.own_step.take(copy_of(batch))
        with setup.casting():
            return batch_loss(setup.model, setup.loss_fn, copy_of(batch)).item()

    def _snapshot(self) -> Snapshot:
        setup = self._setup
        if setup.own_step is not None:
            return Snapshot(setup.trained, kept=setup.kept, with_data=False, copy_grads=True)
        return Snapshot([setup.model, setup.loss_fn], with_data=False)


def nonfinite_parts(batch: Any) -> list[str]:
    """Describe the parts of a batch that hold NaN or inf, with the rows where these are.

    >>> nonfinite_parts((torch.tensor([[0.0, 1.0], [math.nan, 1.0]]), torch.zeros(2)))
    ['x (2, 2) float32 in row 1']
    """
    return [
        f"{name} {form(tensor)}{_nonfinite_rows(tensor)}"
        for name, part in batch_parts(batch).items()
        for tensor in tensors_in(part)
        if _may_be_nonfinite(tensor) and not bool(tensor.isfinite().all())
    ]


def _may_be_nonfinite(tensor: Tensor) -> bool:
    return tensor.device.type != "meta" and tensor.layout == torch.strided and tensor.is_floating_point()


def _nonfinite_rows(tensor: Tensor) -> str:
    if not tensor.ndim:
        return ""
    rows = (~tensor.isfinite()).flatten(1).any(1) if tensor.ndim > 1 else ~tensor.isfinite()
    places = rows.nonzero().flatten().tolist()
    return f" in {'row' if len(places) == 1 else 'rows'} {first_few(map(str, places))}"


def why_float16_blows_up(optimizer: Any) -> str | None:
    """Say why weights of float16 blow up at every lr with this optimizer; None if they need not.

    Adam and its family divide by the root of a mean of squares plus `eps`. In float16 the squares of small
    gradients are 0, and an eps below 3e-8 is 0 too, so the first update is 0 / 0 or far too large.
    """
    for group in groups_of([optimizer]):
        eps = group.get("eps")
        half = any(parameter.dtype == torch.float16 for parameter in group["params"])
        if half and isinstance(eps, float) and not torch.tensor(eps, dtype=torch.float16).item():
            return (
                f"the weights are float16, in which {type(optimizer).__name__}'s eps of {eps:g} is 0, and so"
                " are the squares of small gradients: the update divides by 0 at any lr. Keep the weights in"
                " float32, and use autocast: precision='float16'."
            )
    return None
