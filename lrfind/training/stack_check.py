"""The check of a stack: its first steps must be those of a single lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lrfind.analysis.curves import Array
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Recipe, Setup
from lrfind.training.loop import train
from lrfind.training.stack import Stack


@dataclass(frozen=True)
class _Tolerance:
    """How far a stack, which sums in another order, may be from a single lane.

    Attributes:
        loss: the relative difference of losses.
        tensor: the difference of a gradient or a buffer, relative to its norm; a mistake shows as one of the
            order of 1.
    """

    loss: float
    tensor: float


FINE, COARSE = _Tolerance(1e-4, 5e-2), _Tolerance(1e-2, 0.2)
"""The tolerances of float32 on a CPU, and of bfloat16 and of GPUs, whose convolutions round as roughly."""
ROUNDING = 0.2  # in each gradient, ROUNDING times the loss's tolerance of the largest norm counts as rounding


def checked_stack(problem: Problem, lanes: int, lr: float, seed: int, *, compile: bool) -> Stack | str:
    """Return a stack whose first steps were those of a single lane, or a description of the difference.

    Raises:
        Exception: whatever vmap, a tracer or a compiler refuses.
    """
    plain = _first_steps_of_a_lane(_bare(problem, seed), lr)
    bare = _bare(problem, seed)
    stack = Stack(bare, lanes, compile=compile)
    fine = bare.recipe.precision == "float32" and problem.device.type == "cpu"
    return _difference(_first_steps_of_a_stack(stack, lr), plain, FINE if fine else COARSE) or stack


class _FirstSteps(NamedTuple):
    """Two steps of a lane, or of each lane of a stack.

    Attributes:
        losses: the loss of each step.
        gradients: the gradients of the second step.
        buffers: the buffers after the second step.
        reassigned: the buffers to which `forward` assigned a new tensor; a stack would not see it.
    """

    losses: Array
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    reassigned: Sequence[str] = ()


def _first_steps_of_a_lane(setup: Setup, lr: float) -> _FirstSteps:
    losses = []
    before = dict(setup.model.named_buffers())
    for step in train(setup, np.full(2, lr)):
        losses.append(step.loss)
        gradients = {name: p.grad for name, p in setup.model.named_parameters() if p.grad is not None}
    buffers = dict(setup.model.named_buffers())
    reassigned = [name for name, buffer in buffers.items() if buffer is not before.get(name)]
    # Copies, because the next setup of a user's model sets its buffers back.
    copies = {name: buffer.clone() for name, buffer in buffers.items()}
    return _FirstSteps(np.array(losses), gradients, copies, reassigned)


def _first_steps_of_a_stack(stack: Stack, lr: float) -> _FirstSteps:
    first = stack.train(np.full((1, stack.lanes), lr))
    second, gradients = stack.gradients(next(stack.setup.batches))
    losses = np.vstack([first, second.cpu().double().numpy()])
    present = {name: part for name, part in zip(stack.parameters, gradients, strict=True) if part is not None}
    return _FirstSteps(losses, present, stack.buffers)


def _difference(stacked: _FirstSteps, plain: _FirstSteps, close: _Tolerance) -> str | None:
    """Describe the first difference between a stack and a single lane; None if there is none."""
    if plain.reassigned:
        return f"forward gives the buffer {plain.reassigned[0]} a new tensor instead of changing it in place"
    for step, (ours, loss) in enumerate(zip(stacked.losses, plain.losses, strict=True)):
        if not np.allclose(ours, loss, rtol=close.loss, atol=1e-6, equal_nan=True):
            other = ours[np.argmax(np.abs(ours - loss))]
            return (
                f"at step {step} the loss is {loss:.6g} in the single lane and {other:.6g} in a stacked one"
            )
    unused = next((name for name in stacked.gradients if name not in plain.gradients), None)
    if unused is not None:
        return f"{unused} takes no part in the loss, so weight decay and l1 do not change it in a single lane"
    # The gradient of a bias before a batch norm, for example, is only rounding.
    largest = max((float(tensor.cpu().double().norm()) for tensor in plain.gradients.values()), default=0.0)
    rounding = ROUNDING * close.loss * largest
    for kind, tensors, expected, floor in (
        ("gradient of", stacked.gradients, plain.gradients, rounding),
        ("buffer", stacked.buffers, plain.buffers, 1e-6),
    ):
        for name, tensor in expected.items():
            if name not in tensors:
                return f"there is no {kind} {name}"
            ours, theirs = tensors[name].cpu().double(), tensor.cpu().double()
            away = float((ours - theirs).reshape(len(ours), -1).norm(dim=1).max())
            near = away <= close.tensor * float(theirs.norm()) + floor
            if not (near or bool(theirs.isnan().any())):
                return f"the {kind} {name} differs after two steps"
    return None


def _bare(problem: Problem, seed: int) -> Setup:
    """Return a lane's parts with plain steps: one batch and its gradient, without clipping and the like."""
    setup = problem.setup(seed)
    return replace(setup, recipe=Recipe(precision=setup.recipe.precision))
