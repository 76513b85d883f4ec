"""Mistakes that would give a wrong rate, or a message that says nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrfind
from lrfind.errors import UsageError


def batches() -> list[tuple[Tensor, Tensor]]:
    make = torch.Generator().manual_seed(0)
    x = torch.randn(20, 32, 6, generator=make)
    return [(part, part[:, :3].argmax(dim=1)) for part in x]


def ask(*last: nn.Module, **options: Any) -> lrfind.Recommendation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), *last)
    optimizer = torch.optim.Adam(model.parameters())
    options = {"loss_fn": nn.NLLLoss(), **options}
    return lrfind.find(model, optimizer, data=batches(), steps=200, progress=False, **options)


@pytest.mark.parametrize("loss_fn", [nn.NLLLoss(), nn.functional.nll_loss])
@pytest.mark.parametrize("last", [[], [nn.Softmax(dim=1)]], ids=["scores", "probabilities"])
def test_nll_loss_without_log_probabilities_is_refused(last: list[nn.Module], loss_fn: Any) -> None:
    with pytest.raises(UsageError, match="no log-probabilities, which NLLLoss needs"):
        ask(*last, loss_fn=loss_fn)


def test_nll_loss_of_log_probabilities_is_cross_entropy() -> None:
    best = ask(nn.LogSoftmax(dim=1))
    assert best.lr == pytest.approx(ask(loss_fn=nn.CrossEntropyLoss()).lr, rel=0.02)


def test_an_error_without_a_text_is_shown_with_the_line_that_raised_it() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] != 4:
                raise AssertionError
            return x

    with pytest.raises(
        UsageError, match=r"AssertionError: raised by `raise AssertionError` in .*test_messages.py, line"
    ):
        ask(Picky())


@pytest.mark.parametrize(
    "form",
    [
        lambda model: {"loss_fn": nn.MSELoss()},
        lambda model: {"loss": lambda batch: nn.functional.mse_loss(model(batch[0]), batch[1])},
    ],
)
def test_find_names_the_values_of_the_data_that_are_not_finite(form: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    x = torch.randn(4, 32, 6)
    x[2, 5, 0] = math.nan
    with pytest.raises(lrfind.NoSuggestion, match=r"NaN or inf.* in batch 3: x \(32, 6\) float32 in row 5\."):
        lrfind.find(
            model,
            torch.optim.SGD(model.parameters(), 0.1),
            data=[(part, part.nan_to_num().sum(1, keepdim=True)) for part in x],
            steps=20,
            **form(model),
        )


@pytest.mark.parametrize(
    "loss",
    [
        {"loss_fn": nn.MSELoss()},
        {"loss_fn": nn.functional.l1_loss},
        {"loss_fn": lambda output, y: (output - y).square().mean()},
        {"loss": nn.functional.mse_loss},
    ],
)
@pytest.mark.parametrize("call", [lrfind.find, lrfind.range_test, lrfind.grid, lrfind.compare])
def test_a_column_against_a_row_is_refused_before_any_step(call: Any, loss: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    optimizer, steps = torch.optim.SGD(model.parameters(), 0.1), []
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    rows = [(x, x.sum(dim=1)) for x, _ in batches()]
    if "loss" in loss:
        compare = loss["loss"]
        loss = {"loss": lambda batch: compare(model(batch[0]), batch[1])}
    with pytest.raises(UsageError, match=r"\(32, 1\).*\(32,?\).* every row .* with every other row"):
        call(model, optimizer, data=rows, steps=20, progress=False, **loss)
    assert steps == []


@pytest.mark.parametrize(
    ("loss_fn", "classes", "mask", "advice"),
    [
        (nn.BCEWithLogitsLoss(), 1, torch.zeros(16, 4, 4), r"x.squeeze\(1\), or give y as \(16, 1, 4, 4\)"),
        (nn.CrossEntropyLoss(), 3, torch.zeros(16, 1, 4, 4), r"\(16, 4, 4\) int64: y.squeeze\(1\).long\(\)"),
    ],
)
def test_the_channel_of_a_mask_is_the_axis_to_squeeze(
    loss_fn: nn.Module, classes: int, mask: Tensor, advice: str
) -> None:
    model = nn.Conv2d(1, classes, 1)
    with pytest.raises(UsageError, match=advice):
        lrfind.find(
            model, torch.optim.SGD(model.parameters(), 0.1), loss_fn, [(torch.zeros(16, 1, 4, 4), mask)]
        )


def test_a_loss_that_aligns_a_column_and_a_row_itself_is_allowed() -> None:
    model = nn.Linear(6, 1)
    rows = [(x, x.sum(dim=1)) for x, _ in batches()]

    def aligned(output: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(output.squeeze(1), y)

    best = lrfind.find(
        model, torch.optim.SGD(model.parameters(), 0.1), aligned, rows, steps=40, progress=False
    )
    assert best.lr > 0.01


def test_only_the_keys_that_forward_does_not_take_are_named() -> None:
    class Net(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x)

    model = Net(3, 1)
    batches = [{"x": torch.randn(4, 3), "y": torch.randn(4, 1)}]
    with pytest.raises(UsageError, match="as one dict, as it has no arguments named y$|named y[^,x]"):
        lrfind.find(
            model, torch.optim.SGD(model.parameters(), lr=0.1), lambda output, batch: output.mean(), batches,
            steps=10, progress=False,
        )  # fmt: skip
