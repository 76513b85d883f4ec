"""Rows of numbers, in training and held-out rows that share nothing: not even a mean."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError


def held_out(
    rows: int, validation: float, seed: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to hold out, by `seed`; every class gives its share, to within one row.

    The rows are shuffled and then sorted by class, and rows at even distances are held out. The only row of
    a class is always one to train on.

    Args:
        rows: N, in all.
        validation: share to hold out; at least one row is.
        seed: of the order.
        labels: (N,) classes; None for rows without.

    Returns:
        The rows to train on and the rows held out, ascending.

    Raises:
        UsageError: if there are too few rows, or the share is none.
    """
    if not 0 < validation < 1:
        raise UsageError(f"data: validation is a share between 0 and 1; found {validation:g}.")
    if seed < 0:
        raise UsageError(f"data: seed is a whole number, 0 or more; found {seed}.")
    if rows < 2:
        raise UsageError(
            f"data: the data set has {'one row' if rows else 'no rows'}; at least 2 are needed, one of them"
            " held out."
        )
    order = np.random.default_rng(seed).permutation(rows)
    if labels is not None:
        _, kinds, counts = np.unique(labels, return_inverse=True, return_counts=True)
        order = order[np.argsort(kinds[order], kind="stable")]
        order = order[counts[kinds[order]] > 1]
        if len(order) == 0:
            raise UsageError("data: every row is of a class of its own; none can be held out.")
    count = min(max(1, round(rows * validation)), len(order) - 1)
    chosen = order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]
    held = np.zeros(rows, dtype=bool)
    held[chosen] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,) and deviation (D,) of (N, D); a constant column has deviation 1, so that it becomes 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = values.mean(axis=0), values.std(axis=0)
    if not np.isfinite([mean, deviation]).all():
        raise UsageError("data: a column has numbers too large to be standardised; divide it by a constant.")
    constant = values.min(axis=0) == values.max(axis=0)
    return mean, np.where(constant, 1.0, deviation)


def standardised(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """(N, D) with mean 0 and deviation 1 on the rows `train`, which alone are looked at."""
    mean, deviation = moments(values[train])
    return np.asarray((values - mean) / deviation)


def tensor_data(
    x: np.ndarray,
    y: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    classes: int | None,
    transforms: tuple[str, ...],
) -> TensorData:
    """The rows to train on and the rows held out, as tensors.

    Args:
        x: (N, ...) numbers.
        y: (N,) classes, or (N, 1) numbers.
        rows: what `held_out` gave.
        classes: how many; None for numbers.
        transforms: what was done to the data, in sentences.

    Returns:
        x in float32; y (N,) in int64, or (N, 1) in float32.
    """

    def part(chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        kind = np.float32 if classes is None else np.int64
        return torch.from_numpy(x[chosen].astype(np.float32)), torch.from_numpy(y[chosen].astype(kind))

    return TensorData(part(rows[0]), part(rows[1]), classes, transforms)
