"""Striped images, and a network with a stem, a body and a head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

SIZE = 12  # pixels of each side


def stripes(classes: int = 3, images: int = 240, noise: float = 1.0, seed: int = 0) -> TensorDataset:
    """Draw images (N, 1, 12, 12) of stripes in `classes` directions, and their directions (N,) int64.

    A data set may be a function as well as a class: lrfind calls it with `data.args`.
    """
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (images,), generator=random)
    angle = (y * math.pi / classes)[:, None, None]  # (N, 1, 1)
    shift = 2 * math.pi * torch.rand(images, 1, 1, generator=random)
    down, right = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    x = torch.sin(angle.cos() * right + angle.sin() * down + shift)
    x = x + noise * torch.randn(images, SIZE, SIZE, generator=random)
    return TensorDataset(x[:, None], y)


class Classifier(nn.Module):
    """A network from images (B, 1, 12, 12) to scores (B, classes).

    `optimizer.param_groups` matches the names of its parts: stem.*, body.*, head.*
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return a score for each class."""
        return self.head(self.body(self.stem(x)).flatten(1))
