"""A schedule-free optimizer (package `schedulefree`), which has a train mode and an eval mode of its own.

It is an optimizer as any other for `find`, which puts it into train mode for the probes, and back afterwards.
"""

import torch
from schedulefree import AdamWScheduleFree
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind
from lrfind.datasets.mnist import mnist_mini

EPOCHS = 20


def build() -> tuple[nn.Module, AdamWScheduleFree, DataLoader]:
    """Make the model, the optimizer, and batches of images (64, 196) and digits."""
    torch.manual_seed(0)
    images, digits = mnist_mini().train
    rows = TensorDataset(images[:1024, 0, ::2, ::2].flatten(1), digits[:1024])
    model = nn.Sequential(nn.Linear(196, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, AdamWScheduleFree(model.parameters()), DataLoader(rows, batch_size=64, shuffle=True)


def train(model: nn.Module, optimizer: AdamWScheduleFree, loader: DataLoader, epochs: int) -> list[float]:
    """Train, and return the loss of every step."""
    losses = []
    optimizer.train()
    for _ in range(epochs):
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    optimizer.eval()
    return losses


def find(model: nn.Module, optimizer: AdamWScheduleFree, loader: DataLoader) -> lrfind.Recommendation:
    """Find the lr for 20 epochs."""
    return lrfind.find(model, optimizer, nn.functional.cross_entropy, loader, steps=EPOCHS * len(loader))


if __name__ == "__main__":
    model, optimizer, loader = build()
    best = find(model, optimizer, loader)
    best.apply(optimizer)
    losses = train(model, optimizer, loader, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
