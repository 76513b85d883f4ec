"""One lane at a time: a generator that takes training steps. Only here, and in `stacks`, is an lr applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lrfind.batches import LossFn, batch_loss
from lrfind.curves import Array
from lrfind.errors import LrfindError, UsageError
from lrfind.evaluation import held_loss


class Step(NamedTuple):
    """What one step measured, all before the update that uses `lr`."""

    step: int
    lr: float
    loss: float
    grad_norm: float | None = None
    probe_loss: float | None = None


@dataclass(frozen=True)
class Setup:
    """The parts of one lane, ready to train.

    Attributes:
        model: in train mode.
        optimizer: over its parameters, without state.
        loss_fn: see `lrfind.batches.output_and_loss`.
        batches: without end.
        clip_norm: the norm that a longer gradient is scaled down to; None leaves it.
        probe: a fixed held-out batch; None where not asked for.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: LossFn | None
    batches: Iterator[Any]
    clip_norm: float | None = None
    probe: Any = None

    @cached_property
    def ratios(self) -> list[float]:
        """Each param group's lr as a multiple of the first one's; see `lr_ratios`."""
        return lr_ratios(self.optimizer)


def train(setup: Setup, lr: Array, *, start: int = 0, grad_norm: bool = False) -> Iterator[Step]:
    """Take one optimizer step for each lr, and yield each step's measurements before its update.

    Whoever iterates decides when to stop: the update of a step is made when the next one is asked for, so
    stopping at a non-finite loss leaves the weights as they were. A lane may be trained in parts, one call
    after another on the same setup.

    Args:
        setup: the lane's parts. Param groups keep the ratios of their lrs: `lr` is that of the first group
            whose lr is not zero.
        lr: (T,) the lr of each step.
        start: the number of the first step.
        grad_norm: also measure the Euclidean norm of the gradient, over all parameters, before clipping.

    Raises:
        UsageError: if batch, model and loss do not fit together, or the loss depends on no parameter.
    """
    model, optimizer, loss_fn = setup.model, setup.optimizer, setup.loss_fn
    if isinstance(optimizer, torch.optim.LBFGS):
        raise UsageError("LBFGS takes several evaluations a step, at lrs of its own; use another optimizer.")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step, value in enumerate(lr.tolist(), start):
        loss = batch_loss(model, loss_fn, next(setup.batches))
        if not loss.requires_grad:
            raise UsageError(
                "the loss does not depend on any parameter that requires a gradient; is the whole model"
                " frozen, or its output detached?"
            )
        probe_loss = None if setup.probe is None else held_loss(model, loss_fn, setup.probe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = _norm(parameters) if grad_norm else None
        if setup.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, setup.clip_norm)
        for group, ratio in zip(optimizer.param_groups, setup.ratios, strict=True):
            _set_lr(group, value * ratio)
        yield Step(step, value, loss.item(), norm, probe_loss)
        optimizer.step()


def lr_ratios(optimizer: torch.optim.Optimizer) -> list[float]:
    """Each param group's lr as a multiple of the first one that is not zero.

    Where a scheduler is attached, a group's lr is the one that the scheduler started from.

    Raises:
        UsageError: if every lr is zero.
    """
    lrs = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    base = next((lr for lr in lrs if lr > 0), None)
    if base is None:
        raise UsageError("every param group of the optimizer has lr 0; give at least one a positive lr.")
    return [lr / base for lr in lrs]


def first_steps_failed(error: BaseException) -> LrfindError:
    """What to tell when a training cannot even take its first steps."""
    if isinstance(error, LrfindError):
        return error
    return UsageError(
        f"the first training step failed: {type(error).__name__}: {' '.join(str(error).split())}\nCheck that"
        " model, data and loss fit together (shapes, dtypes, number of outputs)."
    )


def _norm(parameters: list[Tensor]) -> float:
    norms = [torch.linalg.vector_norm(p.grad) for p in parameters if p.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


def _set_lr(group: dict[str, Any], lr: float) -> None:
    if isinstance(group["lr"], Tensor):  # capturable optimizers keep it on the device
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr
