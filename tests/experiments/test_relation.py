"""Shuffled targets: which forms of a batch have targets, and what the loss says to that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrfind
from lrfind.experiments.relation import same_for_all_rows, target_key, with_shuffled_targets

ROWS = torch.arange(32)


@pytest.mark.parametrize(
    ("batch", "targets"),
    [
        ((ROWS, 10 * ROWS), lambda batch: batch[1]),
        ([ROWS, ROWS, 10 * ROWS], lambda batch: batch[2]),
        ({"input_ids": ROWS, "labels": 10 * ROWS}, lambda batch: batch["labels"]),
    ],
)
def test_only_the_targets_of_a_batch_are_shuffled(batch: Any, targets: Any) -> None:
    shuffled = with_shuffled_targets(batch, torch.Generator().manual_seed(0))
    assert torch.equal(targets(shuffled).sort().values, targets(batch))
    assert not torch.equal(targets(shuffled), targets(batch))
    first = (lambda b: b["input_ids"]) if isinstance(batch, dict) else (lambda b: b[0])
    assert torch.equal(first(shuffled), ROWS)


@pytest.mark.parametrize(
    "batch", [ROWS, (ROWS,), (ROWS, ROWS[:1]), (ROWS, [1, 2]), {"x": ROWS}, {"labels": torch.tensor(3)}]
)
def test_a_batch_without_known_targets_is_not_shuffled(batch: Any) -> None:
    assert target_key(batch) is None


def test_an_output_is_the_same_for_all_rows_up_to_rounding() -> None:
    row = torch.randn(1, 5)
    assert same_for_all_rows(row.expand(8, 5) * (1 + 1e-8 * torch.randn(8, 5)))
    assert not same_for_all_rows(torch.randn(8, 5))
    assert not same_for_all_rows(None)


def found(y: Tensor, loss: Any) -> lrfind.Recommendation:
    torch.manual_seed(0)
    x = torch.randn(40, 32, 8)
    batches = [*zip(x, torch.where(y == 1, x.argmax(-1), y), strict=True)]
    model = nn.Linear(8, 8)
    return lrfind.find(model, torch.optim.Adam(model.parameters()), loss, batches, steps=300, progress=False)


def test_the_relation_is_known_where_the_loss_depends_on_which_target_belongs_to_which_row() -> None:
    related = found(torch.ones(40, 32, dtype=torch.long), nn.CrossEntropyLoss()).results[0].after
    assert related is not None
    assert related.sure
    assert related.varies
    ignored = found(torch.zeros(40, 32, dtype=torch.long), lambda output, y: (output - 1).square().mean())
    assert ignored.results[0].after is None


@pytest.mark.parametrize("rows", [2, 4])
def test_few_rows_in_a_batch_hide_no_relation(rows: int) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        x = torch.randn(150, rows, 2)
        batches = [*zip(x, 2 * x[..., :1] - x[..., 1:], strict=True)]
        model = nn.Linear(2, 1)
        best = lrfind.find(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss(), batches, steps=300)
        assert best.results[0].after is not None
        assert best.results[0].after.sure


def test_too_few_rows_tell_nothing_of_a_relation() -> None:
    batches = [(torch.randn(12, 2), torch.randn(12, 1))]
    model = nn.Linear(2, 1)
    best = lrfind.find(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss(), batches, steps=100)
    assert best.results[0].after is None


@pytest.mark.parametrize(
    ("last", "loss_fn", "told"),
    [
        (nn.Softmax(1), nn.CrossEntropyLoss(), True),
        (nn.Softmax(1), nn.functional.cross_entropy, True),
        (nn.Identity(), nn.CrossEntropyLoss(), False),
        (nn.LogSoftmax(1), nn.CrossEntropyLoss(), False),
        (nn.Softmax(1), lambda output, y: nn.functional.nll_loss(output.log(), y), False),
    ],
)
def test_a_softmax_before_a_loss_that_computes_one_is_told(last: nn.Module, loss_fn: Any, told: bool) -> None:
    x = torch.randn(20, 16, 4)
    batches = [*zip(x, x[..., :3].argmax(-1), strict=True)]
    model = nn.Sequential(nn.Linear(4, 3), last)
    best = lrfind.find(model, torch.optim.SGD(model.parameters(), 0.1), loss_fn, batches, steps=300)
    assert ("remove the softmax at the end of the model" in best.reason) is told
