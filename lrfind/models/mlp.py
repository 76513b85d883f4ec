"""Multi-layer perceptrons, wide and deep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from lrfind.catalog import Activation, Init, Norm
from lrfind.models import parts


class MLP(nn.Module):
    """Affine maps on the flattened input, with an activation and optionally a norm and dropout in between.

    Args:
        in_features: the number of values in one input; taken from the data when omitted.
        out_features: the number of outputs for one input; taken from the data when omitted.
        hidden: the width of each hidden layer.
        dropout: the share of the hidden units that is dropped in training.
        activation: the activation of the hidden layers.
        norm: the norm of the hidden layers, before their activation.
        init: how the weights are drawn; see `lrfind.models.parts.initialise`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "none",
        init: Init = "default",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise([in_features, *hidden]):
            layers += [nn.Linear(before, after), *parts.norm(norm, after, 1), parts.activation(activation)]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear([in_features, *hidden][-1], out_features))
        parts.initialise(self, init, activation)

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, out_features)
        """Map a batch."""
        out: Tensor = self.layers(x.flatten(1))
        return out


class DeepMLP(MLP):
    """A deep plain chain of layers, the classical case in which gradients vanish.

    Glorot and Bengio 2010 ("Understanding the difficulty of training deep feedforward neural networks") show
    how this happens. Their remedy is `init: xavier`; others are `norm: batch` or another activation.

    Args:
        in_features: the number of values in one input; taken from the data when omitted.
        out_features: the number of outputs for one input; taken from the data when omitted.
        depth: the number of hidden layers.
        width: the width of each hidden layer.
        activation: the activation of the hidden layers.
        norm: the norm of the hidden layers, before their activation.
        init: how the weights are drawn; see `lrfind.models.parts.initialise`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        depth: int = 12,
        width: int = 64,
        activation: Activation = "tanh",
        norm: Norm = "none",
        init: Init = "default",
    ) -> None:
        super().__init__(
            in_features, out_features, [width] * depth, activation=activation, norm=norm, init=init
        )
