"""Data that is held as tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lrfind.errors import UsageError, listed


@dataclass(frozen=True)
class TensorData:
    """A training and a validation split, each a tuple of tensors with one row per example.

    Attributes:
        train: (x, y) or (x1, ..., xn, y), each (N, ...).
        validation: the same for the held-out rows, each (M, ...).
        classes: the number of classes, or of kinds of tokens, in y; with None it is read from y.
        transforms: what was done to the data to make these tensors, in words.
        vocabulary: the number of kinds of tokens in x; None if x has no tokens.
    """

    train: tuple[Tensor, ...]
    validation: tuple[Tensor, ...]
    classes: int | None = None
    transforms: tuple[str, ...] = ()
    vocabulary: int | None = None

    def check(self) -> None:
        """Refuse data that no training could use.

        Raises:
            UsageError: for an empty split, columns of different lengths, or values that are not finite.
        """
        for name, tensors in (("training split", self.train), ("validation split", self.validation)):
            check_tensors(name, tensors)


class LazyRows(Protocol):
    """A split whose rows are made when they are needed, because it may be too large for memory."""

    @property
    def classes(self) -> int | None:
        """The same as in `TensorData`."""

    @property
    def transforms(self) -> tuple[str, ...]:
        """The same as in `TensorData`."""
        ...

    @property
    def bytes(self) -> int:
        """The memory that all rows would take as tensors, in bytes."""
        ...

    def __len__(self) -> int: ...

    def rows(self, chosen: Sequence[int]) -> tuple[Tensor, ...]:
        """Return several rows at once: (x, y) or (x1, ..., xn, y), each (B, ...)."""
        ...


class LazyData(NamedTuple):
    """A training and a validation split of lazy rows, which are kept as tensors if they fit into memory."""

    train: LazyRows
    validation: LazyRows

    def loaded(self) -> TensorData:
        """Return all rows of both splits as tensors."""
        train, validation = (split.rows(range(len(split))) for split in (self.train, self.validation))
        return TensorData(train, validation, self.train.classes, self.train.transforms)


def check_tensors(name: str, tensors: tuple[Tensor, ...]) -> None:
    """Refuse tensors that are empty, differ in length, or hold values that are not finite.

    Raises:
        UsageError: if a tensor is refused. The message names the tensor and, for bad values, the first row.
    """
    rows = [len(tensor) for tensor in tensors]
    if not rows or min(rows) == 0:
        raise UsageError(f"data: the {name} is empty.")
    if len(set(rows)) > 1:
        raise UsageError(f"data: the tensors of the {name} differ in length: {listed(rows)} rows.")
    for i, tensor in enumerate(tensors):
        if tensor.is_floating_point() and not _all_finite(tensor):
            bad = ~torch.isfinite(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None])
            row = int(bad.any(dim=1).nonzero()[0])
            raise UsageError(
                f"data: tensor {i} of the {name} holds NaN or inf ({int(bad.sum())} in all, the first in row"
                f" {row}); remove or replace these values before training."
            )


def _all_finite(tensor: Tensor) -> bool:
    """Return whether no number is NaN or inf: that would be a bound. Testing each takes ten times as long."""
    return tensor.numel() == 0 or all(map(math.isfinite, torch.aminmax(tensor)))


def split(tensors: tuple[Tensor, ...], validation: float, seed: int) -> TensorData:
    """Split rows at random with `seed`. The share `validation` of them, at least one row, is held out."""
    check_tensors("data set", tensors)
    rows = len(tensors[0])
    if rows < 2:
        raise UsageError("data: the data set has one row; at least 2 are needed, one of them held out.")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    held = min(max(1, round(rows * validation)), rows - 1)
    return TensorData(
        tuple(tensor[order[held:]] for tensor in tensors),
        tuple(tensor[order[:held]] for tensor in tensors),
    )
