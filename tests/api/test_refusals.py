"""Networks that cannot learn, and healthy ones that learn slowly: no number without its reason, no refusal."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrfind

Task = tuple[nn.Module, list[tuple[Tensor, Tensor]]]


def batches(labels: str = "true") -> list[tuple[Tensor, Tensor]]:
    make = torch.Generator().manual_seed(0)
    x = torch.randn(40, 32, 16, generator=make)
    y = x[..., :4].argmax(-1)
    if labels == "random":
        y = torch.randint(4, y.shape, generator=make)
    return [*zip(0 * x if labels == "no input" else x, y, strict=True)]


def deep(depth: int, activation: Callable[[], nn.Module], start: Callable[[Tensor], Any] | None = None) -> nn.Sequential:  # fmt: skip
    torch.manual_seed(0)
    widths = [16, *[32] * depth, 4]
    layers: list[nn.Module] = []
    for number, (inner, outer) in enumerate(itertools.pairwise(widths)):
        layers += [*([activation()] if number else []), nn.Linear(inner, outer)]
        if start is not None:
            start(layers[-1].weight)
            nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers)


def tiny(weight: Tensor) -> None:
    nn.init.normal_(weight, std=0.01)


def dead() -> nn.Sequential:
    model = deep(2, nn.ReLU)
    nn.init.constant_(model[0].bias, -100.0)
    return model


def frozen_body() -> nn.Sequential:
    model = deep(2, nn.ReLU)
    model[:-1].requires_grad_(False)
    return model


def solved() -> Task:
    torch.manual_seed(0)
    model = nn.Linear(16, 1)
    x = [x for x, _ in batches()]
    return model, [(part, model(part).detach() + 0.1 * torch.randn(32, 1)) for part in x]


CANNOT: dict[str, Callable[[], Task]] = {
    "20 sigmoid layers": lambda: (deep(20, nn.Sigmoid), batches()),
    "30 layers of torch's own start": lambda: (deep(30, nn.ReLU), batches()),
    "dead units": lambda: (dead(), batches()),
    "weights of 0": lambda: (deep(2, nn.ReLU, nn.init.zeros_), batches("random")),
    "random labels and a frozen body": lambda: (frozen_body(), batches("random")),
    "random labels": lambda: (deep(2, nn.ReLU), batches("random")),
    "inputs of 0": lambda: (deep(2, nn.ReLU), batches("no input")),
    "a least-squares solution": solved,
    "16 sigmoid layers with weights of 0.01": lambda: (deep(16, nn.Sigmoid, tiny), batches()),
    "24 tanh layers with weights of 0.01": lambda: (deep(24, nn.Tanh, tiny), batches()),
}
SLOW: dict[str, Callable[[], Task]] = {
    "6 tanh layers": lambda: (deep(6, nn.Tanh), batches()),
    "a wide start": lambda: (deep(2, nn.ReLU, nn.init.kaiming_normal_), batches()),
    "8 orthogonal layers": lambda: (deep(8, nn.Tanh, nn.init.orthogonal_), batches()),
    "logistic regression": lambda: (nn.Sequential(nn.Linear(16, 4)), batches()),
    "3 sigmoid layers": lambda: (deep(3, nn.Sigmoid, nn.init.xavier_normal_), batches()),
    "4 layers with batch norm": lambda: (
        nn.Sequential(*deep(2, nn.ReLU)[:2], nn.BatchNorm1d(32), *deep(2, nn.ReLU)[2:]),
        batches(),
    ),
    "4 gelu layers": lambda: (deep(4, nn.GELU), batches()),
    "a bottleneck": lambda: (nn.Sequential(nn.Linear(16, 3), nn.Linear(3, 4)), batches()),
    "dropout": lambda: (
        nn.Sequential(*deep(1, nn.ReLU)[:2], nn.Dropout(0.5), deep(1, nn.ReLU)[2]),
        batches(),
    ),
    "a linear regression": lambda: (nn.Linear(16, 1), [(x, x.sum(1, keepdim=True)) for x, _ in batches()]),
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
}


def asked(task: Callable[[], Task], optimizer: str, offset: float = 0.0) -> lrfind.Recommendation:
    torch.manual_seed(0)
    model, data = task()
    base = nn.MSELoss() if data[0][1].is_floating_point() else nn.CrossEntropyLoss()
    trained = [p for p in model.parameters() if p.requires_grad]
    return lrfind.find(
        model, OPTIMIZERS[optimizer](trained), lambda o, y: base(o, y) + offset, data, steps=600
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("task", CANNOT)
def test_what_cannot_learn_is_refused_or_gets_a_low_confidence_with_its_reason(
    task: str, optimizer: str
) -> None:
    confidence, reason = "refused", ""
    try:
        best = asked(CANNOT[task], optimizer)
        confidence, reason = best.confidence, best.reason
    except lrfind.NoSuggestion as refusal:
        reason = refusal.reason
    words = ("noise between batches",) if confidence == "refused" else ("plateau", "steps to learn")
    assert confidence in ("refused", "low")
    assert any(word in reason for word in words)


def test_gradients_that_vanish_are_named_above_everything_else() -> None:
    with pytest.raises(lrfind.NoSuggestion, match=r"^Gradients, vanishing: .* Nothing learns: none of"):
        asked(CANNOT["20 sigmoid layers"], "momentum")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("task", SLOW)
def test_what_is_healthy_but_slow_is_answered_and_a_constant_changes_nothing(
    task: str, optimizer: str
) -> None:
    best, moved = asked(SLOW[task], optimizer), asked(SLOW[task], optimizer, offset=5.0)
    assert 1e-5 < best.lr < 10
    assert moved.lr == pytest.approx(best.lr, rel=0.05)
