"""An object detector: batches are lists of images and of targets, and the model returns a dict of losses.

It has the interface of torchvision's detectors, in small: `losses = model(images, targets)`, and their sum is
the loss.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

import lrfind

EPOCHS, SIDE, CELL = 20, 24, 4
Target = dict[str, Tensor]


class Detector(nn.Module):
    """A grid of cells: each says whether the middle of an object lies in it, and where the box is."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, 5, 3, padding=1),
        )  # fmt: skip

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the losses of images (1, H, W) of any size, each with a box (left, top, right, bottom)."""
        grid = self.backbone(torch.stack([self._padded(image) for image in images]))
        boxes = torch.stack([target["box"] for target in targets])
        column, row = (((boxes[:, :2] + boxes[:, 2:]) / 2) // CELL).long().unbind(1)
        place = torch.arange(len(images))
        there = torch.zeros_like(grid[:, 0]).index_put((place, row, column), torch.ones(len(images)))
        return {
            "object": functional.binary_cross_entropy_with_logits(grid[:, 0], there),
            "box": functional.l1_loss(grid[place, 1:, row, column], boxes / SIDE),
        }

    @staticmethod
    def _padded(image: Tensor) -> Tensor:
        return functional.pad(image, (0, SIDE - image.shape[2], 0, SIDE - image.shape[1]))


def image_with_a_box() -> tuple[Tensor, Target]:
    """Draw a noisy image with a bright rectangle, and its box."""
    height, width = torch.randint(16, SIDE + 1, (2,)).tolist()
    tall, wide = torch.randint(4, 9, (2,)).tolist()
    top, left = int(torch.randint(height - tall, ())), int(torch.randint(width - wide, ()))
    image = 0.3 * torch.randn(1, height, width)
    image[:, top : top + tall, left : left + wide] += 1
    return image, {"box": torch.tensor([left, top, left + wide, top + tall], dtype=torch.float32)}


def collate(rows: list[Any]) -> tuple[list[Tensor], list[Target]]:
    """Return the images of a batch and their targets, as lists."""
    images, targets = zip(*rows, strict=True)
    return [*images], [*targets]


def build() -> tuple[Detector, torch.optim.Optimizer, DataLoader]:
    """Make the model, the optimizer, and batches of 16 images."""
    torch.manual_seed(0)
    rows = [image_with_a_box() for _ in range(256)]
    model = Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9, weight_decay=5e-4)
    return model, optimizer, DataLoader(rows, batch_size=16, shuffle=True, collate_fn=collate)


def train(model: Detector, optimizer: torch.optim.Optimizer, loader: DataLoader, epochs: int) -> list[float]:
    """Train, and return the loss of every step."""
    history = []
    for _ in range(epochs):
        for images, targets in loader:
            losses = model(images, targets)
            loss = sum(losses.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
    return history


def find(model: Detector, optimizer: torch.optim.Optimizer, loader: DataLoader) -> lrfind.Recommendation:
    """Find the lr for 20 epochs."""
    return lrfind.find(
        model,
        optimizer,
        data=loader,
        loss=lambda batch: sum(model(*batch).values()),
        steps=EPOCHS * len(loader),
    )


if __name__ == "__main__":
    model, optimizer, loader = build()
    best = find(model, optimizer, loader)
    best.apply(optimizer)
    losses = train(model, optimizer, loader, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
