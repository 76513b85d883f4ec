"""L-BFGS: an optimizer that evaluates the loss several times per step, so its step needs a closure."""

import torch
from torch import Tensor, nn

import lrfind

STEPS = 100


def build() -> tuple[nn.Module, torch.optim.LBFGS, tuple[Tensor, Tensor]]:
    """Make a small network, the optimizer, and all the data: a wave with noise (200, 1)."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 200)[:, None]
    y = (3 * x).sin() + 0.5 * (7 * x).cos() + 0.05 * torch.randn_like(x)
    model = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
    return model, torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4), (x, y)


def train_step(model: nn.Module, optimizer: torch.optim.LBFGS, batch: tuple[Tensor, Tensor]) -> float:
    """Take one step; return the loss before."""
    x, y = batch

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    return optimizer.step(closure).item()


def train(
    model: nn.Module, optimizer: torch.optim.LBFGS, data: tuple[Tensor, Tensor], steps: int
) -> list[float]:
    """Train, and return the loss of every step."""
    return [train_step(model, optimizer, data) for _ in range(steps)]


def find(
    model: nn.Module, optimizer: torch.optim.LBFGS, data: tuple[Tensor, Tensor]
) -> lrfind.Recommendation:
    """Find the lr for 100 steps."""
    return lrfind.find(
        step=lambda batch: train_step(model, optimizer, batch),
        data=[data],
        optimizers=[optimizer],
        steps=STEPS,
    )


if __name__ == "__main__":
    model, optimizer, data = build()
    best = find(model, optimizer, data)
    best.apply(optimizer)
    losses = train(model, optimizer, data, STEPS)
    print(f"{best}\nloss: from {losses[0]:.3f} to {losses[-1]:.4f}")  # noqa: T201 - a script of its own
