"""A training of a user's own, with everything that it touches."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd with momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 3)
        self.calls = 0
        self.seen: list[int] = []
        self.last = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(len(x))
        self.last = x.detach().mean()
        return self.head(self.body(x))


def data() -> TensorDataset:
    make = torch.Generator().manual_seed(0)
    x = torch.randn(90, 6, generator=make)
    return TensorDataset(x, (x[:, :3] + 0.1 * torch.randn(90, 3, generator=make)).argmax(dim=1))


class World:
    """Everything that a training touches."""

    def __init__(self, optimizer: str) -> None:
        self.seed(3)
        self.model = Net()
        self.model.body[1].eval()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.loss_fn = nn.CrossEntropyLoss()
        self.loader = DataLoader(
            data(), batch_size=15, shuffle=True, generator=torch.Generator().manual_seed(5)
        )

    @staticmethod
    def seed(seed: int) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)

    def train(self, seed: int = 0) -> list[float]:
        """An epoch; its losses and what the random generators give after it."""
        self.seed(seed)
        losses = []
        for x, y in self.loader:
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return [*losses, random.random(), np.random.rand(), torch.rand(1).item()]

    def test(self, **options: Any) -> lrfind.RangeTest:
        options = {"start_lr": 1e-5, "end_lr": 50.0, "steps": 40, **options}
        return lrfind.range_test(self.model, self.optimizer, self.loss_fn, self.loader, **options)

    def state(self) -> list[Any]:
        """Everything, as bytes and plain values, with the identity of what users hold on to."""
        bits: list[Any] = [t.numpy().tobytes() for t in self.model.state_dict().values()]
        bits += [
            None if p.grad is None else (id(p.grad), p.grad.numpy().tobytes())
            for p in self.model.parameters()
        ]
        bits += [(id(p), p.requires_grad) for p in self.model.parameters()]
        bits += [module.training for module in self.model.modules()]
        bits += [self.model.calls, tuple(self.model.seen), id(self.model.last), float(self.model.last)]
        for parameter, state in self.optimizer.state.items():
            bits.append((id(parameter), id(state)))
            bits += [(k, v.numpy().tobytes() if isinstance(v, torch.Tensor) else v) for k, v in state.items()]
        bits += [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        bits += [torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())]
        bits += [self.loader.generator.get_state().tolist(), torch.get_num_threads()]
        return bits
