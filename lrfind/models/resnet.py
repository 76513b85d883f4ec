"""Small residual networks like those that were first trained on CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lrfind.catalog import Activation, Init, Norm
from lrfind.models import parts


class ResNet(nn.Module):
    """A small residual network: a convolution, stages of residual blocks, average pooling, an affine map.

    The network is that of He et al. 2015 (arXiv:1512.03385, section 4.2). With three stages of n blocks it
    has 6n + 2 layers, so `blocks: 3` is their ResNet-20. Each stage but the first halves the height and the
    width of the image. Where the shape changes, our shortcut is a 1x1 convolution (their option B); their
    shortcut on CIFAR pads with zeros.

    Args:
        in_channels: the number of channels of the image; taken from the data when omitted.
        out_features: the number of outputs for one input; taken from the data when omitted.
        channels: the number of channels of each stage.
        blocks: the number of blocks in each stage.
        dropout: the share of the pooled features that is dropped in training.
        activation: the activation after the first convolution, and twice in each block.
        norm: the norm of each convolution's output.
        init: how the weights are drawn; see `lrfind.models.parts.initialise`.
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "batch",
        init: Init = "default",
    ) -> None:
        super().__init__()
        before = channels[0]
        self.stem = nn.Sequential(*_convolution(in_channels, before, norm), parts.activation(activation))
        stages: list[nn.Module] = []
        for i, after in enumerate(channels):
            for block in range(blocks):
                stride = 2 if i > 0 and block == 0 else 1
                stages.append(Residual(before, after, stride, activation, norm))
                before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(before, out_features)
        )
        parts.initialise(self, init, activation)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, out_features)
        """Map a batch."""
        out: Tensor = self.head(self.stages(self.stem(x)))
        return out


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut around them.

    Args:
        before: the number of channels of the input.
        after: the number of channels of the output.
        stride: the stride of the first convolution and of the shortcut.
        activation: the activation between the convolutions, and after the sum.
        norm: the norm of each convolution's output.
    """

    def __init__(self, before: int, after: int, stride: int, activation: Activation, norm: Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(before, after, norm, stride=stride),
            parts.activation(activation),
            *_convolution(after, after, norm),
        )
        same_shape = stride == 1 and before == after
        self.shortcut = nn.Sequential(*([] if same_shape else _convolution(before, after, norm, 1, stride)))
        self.activation = parts.activation(activation)

    def forward(self, x: Tensor) -> Tensor:  # (B, before, H, W) -> (B, after, H / stride, W / stride)
        """Map a batch."""
        out: Tensor = self.activation(self.residual(x) + self.shortcut(x))
        return out


def _convolution(before: int, after: int, norm: Norm, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Return a convolution and its norm; only `stride` changes the image's size. A norm replaces the bias."""
    bias = norm == "none"
    convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=bias)
    return [convolution, *parts.norm(norm, after, 2)]
