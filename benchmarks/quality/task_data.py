"""Data of the quality tasks that are not built in: small, and drawn or reduced when they are needed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lrfind.datasets.mnist import mnist_mini
from lrfind.datasets.sklearn_sets import digits, make_regression
from lrfind.datasets.tensors import TensorData
from lrfind.datasets.text import text


def small_images(scale: float = 1.0, rows: bool = False) -> TensorData:
    """Return `mnist_mini` at 14 by 14, times `scale`, as (N, 1, 14, 14) or as sequences of 14 rows."""

    def reduced(part: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        x = scale * nn.functional.avg_pool2d(part[0], 2)
        return (x.squeeze(1) if rows else x), part[1]

    data = mnist_mini()
    return TensorData(reduced(data.train), reduced(data.validation), data.classes)


def digit_rows() -> TensorData:
    """Return `digits` as sequences (N, 8, 8) of rows."""
    data = digits()
    (x, y), (held_x, held_y) = data.train, data.validation
    return TensorData((x.squeeze(1), y), (held_x.squeeze(1), held_y), data.classes)


def scaled_digits(scale: float) -> TensorData:
    """Return `digits` with inputs that are not standardised, but `scale` times as large."""
    data = digits()
    (x, y), (held_x, held_y) = data.train, data.validation
    return TensorData((scale * x, y), (scale * held_x, held_y), data.classes)


def uneven_regression(features: int = 20, decades: float = 2.0, target: float = 1.0) -> TensorData:
    """Return `make_regression` with columns whose scales span `decades`, and a target of scale `target`."""
    data = make_regression(features=features, informative=min(features, 10))
    scales = torch.logspace(-decades / 2, decades / 2, features)
    (x, y), (held_x, held_y) = data.train, data.validation
    return TensorData((scales * x, target * y), (scales * held_x, target * held_y))


def spirals(turns: float = 1.5, arms: int = 2, samples: int = 1500, noise: float = 0.05) -> TensorData:
    """Return points on spiral arms, each arm a class: the loss is flat at first, then falls quickly."""
    generator = torch.Generator().manual_seed(0)
    radius = torch.rand(samples, generator=generator).sqrt()
    arm = torch.randint(arms, (samples,), generator=generator)
    angle = 2 * math.pi * (turns * radius + arm / arms)
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    x = 2 * (x + noise * torch.randn(samples, 2, generator=generator))
    held = samples // 5
    return TensorData((x[held:], arm[held:]), (x[:held], arm[:held]), arms)


def parity(bits: int = 12, of: int = 3, samples: int = 3000) -> TensorData:
    """Return bits of +-1 and the parity of the first `of` of them: a long plateau, then the loss falls."""
    generator = torch.Generator().manual_seed(0)
    x = 2.0 * torch.randint(2, (samples, bits), generator=generator) - 1
    y = (x[:, :of].prod(dim=1) > 0).long()
    held = samples // 5
    return TensorData((x[held:], y[held:]), (x[:held], y[:held]), 2)


def teacher(features: int = 16, hidden: int = 16, outputs: int = 1, noise: float = 0.05) -> TensorData:
    """Return random inputs and the outputs of a random two-layer network, with some noise."""
    generator = torch.Generator().manual_seed(features)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    x = normal(2500, features)
    y = (x @ normal(features, hidden) / features**0.5 * 2).tanh() @ normal(hidden, outputs) / hidden**0.5
    y = y + noise * normal(2500, outputs)
    return TensorData((x[500:], y[500:]), (x[:500], y[:500]))


def first_token(length: int = 10, kinds: int = 6, tokens: bool = True) -> TensorData:
    """Return sequences whose class is their first token, which a model must remember to the end."""
    generator = torch.Generator().manual_seed(length)
    x = torch.randint(kinds, (2500, length), generator=generator)
    y, inputs = x[:, 0].clone(), x if tokens else nn.functional.one_hot(x, kinds).float()
    vocabulary = kinds if tokens else None
    return TensorData((inputs[500:], y[500:]), (inputs[:500], y[:500]), kinds, vocabulary=vocabulary)


def running_sum(length: int = 16, kinds: int = 5) -> TensorData:
    """Return tokens and, at every step, their sum so far modulo `kinds`."""
    generator = torch.Generator().manual_seed(length)
    x = torch.randint(kinds, (2500, length), generator=generator)
    y = x.cumsum(dim=1) % kinds
    return TensorData((x[500:], y[500:]), (x[:500], y[:500]), kinds, vocabulary=kinds)


def digit_range(first: int, last: int, small: bool = False) -> TensorData:
    """Return the images of the digits from `first` to `last`, numbered from 0: one part of a data set.

    Args:
        first: the first digit.
        last: the last digit.
        small: whether the images are those of `small_images`, 14 by 14, rather than those of `digits`.
    """
    data = small_images() if small else digits()

    def within(part: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        kept = (part[1] >= first) & (part[1] <= last)
        return part[0][kept], part[1][kept] - first

    return TensorData(within(data.train), within(data.validation), last - first + 1)


def chains(
    classes: int = 4, kinds: int = 8, length: int = 12, samples: int = 2500, seed: int = 0
) -> TensorData:
    """Return sequences of tokens, each drawn from one of several Markov chains, which is its class.

    Args:
        classes: the number of chains.
        kinds: the number of kinds of tokens.
        length: the number of tokens in a sequence.
        samples: the number of sequences; a fifth of them is held out.
        seed: the seed of the chains and the sequences.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = 1.2 * torch.randn(classes, kinds, kinds, generator=generator)
    y = torch.randint(classes, (samples,), generator=generator)
    tokens = [torch.randint(kinds, (samples,), generator=generator)]
    for _ in range(length - 1):
        following = scores[y, tokens[-1]].softmax(dim=1)
        tokens.append(torch.multinomial(following, 1, generator=generator).squeeze(1))
    x, held = torch.stack(tokens, dim=1), samples // 5
    return TensorData((x[held:], y[held:]), (x[:held], y[:held]), classes, vocabulary=kinds)


def enciphered(length: int = 16, swaps: int = 8, seed: int = 0) -> TensorData:
    """Return the sonnets as characters, some of which are swapped in pairs: a text of another language.

    Args:
        length: the number of characters in a window.
        swaps: the number of pairs of characters that are swapped.
        seed: the seed of the choice of pairs.
    """
    data = text(length=length)
    kinds = data.classes or 0
    drawn = torch.randperm(kinds, generator=torch.Generator().manual_seed(seed))[: 2 * swaps]
    cipher = torch.arange(kinds)
    cipher[drawn[:swaps]], cipher[drawn[swaps:]] = drawn[swaps:], drawn[:swaps]
    x, y = data.train
    held_x, held_y = data.validation
    return TensorData(
        (cipher[x], cipher[y]), (cipher[held_x], cipher[held_y]), kinds, vocabulary=data.vocabulary
    )
