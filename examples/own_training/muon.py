"""Muon for the matrices and AdamW for the rest: two optimizers in one step.

Muon (Jordan et al. 2024) makes the momentum of each matrix orthogonal before it is used as an update. The lr
that `find` returns is that of Muon, and AdamW keeps its ratio to it. Both fall to 0, so `find` gets `decay`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

import lrfind
from lrfind.datasets.mnist import mnist_mini

EPOCHS, BATCHES = 20, 16
Optimizers = list[torch.optim.Optimizer]


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return nearly the closest matrix with singular values of 1, by Newton-Schulz iterations."""
    x = matrix / (matrix.norm() + 1e-7)
    x = x.T if len(matrix) > matrix.shape[1] else x
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if len(matrix) > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov's momentum, made orthogonal; for matrices only."""

    def __init__(self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                average = self.state[matrix].setdefault("average", torch.zeros_like(matrix))
                average.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(average, group["momentum"]))
                scale = max(1.0, len(matrix) / matrix.shape[1]) ** 0.5
                matrix.add_(update, alpha=-group["lr"] * scale)


def decay(step: int) -> float:
    """Return the multiple of the peak lr: from 1 down to 0."""
    return max(0.0, 1 - step / (EPOCHS * BATCHES))


def build() -> tuple[nn.Module, Optimizers, DataLoader]:
    """Make the model, the two optimizers, and batches of images (64, 196) and digits."""
    torch.manual_seed(0)
    images, digits = mnist_mini().train
    rows = TensorDataset(images[: 64 * BATCHES, 0, ::2, ::2].flatten(1), digits[: 64 * BATCHES])
    model = nn.Sequential(nn.Linear(196, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    hidden = [model[0].weight, model[2].weight]
    rest = [parameter for parameter in model.parameters() if all(parameter is not p for p in hidden)]
    optimizers = [Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=0.002)]
    return model, optimizers, DataLoader(rows, batch_size=64, shuffle=True)


def train_step(model: nn.Module, optimizers: Optimizers, batch: list[Tensor]) -> Tensor:
    """Train on one batch; return the loss before."""
    x, y = batch
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.detach()


def train(model: nn.Module, optimizers: Optimizers, loader: DataLoader, epochs: int) -> list[float]:
    """Train, and return the loss of every step."""
    schedulers = [LambdaLR(optimizer, decay) for optimizer in optimizers]
    losses = []
    for _ in range(epochs):
        for batch in loader:
            losses.append(train_step(model, optimizers, batch).item())
            for scheduler in schedulers:
                scheduler.step()
    return losses


def find(model: nn.Module, optimizers: Optimizers, loader: DataLoader) -> lrfind.Recommendation:
    """Find the peak lr of Muon, and with it that of AdamW, for 20 epochs."""
    return lrfind.find(
        step=lambda batch: train_step(model, optimizers, batch),
        data=loader,
        optimizers=optimizers,
        steps=EPOCHS * BATCHES,
        schedule=decay,
    )


if __name__ == "__main__":
    model, optimizers, loader = build()
    best = find(model, optimizers, loader)
    best.apply(optimizers)
    losses = train(model, optimizers, loader, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
