"""LeNet, as it has been used on MNIST since Caffe."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class LeNet(nn.Module):
    """Two 5x5 convolutions of 20 and 50 channels, each with 2x2 max-pooling, then 500 units with ReLU.

    This is the variant of LeCun et al. 1998 ("Gradient-based learning applied to document recognition") that
    came with Caffe and that Smith and Topin (arXiv:1708.07120) trained. It has 431,080 weights on MNIST.

    Args:
        in_channels: the number of channels of the image; taken from the data when omitted.
        image_size: (height, width), each at least 16; taken from the data when omitted.
        out_features: the number of outputs for one input; taken from the data when omitted.
    """

    def __init__(self, in_channels: int, image_size: Sequence[int], out_features: int) -> None:
        super().__init__()
        height, width = (((size - 4) // 2 - 4) // 2 for size in image_size)
        if min(height, width) < 1:
            raise ValueError(
                f"an image of {image_size[0]}x{image_size[1]} is too small; LeNet needs at least 16x16"
            )
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 20, kernel_size=5),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, kernel_size=5),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(50 * height * width, 500), nn.ReLU(), nn.Linear(500, out_features)
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, out_features)
        """Map a batch."""
        out: Tensor = self.head(self.features(x))
        return out
