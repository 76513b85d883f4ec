"""Captured tensors: their values at one moment, and how they get them back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lrfind.errors import UsageError

Copies = Mapping[int, torch.UntypedStorage]
"""Copies of memory, by the address of what was copied."""


def captured(tensors: Iterable[Tensor], in_data: Container[int], copy_grads: bool) -> list[CapturedTensor]:
    """Capture tensors.

    The data may hold many batches, which are often views of one tensor. So of the tensors that belong to the
    data, common memory is copied once, and those count as unchanged in which torch has counted no change.

    Args:
        tensors: the tensors.
        in_data: the ids of those that belong to the data.
        copy_grads: whether the values of `.grad` are copied too.

    Raises:
        UsageError: if one of them belongs to a lazy layer, which has no values yet.
    """
    tensors = [*tensors]
    counted = {id(tensor): tensor for tensor in tensors if id(tensor) in in_data and _is_common(tensor)}
    copies = _copies_of_memory(counted.values())
    return [CapturedTensor(tensor, copy_grads, copies, counted=id(tensor) in counted) for tensor in tensors]


def counts_changes(tensor: Any) -> bool:
    """Return whether a value is a tensor of which torch counts every change.

    It counts none where another library or another process has the memory too.
    """
    if type(tensor) is not Tensor or tensor.layout is not torch.strided or tensor.is_inference():
        return False
    memory = tensor.untyped_storage()
    return bool(memory.resizable()) and (tensor.device.type != "cpu" or not memory.is_shared())


def _is_common(tensor: Tensor) -> bool:
    """Return whether a tensor of the data may be captured by its memory and by the count of its changes."""
    return counts_changes(tensor) and not (
        tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg()
    )


def _copies_of_memory(tensors: Iterable[Tensor]) -> Copies:
    """Copy the memory that tensors share, where it is no larger than the tensors together."""
    sharing: dict[int, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        sharing[tensor.untyped_storage().data_ptr()].append(tensor)
    return {
        address: views[0].untyped_storage().clone()  # type: ignore[no-untyped-call]
        for address, views in sharing.items()
        if len(views) > 1 and views[0].untyped_storage().nbytes() <= sum(view.nbytes for view in views)
    }


class CapturedTensor:
    """The values of a tensor, whether it requires a gradient, and its gradient.

    Args:
        tensor: the tensor.
        copy_grad: whether the values of its gradient are copied.
        copies: the copies of memory that several tensors share.
        counted: whether torch counts every change of its values.

    Raises:
        UsageError: if it belongs to a lazy layer, which has no values yet.
    """

    def __init__(self, tensor: Tensor, copy_grad: bool, copies: Copies, *, counted: bool) -> None:
        if torch.nn.parameter.is_lazy(tensor):
            raise UsageError(
                "the model has lazy layers without a shape; run one batch through the model first."
            )
        self.tensor, self._requires_grad = tensor, tensor.requires_grad
        self._home = tensor.detach()  # the same memory, also if the training gives the tensor another one
        memory = copies.get(tensor.untyped_storage().data_ptr()) if counted else None
        # A clone has the same strides, if elements do not overlap.
        self._copy: Tensor | torch.UntypedStorage = self._home.clone() if memory is None else memory
        self._grad = tensor.grad if tensor.is_leaf else None
        self._grad_values = None if self._grad is None or not copy_grad else self._grad.detach().clone()
        self._version = tensor._version if counted else None
        self._address = tensor.data_ptr() if counted else None

    @property
    def _values(self) -> Tensor:
        if isinstance(self._copy, Tensor):
            return self._copy
        home = self._home
        return home.new_empty(0).set_(self._copy, home.storage_offset(), home.shape, home.stride())

    @property
    @torch.no_grad()
    def norms(self) -> tuple[float, float]:
        """The norm of the change since then, and that of the values then."""
        values = self._values
        change = (self.tensor - values).float()
        return float(torch.linalg.vector_norm(change)), float(torch.linalg.vector_norm(values.float()))

    def restore(self) -> None:
        """Restore them all in place, in the memory that the tensor had."""
        if not self._is_unchanged():
            self._restore()

    def _is_unchanged(self) -> bool:
        """Return whether nothing has changed, as far as torch counts; False where it does not count."""
        tensor = self.tensor
        return (
            self._version is not None
            and tensor._version == self._version
            and tensor.data_ptr() == self._address
            and not tensor.requires_grad
            and tensor.grad is self._grad is None
        )

    @torch.no_grad()
    def _restore(self) -> None:
        tensor, values = self.tensor, self._values
        if not _in_the_same_memory(tensor, self._home):
            tensor.data = self._home if self._home.shape == values.shape else values.clone()
        # A tensor that takes no part in the training may be read-only, so it is written only if it changed.
        if not _overlaps_itself(tensor) and (tensor.requires_grad or not _equal(tensor, values)):
            with torch.inference_mode() if tensor.is_inference() else torch.no_grad():
                tensor.copy_(values)
        if tensor.is_leaf and not tensor.is_inference():
            tensor.requires_grad_(self._requires_grad)
            tensor.grad = self._grad
            if self._grad is not None and self._grad_values is not None:
                self._grad.copy_(self._grad_values)
        if self._version is not None:
            self._version = tensor._version


def _in_the_same_memory(tensor: Tensor, home: Tensor) -> bool:
    """Return whether a tensor is as it was but for its values; True where that cannot be known."""
    if (tensor.shape, tensor.dtype) != (home.shape, home.dtype):
        return False
    if tensor.layout is not torch.strided or type(tensor).__module__.startswith("torch.distributed"):
        return True
    return tensor.data_ptr() == home.data_ptr() and tensor.stride() == home.stride()


def _equal(tensor: Tensor, values: Tensor) -> bool:
    """Return whether two tensors hold the same values; False where torch cannot compare them."""
    try:
        return torch.equal(tensor, values)
    except (RuntimeError, NotImplementedError):
        return False


def _overlaps_itself(tensor: Tensor) -> bool:
    """Return whether elements share memory, as in an expanded buffer, which cannot be written to."""
    if tensor.layout is not torch.strided:
        return False
    return any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
