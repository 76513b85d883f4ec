"""The small CNN of the classic MNIST tutorials."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """3x3 convolutions with ReLU, 2x2 max-pooling between them, then one hidden layer.

    With channels (32, 64, 64) on 28x28 images this is conv32-pool-conv64-pool-conv64-dense64-dense10.

    Args:
        in_channels: of the image; from the data when omitted.
        image_size: (height, width); from the data when omitted.
        out_features: numbers in one output; from the data when omitted.
        channels: of each convolution.
        hidden: width of the dense layer.
        dropout: share of its units dropped in training.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: Sequence[int],
        out_features: int,
        channels: Sequence[int] = (32, 64, 64),
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for i, after in enumerate(channels):
            if i > 0:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.Conv2d(before, after, kernel_size=3), nn.ReLU()]
            before = after
        self.features = nn.Sequential(*layers, nn.Flatten())
        width = self._width(in_channels, image_size, len(channels))
        self.head = nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, out_features),
        )

    def _width(self, in_channels: int, image_size: Sequence[int], depth: int) -> int:
        try:
            with torch.no_grad():
                return int(self.features(torch.zeros(1, in_channels, *image_size)).shape[1])
        except RuntimeError as error:
            size = "x".join(str(n) for n in image_size)
            raise ValueError(
                f"{depth} convolutions leave nothing of a {size} image; use fewer channels"
            ) from error

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, out_features)
        """Map a batch."""
        out: Tensor = self.head(self.features(x))
        return out
