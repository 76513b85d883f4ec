"""Recordings: the tensor operations of a function, recorded once and replayed without its Python.

A function of tensors is called once, and a dispatch mode of torch notes every operation that reaches the
device, below autograd and vmap, each computed in its fastest way (`lrfind.training.kernels`). The replay is
generated Python code that calls the same operations on other tensors of the same shapes, so its results are
the same to the last bit. It takes less time, because much is known by then; see `lrfind.training.program`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lrfind.errors import in_one_line
from lrfind.problem.randomness import capture, restore
from lrfind.training.kernels import FastKernels
from lrfind.training.program import Call, Program, Replay, UnrecordableError, storage_of

MOST_RECORDINGS = 4
"""The most recordings of one kind of step, one for each layout of its batch; others are not recorded."""
MOST_BYTES = 2**29
"""The most memory that may be kept while recording. A step that needs more gains little by it."""


def record(
    function: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor], changed: Sequence[Tensor]
) -> tuple[list[Tensor], Replay]:
    """Call a function and record its operations. The replay is tried once, and must return the same.

    Args:
        function: a function of tensors that returns tensors. It must do the same operations whatever the
            numbers in the tensors are.
        tensors: its arguments. The replay needs tensors of the same layout; see `layout`.
        changed: those among them that the function may change in place. If it fails, they and the random
            generators are put back. A function that changes others is stopped before it does.

    Returns:
        What the function returned, and a function that does the same with other tensors: it changes tensors
        in place where the function does, and draws random numbers where the function does.

    Raises:
        UnrecordableError: if the numbers in the tensors decide what follows, a tensor comes from nowhere,
            another tensor than `changed` is changed, or the replay does not return the same.
        Exception: whatever the function raises.
    """
    if len({id(tensor) for tensor in tensors}) < len(tensors):
        raise UnrecordableError("a tensor is given twice")
    begin = _State(changed)
    recorder: Any = _Recorder({*map(storage_of, tensors)} - {*map(storage_of, changed)})
    try:
        with recorder:
            outputs = [*function(*tensors)]
        program = Program(tensors, recorder.calls)
        for call in recorder.calls:
            program.add(call)
        replay, end = program.compiled(outputs), _State(changed)
        begin.restore()
        if not _same([*_tried(replay, tensors), *changed], [*outputs, *end.values]):
            raise UnrecordableError("the replay returns something else")
        return outputs, replay
    except Exception:
        begin.restore()
        raise


class _State:
    """The numbers in tensors, and the states of the random generators."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.values = [tensor.detach().clone() for tensor in tensors]
        self._tensors, self._random = tensors, capture()

    def restore(self) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._tensors, self.values, strict=True):
                tensor.copy_(value)
        restore(self._random)


def _tried(replay: Replay, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return what a replay returns.

    Raises:
        UnrecordableError: if it fails; a few operations need more where autograd is on than where it is off.
    """
    try:
        with torch.no_grad():
            return replay(*tensors)
    except Exception as error:
        raise UnrecordableError(f"the replay fails: {in_one_line(error)}") from error


def _same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Return whether tensors have the same layouts and numbers, of which some may be NaN.

    A GPU may add in another order at each call. There only the layouts are compared here; the check of a
    stack compares the numbers.
    """
    on_cpu = [pair for pair in zip(ours, theirs, strict=True) if pair[0].device.type == "cpu"]
    return layout(ours) == layout(theirs) and all(
        torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True) for a, b in on_cpu
    )


def is_plain(batch: Any) -> bool:
    """Return whether a batch is a tuple or a list of tensors, of ordinary ones that need no gradient."""
    return type(batch) in (tuple, list) and all(
        type(part) is Tensor
        and part.layout is torch.strided
        and not (part.requires_grad or part.is_conj() or part.is_neg())
        for part in batch
    )


def layout(tensors: Iterable[Tensor]) -> tuple[Any, ...]:
    """Return what tensors must have in common to be given to the same recording."""
    return tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors)


class _Recorder(FastKernels):  # type: ignore[no-untyped-call]
    """Notes the calls inside the block. It keeps their tensors, so that no other gets the identity of one.

    Args:
        unchanged: the storages that no call may write into.
    """

    def __init__(self, unchanged: Collection[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self._unchanged = unchanged
        self._kept: set[int] = set()  # the storages of their outputs
        self._bytes = 0  # in these storages

    def compute(self, operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what an operation returns for these arguments, and note the call."""
        if _BY_NUMBERS.intersection(operation.tags) or _picks_by_mask(operation, args):
            raise UnrecordableError(f"the numbers in a tensor decide what {operation} returns")
        call = Call(operation, args, kwargs, None)
        if any(storage_of(tensor) in self._unchanged for tensor in call.written):
            raise UnrecordableError(f"{operation} changes an input in place")
        call = replace(call, output=super().compute(operation, args, kwargs))
        self.calls.append(call)
        for tensor in call.outputs:
            if storage_of(tensor) not in self._kept:
                self._kept.add(storage_of(tensor))
                self._bytes += tensor.untyped_storage().nbytes()
        if self._bytes > MOST_BYTES:
            raise UnrecordableError(f"a step computes more than {MOST_BYTES // 2**20} MiB")
        return call.output


_BY_NUMBERS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def _picks_by_mask(operation: Any, args: tuple[Any, ...]) -> bool:
    masks = args[1] if operation.overloadpacket is torch.ops.aten.index else ()
    return any(mask is not None and mask.dtype in (torch.bool, torch.uint8) for mask in masks)
