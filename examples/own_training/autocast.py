"""Mixed precision: passes in bfloat16, a clipped gradient, and a cosine function in a `LambdaLR`.

`find` does the same in its own steps with `precision="bfloat16"` and `clip_norm`. The scheduler exists before
the rate does, so it gets the rate too: `best.apply(optimizer, scheduler)`.
"""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, TensorDataset

import lrfind
from lrfind.datasets.mnist import mnist_mini

EPOCHS, BATCHES, CLIP = 20, 16, 1.0


def cosine(step: int) -> float:
    """Return the multiple of the peak lr: from 1 down to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / (EPOCHS * BATCHES))))


def build() -> tuple[nn.Module, torch.optim.Optimizer, LRScheduler, DataLoader]:
    """Make the model, the optimizer, the scheduler, and batches of images (64, 1, 14, 14) and digits."""
    torch.manual_seed(0)
    images, digits = mnist_mini().train
    rows = TensorDataset(images[: 64 * BATCHES, :, ::2, ::2], digits[: 64 * BATCHES])
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16 * 36, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    return model, optimizer, LambdaLR(optimizer, cosine), DataLoader(rows, batch_size=64, shuffle=True)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    loader: DataLoader,
    epochs: int,
) -> list[float]:
    """Train, and return the loss of every step."""
    losses, loss_fn = [], nn.CrossEntropyLoss()
    for _ in range(epochs):
        for image, digit in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_fn(model(image), digit)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    return losses


def find(
    model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, loader: DataLoader
) -> lrfind.Recommendation:
    """Find the peak of the cosine for 20 epochs."""
    return lrfind.find(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        loader,
        steps=EPOCHS * BATCHES,
        schedule=cosine,
        precision="bfloat16",
        clip_norm=CLIP,
    )


if __name__ == "__main__":
    model, optimizer, scheduler, loader = build()
    best = find(model, optimizer, scheduler, loader)
    best.apply(optimizer, scheduler)
    losses = train(model, optimizer, scheduler, loader, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
