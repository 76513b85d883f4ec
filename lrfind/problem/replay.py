"""The same batches again and again, even if a loader shuffles them or a model changes them."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from lrfind.errors import LrfindError
from lrfind.problem.captured import counts_changes
from lrfind.problem.randomness import capture, restore

SPARSE_PARTS = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
}
DEEPEST = 5  # containers and objects inside each other, when the tensors of a batch are counted


def copy_of(batch: Any) -> Any:
    """Copy a batch with its tensors and containers, so that a model may change them."""
    if isinstance(batch, Tensor):
        return batch.clone()
    if type(batch) in (list, tuple):
        return type(batch)(copy_of(value) for value in batch)
    if type(batch) is dict:
        return {key: copy_of(value) for key, value in batch.items()}
    try:
        return copy.deepcopy(batch)
    except Exception:  # a lock, for example, cannot be copied; a model should not change it
        return batch


class HeldBatch:
    """A batch that is held for later, without a copy where torch counts all changes of its tensors.

    Args:
        batch: the batch.
        copied: whether it is copied in any case.
    """

    __slots__ = ("_batch", "_tensors", "_versions")

    def __init__(self, batch: Any, *, copied: bool = False) -> None:
        parts: Sequence[Any] = batch if type(batch) in (list, tuple) else (batch,)
        if copied or not all(map(counts_changes, parts)):
            self._batch, self._tensors = copy_of(batch), list[Tensor]()
        else:
            self._batch, self._tensors = batch, [*parts]
        self._versions = [tensor._version for tensor in self._tensors]

    @property
    def lost(self) -> bool:
        """Whether something has changed the batch since then."""
        return [tensor._version for tensor in self._tensors] != self._versions

    def release(self) -> bool:
        """Let go of the batch, and return whether it is lost or something else keeps its memory."""
        lost, weak_memory = self.lost, cast(Any, StorageWeakRef)
        kept = [(weakref.ref(tensor), weak_memory(tensor.untyped_storage())) for tensor in self._tensors]
        self._batch, self._tensors, self._versions = (), [], []
        return lost or any(tensor() is not None or not memory.expired() for tensor, memory in kept)

    def copy(self) -> Any:
        """Return a copy of the batch.

        Raises:
            LrfindError: if it is lost.
        """
        if self.lost:
            raise LrfindError("a batch was changed in place, so it cannot be used again")
        return copy_of(self._batch)


def bytes_of(batch: Any) -> int:
    """Return the bytes that the tensors of a batch take in memory."""
    return sum(_tensor_bytes(tensor) for tensor in _tensors_in(batch).values())


def _tensors_in(batch: Any, depth: int = DEEPEST) -> dict[int, Tensor]:
    """Return the tensors of a batch, also those in its attributes, each once."""
    if isinstance(batch, Tensor):
        return {id(batch): batch}
    if not depth:
        return {}
    if isinstance(batch, Mapping):
        parts: Iterable[Any] = batch.values()
    else:
        parts = batch if isinstance(batch, list | tuple) else getattr(batch, "__dict__", {}).values()
    return {key: tensor for part in parts for key, tensor in _tensors_in(part, depth - 1).items()}


def _tensor_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor; of a sparse one its entries count, of an expanded one its storage."""
    if tensor.layout is not torch.strided:
        parts = [getattr(tensor, part)() for part in SPARSE_PARTS.get(tensor.layout, ())]
        return sum(part.numel() * part.element_size() for part in parts)
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


class Replay:
    """An iterator that can go back, and yields copies of the same batches again.

    Set `at` to the number of the batch that comes next. Drawing a new batch does not change the states of the
    random generators that the probes draw from.
    """

    def __init__(self, source: Iterator[Any], generators: Sequence[Any] = ()) -> None:
        self.at = 0
        self._source, self._generators, self._batches = source, generators, list[Any]()
        self._random = capture(generators)

    @property
    def bytes(self) -> int:
        """Return the bytes of the first batch; 0 before it is drawn."""
        return bytes_of(self._batches[0]) if self._batches else 0

    def __iter__(self) -> Replay:
        return self

    def __next__(self) -> Any:
        if self.at == len(self._batches):
            before = capture(self._generators)
            restore(self._random)
            self._batches.append(copy_of(next(self._source)))  # it may fill the same memory again
            self._random = capture(self._generators)
            restore(before)
        self.at += 1
        return copy_of(self._batches[self.at - 1])
