"""Updates: what an optimizer of torch does at a step, without what it does around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, _global_optimizer_post_hooks, _global_optimizer_pre_hooks

AROUND = "torch.optim.optimizer"
"""The module of the functions that torch wraps around the step of each of its optimizers."""


def plain_step(optimizer: Optimizer) -> Callable[[], Any]:
    """Return a function that takes an optimizer's step.

    Around a step, torch calls hooks, names the step for its profiler, and shields it from torch.compile. For
    a small model that takes as long as the update itself. So for an optimizer of torch's own, whose step has
    no hooks, the function calls only what computes the update; the update is the same to the last bit. For
    any other optimizer it is the optimizer's `step`.
    """
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim.") or "step" in vars(optimizer) or _hooked(optimizer):
        return optimizer.step  # a scheduler, for example, puts a `step` of its own into the optimizer
    step: Any = kind.step
    while getattr(step, "__globals__", {}).get("__name__") == AROUND and hasattr(step, "__wrapped__"):
        step = step.__wrapped__
    take = torch.no_grad()(lambda: step(optimizer))
    if kind is torch.optim.SGD and optimizer.defaults["fused"]:
        return _FusedSGDStep(optimizer, take)
    return take


class _FusedSGDStep:
    """Takes steps of a fused SGD; parameters that have no momentum yet take theirs after the others.

    torch's fused SGD fails where only some parameters have a momentum, because a layer took no part in the
    first steps.
    """

    def __init__(self, optimizer: Optimizer, take_step: Callable[[], Any]) -> None:
        self._optimizer, self._take_step = optimizer, take_step
        groups = optimizer.param_groups
        self._without = [(group, parameter) for group in groups for parameter in group["params"]]

    def __call__(self) -> None:
        state = self._optimizer.state
        self._without = [
            (group, parameter)
            for group, parameter in self._without
            if not group["momentum"] or state[parameter].get("momentum_buffer") is None
        ]
        first = {p: p.grad for group, p in self._without if group["momentum"] and p.grad is not None}
        _give(dict.fromkeys(first))
        self._take_step()
        if first:
            parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
            others = {parameter: parameter.grad for parameter in parameters}
            _give(dict.fromkeys(parameters) | first)
            self._take_step()
            _give(others | first)


def _give(gradients: Mapping[Tensor, Tensor | None]) -> None:
    for parameter, gradient in gradients.items():
        parameter.grad = gradient


def _hooked(optimizer: Optimizer) -> bool:
    """Return whether torch has to do something around the step of an optimizer."""
    hooks = (
        _global_optimizer_pre_hooks,
        _global_optimizer_post_hooks,
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
    )
    return any(hooks) or bool(optimizer.defaults.get("differentiable"))


def laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return a gradient in the layout of its parameter, as `backward` gives it; fused optimizers need it."""
    same = gradient.stride() == parameter.stride()
    return gradient if same else torch.empty_like(parameter).copy_(gradient)


def clear_gradients(optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
    """Set the gradients of an optimizer's parameters to None, as its `zero_grad` does."""
    if getattr(optimizer.zero_grad, "__func__", None) is not Optimizer.zero_grad:
        optimizer.zero_grad(set_to_none=True)
        return
    for parameter in parameters:
        parameter.grad = None
