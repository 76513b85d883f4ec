"""Draw quality tasks at random, so that nobody chooses the tasks that a method is judged on.

    python benchmarks/quality/draw.py [--seed 13] [--kinds new]

The script prints lines for `tasks.yaml`: tasks of fifteen kinds, each with a model, data, optimizer, batch
size and length that are drawn. As many tasks as we can afford are also trained for 3,000 and for 10,000
steps, with one schedule each. Plateaus and deep networks get more seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import numpy as np
from tasks import SCHEDULES

Fields = dict[str, Any]
LOWEST = {"sgd": -2, "momentum": -3, "adam": -3.5, "adamw": -3.5, "rmsprop": -4, "adagrad": -2.5}  # log10 lr
PER_DECADE = 3  # rates in a decade of the truth's grid
STEPS, BATCHES = (200, 300, 400, 600), (16, 32, 48, 64, 96)
BATCHES_OF_SEQUENCES = (8, 16, 32)  # smaller, because sequences cost more
ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "elu")


class Draw:
    """Random choices, all drawn by one generator.

    Args:
        seed: the seed of the generator.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def one(self, *choices: Any) -> Any:
        return choices[self._rng.integers(len(choices))]

    def between(self, low: int, high: int) -> int:
        """Return a whole number; both ends are possible."""
        return int(self._rng.integers(low, high + 1))

    def scale(self, low: float, high: float) -> float:
        """Return a number whose logarithm is uniform."""
        return float(f"{10 ** self._rng.uniform(np.log10(low), np.log10(high)):.2g}")

    def mixed(self, choices: dict[str, float]) -> list[str]:
        return [str(name) for name in self._rng.permutation(list(choices))]


def linear(draw: Draw) -> Fields:
    loss = draw.one("mse", "mse", "huber")
    return {"model": "linear", "data": draw.one(_regression, _made_regression, _diabetes)(draw), "loss": loss}


def logistic(draw: Draw) -> Fields:
    return _classes("logistic", draw.one(_classification, _known, _images)(draw))


def mlp(draw: Draw) -> Fields:
    hidden = [draw.one(16, 24, 32, 48, 64, 96) for _ in range(draw.between(1, 3))]
    model = _named(
        "mlp", hidden=hidden, activation=draw.one(*ACTIVATIONS), norm=draw.one("none", "none", "layer")
    )
    if draw.one(True, False, False):
        return {"model": model, "data": draw.one(_teacher, _made_regression)(draw), "loss": "mse"}
    return _classes(model, draw.one(_classification, _known, _images)(draw))


def deep(draw: Draw) -> Fields:
    activation, depth, width = draw.one("tanh", "relu", "elu"), draw.between(5, 12), draw.one(24, 32, 40, 48)
    model = _named("deep_mlp", depth=depth, width=width, activation=activation, init=draw.one("xavier", "he"))
    return _classes(model, draw.one(_classification, _digits, _images)(draw)) | {"plateau": True}


def cnn(draw: Draw, norm: str = "none") -> Fields:
    channels, activation = [draw.one(4, 6, 8), draw.one(8, 12, 16)], draw.one("relu", "relu", "tanh", "silu")
    arguments = {"channels": channels, "hidden": draw.one(16, 24, 32), "activation": activation, "norm": norm}
    return _classes(_named("small_cnn", **arguments), draw.one(_digits, _images)(draw))


def cnn_norm(draw: Draw) -> Fields:
    return cnn(draw, "batch")


def recurrent(draw: Draw) -> Fields:
    rows = draw.one(_named("task_data:digit_rows"), _named("task_data:small_images", rows=True))
    return _classes(_named(draw.one("lstm", "lstm", "gru"), hidden=draw.one(16, 24, 32)), rows)


def transformer(draw: Draw) -> Fields:
    model = _named("transformer", width=draw.one(16, 24, 32), heads=2, layers=draw.between(1, 2))
    sums = _named("task_data:running_sum", length=draw.between(3, 6), kinds=draw.between(3, 5))
    return _classes(model, draw.one(_named("text", length=draw.one(8, 16, 24)), sums))


def gpt(draw: Draw) -> Fields:
    model = _named(
        "task_models:GPT",
        width=draw.one(16, 24, 32),
        layers=draw.between(1, 3),
        norms=draw.one("pre", "pre", "post"),
        tied=draw.one(True, False),
    )
    return _classes(model, draw.one(_named("text", length=draw.one(8, 16, 24)), _enciphered(draw)))


