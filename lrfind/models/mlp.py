"""A multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Affine maps with ReLU (and dropout) between them, on the flattened input.

    Args:
        in_features: numbers in one input; from the data when omitted.
        out_features: numbers in one output; from the data when omitted.
        hidden: width of each hidden layer.
        dropout: share of hidden units dropped in training.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise([in_features, *hidden]):
            layers += [nn.Linear(before, after), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear([in_features, *hidden][-1], out_features))

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, out_features)
        """Map a batch."""
        out: Tensor = self.layers(x.flatten(1))
        return out
