"""Trainings that are healthy although they learn slowly, little, or under a large loss, each of another kind."""

from __future__ import annotations

import copy
from collections.abc import Callable

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
    classes,
    classified,
    deep,
    filled,
    frozen,
    inputs,
    paired,
    small,
    tokens_loss,
    trained,
    unrelated,
)

cross_entropy, mse = nn.CrossEntropyLoss(), nn.MSELoss()


def plain(model: nn.Module) -> Training:
    return Training(model, cross_entropy, classified())


def with_batch_norm() -> Training:
    first, *rest = deep(2)
    return plain(nn.Sequential(first, nn.BatchNorm1d(32), *rest))


def label_smoothing() -> Training:
    return Training(deep(2), nn.CrossEntropyLoss(label_smoothing=0.3), classified())


def noisy_classes() -> Training:
    """Labels of which seven of ten are random."""
    return Training(
        deep(1),
        cross_entropy,
        classified(lambda x: torch.where(torch.rand(x.shape[:2]) < 0.7, unrelated(x), classes(x))),
    )


def noisy_binary() -> Training:
    x = inputs()
    y = (x[..., :4].sum(-1, keepdim=True) > 0) ^ (torch.rand(40, 32, 1) < 0.3)
    return Training(deep(1, nn.Tanh, outputs=1), nn.BCEWithLogitsLoss(), paired(x, y.float()))


def chain(rows: int = 16, length: int = 17) -> Tensor:
    """Texts in which each token mostly decides the next one."""
    follows, tokens = torch.randperm(TOKENS), [torch.randint(TOKENS, (40, rows))]
    for _ in range(length - 1):
        jump = torch.rand(40, rows) < 0.2
        tokens.append(torch.where(jump, torch.randint(TOKENS, (40, rows)), follows[tokens[-1]]))
    return torch.stack(tokens, -1)


def language_model(tied: bool = False) -> Training:
    x = chain()
    return Training(TinyTransformer(tied=tied), tokens_loss, paired(x[..., :-1], x[..., 1:]))


def masked_tokens() -> Training:
    """A tiny BERT: token 0 stands for a token that is hidden, and only hidden tokens count."""
    x = chain() + 1
    hidden = torch.rand(x.shape) < 0.25
    shown, y = x.masked_fill(hidden, 0), x.masked_fill(~hidden, -100)
    return Training(
        TinyTransformer(causal=False, tokens=TOKENS + 1), tokens_loss, paired(shown[..., :16], y[..., :16])
    )


def pretrained() -> nn.Sequential:
    """A model that was trained on a related task."""
    model = trained(
        deep(2), cross_entropy, classified(lambda x: (x[..., :CLASSES] + 0.5 * x[..., 4:8]).argmax(-1))
    )
    assert isinstance(model, nn.Sequential)
    return model


def fine_tuning() -> Training:
    return plain(pretrained())


def new_head() -> Training:
    model = pretrained()
    frozen(model[:-1])
    model[-1] = nn.Linear(32, CLASSES)
    return Training(model, cross_entropy, classified(lambda x: (classes(x) + 1) % CLASSES))


def two_groups() -> Training:
    model = pretrained()
    model[-1] = nn.Linear(32, CLASSES)
    groups = [{"params": model[-1].parameters(), "lr": 1e-2}, {"params": model[:-1].parameters(), "lr": 1e-3}]
    return Training(model, cross_entropy, classified(), groups)


def low_rank() -> Training:
    """LoRA of rank 1 in every layer of a frozen model."""

    def forward(self: Computed, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))

    layers = [
        Computed(
            forward,
            base=frozen(layer),
            down=nn.Linear(layer.in_features, 1, bias=False),
            up=filled(nn.Linear(1, layer.out_features, bias=False), 0.0),
        )
        if isinstance(layer, nn.Linear)
        else layer
        for layer in pretrained()
    ]
    return Training(nn.Sequential(*layers), cross_entropy, classified(lambda x: (classes(x) + 1) % CLASSES))


def nearly_done() -> Training:
    """A model that is trained further on what it knows already, with much noise left."""
    task = noisy_classes()
    return task._replace(model=trained(task.model, task.loss, task.batches, 25))


def zero_head() -> Training:
    model = deep(2)
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return plain(model)


def residual(depth: int = 12) -> Training:
    def forward(self: Computed, x: Tensor) -> Tensor:
        return x + self.inner(x)

    blocks = [
        Computed(
            forward, inner=nn.Sequential(nn.LayerNorm(FEATURES), nn.Linear(FEATURES, FEATURES), nn.Tanh())
        )
        for _ in range(depth)
    ]
    return plain(nn.Sequential(*blocks, nn.Linear(FEATURES, CLASSES)))


def imbalanced() -> Training:
    x = inputs(40, 128)
    y = (x[..., 0] > 2.05).float()[..., None]
    return Training(deep(1, outputs=1), nn.BCEWithLogitsLoss(), paired(x, y))


def sparse_embeddings() -> Training:
    x = torch.randint(200, (40, 64, 6))
    score = torch.randn(200)[x].sum(-1)
    bag = nn.EmbeddingBag(200, 8, mode="mean")
    return Training(nn.Sequential(bag, nn.Linear(8, 2)), cross_entropy, paired(x, (score > 0).long()))


def lagging() -> Training:
    def forward(self: Computed, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])

    x = inputs(40, 32, 6, 2)
    model = Computed(forward, rnn=nn.GRU(2, 16, batch_first=True), head=nn.Linear(16, 2))
    return Training(model, cross_entropy, paired(x, (x[:, :, 0, 0] > 0).long()))


