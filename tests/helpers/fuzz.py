"""Random configs and curves, and what must hold for each. All randomness comes from one generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from lrfind.analysis.curves import Array, Curve
from lrfind.analysis.suggestions import METHODS, suggest_from
from lrfind.catalog import CATALOGS
from lrfind.config.document import ConfigError, Override
from lrfind.config.experiment import Experiment, check
from lrfind.config.resolved import difference, resolved_text
from lrfind.config.yaml12 import dump
from lrfind.errors import NoSuggestion

SCHEMA: dict[str, Any] = Experiment.model_json_schema()

ODD_VALUES = (
    None, True, False, 0, -1, 1, 2, 3.5, 1e-3, -0.0, 1e308, 5e-324, 2**63, 2**64, -(2**63), 10**40, math.inf,
    -math.inf, math.nan, "", " ", "a", "1e-3", ".inf", "null", "on", "2 epochs", "0.5 epochs", "1e9 epochs",
    "full", "a:b", "a.b:c.d", ":", "a:", "os:system", "torch.nn:Linear", "lrfind.models.mlp:MLP", "é", "中",
    "\x1b[2J", "\u202e", "\x00", "$x^{$", "[b]", "x" * 5000, "~nobody/x", "\n", "- a", "{", "*a", "&a", "!!x",
    [], {}, [[]], [None], [1, "a"], {"name": "mlp"}, {"name": "mlp", "args": {}}, {"": 1}, {"a": {"b": {"c": [1]}}},
    {"name": "join", "args": {"at": [0.5], "parts": ["constant", "cosine"]}}, {"name": "join", "args": {"parts": []}},
    {"name": "constant", "args": {"warmup": "1 epochs"}}, {"name": "step_decay", "args": {"every": 0.1}},
    {"name": "plateau"}, [1e-3, 1e-2], [0.1, 0.1], ["sgd", "adam"], ["cosine", {"name": "one_cycle", "args": {"rise": 0.3}}],
)  # fmt: skip
"""Values that stand where they do not belong, or nearly do."""

ODD_TEXTS = ("\t", ":", "- ", "{", "}", "[", "]", "'", '"', "#", "|", ">", "&a ", "*a ", "!!int ", "!!python/object:os.system ", "\n", "\x00", "\ud800", "\ufeff", "\x85", "? ", "<<: ", "%YAML 1.1\n", "---\n", "1e999", "\\", "é")  # fmt: skip
"""Pieces that break the text of a YAML document."""


NEEDING_ARGS = ("torchvision", "image_folder", "csv", "join", "plateau")
"""Names that are wrong without args or, for plateau, without eval_every."""


def config_from_schema(random: Random) -> dict[str, Any]:
    """Return a config drawn from the JSON Schema of an experiment, with names of the catalog; often right."""
    config: dict[str, Any] = _drawn(random, SCHEMA, keep=0.15)
    for key, kind in (("model", "model"), ("data", "data"), ("loss", "loss"), ("optimizer", "optimizer")):
        part = config.get(key) if isinstance(config.get(key), dict) else {}
        names = [name for name in CATALOGS[kind] if name not in NEEDING_ARGS]
        config[key] = {**part, "name": random.choice(names), "args": {}}
        config[key].pop("step", None)
        config[key].pop("param_groups", None)
    training: dict[str, Any] = {random.choice(["steps", "epochs"]): random.choice([1, 20, 300])}
    if random.random() < 0.3:
        training["eval_every"] = 5
    if random.random() < 0.5:
        training["schedule"] = random.choice(
            [name for name in CATALOGS["schedule"] if name not in NEEDING_ARGS]
        )
    config["training"] = training
    if config.get("sinks"):
        config["sinks"] = [{"name": random.choice([*CATALOGS["sink"]])}]
    if isinstance(config.get("find"), dict) and "budget" in config["find"]:
        config["find"]["budget"] = random.choice([200, "2x"])
    return config


def _drawn(random: Random, schema: dict[str, Any], keep: float = 0.5) -> Any:
    """Return a value that a part of the schema allows, more or less; optional keys are kept sometimes."""
    if "$ref" in schema:
        return _drawn(random, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], keep)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return _drawn(random, random.choice(schema[union]), keep)
    if "enum" in schema or "const" in schema:
        return random.choice(schema.get("enum") or [schema["const"]])
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 1000))
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {key: _drawn(random, part) for key, part in properties.items() if random.random() < keep}
        case "array":
            items = schema.get("items", schema.get("prefixItems", [{}])[0])
            return [_drawn(random, items) for _ in range(random.randint(1, 3))]
        case "integer":
            return random.randint(int(low), max(int(low), min(int(high), 100)))
        case "number":
            return float(np.clip(10 ** random.uniform(-4, 1), low, high))
        case "boolean":
            return random.random() < 0.5
        case "string":
            return random.choice(["a", "sgd", "cosine", "minimum", "mlp"])
    return None


def broken(random: Random, value: Any) -> Any:
    """Return a config with one thing changed at random: a value, a key, or a level too much or too little."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice([*value])
        match random.randrange(12):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {(f"{k}s" if k == key else k): v for k, v in value.items()}
            case 2:
                return value | {
                    random.choice(["x", "args", "name", "", "é", "\u202e"]): random.choice(ODD_VALUES)
                }
            case 3 | 4 | 5:
                return value | {key: random.choice(ODD_VALUES)}
        return value | {key: broken(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        return [*value[:place], broken(random, value[place]), *value[place + 1 :]]
    return random.choice([[value], {"name": value}, *ODD_VALUES])


def config_text(random: Random) -> tuple[str, list[str | Override]]:
    """Return the text of a config that may be right or broken in up to five ways, and overrides of it."""
    config: Any = config_from_schema(random)
    if random.random() < 0.4:
        return dump(config), []
    for _ in range(random.choice([0, 1, 1, 2, 3])):
        config = broken(random, config)
    text = dump(config)
    for _ in range(random.choice([0, 0, 0, 0, 0, 1, 2])):
        place = random.randrange(len(text) + 1)
        match random.randrange(3):
            case 0:
                text = text[:place] + random.choice(ODD_TEXTS) + text[place:]
            case 1:
                text = text[:place] + text[place + random.randint(1, 20) :]
            case 2:
                text = text[:place]
    keys = [
        "optimizer.lr",
        "training.steps",
        "model.args.a",
        "grid.lrs.0",
        "name",
        "a..b",
        "",
        "compare.optimizers.0.lr",
    ]
    overrides = [
        f"{random.choice(keys)}={dump(random.choice(ODD_VALUES), flow=True).strip()}"
        for _ in range(random.choice([0, 0, 0, 1, 2]))
    ]
    return text, [*overrides]


def checked(text: str, overrides: list[str | Override]) -> str:
    """Check a config; return "right" or "wrong".

    Raises:
        AssertionError: if a mistake has no place in the text, or what is right cannot be written and read again.
    """
    try:
        experiment = check(text, overrides, "fuzz.yaml")
    except ConfigError as error:
        _assert_placed(error, text)
        return "wrong"
    again = check(resolved_text(experiment))
    assert difference(again.model_dump(), experiment.model_dump()) is None
    return "right"


def _assert_placed(error: ConfigError, text: str) -> None:
    assert error.mistakes
    assert str(error)
    for mistake in error.mistakes:
        assert mistake.message.strip()
        place = mistake.place
        assert place.line >= 1 <= place.column
        assert place.source != "fuzz.yaml" or place.line <= len(text.splitlines()) + 2


def random_curve(random: Random) -> tuple[Array, Array]:
    """Return lrs and losses (T,), from tame to absurd: T from 0 to 150, with gaps, cliffs, ties and extremes."""
    rng = np.random.default_rng(random.getrandbits(64))
    points = int(rng.choice([0, 1, 2, 4, 5, 6, 15, 16, 17, 40, 150]))
    match random.randrange(4):
        case 0:
            lr = np.geomspace(1e-6, 10, points)
        case 1:
            lr = np.linspace(1e-3, 1, points)
        case 2:
            lr = np.sort(10 ** rng.uniform(-300, 300, points))
        case _:
            lr = 1.0 + np.arange(points) * np.finfo(float).eps  # neighbouring numbers
    steps = rng.choice([-1.0, -0.2, 0.0, 0.2, 1.0, 20.0], points, p=[0.3, 0.2, 0.1, 0.1, 0.2, 0.1])
    loss = 2 + np.cumsum(steps) / 10 + rng.choice([0, 1e-9, 0.01, 0.3]) * rng.standard_normal(points)
    loss = loss * rng.choice([1, 1, 1, 1e-300, 1e-30, 1e90, -1]) + rng.choice([0, 0, 0, 1e9, -50])
    if random.random() < 0.3:
        loss = np.round(loss, 1)
    odd = rng.random(points) < rng.choice([0, 0, 0.05, 0.5])
    loss[odd] = rng.choice([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e150], int(odd.sum()))
    return lr, loss


def answer(curve: Curve, method: str, *, raw: bool = False) -> float | None:
    """Return a method's answer; None if it refuses.

    Raises:
        AssertionError: if the answer does not lie in the range.
    """
    try:
        suggestion = suggest_from(curve, method, raw=raw)
    except NoSuggestion:
        return None
    assert curve.lr[0] <= suggestion.lr <= curve.lr[-1]
    return suggestion.lr


def asked(random: Random) -> int:
    """Ask every method about one curve, raw and not; return how many answered."""
    curve = Curve.of(*random_curve(random))
    answers = [answer(curve, method, raw=raw) for method in METHODS for raw in (False, True)]
    return sum(found is not None for found in answers)


OURS = ("consensus", "steepest", "minimum", "edge")


def valley(random: Random) -> tuple[Array, Array]:
    """Return a curve (T,) that falls, may rise or blow up, and is noisy.

    Because of the noise, no two of its points tie, and the offset of the loss gives no scale (see `FLOOR`).
    """
    rng = np.random.default_rng(random.getrandbits(64))
    lr = np.geomspace(1e-6, 10, int(rng.integers(20, 150)))
    x = np.log10(lr)
    fall = rng.uniform(0.2, 3) / (1 + np.exp(-rng.uniform(1, 4) * (x - rng.uniform(-4, -1))))
    rise = rng.choice([0, 1, 30]) * np.exp(3 * (x - rng.uniform(-1, 1)))
    return lr, 3 - fall + rise + rng.choice([0.03, 0.1]) * rng.standard_normal(lr.size)


def changes(
    random: Random,
) -> dict[str, tuple[tuple[str, ...], float, Callable[[Array, Array], tuple[Array, Array]]]]:
    """Return the changes of a curve: the methods that must follow, the factor of the answer, and the change.

    Factors are powers of two, so that the floating-point numbers change exactly. A method of a peer follows
    factors of the loss, unless it has a fixed threshold (fastai-slide), and factors of the lr.
    """
    factor, shift = 2.0 ** random.randint(-20, 20), random.uniform(-20, 20)
    scaled = tuple(name for name in METHODS if name != "fastai-slide")
    return {
        "loss scaled": (scaled, 1.0, lambda lr, loss: (lr, factor * loss)),
        "loss shifted": (OURS, 1.0, lambda lr, loss: (lr, loss + shift)),
        "lr scaled": (tuple(METHODS), factor, lambda lr, loss: (factor * lr, loss)),
    }


def followed(random: Random) -> int:
    """Compare the answers of every method for a curve and for three changes of it; return the comparisons."""
    lr, loss = valley(random)
    curve, compared = Curve.of(lr, loss), 0
    for name, (methods, factor, change) in changes(random).items():
        changed = Curve.of(*change(lr, loss))
        for method in methods:
            before, after = answer(curve, method), answer(changed, method)
            same = before is after is None or (
                before is not None
                and after is not None
                and math.isclose(after, factor * before, rel_tol=1e-6)
            )
            assert same, f"{method}, {name}: {before} x {factor} became {after}"
            compared += 1
    return compared
