"""The same batches again and again, however a loader shuffles, and whatever a model does to them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from lrfind.problem.randomness import capture, restore


def copy_of(batch: Any) -> Any:
    """A batch with tensors and containers of its own, so that a model may change them."""
    if isinstance(batch, Tensor):
        return batch.clone()
    if type(batch) in (list, tuple):
        return type(batch)(copy_of(value) for value in batch)
    if type(batch) is dict:
        return {key: copy_of(value) for key, value in batch.items()}
    try:
        return copy.deepcopy(batch)
    except Exception:  # something of the user's that cannot be copied, as a lock: nor should it be changed
        return batch


def bytes_of(batch: Any) -> int:
    """What the tensors of a batch take in memory."""
    if isinstance(batch, Tensor):
        return batch.numel() * batch.element_size()
    if isinstance(batch, Mapping):
        return sum(bytes_of(value) for value in batch.values())
    return sum(bytes_of(value) for value in batch) if isinstance(batch, list | tuple) else 0


class Replay:
    """The same batches again and again, as copies: an iterator that can be put back.

    Drawing a new batch does not disturb the random generators that the probes draw from.
    """

    def __init__(self, source: Iterator[Any], generators: Sequence[Any] = ()) -> None:
        self.at = 0
        self._source, self._generators, self._kept = source, generators, list[Any]()
        self._random = capture(generators)

    @property
    def bytes(self) -> int:
        """What a batch takes in memory: the first one, once it was drawn."""
        return bytes_of(self._kept[0]) if self._kept else 0

    def __iter__(self) -> Replay:
        return self

    def __next__(self) -> Any:
        if self.at == len(self._kept):
            before = capture(self._generators)
            restore(self._random)
            self._kept.append(next(self._source))
            self._random = capture(self._generators)
            restore(before)
        self.at += 1
        return copy_of(self._kept[self.at - 1])
