"""Trainings from which nothing can be learned, or nothing more, each of another kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.trainings import (
    CLASSES,
    FEATURES,
    TOKENS,
    Computed,
    TinyTransformer,
    Training,
    classified,
    deep,
    filled,
    frozen,
    inputs,
    paired,
    tokens_loss,
    trained,
    unrelated,
)

cross_entropy, mse = nn.CrossEntropyLoss(), nn.MSELoss()


def dead_units() -> Training:
    model = deep(2)
    nn.init.constant_(model[0].bias, -100.0)
    return Training(model, cross_entropy, classified())


def frozen_body() -> Training:
    model = deep(2)
    frozen(model[:-1])
    return Training(model, cross_entropy, classified(unrelated))


def solved_regression() -> Training:
    model, x = nn.Linear(FEATURES, 1), inputs()
    return Training(model, mse, paired(x, model(x).detach() + 0.1 * torch.randn(40, 32, 1)))


def noisy(x: Tensor) -> Tensor:
    return (4 * x[..., :CLASSES]).softmax(-1).flatten(0, 1).multinomial(1).view(x.shape[:2])


def converged_classifier() -> Training:
    model, batches = nn.Linear(FEATURES, CLASSES), classified(noisy)
    return Training(trained(model, cross_entropy, batches, 800, 0.1), cross_entropy, batches)


def saturated_output() -> Training:
    model = nn.Sequential(nn.Linear(FEATURES, 1), nn.Sigmoid())
    nn.init.constant_(model[0].bias, 200.0)
    x = inputs()
    return Training(model, mse, paired(x, (x[..., :1] > 0).float()))


def saturated_body() -> Training:
    """Inputs so large that tanh is flat, and a frozen head."""
    model = deep(1, nn.Tanh)
    frozen(model[-1])
    return Training(model, cross_entropy, classified(scale=1e5))


def fitted_constant() -> Training:
    model = nn.Linear(FEATURES, 1)
    nn.init.zeros_(model.weight)
    nn.init.constant_(model.bias, 3.0)
    x = inputs()
    return Training(model, mse, paired(x, torch.full((40, 32, 1), 3.0)))


def closed_gate() -> Training:
    def forward(self: Computed, x: Tensor) -> Tensor:
        return self.gate(x) * self.value(x)

    gate, value = (filled(nn.Linear(FEATURES, CLASSES, bias=False), 0.0) for _ in range(2))
    return Training(Computed(forward, gate=gate, value=value), cross_entropy, classified())


def rounded() -> Training:
    def forward(self: Computed, x: Tensor) -> Tensor:
        return self.head(self.body(x).round())

    body, head = nn.Linear(FEATURES, 32), frozen(nn.Linear(32, CLASSES))
    return Training(Computed(forward, body=body, head=head), cross_entropy, classified())


def clamped_loss() -> Training:
    return Training(deep(1), lambda o, y: (10 + cross_entropy(o, y)).clamp(max=1.0), classified())


def satisfied_hinge() -> Training:
    model, x = nn.Linear(FEATURES, 1), inputs()
    nn.init.zeros_(model.weight)
    model.weight.data[0, 0] = 1e4
    return Training(model, lambda o, y: (1 - o * y).relu().mean(), paired(x, (x[..., :1] + 1e-9).sign()))


def one_class() -> Training:
    return Training(deep(1, outputs=1), cross_entropy, classified(lambda x: unrelated(x, 1)))


def all_dropped() -> Training:
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Dropout(1.0), nn.Linear(32, CLASSES))
    return Training(model, cross_entropy, classified())


def only_padding() -> Training:
    model = nn.Sequential(nn.EmbeddingBag(TOKENS, 16, padding_idx=0, mode="sum"), nn.Linear(16, CLASSES))
    x = torch.zeros(40, 32, 8, dtype=torch.long)
    return Training(model, cross_entropy, paired(x, unrelated(x)))


def all_masked() -> Training:
    """A loss that leaves every token out, divided by at least one token."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        losses = functional.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=0, reduction="sum")
        return losses / (y != 0).sum().clamp(min=1)

    x = torch.randint(TOKENS, (40, 8, 8))
    return Training(TinyTransformer(), loss, paired(x, torch.zeros_like(x)))


def constant_features() -> Training:
    """Batch norm over features that are the same in all rows."""
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, CLASSES))
    x = torch.ones(40, 32, FEATURES)
    return Training(model, cross_entropy, paired(x, unrelated(x)))


def detached() -> Training:
    """Layers whose output is detached before a frozen head; only an unused layer would get a gradient."""

    def forward(self: Computed, x: Tensor) -> Tensor:
        return self.head(self.body(x).detach()) + 0 * self.scale

    body, head = nn.Linear(FEATURES, 32), frozen(nn.Linear(32, CLASSES))
    model = Computed(forward, body=body, head=head, scale=nn.Parameter(torch.ones(1)))
    return Training(model, cross_entropy, classified())


def random_tokens() -> Training:
    x = torch.randint(TOKENS, (40, 16, 17))
    return Training(TinyTransformer(), tokens_loss, paired(x[..., :-1], x[..., 1:]))


