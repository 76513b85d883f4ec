"""Data of the quality tasks that `lrfind ls data` does not have: small, made or reduced on the spot."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lrfind.datasets.mnist import mnist_mini
from lrfind.datasets.sklearn_sets import digits, make_regression
from lrfind.datasets.tensors import TensorData


def small_images(scale: float = 1.0, rows: bool = False) -> TensorData:
    """`mnist_mini` at 14 by 14, times `scale`; as (N, 1, 14, 14), or as sequences of 14 rows."""

    def reduced(part: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        x = scale * nn.functional.avg_pool2d(part[0], 2)
        return (x.squeeze(1) if rows else x), part[1]

    made = mnist_mini()
    return TensorData(reduced(made.train), reduced(made.validation), made.classes)


def digit_rows() -> TensorData:
    """`digits` as sequences (N, 8, 8) of rows."""
    made = digits()
    (x, y), (held, held_y) = made.train, made.validation
    return TensorData((x.squeeze(1), y), (held.squeeze(1), held_y), made.classes)


def scaled_digits(scale: float) -> TensorData:
    """`digits` whose inputs are not standardised, but `scale` times as large."""
    made = digits()
    (x, y), (held, held_y) = made.train, made.validation
    return TensorData((scale * x, y), (scale * held, held_y), made.classes)


def uneven_regression(features: int = 20, decades: float = 2.0, target: float = 1.0) -> TensorData:
    """`make_regression` with columns whose scales are spread over decades, and a target of a given scale."""
    made = make_regression(features=features, informative=min(features, 10))
    scales = torch.logspace(-decades / 2, decades / 2, features)
    (x, y), (held, held_y) = made.train, made.validation
    return TensorData((scales * x, target * y), (scales * held, target * held_y))


def spirals(turns: float = 1.5, arms: int = 2, samples: int = 1500, noise: float = 0.05) -> TensorData:
    """Points of the plane on spiral arms, each arm a class: flat at first, then quick."""
    make = torch.Generator().manual_seed(0)
    radius = torch.rand(samples, generator=make).sqrt()
    arm = torch.randint(arms, (samples,), generator=make)
    angle = 2 * math.pi * (turns * radius + arm / arms)
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    x = 2 * (x + noise * torch.randn(samples, 2, generator=make))
    held = samples // 5
    return TensorData((x[held:], arm[held:]), (x[:held], arm[:held]), arms)


def parity(bits: int = 12, of: int = 3, samples: int = 3000) -> TensorData:
    """The parity of the first `of` of some +-1 bits: a long plateau, then it is understood."""
    make = torch.Generator().manual_seed(0)
    x = 2.0 * torch.randint(2, (samples, bits), generator=make) - 1
    y = (x[:, :of].prod(dim=1) > 0).long()
    held = samples // 5
    return TensorData((x[held:], y[held:]), (x[:held], y[:held]), 2)


def teacher(features: int = 16, hidden: int = 16, outputs: int = 1, noise: float = 0.05) -> TensorData:
    """What a random two-layer network says of random inputs, and some noise."""
    make = torch.Generator().manual_seed(features)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make)

    x = normal(2500, features)
    y = (x @ normal(features, hidden) / features**0.5 * 2).tanh() @ normal(hidden, outputs) / hidden**0.5
    y = y + noise * normal(2500, outputs)
    return TensorData((x[500:], y[500:]), (x[:500], y[:500]))


def first_token(length: int = 10, kinds: int = 6, tokens: bool = True) -> TensorData:
    """Sequences whose class is their first token: it must be kept over the others."""
    make = torch.Generator().manual_seed(length)
    x = torch.randint(kinds, (2500, length), generator=make)
    y, seen = x[:, 0].clone(), x if tokens else nn.functional.one_hot(x, kinds).float()
    vocabulary = kinds if tokens else None
    return TensorData((seen[500:], y[500:]), (seen[:500], y[:500]), kinds, vocabulary=vocabulary)


def running_sum(length: int = 16, kinds: int = 5) -> TensorData:
    """Tokens, and at every step their sum so far modulo `kinds`."""
    make = torch.Generator().manual_seed(length)
    x = torch.randint(kinds, (2500, length), generator=make)
    y = x.cumsum(dim=1) % kinds
    return TensorData((x[500:], y[500:]), (x[:500], y[:500]), kinds, vocabulary=kinds)