def contrastive() -> Training:
    def loss(embedded: Tensor, _: Tensor) -> Tensor:
        left, right = functional.normalize(embedded, dim=-1).chunk(2)
        return functional.cross_entropy(left @ right.T / 0.2, torch.arange(len(left)))

    half, mix = inputs(40, 16), torch.randn(FEATURES, FEATURES) / 4
    other = half @ mix + 0.3 * torch.randn_like(half)
    x = torch.cat([half, other], 1)
    return Training(deep(1, outputs=8), loss, paired(x, x))


def autoencoder() -> Training:
    """A variational autoencoder of data with two hidden causes."""

    def forward(self: Computed, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return torch.cat([self.decoder(drawn), mean, log_variance], -1)

    def loss(output: Tensor, x: Tensor) -> Tensor:
        shown, mean, log_variance = output.split([FEATURES, 2, 2], -1)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)
        return (((shown - x) ** 2).sum(-1) + kl).mean()

    x = torch.tanh(inputs(40, 32, 2) @ torch.randn(2, FEATURES))
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, FEATURES))
    return Training(Computed(forward, encoder=nn.Linear(FEATURES, 4), decoder=decoder), loss, paired(x, x))


def differential_equation() -> Training:
    """The residual of u' + u = 0 with u(0) = 1, at random points."""

    def forward(self: Computed, t: Tensor) -> Tensor:
        t = t.requires_grad_()
        u = self.net(t)
        (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        return torch.cat([slope + u, self.net(torch.zeros(1, 1)).expand_as(u) - 1], -1)

    net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    t = 2 * torch.rand(40, 32, 1)
    return Training(Computed(forward, net=net), lambda o, _: (o**2).mean(), paired(t, torch.zeros_like(t)))


def mixture() -> Training:
    def forward(self: Computed, x: Tensor) -> Tensor:
        share, place = self.router(x).softmax(-1).max(-1)
        outputs = torch.stack([expert(x) for expert in self.experts], 1)
        return share[:, None] * outputs[torch.arange(len(x)), place]

    experts = nn.ModuleList(deep(1, width=16) for _ in range(4))
    return plain(Computed(forward, router=nn.Linear(FEATURES, 4), experts=experts))


def ill_conditioned() -> Training:
    x = inputs() * torch.logspace(0, -2, FEATURES)
    return Training(
        nn.Linear(FEATURES, 1), mse, paired(x, (x / torch.logspace(0, -1, FEATURES)).sum(-1, keepdim=True))
    )


def critic() -> Training:
    """The critic of a GAN: real samples against those of a generator that is not trained yet."""
    y = (torch.arange(32) % 2).float()
    x = inputs() * (1 + 0.3 * y[:, None]) + 0.3 * y[:, None]
    model = nn.Sequential(*deep(1, nn.GELU, outputs=1), nn.Flatten(0))
    return Training(model, nn.BCEWithLogitsLoss(), paired(x, y.expand(40, 32)))


def convolution() -> Training:
    x = inputs(40, 16, 1, 8, 8)
    y = x[..., :4, :4].mean((2, 3, 4)) > 0
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 2))
    return Training(model, cross_entropy, paired(x, y.long()))


def scaled(factor: float) -> Training:
    return Training(deep(2), lambda o, y: factor * cross_entropy(o, y), classified())


def distilled() -> Training:
    """The logits of a teacher that the model begins close to: only a small difference is left."""
    teacher = pretrained()
    student, x = copy.deepcopy(teacher), inputs()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.02 * torch.randn_like(parameter)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return -(target.softmax(-1) * output.log_softmax(-1)).sum(-1).mean()

    return Training(student, loss, paired(x, teacher(x).detach()))


SLOW: dict[str, Callable[[], Training]] = {
    "6 tanh layers": lambda: plain(deep(6, nn.Tanh)),
    "a wide start": lambda: plain(deep(2, nn.ReLU, nn.init.kaiming_normal_)),
    "8 orthogonal layers": lambda: plain(deep(8, nn.Tanh, nn.init.orthogonal_)),
    "3 sigmoid layers": lambda: plain(deep(3, nn.Sigmoid, nn.init.xavier_normal_)),
    "a small start": lambda: plain(deep(1, nn.Tanh, small)),
    "a last layer of 0": zero_head,
    "logistic regression": lambda: plain(nn.Linear(FEATURES, CLASSES)),
    "batch norm": with_batch_norm,
    "a bottleneck": lambda: plain(nn.Sequential(nn.Linear(FEATURES, 3), nn.Linear(3, CLASSES))),
    "dropout": lambda: plain(nn.Sequential(*deep(1)[:2], nn.Dropout(0.5), nn.Linear(32, CLASSES))),
    "12 residual blocks": residual,
    "a mixture of experts": mixture,
    "a convolution": convolution,
    "an ill-conditioned regression": ill_conditioned,
    "label smoothing": label_smoothing,
    "labels of which 7 of 10 are random": noisy_classes,
    "binary labels of which 3 of 10 are wrong": noisy_binary,
    "1 of 50 in the rare class": imbalanced,
    "a loss of 1e4 times": lambda: scaled(1e4),
    "a loss of 1e-4 times": lambda: scaled(1e-4),
    "a language model": language_model,
    "a language model with tied weights": lambda: language_model(tied=True),
    "masked tokens": masked_tokens,
    "embeddings of rare words": sparse_embeddings,
    "a recurrent net with a lag": lagging,
    "fine-tuning all layers": fine_tuning,
    "fine-tuning a new head alone": new_head,
    "fine-tuning by LoRA of rank 1": low_rank,
    "fine-tuning in two groups": two_groups,
    "more training of the same": nearly_done,
    "a student that begins close to its teacher": distilled,
    "contrastive pairs": contrastive,
    "a variational autoencoder": autoencoder,
    "the critic of a GAN": critic,
    "a differential equation": differential_equation,
}
