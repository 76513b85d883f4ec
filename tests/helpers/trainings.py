"""The parts of small trainings, from which those that cannot learn and those that learn slowly are built."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Pairs = list[tuple[Tensor, Tensor]]
FEATURES, CLASSES, TOKENS = 16, 4, 12


class Training(NamedTuple):
    """What `lrfind.find` is called with; `groups` are the optimizer's, if not all that requires a gradient."""

    model: nn.Module
    loss: Callable[[Any, Any], Tensor]
    batches: Pairs
    groups: Sequence[dict[str, Any]] | None = None


class Computed(nn.Module):
    """A module whose `forward` is a function of its parts and the input."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def paired(x: Tensor, y: Tensor) -> Pairs:
    return [*zip(x, y, strict=True)]


def inputs(count: int = 40, rows: int = 32, *sizes: int) -> Tensor:
    return torch.randn(count, rows, *(sizes or (FEATURES,)))


def classes(x: Tensor) -> Tensor:
    """The place of the largest of the first numbers of each row."""
    return x[..., :CLASSES].argmax(-1)


def unrelated(x: Tensor, count: int = CLASSES) -> Tensor:
    return torch.randint(count, x.shape[:2])


def classified(labels: Callable[[Tensor], Tensor] = classes, scale: float = 1.0) -> Pairs:
    x = inputs()
    return paired(scale * x, labels(x))


def deep(
    depth: int,
    activation: Callable[[], nn.Module] = nn.ReLU,
    start: Callable[[Tensor], Any] | None = None,
    outputs: int = CLASSES,
    width: int = 32,
) -> nn.Sequential:
    widths = [FEATURES, *[width] * depth, outputs]
    layers: list[nn.Module] = []
    for number, (inner, outer) in enumerate(itertools.pairwise(widths)):
        layers += [*([activation()] if number else []), nn.Linear(inner, outer)]
        if start is not None:
            start(layers[-1].weight)
            nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers)


def small(weight: Tensor) -> None:
    nn.init.normal_(weight, std=0.01)


def filled(module: Any, value: float) -> Any:
    """Fill the weight (and leave the bias) of a module."""
    nn.init.constant_(module.weight, value)
    return module


def tokens_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())


class TinyTransformer(nn.Module):
    """A transformer of one block over tokens, causal or not, with the head tied to the embedding or not."""

    def __init__(self, *, causal: bool = True, tied: bool = False, tokens: int = TOKENS) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(tokens, 16), nn.Parameter(0.02 * torch.randn(16, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
        self.norm, self.head, self.causal = nn.LayerNorm(16), nn.Linear(16, tokens, bias=False), causal
        nn.init.normal_(self.embed.weight, std=0.02)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.full((x.shape[1],) * 2, -torch.inf).triu(1) if self.causal else None
        hidden = self.embed(x) + self.places[: x.shape[1]]
        return self.head(self.norm(self.block(hidden, src_mask=mask)))


def trained(model: nn.Module, loss: Callable[[Any, Any], Tensor], batches: Pairs, steps: int = 150, lr: float = 0.01) -> nn.Module:  # fmt: skip
    """Train a model with Adam, whose lr falls to 0."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step, (x, y) in zip(range(steps), itertools.cycle(batches), strict=False):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return model


def frozen(module: Any) -> Any:
    return module.requires_grad_(False)
