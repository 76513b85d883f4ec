from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lrfind.batches import loader_batches
from lrfind.errors import UsageError
from lrfind.evaluation import held_loss
from lrfind.train import Setup, lr_ratios, train

CPU = torch.device("cpu")
LR = np.geomspace(1e-3, 1e-1, 12)


def parts() -> tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    return model, [(torch.randn(16, 4), torch.randn(16, 1)) for _ in range(3)]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
        (torch.optim.Adam, {}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_every_step_is_the_step_of_a_plain_loop(kind: type, arguments: dict[str, float]) -> None:
    model, batches = parts()
    plain = copy.deepcopy(model)
    optimizer = kind(model.parameters(), lr=1.0, **arguments)
    setup = Setup(model, optimizer, nn.functional.mse_loss, loader_batches(batches, CPU))
    steps = list(train(setup, LR, grad_norm=True))

    own = kind(plain.parameters(), lr=1.0, **arguments)
    for t, lr in enumerate(LR):
        x, y = batches[t % 3]
        own.zero_grad()
        loss = nn.functional.mse_loss(plain(x), y)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), torch.inf)
        assert steps[t].loss == loss.item()  # measured before the update that uses lr[t]
        assert steps[t].grad_norm == pytest.approx(norm.item(), rel=1e-6)
        assert (steps[t].step, steps[t].lr) == (t, lr)
        own.param_groups[0]["lr"] = lr
        own.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_stopping_leaves_the_weights_before_the_update() -> None:
    model, batches = parts()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    next(train(Setup(model, optimizer, nn.functional.mse_loss, iter(batches)), LR))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_param_groups_keep_their_ratios_and_the_lr_is_the_first_groups() -> None:
    model, batches = parts()
    groups = [{"params": model[0].parameters(), "lr": 0.3}, {"params": model[2].parameters(), "lr": 0.03}]
    optimizer = torch.optim.SGD(groups, lr=7.0)
    for step in train(Setup(model, optimizer, nn.functional.mse_loss, loader_batches(batches, CPU)), LR):
        used = [group["lr"] for group in optimizer.param_groups]
        assert used[0] == step.lr
        assert used[1] == pytest.approx(step.lr / 10)


def test_ratios_count_from_the_first_group_that_moves() -> None:
    model, _ = parts()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters(), "lr": 0.2}]
    assert lr_ratios(torch.optim.SGD(groups)) == [0, 1]
    with pytest.raises(UsageError, match="every param group"):
        lr_ratios(torch.optim.SGD(model.parameters(), lr=0.0))


def test_an_lr_held_in_a_tensor_is_filled() -> None:
    model, batches = parts()
    lr = torch.tensor(1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, foreach=False)
    steps = train(Setup(model, optimizer, nn.functional.mse_loss, iter(batches)), LR)
    assert next(steps).lr == pytest.approx(lr.item())
    assert optimizer.param_groups[0]["lr"] is lr


def test_the_probe_batch_is_measured_in_evaluation_mode_and_changes_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    model[1].eval()  # a frozen batch norm stays frozen
    probe = (torch.randn(5, 4), torch.randn(5, 1))
    before = copy.deepcopy(model.state_dict())
    expected = nn.functional.mse_loss(copy.deepcopy(model).eval()(probe[0]), probe[1]).item()
    assert held_loss(model, nn.functional.mse_loss, probe) == expected
    assert [m.training for m in model] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_loss_without_gradient_is_explained() -> None:
    model, batches = parts()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(UsageError, match="does not depend on any parameter"):
        next(train(Setup(model, optimizer, nn.functional.mse_loss, iter(batches)), LR))
