"""The parts of one lane, ready to train, and how its param groups share the learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from lrfind.catalog import Precision
from lrfind.errors import UsageError
from lrfind.problem.batches import LossFn
from lrfind.problem.param_groups import MULTIPLIER


@dataclass(frozen=True)
class Recipe:
    """How a step is made of batches and their gradients. The attributes apply in their order.

    Attributes:
        accumulate: the number of batches in a step; the step lowers the mean loss of these batches.
        precision: the type of number in which autocast computes forward and backward. In float16 the loss is
            scaled, and a step whose gradient overflows is skipped; torch's `GradScaler` manages the scale.
        l1: a factor; this factor times the sign of a weight is added to the weight's gradient. Biases and
            norms (parameters with fewer than two axes) are left out, and reported losses do not contain the
            penalty.
        clip_value: the largest absolute value of a number in the gradient; None for no limit.
        clip_norm: the largest norm of the gradient; a larger one is scaled down to it. None for no limit.
    """

    accumulate: int = 1
    precision: Precision = "float32"
    l1: float = 0.0
    clip_value: float | None = None
    clip_norm: float | None = None


PLAIN = Recipe()


@dataclass(frozen=True)
class Setup:
    """The parts of one lane, ready to train.

    Attributes:
        model: the model, in train mode.
        optimizer: an optimizer of the model's parameters, without state.
        loss_fn: see `lrfind.problem.batches.output_and_loss`.
        batches: the training batches, without end.
        recipe: how a step is made of the batches.
        held_out_batch: a fixed held-out batch; None where it is not requested.
        group: the index of the only param group whose lr changes, while the other groups keep their lr; None
            if the lr of every group changes.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: LossFn | None
    batches: Iterator[Any]
    recipe: Recipe = PLAIN
    held_out_batch: Any = None
    group: int | None = None

    @cached_property
    def ratios(self) -> list[float]:
        """Return each param group's lr as a multiple of the lane's lr; 0 for a group that keeps its own."""
        if self.group is not None:
            return [float(number == self.group) for number in range(len(self.optimizer.param_groups))]
        groups = self.optimizer.param_groups
        if all(MULTIPLIER in group for group in groups):
            return [float(group[MULTIPLIER]) for group in groups]
        return lr_ratios(self.optimizer)

    @cached_property
    def held_lrs(self) -> list[float]:
        """Return the lr that each param group keeps; 0 for a group whose lr changes."""
        if self.group is None:
            return [0.0] * len(self.optimizer.param_groups)
        return [0.0 if n == self.group else lr for n, lr in enumerate(_group_lrs(self.optimizer))]

    @cached_property
    def scaler(self) -> torch.amp.GradScaler | None:
        """Return the loss scaler, which keeps gradients in float16 from becoming 0; None without float16."""
        return torch.amp.GradScaler(self._device_type) if self.recipe.precision == "float16" else None

    def casting(self) -> AbstractContextManager[Any]:
        """Return the context in which forward and loss run."""
        if self.recipe.precision == "float32":
            return nullcontext()
        dtype = getattr(torch, self.recipe.precision)
        return torch.autocast(self._device_type, dtype, cache_enabled=False)

    @property
    def _device_type(self) -> str:
        return next(self.model.parameters()).device.type


def lr_ratios(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return each param group's lr as a multiple of the first lr that is not zero.

    Where a scheduler is attached, a group's lr is the one that the scheduler started from.

    Raises:
        UsageError: if every lr is zero.
    """
    lrs = _group_lrs(optimizer)
    base = next((lr for lr in lrs if lr > 0), None)
    if base is None:
        raise UsageError("every param group of the optimizer has lr 0; give at least one a positive lr.")
    return [lr / base for lr in lrs]


def _group_lrs(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