def encoder(draw: Draw) -> Fields:
    sizes = {"width": draw.one(16, 24, 32), "layers": draw.between(1, 3)}
    model = _named("task_models:Encoder", **sizes, norms=draw.one("pre", "pre", "post"))
    first_token = _named("task_data:first_token", length=draw.between(4, 12), kinds=draw.between(4, 8))
    return _classes(model, draw.one(_chains(draw), _chains(draw), first_token))


def vit(draw: Draw) -> Fields:
    sizes = {"width": draw.one(16, 24, 32), "layers": draw.between(1, 3)}
    data, patch = draw.one(("digits", 2), ("digits", 4), ("task_data:small_images", 7))
    norms = draw.one("pre", "pre", "post")
    return _classes(_named("task_models:Encoder", **sizes, patch=patch, norms=norms), _named(data))


def tuned_images(draw: Draw) -> Fields:
    small = draw.one(True, False)
    last = draw.between(6, 9)
    cnn = _named("task_models:tuned_cnn", tune=draw.one("all", "all", "head"), small=small)
    vit = _named(
        "task_models:tuned_vit", tune=draw.one("all", "head", "lora", "lora"), rank=draw.one(1, 4, 16)
    )
    model = draw.one(cnn, vit)
    data = _named("task_data:digit_range", first=draw.between(2, 5), last=last, small=small and model is cnn)
    return _classes(model, data) | {"faster_head": draw.one(True, False, False)}


def tuned_tokens(draw: Draw) -> Fields:
    tuning = {"tune": draw.one("all", "all", "head", "lora", "lora"), "rank": draw.one(1, 4, 16)}
    chains = _named("task_data:chains", classes=draw.between(2, 5), seed=draw.between(1, 99))
    pairs = (
        (_named("task_models:tuned_encoder", **tuning), chains),
        (_named("task_models:tuned_gpt", **tuning), _enciphered(draw, 16)),
    )
    return _classes(*draw.one(*pairs))


def scaled(draw: Draw) -> Fields:
    decades, target = draw.scale(0.5, 2), draw.scale(0.1, 30)
    uneven = _named(
        "task_data:uneven_regression", features=draw.between(5, 20), decades=decades, target=target
    )
    network = _named("mlp", hidden=[draw.one(16, 32, 64)], activation=draw.one(*ACTIVATIONS))
    if draw.one(True, False):
        return {"model": draw.one("linear", network), "data": uneven, "loss": "mse"}
    data = draw.one("task_data:scaled_digits", "task_data:small_images")
    return _classes(draw.one("logistic", network), _named(data, scale=draw.scale(0.02, 50)))


def plateau(draw: Draw) -> Fields:
    hidden = [draw.one(24, 32, 48, 64) for _ in range(draw.between(1, 3))]
    network = _named("mlp", hidden=hidden, activation=draw.one("relu", "tanh"))
    parity = _named("task_data:parity", bits=draw.between(6, 12), of=draw.between(2, 3))
    spirals = _named("task_data:spirals", turns=draw.scale(0.6, 1.5), arms=draw.between(2, 4))
    first_token = _named(
        "task_data:first_token", length=draw.between(4, 9), kinds=draw.between(4, 6), tokens=False
    )
    sums = _named("task_data:running_sum", length=draw.between(6, 12), kinds=draw.between(4, 6))
    attention = _named("transformer", width=draw.one(16, 24, 32), heads=2, layers=draw.between(1, 2))
    lstm = _named("lstm", hidden=draw.one(16, 24, 32))
    saturated = _named("deep_mlp", depth=draw.between(2, 5), width=32, activation="sigmoid", init="xavier")
    pairs = (
        (network, parity),
        (network, spirals),
        (lstm, first_token),
        (attention, sums),
        (saturated, _named("digits")),
    )
    return _classes(*draw.one(*pairs)) | {"plateau": True}


def _named(name: str, **args: Any) -> Fields:
    return {"name": name, "args": args}


def _classes(model: Fields | str, data: Fields) -> Fields:
    return {"model": model, "data": data, "loss": "cross_entropy"}


def _regression(draw: Draw) -> Fields:
    condition, noise = draw.scale(3, 1000), draw.scale(0.05, 1)
    return _named(
        "regression", features=draw.between(4, 30), condition=condition, noise=noise, seed=draw.between(1, 99)
    )


