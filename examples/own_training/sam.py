"""Sharpness-aware minimization: an optimizer that wraps another one and needs two passes per step.

SAM (Foret et al. 2020, arXiv:2010.01412) climbs to the worst weights nearby, takes the gradient there, and
updates the old weights with it. Both passes are inside the step, so `find` gets the step.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind
from lrfind.datasets.mnist import mnist_mini

EPOCHS = 20


class SAM(torch.optim.Optimizer):
    """A base optimizer with the gradient of the worst weights at a distance of rho."""

    def __init__(
        self,
        params: Iterable[Tensor],
        base: Callable[..., torch.optim.Optimizer],
        rho: float = 0.05,
        **args: Any,
    ) -> None:
        super().__init__(params, {"rho": rho, **args})
        self.base_optimizer = base(self.param_groups, **args)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        """Climb to the worst weights nearby."""
        trained = [
            (p, group["rho"]) for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        norm = torch.stack([p.grad.norm() for p, _ in trained]).norm() + 1e-12
        for parameter, rho in trained:
            self.state[parameter]["old"] = parameter.clone()
            parameter.add_(parameter.grad, alpha=float(rho / norm))
        self.zero_grad()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Go back, and update with the gradient of the worst weights."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.copy_(self.state[parameter]["old"])
        self.base_optimizer.step()
        self.zero_grad()


def train_step(model: nn.Module, optimizer: SAM, loss_fn: nn.Module, batch: list[Tensor]) -> Tensor:
    """Train on one batch; return the loss before."""
    x, y = batch
    loss: Tensor = loss_fn(model(x), y)
    loss.backward()
    optimizer.first_step()
    loss_fn(model(x), y).backward()
    optimizer.step()
    return loss.detach()


def build() -> tuple[nn.Module, SAM, nn.Module, DataLoader]:
    """Make the model, the optimizer, the loss, and batches of images (64, 196) and digits."""
    torch.manual_seed(0)
    images, digits = mnist_mini().train
    rows = TensorDataset(images[:1024, 0, ::2, ::2].flatten(1), digits[:1024])
    model = nn.Sequential(nn.Linear(196, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    return model, optimizer, nn.CrossEntropyLoss(), DataLoader(rows, batch_size=64, shuffle=True)


def train(
    model: nn.Module, optimizer: SAM, loss_fn: nn.Module, loader: DataLoader, epochs: int
) -> list[float]:
    """Train, and return the loss of every step."""
    losses = []
    for _ in range(epochs):
        for batch in loader:
            losses.append(train_step(model, optimizer, loss_fn, batch).item())
    return losses


def find(model: nn.Module, optimizer: SAM, loss_fn: nn.Module, loader: DataLoader) -> lrfind.Recommendation:
    """Find the lr of the base optimizer for 20 epochs."""
    return lrfind.find(
        step=lambda batch: train_step(model, optimizer, loss_fn, batch),
        data=loader,
        optimizers=[optimizer],
        steps=EPOCHS * len(loader),
    )


if __name__ == "__main__":
    model, optimizer, loss_fn, loader = build()
    best = find(model, optimizer, loss_fn, loader)
    best.apply(optimizer)
    losses = train(model, optimizer, loss_fn, loader, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
