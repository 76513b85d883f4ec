"""The parts of one lane, ready to train, and how a step is made of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from lrfind.catalog import Precision
from lrfind.problem.batches import LossFn, OwnLoss, OwnStep, users_function
from lrfind.problem.param_groups import MULTIPLIER
from lrfind.problem.rates import Group, groups_of, lr_ratios, peak_lrs, set_lr


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


def trained_objects(
    model: nn.Module, optimizers: Sequence[Any], loss_fn: Any, own_step: OwnStep | None
) -> list[Any]:
    """Return the objects from which everything that a step changes can be reached."""
    own = [] if own_step is None else [own_step.function, own_step.score]
    return [model, *optimizers, users_function(loss_fn), *own]


def begin_training(model: nn.Module) -> None:
    """Call a model's `train`, as training loops do, where that changes more than the modes of its parts.

    That is so if the whole model is in evaluation mode, or a part has a `train` of its own, which may keep a
    batch norm frozen. In any other model each part keeps its mode.
    """
    if not model.training or any(type(part).train is not nn.Module.train for part in model.modules()):
        model.train()


@dataclass(frozen=True)
class Setup:
    """The parts of one lane, ready to train.

    Attributes:
        model: the model; an empty module where `own_step` has its own.
        optimizer: the optimizer of the model's parameters, or the first one of `own_step`.
        loss_fn: see `lrfind.problem.batches.output_and_loss`.
        batches: the training batches, without end.
        recipe: how a step is made of the batches.
        held_out_batch: a fixed held-out batch; None where it is not requested.
        group: the index of the only param group whose lr changes, while the other groups keep their lr; None
            if the lr of every group changes.
        own_step: the user's function that takes a whole step; None where lrfind takes the steps.
        optimizers: the optimizers of `own_step`.
        kept: further objects that a step changes.
        multipliers: a factor for each group of `groups`, on top of its ratio; None for no factors.
        recordings: the steps that were recorded; see `lrfind.training.recording`. All setups of a problem
            share them if their model is the same object, or one of lrfind's own. Otherwise they may contain
            numbers that differ between seeds.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: LossFn | OwnLoss | None
    batches: Iterator[Any]
    recipe: Recipe = PLAIN
    held_out_batch: Any = None
    group: int | None = None
    own_step: OwnStep | None = None
    optimizers: Sequence[Any] = ()
    kept: Sequence[Any] = ()
    multipliers: Sequence[float] | None = None
    recordings: dict[Any, Any] = field(default_factory=dict)

    @property
    def all_optimizers(self) -> Sequence[Any]:
        """The optimizers of the lane: that of the model, or those of the user's own step."""
        return self.optimizers or [self.optimizer]

    @property
    def trained(self) -> list[Any]:
        """The objects from which everything that a step changes can be reached."""
        return trained_objects(self.model, self.all_optimizers, self.loss_fn, self.own_step)

    @cached_property
    def groups(self) -> list[Group]:
        """The param groups of all optimizers, also of those inside other optimizers."""
        return groups_of(self.all_optimizers)

    @cached_property
    def ratios(self) -> list[float]:
        """Return each group's lr as a multiple of the lane's lr; 0 for a group that keeps its own."""
        if self.group is not None:
            return [float(number == self.group) for number in range(len(self.groups))]
        if all(MULTIPLIER in group for group in self.groups):
            ratios = [float(group[MULTIPLIER]) for group in self.groups]
        else:
            ratios = lr_ratios(self.all_optimizers)
        if self.multipliers is None:
            return ratios
        return [ratio * factor for ratio, factor in zip(ratios, self.multipliers, strict=True)]

    @cached_property
    def held_lrs(self) -> list[float]:
        """Return the lr that each group of `groups` keeps; 0 for a group whose lr changes."""
        if self.group is None:
            return [0.0] * len(self.groups)
        return [0.0 if n == self.group else lr for n, lr in enumerate(peak_lrs(self.all_optimizers))]

    def set_lr(self, lr: float) -> None:
        """Give an lr to every param group, each its share of it."""
        for group, ratio, held_lr in zip(self.groups, self.ratios, self.held_lrs, strict=True):
            set_lr(group, lr * ratio + held_lr)

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
