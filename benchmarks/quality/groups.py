"""Rates of param groups: do trainings end lower at the rates of `find(groups=True)` than at the common rate?

Every problem has two param groups, in one optimizer or in two. Each is trained from the same weights, on the
same batches and with a linear decay, once at the common rate and once at the rates of the groups.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from task_data import digit_range, enciphered, small_images
from task_models import GPT, Encoder, tuned_cnn, tuned_vit
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Muon, Optimizer

import lrfind
from lrfind.datasets.sklearn_sets import digits
from lrfind.datasets.tensors import TensorData
from lrfind.datasets.text import text
from lrfind.views.terminal import show

BATCH, PROBED = 64, 128  # rows in a batch, and the number of batches that `find` may use
SAME = 0.01  # a difference of the validation loss by a smaller share counts as none
Parts = tuple[nn.Module, list[Optimizer], TensorData]


@dataclass(frozen=True)
class Problem:
    """A training with two param groups.

    Attributes:
        make: a function that makes the model, the optimizers and the data.
        design: whether the rule was chosen with this problem in view.
    """

    make: Callable[[], Parts]
    design: bool


def split(model: nn.Module, first: Callable[[str, Tensor], bool]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters for which `first` holds, and all others."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [p for name, p in named if first(name, p)], [p for name, p in named if not first(name, p)]


def grouped(
    kind: type[Optimizer], model: nn.Module, name: str, first: Callable[[str, Tensor], bool], **args: float
) -> Optimizer:
    """Return one optimizer with two groups: `name`, and the rest."""
    members, rest = split(model, first)
    return kind([{"params": members, "name": name}, {"params": rest, "name": "rest"}], **args)


def muon_and_adamw(model: nn.Module, hidden: str, lr: float, ratio: float) -> list[Optimizer]:
    """Return Muon for the matrices whose names contain `hidden`, and AdamW for the rest."""
    matrices, rest = split(model, lambda name, p: hidden in name and p.ndim == 2)
    return [Muon(matrices, lr=lr), AdamW(rest, lr=lr * ratio)]


def mlp(inputs: int, depth: int) -> nn.Sequential:
    """Return a net with `depth` hidden layers of 64 units."""
    hidden = [nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(depth - 1)]
    first = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU())
    return nn.Sequential(nn.Flatten(), first, nn.Sequential(*hidden), nn.Linear(64, 10))


def muon_mlp() -> Parts:
    """Digits, at the ratio of 10 between Muon and AdamW that is usual."""
    model = mlp(64, 3)
    return model, muon_and_adamw(model, "2.", 0.02, 0.1), digits()


def muon_transformer() -> Parts:
    """A vision transformer, with one lr for Muon and AdamW."""
    model = Encoder(10)
    return model, muon_and_adamw(model, "blocks", 0.001, 1.0), digits()


def muon_gpt() -> Parts:
    """A small GPT on sonnets, with an AdamW that is 30 times too fast beside Muon."""
    model, data = sonnets()
    return model, muon_and_adamw(model, "blocks", 0.001, 30.0), data


def sonnets() -> tuple[nn.Module, TensorData]:
    """Return a GPT, and the sonnets."""
    data = text(length=16)
    kinds = data.classes or 0
    return GPT(kinds, 16, kinds), data


def new_head() -> Parts:
    """A pretrained CNN with a new head."""
    model = tuned_cnn(10)
    rates = grouped(Adam, model, "head", lambda _, p: p.shape[0] == 10, lr=1e-3)
    return model, [rates], digit_range(0, 9)


def new_head_sgd() -> Parts:
    """A pretrained vision transformer with a new head, trained with SGD."""
    model = tuned_vit(5)
    rates = grouped(SGD, model, "head", lambda name, _: name.startswith("head"), lr=0.01, momentum=0.9)
    return model, [rates], digit_range(5, 9)


def embeddings_sgd() -> Parts:
    """A small GPT on sonnets, trained with SGD: its embeddings get small gradients."""
    model, data = sonnets()
    return model, [grouped(SGD, model, "embeddings", is_embedding, lr=0.01, momentum=0.9)], data


def embeddings_adam() -> Parts:
    """A small GPT on enciphered text."""
    data = enciphered()
    kinds = data.classes or 0
    model = GPT(kinds, data.train[0].shape[1], kinds)
    return model, [grouped(AdamW, model, "embeddings", is_embedding, lr=1e-3)], data


def is_embedding(name: str, _: Tensor) -> bool:
    """Return whether a parameter is an embedding."""
    return name.startswith(("tokens", "positions"))


def biases() -> Parts:
    """The biases and the weights of a net."""
    model = mlp(64, 2)
    return model, [grouped(SGD, model, "biases", lambda _, p: p.ndim == 1, lr=0.01, momentum=0.9)], digits()


def first_layer() -> Parts:
    """The first layer of a net whose inputs are four times too large."""
    model = mlp(196, 3)
    return model, [grouped(SGD, model, "first", lambda n, _: n.startswith("1."), lr=0.01)], small_images(4.0)


PROBLEMS = {
    "muon_mlp": Problem(muon_mlp, design=True),
    "new_head": Problem(new_head, design=True),
    "embeddings_sgd": Problem(embeddings_sgd, design=True),
    "embeddings_adam": Problem(embeddings_adam, design=True),
    "new_head_sgd": Problem(new_head_sgd, design=True),
    "first_layer": Problem(first_layer, design=True),
    "biases": Problem(biases, design=True),
    "muon_transformer": Problem(muon_transformer, design=False),
    "muon_gpt": Problem(muon_gpt, design=False),
}


def made(name: str, seed: int) -> Parts:
    """Return the parts of a problem, always the same for the same seed."""
    torch.manual_seed(seed)
    return PROBLEMS[name].make()


def batches_of(data: TensorData, steps: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return the batches of a training."""
    generator, (x, y) = torch.Generator().manual_seed(seed), data.train
    batches: list[tuple[Tensor, Tensor]] = []
    while len(batches) < steps:
        order = torch.randperm(len(x), generator=generator)[: len(x) // BATCH * BATCH]
        batches += [(x[rows], y[rows]) for rows in order.split(BATCH)]
    return batches[:steps]


def step_of(model: nn.Module, optimizers: Sequence[Optimizer]) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
    """Return a function that takes one step of a training."""

    def step(batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = cross_entropy(model(batch[0]), batch[1])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    return step


def final_loss(name: str, seed: int, lrs: Sequence[float], steps: int) -> float:
    """Train with a linear decay, and return the validation loss; infinite if the training diverged."""
    model, optimizers, data = made(name, seed)
    groups, step = [group for each in optimizers for group in each.param_groups], step_of(model, optimizers)
    for number, batch in enumerate(batches_of(data, steps, seed + 1000)):
        for group, lr in zip(groups, lrs, strict=True):
            group["lr"] = lr * (1 - number / steps)
        if not math.isfinite(float(step(batch))):
            return math.inf
    assert data.validation is not None
    model.eval()
    with torch.no_grad():
        x, y = data.validation
        return float(cross_entropy(model(x), y))


def main() -> None:
    """Compare the two answers on each problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", default=[*PROBLEMS], metavar="PROBLEM")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    losing = []
    for name in options.problems:
        differences = []
        for seed in range(options.seeds):
            model, optimizers, data = made(name, seed)
            best = lrfind.find(
                step=step_of(model, optimizers),
                data=batches_of(data, PROBED, seed),
                optimizers=optimizers,
                steps=options.steps,
                schedule="linear",
                groups=True,
                progress=False,
            )
            assert best.groups is not None
            common = [best.lr * rate.ratio for rate in best.groups.rates]
            lrs = [rate.lr(best.lr) for rate in best.groups.rates]
            before = final_loss(name, seed, common, options.steps)
            changed = any(rate.multiplier != 1 for rate in best.groups.rates)
            after = final_loss(name, seed, lrs, options.steps) if changed else before
            differences.append((after - before) / before)
            rates = ", ".join(f"{rate.name} {rate.multiplier:.3g}x" for rate in best.groups.rates)
            show(
                f"{name} seed {seed}: common {before:.4f}, groups {after:.4f} ({differences[-1]:+.1%}),"
                f" {rates}; steps: {best.cost - best.groups.cost} and {best.groups.cost} more"
            )
        mean = sum(differences) / len(differences)
        kind = "design" if PROBLEMS[name].design else "judged"
        show(f"{name} ({kind}): {mean:+.1%} on average")
        losing += [name] if mean > SAME else []
    show(f"the groups' rates lose in: {', '.join(losing) or 'none'}")


if __name__ == "__main__":
    main()
