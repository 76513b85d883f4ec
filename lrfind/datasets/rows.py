"""Rows of numbers, split into training and held-out rows; even the means come from the training rows only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError


def split_rows(
    rows: int, validation: float, seed: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to hold out with `seed`. Every class gives its share, to within one row.

    The rows are shuffled and then sorted by class, and rows at even distances are held out. If a class has
    only one row, that row is trained on.

    Args:
        rows: N, the number of rows in all.
        validation: the share of the rows to hold out; at least one row is held out.
        seed: the seed of the order.
        labels: (N,) the classes of the rows; None for rows without classes.

    Returns:
        The rows to train on and the rows held out, each ascending.

    Raises:
        UsageError: if there are too few rows, or `validation` is not between 0 and 1.
    """
    if not 0 < validation < 1:
        raise UsageError(f"data: validation must be a share between 0 and 1; found {validation:g}.")
    if seed < 0:
        raise UsageError(f"data: seed must be a whole number, 0 or more; found {seed}.")
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
            raise UsageError("data: every row has a class that no other row has, so no row can be held out.")
    count = min(max(1, round(rows * validation)), len(order) - 1)
    chosen = order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]
    held = np.zeros(rows, dtype=bool)
    held[chosen] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (D,) and the deviation (D,) of (N, D).

    The deviation of a constant column is given as 1, so that the column becomes 0.

    Raises:
        UsageError: if the numbers of a column are too large.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = values.mean(axis=0), values.std(axis=0)
    if not np.isfinite([mean, deviation]).all():
        raise UsageError(
            "data: a column has numbers that are too large to be standardised; divide the column by a"
            " constant."
        )
    constant = values.min(axis=0) == values.max(axis=0)
    return mean, np.where(constant, 1.0, deviation)


def standardised(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return (N, D) scaled to mean 0 and deviation 1 on the rows `train`; only these rows are measured."""
    mean, deviation = moments(values[train])
    return np.asarray((values - mean) / deviation)


def tensor_data(
    x: np.ndarray,
    y: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    classes: int | None,
    transforms: tuple[str, ...],
) -> TensorData:
    """Return the rows to train on and the rows held out, as tensors.

    Args:
        x: (N, ...) numbers.
        y: (N,) classes, or (N, 1) numbers.
        rows: the result of `split_rows`.
        classes: the number of classes; None if y holds numbers.
        transforms: what was done to the data, in words.

    Returns:
        x in float32; y (N,) in int64, or (N, 1) in float32.
    """

    def part(chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        y_type = np.float32 if classes is None else np.int64
        return torch.from_numpy(x[chosen].astype(np.float32)), torch.from_numpy(y[chosen].astype(y_type))

    return TensorData(part(rows[0]), part(rows[1]), classes, transforms)
