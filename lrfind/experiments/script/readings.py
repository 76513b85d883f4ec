"""What the hooks in a script's process read: the value of a loss, and the weights of an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from lrfind.problem.rates import groups_of

SCALE = "_lrfind_scale"
"""The attribute of a loss that says by which factor a `GradScaler` has scaled it."""
SAMPLE = 1000  # the numbers of each weight that are compared


def value_of(tensors: Any, grad_tensors: Any) -> float:
    """Return the number whose gradient a call of `backward` computes."""
    outputs = tensors if isinstance(tensors, Sequence) else [tensors]
    weights = grad_tensors if isinstance(grad_tensors, Sequence) else [grad_tensors] * len(outputs)
    total = 0.0
    for output, weight in zip(outputs, weights, strict=False):
        if isinstance(output, Tensor):
            value = output.detach() if weight is None else output.detach() * weight
            total += float(value.sum()) / float(getattr(output, SCALE, 1.0))
    return total


def weights_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the weights of an optimizer, and of those that it wraps."""
    return [weight for group in groups_of([optimizer]) for weight in group["params"]]


def sample_of(optimizer: Optimizer) -> Tensor:
    """Return (N,) a copy of the first numbers of each weight of an optimizer."""
    weights = [weight.detach().flatten()[:SAMPLE] for weight in weights_of(optimizer)]
    return torch.cat([weight.to("cpu", torch.float64, copy=True) for weight in weights])
