"""Tensors of the data: what a snapshot copies of them, and when it takes them for unchanged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lrfind.problem.captured import captured


def views() -> tuple[Tensor, list[Tensor]]:
    rows = torch.arange(24.0).reshape(6, 4)
    return rows, [rows[:2], rows[2:4], rows[4:].T]


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.mul_(2),
        lambda batch: batch.resize_(1),
        lambda batch: batch.requires_grad_(),
        lambda batch: setattr(batch, "data", torch.zeros(2, 4)),
        lambda batch: setattr(batch, "grad", torch.ones_like(batch)),
    ],
)
def test_batches_that_are_views_of_one_tensor_are_set_back(change: Callable[[Tensor], object]) -> None:
    rows, batches = views()
    entries = captured(batches, {id(batch) for batch in batches}, copy_grads=False)
    for _ in range(2):  # an entry restores as often as it is asked to
        change(batches[1])
        for entry in entries:
            entry.restore()
        assert torch.equal(rows, torch.arange(24.0).reshape(6, 4))
        assert [tuple(batch.shape) for batch in batches] == [(2, 4), (2, 4), (4, 2)]
        assert batches[1].data_ptr() == rows[2:].data_ptr()
        assert not batches[1].requires_grad
        assert batches[1].grad is None


def test_common_memory_is_copied_once_and_only_where_the_tensors_fill_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies, clone = list[int](), torch.UntypedStorage.clone
    monkeypatch.setattr(torch.UntypedStorage, "clone", lambda self: copies.append(len(self)) or clone(self))
    _, batches = views()
    captured(batches, {id(batch) for batch in batches}, copy_grads=False)
    assert copies == [24 * 4]
    captured(batches, set(), copy_grads=False)  # of the model, for example
    captured(batches[:2], {id(batch) for batch in batches}, copy_grads=False)
    assert copies == [24 * 4]


def test_data_in_the_memory_of_numpy_is_compared_because_torch_counts_no_change_of_it() -> None:
    numbers = np.zeros(3)
    batch = torch.from_numpy(numbers)
    (entry,) = captured([batch], {id(batch)}, copy_grads=False)
    numbers[:] = -1
    entry.restore()
    assert batch.tolist() == [0.0, 0.0, 0.0]
