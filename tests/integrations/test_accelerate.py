"""Accelerate needs no adapter: prepared objects are taken as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrfind
from tests.helpers.states import bits

EPOCHS = 20


def parts(**settings: Any) -> tuple[Any, nn.Module, Any, Any]:
    from accelerate import Accelerator

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
    x = torch.randn(320, 6, generator=torch.Generator().manual_seed(0))
    rows = torch.utils.data.TensorDataset(x, x[:, :3].argmax(dim=1))
    loader = torch.utils.data.DataLoader(rows, batch_size=32, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    accelerator = Accelerator(cpu=True, **settings)
    return accelerator, *accelerator.prepare(model, optimizer, loader)


def losses_of_ten_steps(accelerator: Any, model: nn.Module, optimizer: Any, loader: Any) -> list[float]:
    losses = []
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_prepared_objects_get_the_answer_of_plain_ones_and_the_rate() -> None:
    _, model, optimizer, loader = parts()
    best = lrfind.find(model, optimizer, nn.CrossEntropyLoss(), loader, steps=EPOCHS * 10)
    _, same, prepared, _ = parts()
    inner = prepared.optimizer
    plain = lrfind.find(same, inner, nn.CrossEntropyLoss(), loader, steps=EPOCHS * 10)
    assert (best.lr, best.low, best.high, best.cost) == (plain.lr, plain.low, plain.high, plain.cost)
    best.apply(optimizer)
    assert optimizer.optimizer.param_groups[0]["lr"] == best.lr


def test_a_training_is_as_if_nobody_had_asked() -> None:
    runs = []
    for asks in (False, True):
        accelerator, model, optimizer, loader = parts()
        torch.manual_seed(1)
        if asks:
            lrfind.find(model, optimizer, nn.CrossEntropyLoss(), loader, steps=EPOCHS * 10)
        losses = losses_of_ten_steps(accelerator, model, optimizer, loader)
        runs.append((losses, bits([*model.state_dict().values()], set())))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) == 10


def test_an_accumulated_step_is_a_step_of_the_users_own() -> None:
    accelerator, model, optimizer, loader = parts(gradient_accumulation_steps=2)

    def step(batches: list[Any]) -> Tensor:
        losses = []
        for x, y in batches:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.detach())
        return torch.stack(losses).mean()

    pairs = [*zip(*[iter([*loader])] * 2, strict=True)]
    best = lrfind.find(step=step, data=[[*pair] for pair in pairs], optimizers=[optimizer], steps=EPOCHS * 5)
    assert best.training.optimizer == "adamw"
    assert best.lr == pytest.approx(
        lrfind.find(
            model, optimizer.optimizer, nn.CrossEntropyLoss(), [*loader], steps=EPOCHS * 5, accumulate=2
        ).lr,
        rel=1.0,
    )
