"""Draw quality tasks at random, so that nobody chooses the tasks that a method is judged on.

    python benchmarks/quality/draw.py [--seed 4] [--of-each 6]

The script prints lines for `tasks.yaml`: equally many tasks of ten kinds, each with a model, data, optimizer,
batch size and length that are drawn. As many tasks as we can afford are also trained for long. Plateaus and
deep networks get more seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import numpy as np

Fields = dict[str, Any]
LOWEST = {"sgd": -3, "momentum": -4, "adam": -4.5, "adamw": -4.5, "rmsprop": -5, "adagrad": -3.5}  # log10 lr
STEPS, BATCHES = (300, 400, 500, 600), (16, 32, 48, 64, 96)
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


def _digits(_: Draw) -> Fields:
    return _named("digits")


def _known(draw: Draw) -> Fields:
    return _named(draw.one("digits", "digits", "breast_cancer", "wine"))


def _images(_: Draw) -> Fields:
    return _named("task_data:small_images")


def _teacher(draw: Draw) -> Fields:
    return _named("task_data:teacher", features=draw.between(8, 24), hidden=draw.between(4, 16))


SEQUENCES = (recurrent, transformer)
KINDS: dict[Callable[[Draw], Fields], int] = {
    linear: 6,
    logistic: 6,
    mlp: 6,
    deep: 6,
    cnn: 1,
    cnn_norm: 1,
    recurrent: 1,
    transformer: 1,
    scaled: 6,
    plateau: 6,
}
"""The number of tasks of each kind that are also trained for long, as many as we can afford."""


@click.command()
@click.option("--seed", default=4, help="The seed of the draw.")
@click.option(
    "--of-each", default=6, help="The number of tasks of each kind; at most one for each optimizer."
)
def main(seed: int, of_each: int) -> None:
    """Print that many tasks of each kind as lines for tasks.yaml."""
    draw = Draw(seed)
    for kind, long in KINDS.items():
        for number, optimizer in enumerate(draw.mixed(LOWEST)[:of_each]):
            fields = kind(draw)
            fields["data"]["batch_size"] = draw.one(*(BATCHES_OF_SEQUENCES if kind in SEQUENCES else BATCHES))
            marks = {"plateau": fields.pop("plateau", False), "long": number < long}
            fields |= {"optimizer": optimizer, "steps": draw.one(*STEPS), "low": LOWEST[optimizer]}
            fields |= {mark: True for mark, marked in marks.items() if marked}
            click.echo(f"  {kind.__name__}_draw{seed}_{optimizer}: {json.dumps(fields)}")


if __name__ == "__main__":
    main()
