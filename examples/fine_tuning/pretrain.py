"""Make backbone.pt, weights that are trained on another task than that of config.yaml, in a few seconds."""

from __future__ import annotations

from pathlib import Path

import torch
from patterns import Classifier, stripes
from torch import nn

FILE = Path(__file__).with_name("backbone.pt")
CLASSES = 8  # directions; config.yaml has 3 others, so its head has another shape and is new


def pretrain(steps: int = 300) -> Path:
    """Train on stripes in eight directions, and save the weights."""
    torch.manual_seed(0)
    x, y = stripes(CLASSES, images=2000, noise=0.5, seed=1).tensors
    model = Classifier(CLASSES)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    torch.save(model.state_dict(), FILE)  # the state dict, not the model
    return FILE


if __name__ == "__main__":
    print(f"wrote {pretrain()}")  # noqa: T201 - a script of its own