def unrelated_regression() -> Training:
    return Training(deep(1, nn.Tanh, outputs=1), mse, paired(inputs(), torch.randn(40, 32, 1)))


def shuffled_images() -> Training:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES)
    )
    x = inputs(40, 32, 1, 8, 8)
    labels = x.flatten(3).mean(-1).squeeze(-1).argsort(1).argsort(1) * CLASSES // 32
    return Training(model, cross_entropy, paired(x, labels.roll(7, 1)))


def unrelated_views() -> Training:
    """Contrastive learning on pairs that have nothing in common."""

    def loss(embedded: Tensor, _: Tensor) -> Tensor:
        left, right = functional.normalize(embedded, dim=-1).chunk(2)
        return functional.cross_entropy(left @ right.T / 0.5, torch.arange(len(left)))

    x = inputs()
    return Training(deep(1, outputs=8), loss, paired(x, x))


def same_domains() -> Training:
    """A critic of two samples from one distribution."""
    y = (torch.arange(32) % 2).float()
    model = nn.Sequential(*deep(1, nn.GELU, outputs=1), nn.Flatten(0))
    return Training(model, nn.BCEWithLogitsLoss(), paired(inputs(), y.expand(40, 32)))


def long_lag() -> Training:
    """A recurrent net that forgets the first step, which decides, long before the last one.

    There are more batches than a probe has steps, so that no probe can learn the rows by heart.
    """

    def forward(self: Computed, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])

    rnn, x = nn.RNN(2, 16, batch_first=True), inputs(160, 16, 40, 2)
    return Training(
        Computed(forward, rnn=rnn, head=nn.Linear(16, 2)),
        cross_entropy,
        paired(x, (x[:, :, 0, 0] > 0).long()),
    )


def parity() -> Training:
    x = inputs().sign()
    return Training(deep(1, outputs=2), cross_entropy, paired(x, (x.prod(-1) > 0).long()))


class Hopeless(NamedTuple):
    """A training that cannot learn, and words that must be in the reason."""

    training: Callable[[], Training]
    words: str


VANISHING, DEAD = "Gradients, vanishing: ", "Gradients, dead units: "
NO_GRADIENT = "Gradients, no gradient: the gradient is exactly 0 at every layer."
SAME = "the output is the same for every input"
CONVERGED = "onverged already"
UNINFORMED = "the loss stays the same if the targets are shuffled"
NOISE = "the noise between batches"
CANNOT: dict[str, Hopeless] = {
    "12 sigmoid layers": Hopeless(
        lambda: Training(deep(12, nn.Sigmoid), cross_entropy, classified()), VANISHING
    ),
    "30 layers of torch's own start": Hopeless(
        lambda: Training(deep(30), cross_entropy, classified()), VANISHING
    ),
    "weights of 0": Hopeless(
        lambda: Training(deep(2, nn.ReLU, nn.init.zeros_), cross_entropy, classified()), DEAD
    ),
    "dead units": Hopeless(dead_units, DEAD),
    "a saturated output": Hopeless(saturated_output, NO_GRADIENT),
    "saturated units before a frozen head": Hopeless(saturated_body, UNINFORMED),
    "a gate that stays closed": Hopeless(closed_gate, NO_GRADIENT),
    "rounding in forward": Hopeless(rounded, NO_GRADIENT),
    "detached layers": Hopeless(detached, NO_GRADIENT),
    "a loss clamped to a constant": Hopeless(clamped_loss, NO_GRADIENT),
    "a hinge that is satisfied": Hopeless(satisfied_hinge, CONVERGED),
    "one class": Hopeless(one_class, NO_GRADIENT),
    "all units dropped": Hopeless(all_dropped, SAME),
    "padding alone": Hopeless(only_padding, SAME),
    "all tokens masked": Hopeless(all_masked, NO_GRADIENT),
    "inputs of 0": Hopeless(lambda: Training(deep(2), cross_entropy, classified(scale=0.0)), SAME),
    "batch norm of constant features": Hopeless(constant_features, SAME),
    "a fitted constant": Hopeless(fitted_constant, NO_GRADIENT),
    "a least-squares solution": Hopeless(solved_regression, CONVERGED),
    "a converged classifier": Hopeless(converged_classifier, CONVERGED),
    "random labels": Hopeless(lambda: Training(deep(2), cross_entropy, classified(unrelated)), UNINFORMED),
    "random labels and a frozen body": Hopeless(frozen_body, UNINFORMED),
    "unrelated targets of a regression": Hopeless(unrelated_regression, UNINFORMED),
    "images with the labels of others": Hopeless(shuffled_images, UNINFORMED),
    "random tokens": Hopeless(random_tokens, UNINFORMED),
    "views that have nothing in common": Hopeless(unrelated_views, "needed 128 steps to learn"),
    "a critic of two samples of one distribution": Hopeless(same_domains, UNINFORMED),
    "a lag that is too long": Hopeless(long_lag, UNINFORMED),
    "the parity of 16 bits": Hopeless(parity, UNINFORMED),
}
