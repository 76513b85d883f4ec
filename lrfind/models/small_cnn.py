"""The small CNN of the classic MNIST tutorials."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lrfind.catalog import Activation, Init, Norm
from lrfind.errors import counted
from lrfind.models import parts


class SmallCNN(nn.Module):
    """3x3 convolutions with 2x2 max-pooling between them, then one hidden layer.

    With channels (32, 64, 64) on 28x28 images this is conv32-pool-conv64-pool-conv64-dense64-dense10.

    Args:
        in_channels: the number of channels of the image; taken from the data when omitted.
        image_size: (height, width); taken from the data when omitted.
        out_features: the number of outputs for one input; taken from the data when omitted.
        channels: the number of channels of each convolution.
        hidden: the width of the dense layer.
        dropout: the share of the dense layer's units that is dropped in training.
        activation: the activation of the convolutions and of the dense layer.
        norm: the norm of the outputs of these layers, before their activation.
        init: how the weights are drawn; see `lrfind.models.parts.initialise`.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: Sequence[int],
        out_features: int,
        channels: Sequence[int] = (32, 64, 64),
        hidden: int = 64,
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "none",
        init: Init = "default",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, (height, width) = in_channels, image_size
        for i, after in enumerate(channels):
            layers += [nn.Conv2d(before, after, kernel_size=3), *parts.norm(norm, after, 2)]
            ending = [parts.activation(activation)]
            before, height, width = after, height - 2, width - 2
            if i < len(channels) - 1:
                # The rectified maximum is the maximum of the rectified numbers, in less time.
                ending.insert(0 if activation == "relu" else 1, nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers += ending
        if min(height, width) < 1:
            size = "x".join(str(n) for n in image_size)
            raise ValueError(
                f"no pixel of a {size} image is left after {counted(len(channels), 'convolution')}; give a"
                " shorter list of channels"
            )
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(before * height * width, hidden),
            *parts.norm(norm, hidden, 1),
            parts.activation(activation),
            nn.Dropout(dropout),
            nn.Linear(hidden, out_features),
        )
        parts.initialise(self, init, activation)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, out_features)
        """Map a batch."""
        out: Tensor = self.head(self.features(x))
        return out
