"""Small residual networks, as they were first trained on CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lrfind.catalog import Activation, Init, Norm
from lrfind.models import parts


class ResNet(nn.Module):
    """A small residual network: a convolution, stages of residual blocks, average pooling, an affine map.

    He et al. 2015 (arXiv:1512.03385, section 4.2): with three stages of n blocks it has 6n + 2 layers, of
    which `blocks: 3` is their ResNet-20. Each stage but the first halves the image. Where the shape changes,
    our shortcut is a 1x1 convolution (their option B); theirs on CIFAR pads with zeros.

    Args:
        in_channels: of the image; from the data when omitted.
        out_features: numbers in one output; from the data when omitted.
        channels: of each stage.
        blocks: in each stage.
        dropout: share of the pooled features dropped in training.
        activation: after the first convolution, and twice in each block.
        norm: of each convolution's output.
        init: of the weights; see `lrfind.models.parts.initialise`.
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
        before: channels that come in.
        after: channels that go out.
        stride: of the first convolution and of the shortcut.
        activation: between the convolutions, and after the sum.
        norm: of each convolution's output.
    """

    def __init__(self, before: int, after: int, stride: int, activation: Activation, norm: Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(before, after, norm, stride=stride),
            parts.activation(activation),
            *_convolution(after, after, norm),
        )
        same = stride == 1 and before == after
        self.shortcut = nn.Sequential(*([] if same else _convolution(before, after, norm, 1, stride)))
        self.activation = parts.activation(activation)

    def forward(self, x: Tensor) -> Tensor:  # (B, before, H, W) -> (B, after, H / stride, W / stride)
        """Map a batch."""
        out: Tensor = self.activation(self.residual(x) + self.shortcut(x))
        return out


def _convolution(before: int, after: int, norm: Norm, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the image's size but for its stride, and its norm, which has the bias."""
    bias = norm == "none"
    convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=bias)
    return [convolution, *parts.norm(norm, after, 2)]
