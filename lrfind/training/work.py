"""The work of one step of a lane, counted while the step is taken once, and what it says about stacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrfind.errors import as_exception
from lrfind.problem.batches import batch_loss
from lrfind.problem.setup import Setup
from lrfind.training.operations import Operations


@dataclass(frozen=True)
class Work:
    """The work of the forward and the backward pass of one batch.

    Attributes:
        operations: the number of tensor operations that compute something.
        bytes: the bytes that they write.
        flops: the floating-point operations of matrix products and convolutions.
        convolved: the share of the flops that convolutions have.
        memory: the bytes of one lane of a stack: weights, gradients, optimizer state, and the activations,
            which are the tensors that autograd keeps of the forward pass.
    """

    operations: int
    bytes: float
    flops: float
    convolved: float
    memory: int


class _Counter(Operations):  # type: ignore[no-untyped-call]
    """Counts the operations inside the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.bytes, self.flops, self.convolved = 0, 0.0, 0.0, 0.0

    def compute(self, operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what an operation returns for these arguments, and count it."""
        output = operation(*args, **kwargs)
        if operation.is_view:
            return output
        self.operations += 1
        written = [t for t in (output if isinstance(output, tuple | list) else [output]) if _is_plain(t)]
        self.bytes += sum(t.numel() * t.element_size() for t in written)
        flops = _FLOPS.get(operation.overloadpacket)
        if flops is not None:
            count = flops(args, written)
            self.flops += count
            self.convolved += count if "convolution" in str(operation) else 0.0
        return output


@as_exception()
def work_of(setup: Setup) -> Work:
    """Count the work of one batch of a lane, which is computed once, without an update."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr(): p.numel() * p.element_size() for p in setup.model.parameters()}
    counter: Any = _Counter()
    batch = next(setup.batches)
    with setup.casting(), counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = batch_loss(setup.model, setup.loss_fn, batch)
        loss.backward()  # type: ignore[no-untyped-call]
    activations = sum(size for at, size in kept.items() if at not in weights)
    memory = activations + 5 * sum(weights.values())  # weights, a copy of them, gradients, two moments
    share = counter.convolved / counter.flops if counter.flops else 0.0
    return Work(counter.operations, counter.bytes, counter.flops, share, memory)


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided


def _product(first: Tensor, second: Tensor) -> float:
    """Return the flops of a matrix product (..., M, K) by (..., K, N)."""
    return 2.0 * first.numel() * second.shape[-1]


def _convolution(weight: Tensor, output: Tensor) -> float:
    """Return the flops of a convolution with a weight (out, in, ...) and an output (N, out, ...)."""
    return 2.0 * output.numel() * math.prod(weight.shape[1:])


_aten = torch.ops.aten
_FLOPS: dict[Any, Callable[..., float]] = {
    _aten.mm: lambda args, written: _product(args[0], args[1]),
    _aten.bmm: lambda args, written: _product(args[0], args[1]),
    _aten.addmm: lambda args, written: _product(args[1], args[2]),
    _aten.baddbmm: lambda args, written: _product(args[1], args[2]),
    _aten.convolution: lambda args, written: _convolution(args[1], written[0]),
    # One convolution of the output's gradient for each of the two gradients that are asked for.
    _aten.convolution_backward: lambda args, written: sum(args[-1][:2]) * _convolution(args[2], args[0]),
}