def _made_regression(draw: Draw) -> Fields:
    features, noise = draw.between(8, 40), draw.scale(0.05, 1)
    return _named(
        "make_regression", features=features, informative=features // 2, noise=noise, seed=draw.between(1, 99)
    )


def _diabetes(_: Draw) -> Fields:
    return _named("diabetes")


def _classification(draw: Draw) -> Fields:
    informative, classes, samples = draw.between(5, 12), draw.between(2, 6), draw.one(1000, 2000, 4000)
    sizes = {"features": 2 * informative, "informative": informative, "classes": classes, "samples": samples}
    return _named("make_classification", **sizes, seed=draw.between(1, 99))


def _chains(draw: Draw) -> Fields:
    sizes = {"classes": draw.between(2, 5), "kinds": draw.one(6, 8, 12), "length": draw.one(8, 12, 16)}
    return _named("task_data:chains", **sizes, seed=draw.between(1, 99))


def _enciphered(draw: Draw, length: int | None = None) -> Fields:
    swaps, seed = draw.between(4, 16), draw.between(1, 99)
    return _named("task_data:enciphered", length=length or draw.one(8, 16, 24), swaps=swaps, seed=seed)


def _digits(_: Draw) -> Fields:
    return _named("digits")


def _known(draw: Draw) -> Fields:
    return _named(draw.one("digits", "digits", "breast_cancer", "wine"))


def _images(_: Draw) -> Fields:
    return _named("task_data:small_images")


def _teacher(draw: Draw) -> Fields:
    return _named("task_data:teacher", features=draw.between(8, 24), hidden=draw.between(4, 16))


class Counts(NamedTuple):
    """The numbers of tasks of a kind: all of them, those trained for 3,000 steps, and for 10,000 too."""

    tasks: int
    long: int
    longest: int


SEQUENCES = (recurrent, transformer, gpt, encoder, tuned_tokens)
OLD: dict[Callable[[Draw], Fields], Counts] = {
    linear: Counts(4, 3, 2),
    logistic: Counts(4, 3, 2),
    mlp: Counts(4, 4, 3),
    deep: Counts(4, 3, 2),
    cnn: Counts(4, 1, 0),
    cnn_norm: Counts(4, 1, 0),
    recurrent: Counts(4, 1, 0),
    transformer: Counts(4, 1, 0),
    scaled: Counts(4, 4, 2),
    plateau: Counts(4, 3, 2),
}
NEW: dict[Callable[[Draw], Fields], Counts] = {
    gpt: Counts(4, 2, 1),
    encoder: Counts(4, 4, 2),
    vit: Counts(4, 2, 0),
    tuned_images: Counts(6, 5, 2),
    tuned_tokens: Counts(6, 3, 2),
}
SLOW = (recurrent, transformer, *NEW)
"""The kinds whose trainings take longest; they get fewer seeds."""
KINDS = {"all": OLD | NEW, "new": NEW}
"""The kinds of tasks, and how many of each are drawn. The first draws had only the old kinds."""
FASTER_HEAD = [{"name": "head", "match": "head*", "lr_multiplier": 10}]


@click.command()
@click.option("--seed", default=10, help="The seed of the draw.")
@click.option(
    "--kinds",
    type=click.Choice([*KINDS]),
    default="all",
    help="All kinds of tasks, or only transformers and fine-tuning.",
)
def main(seed: int, kinds: str) -> None:
    """Print the tasks of all these kinds as lines for tasks.yaml."""
    draw = Draw(seed)
    for kind, counts in KINDS[kinds].items():
        for number, optimizer in enumerate(draw.mixed(LOWEST)[: counts.tasks]):
            fields = kind(draw)
            fields["data"]["batch_size"] = draw.one(*(BATCHES_OF_SEQUENCES if kind in SEQUENCES else BATCHES))
            if fields.pop("faster_head", False):
                fields["optimizer_groups"] = FASTER_HEAD
            fields |= {"optimizer": optimizer, "steps": draw.one(*STEPS), "low": LOWEST[optimizer]}
            fields["per_decade"] = PER_DECADE
            fields |= {"plateau": True, "seeds": 4} if fields.pop("plateau", False) else {}
            fields |= {"seeds": 2} if kind in SLOW else {}
            schedule = SCHEDULES[number % 2]
            fields |= {"long": schedule} if number < counts.long else {}
            fields |= {"longest": schedule} if number < counts.longest else {}
            click.echo(f"  {kind.__name__}_draw{seed}_{optimizer}: {json.dumps(fields)}")


if __name__ == "__main__":
    main()
