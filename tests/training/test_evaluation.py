from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from lrfind.errors import UsageError
from lrfind.training.evaluation import evaluate, evaluating, metric_of, score

LINEAR = nn.Linear(2, 1)
X = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))


def evaluated(model: nn.Module, loss_fn: object, batches: list[object]):
    with torch.no_grad():
        return evaluate(lambda batch: score(model, loss_fn, batch), batches, loss_fn)


def test_accuracy_and_loss_count_rows_not_batches() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    y = torch.tensor([0, 1, 1, 1, 1])
    loss, metric, name = evaluated(
        nn.Identity(), nn.CrossEntropyLoss(), [(logits[:4], y[:4]), (logits[4:], y[4:])]
    )
    assert (name, metric.item()) == ("accuracy", pytest.approx(3 / 5))
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(logits, y).item(), rel=1e-6)


@pytest.mark.parametrize("cut", [2, 4, 5, 7])
def test_the_loss_with_class_weights_is_the_same_however_the_rows_are_cut(cut: int) -> None:
    logits, y = torch.randn(8, 3), torch.tensor([0, 0, 0, 0, 1, 1, 1, -100])  # sorted, as in folders
    loss_fn = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 50.0, 2.0]))
    parts = [(logits[:cut], y[:cut]), (logits[cut:], y[cut:])]
    assert evaluated(nn.Identity(), loss_fn, parts)[0].item() == pytest.approx(loss_fn(logits, y).item())


@pytest.mark.parametrize("cut", [2, 5, 6])
def test_the_accuracy_is_that_of_the_targets_that_the_loss_does_not_ignore(cut: int) -> None:
    y = torch.tensor([0, 1, 2, -100, 1, 0, -100, -100])
    logits = nn.functional.one_hot(y.clamp(min=0), 3).float()  # right in all five
    logits[0] = torch.tensor([0.0, 0.0, 1.0])  # but the first
    parts = [(logits[:cut], y[:cut]), (logits[cut:], y[cut:])]
    _, metric, name = evaluated(nn.Identity(), nn.CrossEntropyLoss(), parts)
    assert (name, metric.item()) == ("accuracy", pytest.approx(4 / 5))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_perplexity_is_the_same_however_rows_with_ignored_targets_are_cut(cut: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 5, generator=generator)
    y = torch.tensor([[0, 1, 2, 0, 1], [2, -100, -100, -100, -100], [1, 1, 2, -100, -100], [-100] * 5])
    parts = [(logits[:cut], y[:cut]), (logits[cut:], y[cut:])]
    loss, metric, name = evaluated(nn.Identity(), nn.CrossEntropyLoss(), parts)
    expected = nn.functional.cross_entropy(logits, y)
    assert (name, metric.item()) == ("perplexity", pytest.approx(expected.exp().item()))
    assert loss.item() == pytest.approx(expected.item())


def test_a_split_of_which_the_loss_counts_no_row_has_no_loss() -> None:
    loss_fn = nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0]))
    loss, *_ = evaluated(nn.Identity(), loss_fn, [(torch.zeros(3, 2), torch.tensor([0, 0, 0]))])
    assert np.isnan(loss).all()


def test_r_squared_is_one_minus_the_unexplained_share_of_the_variance() -> None:
    y = X @ torch.tensor([[1.0], [2.0]]) + 100 + torch.arange(7.0)[:, None]
    loss, metric, name = evaluated(LINEAR, nn.MSELoss(), [(X[:5], y[:5]), (X[5:], y[5:])])
    residual = (y - LINEAR(X).detach()).double().numpy()
    assert name == "R^2"
    assert metric.item() == pytest.approx(1 - (residual**2).mean() / y.double().numpy().var(), rel=1e-6)
    assert loss.item() == pytest.approx((residual**2).mean(), rel=1e-6)


def test_the_rows_are_those_of_the_targets_where_the_inputs_begin_with_another_axis() -> None:
    class Last(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[-1]

    x, y = torch.randn(3, 6, 2), torch.randn(6, 2)
    loss, metric, name = evaluated(Last(), nn.MSELoss(), [(x[:, :4], y[:4]), (x[:, 4:], y[4:])])
    residual = (y - x[-1]).double().numpy()
    assert loss.item() == pytest.approx((residual**2).mean(), rel=1e-6)
    assert name == "R^2"
    assert metric.item() == pytest.approx(1 - (residual**2).mean() / y.double().numpy().var(axis=0).mean())


def test_targets_of_different_lengths_have_no_r_squared() -> None:
    batches = [(torch.ones(2, length), torch.zeros(2, length)) for length in (3, 5)]
    loss, metric, name = evaluated(nn.Identity(), nn.MSELoss(), batches)
    assert (loss.item(), metric, name) == (1.0, None, None)


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    logits, y = torch.randn(3, 4, 6), torch.randint(0, 4, (3, 6))
    loss, metric, name = evaluated(nn.Identity(), nn.CrossEntropyLoss(), [(logits, y)])
    assert (name, metric.item()) == ("perplexity", pytest.approx(np.exp(loss.item())))


def test_perplexity_is_that_of_the_classes_whatever_the_loss_smooths_or_weighs() -> None:
    logits, y = torch.randn(3, 4, 6), torch.randint(0, 4, (3, 6))
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.3, weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    _, metric, name = evaluated(nn.Identity(), loss_fn, [(logits[:2], y[:2]), (logits[2:], y[2:])])
    chosen = logits.softmax(1).gather(1, y[:, None])
    assert (name, metric.item()) == ("perplexity", pytest.approx(float((-chosen.log().mean()).exp())))


def test_the_metric_fits_the_task() -> None:
    numbers, classes = torch.zeros(5, 1), torch.zeros(5, dtype=torch.int64)
    assert metric_of(nn.BCEWithLogitsLoss(), numbers, numbers) == "accuracy"
    assert metric_of(None, {"loss": 1}, classes) is None
    assert metric_of(nn.MSELoss(), numbers, torch.zeros(5)) is None
    assert metric_of(nn.CrossEntropyLoss(), torch.zeros(5, 3), torch.full((5, 3), 1 / 3)) is None
    assert metric_of(nn.PoissonNLLLoss(), numbers, numbers) is None
    assert metric_of(nn.NLLLoss(), torch.zeros(5, 3, 2), torch.zeros(5, 2, dtype=torch.int64)) is None


def test_a_binary_task_is_right_on_the_right_side_of_zero() -> None:
    logits, y = torch.tensor([[-1.0], [2.0], [3.0]]), torch.tensor([[0.0], [1.0], [0.0]])
    assert evaluated(nn.Identity(), nn.BCEWithLogitsLoss(), [(logits, y)])[1].item() == pytest.approx(2 / 3)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UsageError, match="validation split yields no batches"):
        evaluated(nn.Identity(), None, [])


def test_every_module_gets_its_own_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()
    with contextlib.suppress(ZeroDivisionError), evaluating(model):
        assert not model[0].training
        raise ZeroDivisionError
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
