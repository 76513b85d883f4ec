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
    """How a step is made of batches and their gradients, in this order.

    Attributes:
        accumulate: batches whose mean loss the step descends.
        precision: that autocast lets forward and backward compute in. In float16 the loss is scaled, and a
            step whose gradient overflows is skipped; the scale is torch's own affair (`GradScaler`).
        l1: this times the sign of each weight is added to its gradient, biases and norms (parameters of fewer
            than two axes) left out; the losses that are reported do not contain it.
        clip_value: what every number of the gradient is cut to.
        clip_norm: the norm that a longer gradient is scaled down to.
    """

    accumulate: int = 1
    precision: Precision = "float32"
    l1: float = 0.0
    clip_value: float | None = None
    clip_norm: float | None = None


AS_IT_IS = Recipe()


@dataclass(frozen=True)
class Setup:
    """The parts of one lane, ready to train.

    Attributes:
        model: in train mode.
        optimizer: over its parameters, without state.
        loss_fn: see `lrfind.problem.batches.output_and_loss`.
        batches: without end.
        recipe: how a step is made of them.
        held_out_batch: a fixed held-out batch; None where not asked for.
        group: number of the one param group whose lr moves, the others' being held; None moves all.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: LossFn | None
    batches: Iterator[Any]
    recipe: Recipe = AS_IT_IS
    held_out_batch: Any = None
    group: int | None = None

    @cached_property
    def ratios(self) -> list[float]:
        """What each param group's lr is a multiple of `lr` by; 0 where it is held."""
        if self.group is not None:
            return [float(number == self.group) for number in range(len(self.optimizer.param_groups))]
        groups = self.optimizer.param_groups
        if all(MULTIPLIER in group for group in groups):
            return [float(group[MULTIPLIER]) for group in groups]
        return lr_ratios(self.optimizer)

    @cached_property
    def held(self) -> list[float]:
        """The lr that each param group keeps; 0 where it moves."""
        if self.group is None:
            return [0.0] * len(self.optimizer.param_groups)
        return [0.0 if n == self.group else lr for n, lr in enumerate(_group_lrs(self.optimizer))]

    @cached_property
    def scaler(self) -> torch.amp.GradScaler | None:
        """Scales the loss, so that small gradients survive in float16; None in other precisions."""
        return torch.amp.GradScaler(self._device_type) if self.recipe.precision == "float16" else None

    def casting(self) -> AbstractContextManager[Any]:
        """What forward and loss run in."""
        if self.recipe.precision == "float32":
            return nullcontext()
        kind = getattr(torch, self.recipe.precision)
        return torch.autocast(self._device_type, kind, cache_enabled=False)

    @property
    def _device_type(self) -> str:
        return next(self.model.parameters()).device.type


def lr_ratios(optimizer: torch.optim.Optimizer) -> list[float]:
    """Each param group's lr as a multiple of the first one that is not zero.

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
