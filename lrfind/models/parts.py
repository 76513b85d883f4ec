"""The parts of the models: activations, norms and initial weights, by their names in `lrfind.catalog`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from lrfind.catalog import Activation, Init, Norm

MOST_GROUPS = 8  # in a group norm

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


def activation(name: Activation) -> nn.Module:
    """Return the activation of that name."""
    return ACTIVATIONS[name]()


def norm(name: Norm, features: int, dims: Literal[1, 2]) -> list[nn.Module]:
    """Return the norm of that name as a list of the layers that it adds: one, or none.

    `batch` is Ioffe and Szegedy 2015 (arXiv:1502.03167). `layer` is Ba et al. 2016 (arXiv:1607.06450); on
    images it normalises over all channels and pixels. `group` is Wu and He 2018 (arXiv:1803.08494); its
    number of groups is the largest one, up to 8, that divides the number of features. Without pixels, a group
    has at least two features, because one alone would always be 0.

    Args:
        name: the name of the norm.
        features: C, the number of features or channels that it normalises.
        dims: 1 for inputs (B, C), 2 for images (B, C, H, W).
    """
    match name:
        case "none":
            return []
        case "batch":
            return [nn.BatchNorm1d(features) if dims == 1 else nn.BatchNorm2d(features)]
        case "layer":
            return [nn.LayerNorm(features) if dims == 1 else nn.GroupNorm(1, features)]
        case "group":
            most = min(MOST_GROUPS, features if dims == 2 else max(1, features // 2))
            return [nn.GroupNorm(max(n for n in range(1, most + 1) if features % n == 0), features)]


def initialise(model: nn.Module, init: Init, activation: Activation = "identity") -> None:
    """Draw the weights of affine, convolutional and recurrent layers anew, and set their biases to 0.

    `default` draws nothing and keeps the weights that torch drew. Norms and embeddings are never changed. A
    recurrent layer has two matrices for each gate, one on the input and one on the hidden state; each is
    drawn by itself.

    Args:
        model: the model, which is changed in place.
        init: `he`: normal with variance 2 / fan_in, for rectifiers (He et al. 2015, arXiv:1502.01852).
            `xavier`: normal with variance 2 gain^2 / (fan_in + fan_out) (Glorot and Bengio 2010).
            `orthogonal`: orthonormal rows or columns (Saxe et al. 2014, arXiv:1312.6120).
            `small`: normal with deviation 0.01, as in AlexNet (Krizhevsky et al. 2012).
        activation: the activation after the layers. `xavier` uses torch's gain for it, or 1 if torch has no
            gain for it.
    """
    if init == "default":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            _draw(module.weight, init, activation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.RNNBase):
            for name, parameter in module.named_parameters():
                if name.startswith("bias"):
                    nn.init.zeros_(parameter)
                else:
                    for gate in torch.split(parameter.detach(), module.hidden_size):  # (hidden, fan_in)
                        _draw(gate, init, activation)


def _draw(weight: Tensor, init: Init, activation: Activation) -> None:
    match init:
        case "he":
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        case "xavier":
            nn.init.xavier_normal_(weight, _gain(activation))
        case "orthogonal":
            nn.init.orthogonal_(weight)
        case "small":
            nn.init.normal_(weight, std=0.01)


def _gain(activation: Activation) -> float:
    match activation:
        case "relu" | "leaky_relu" | "tanh" | "sigmoid":
            return nn.init.calculate_gain(activation)
        case _:
            return 1.0
