"""The backward pass of a lane: the loss of its next step, and the gradients of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from lrfind.errors import NoGradient
from lrfind.problem.batches import batch_loss
from lrfind.problem.setup import Setup
from lrfind.training.kernels import digits_are_usual, fast_kernels
from lrfind.training.program import Replay, UnrecordableError
from lrfind.training.recording import MOST_RECORDINGS, is_plain, layout, record
from lrfind.training.stackable import PythonState, traceable
from lrfind.training.update import laid_out

MOST_KINDS = 32
"""The most kinds of steps that are recorded. Code that changes a module at every step would make one each."""


class Backward:
    """Computes the loss of each step of a lane, and adds its gradients to `.grad`.

    A step that may be recorded is recorded the first time, and replayed afterwards, without modules and
    autograd. Its numbers are the same to the last bit.

    Args:
        setup: the parts of the lane.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._parameters = [p for p in setup.model.parameters() if p.requires_grad]
        self._fixed = [p for p in setup.model.parameters() if not p.requires_grad]
        self._buffers = [*setup.model.buffers()]
        self._tensors = [*self._parameters, *self._fixed, *self._buffers]
        self._recordings: dict[Any, Replay] | None = None  # by the layout of the batch
        if _may_be_recorded(setup):
            self._layouts, self._python = self._layouts_now(), PythonState(setup)
            shapes = [p.shape for p in self._parameters]
            self._kind = ("lane", digits_are_usual(), *self._layouts, *shapes, self._python.values)
            if self._kind in setup.recordings or len(setup.recordings) < MOST_KINDS:
                self._recordings = setup.recordings.setdefault(self._kind, {})

    def __call__(self) -> float:
        """Return the next step's loss, the mean over its batches, and add its gradient to `.grad`."""
        losses = [self._loss(next(self._setup.batches)) for _ in range(self._setup.recipe.accumulate)]
        return losses[0].item() if len(losses) == 1 else torch.stack(losses).mean().item()

    def _loss(self, batch: Any) -> Tensor:
        if self._recordings is None or not is_plain(batch):
            return self._computed(batch)
        if self._layouts_now() != self._layouts or self._python.changed:  # a hook of the user's did it
            self._recordings = None
            return self._computed(batch)
        replay = self._recordings.get(layout(batch))
        if replay is None:
            return self._recorded(batch)
        try:
            with torch.no_grad():
                loss, *gradients = replay(*self._tensors, *batch)
        except Exception:
            self._computed(batch)  # a mistake in the batch is explained where it happens as usual
            raise
        self._give(gradients)
        return loss

    def _give(self, gradients: Iterable[Tensor]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def _layouts_now(self) -> list[Any]:
        """Return what a user's optimizer could change of a tensor, and a replay would not see."""
        return [(tensor.stride(), tensor.requires_grad) for tensor in self._tensors]

    def _computed(self, batch: Any) -> Tensor:
        """Compute the loss of a batch and its gradients as usual."""
        setup, loss = self._setup, self._forward(batch)
        share = loss / setup.recipe.accumulate if setup.recipe.accumulate > 1 else loss
        scaled: Tensor = share if setup.scaler is None else setup.scaler.scale(share)
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _forward(self, batch: Any) -> Tensor:
        """Return the loss of a batch, with its graph."""
        setup = self._setup
        with setup.casting():
            loss = batch_loss(setup.model, setup.loss_fn, batch)
        if not loss.requires_grad:
            raise NoGradient(
                "the loss does not depend on any parameter that requires a gradient; is the whole model"
                " frozen, or its output detached?"
            )
        return loss

    def _recorded(self, batch: Sequence[Tensor]) -> Tensor:
        """Compute the loss of a batch and its gradients as usual, and record how."""

        def step(*_: Tensor) -> list[Tensor]:
            loss = self._forward(batch)
            # `backward` would copy each gradient, because the recorder holds it too.
            gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
            present = [gradient for gradient in gradients if gradient is not None]
            if len(present) < len(gradients):
                raise UnrecordableError("a parameter takes no part in the loss")
            return [loss.detach(), *map(laid_out, present, self._parameters)]

        assert self._recordings is not None
        if len(self._recordings) >= MOST_RECORDINGS:
            with fast_kernels(allowed=True):  # as in a recording
                return self._computed(batch)
        try:
            inputs = [*self._tensors, *batch]
            (loss, *gradients), self._recordings[layout(batch)] = record(step, inputs, self._buffers)
        except Exception:  # also a mistake in the config, which is explained where it happens as usual
            self._recordings = self._setup.recordings[self._kind] = None
            for parameter in self._parameters:
                parameter.grad = None
            return self._computed(batch)
        self._give(gradients)
        return loss


def _may_be_recorded(setup: Setup) -> bool:
    """Return whether the steps of a lane do nothing that a recording would not repeat."""
    tensors = [*setup.model.parameters(), *setup.model.buffers()]
    trained = {id(p) for p in tensors if p.requires_grad}
    in_optimizer = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
    plain = all(
        type(tensor) in (nn.Parameter, Tensor)
        and tensor.device.type == "cpu"
        and not (tensor._backward_hooks or tensor._post_accumulate_grad_hooks)
        for tensor in tensors
    )
    alone = trained <= in_optimizer <= {*map(id, tensors)}  # the loss gives no gradient to others
    clears = getattr(setup.optimizer.zero_grad, "__func__", None) is Optimizer.zero_grad
    several = setup.recipe.accumulate > 1 or setup.scaler is not None
    watched = torch.is_anomaly_enabled() or torch.is_autocast_enabled("cpu")
    return plain and alone and clears and not several and not watched and traceable(setup)
