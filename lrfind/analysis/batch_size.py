"""Scaling: the learning rate for another batch size, by the published rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrfind.catalog import OPTIMIZERS, Optimizer, optimizer_named
from lrfind.errors import UsageError, unknown

RULES = ("auto", "linear", "sqrt")

GOYAL = "Goyal et al. 2017 (arXiv:1706.02677)"
KRIZHEVSKY = "Krizhevsky 2014 (arXiv:1404.5997)"
MALLADI = "Malladi et al. 2022 (arXiv:2205.10287)"
MCCANDLISH = "McCandlish et al. 2018 (arXiv:1812.06162)"

LARGEST_SHOWN = 8192  # images in a batch, up to which Goyal et al. lost no accuracy on ImageNet
MOST_ROWS = 10**12  # no batch is larger
WELL_BELOW_ONE = 0.3  # for 1 - beta: beyond it, an average is over some three steps


@dataclass(frozen=True)
class Scaled:
    """A learning rate for another batch size, and what goes with it.

    Attributes:
        lr: for the new batch size.
        rule: linear, sqrt, or noise: linear at first, constant beyond the noise scale.
        factor: the new lr over the old one.
        batch_factor: kappa, the new batch size over the old one, all workers together.
        source: where the rule is from.
        warmup: how to come up to the new lr; None where there is no need.
        settings: other arguments of the optimizer that should change too, with their new values.
        notes: what to beware of, one sentence or two each.
    """

    lr: float
    rule: str
    factor: float
    batch_factor: float
    source: str
    warmup: str | None
    settings: Mapping[str, Any]
    notes: tuple[str, ...]


def scale_lr(
    lr: float,
    from_batch: int,
    to_batch: int,
    *,
    workers: int = 1,
    rule: str = "auto",
    optimizer: str = "sgd",
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    noise_scale: float | None = None,
) -> Scaled:
    """The lr for another batch size: lr times kappa, its square root, or what the noise scale allows.

    With kappa = to_batch * workers / from_batch:

    - linear: lr * kappa (Goyal et al. 2017, arXiv:1706.02677, section 2.1), for SGD with momentum, which
      stays as it is.
    - sqrt: lr * sqrt(kappa), which keeps the variance of an update (Krizhevsky 2014, arXiv:1404.5997,
      section 5). For Adam and RMSprop, Malladi et al. 2022 (arXiv:2205.10287) also let 1 - beta' =
      kappa (1 - beta) and eps' = eps / sqrt(kappa); this holds while kappa (1 - beta) is well below 1 and
      noise dominates the gradients.
    - auto: linear for SGD and sqrt for adaptive optimizers. With a noise scale, for SGD lr is
      proportional to 1 / (1 + noise_scale / batch) (McCandlish et al. 2018, arXiv:1812.06162, eq. 2.6):
      linear far below the noise scale, constant far above.

    Args:
        lr: that is good at `from_batch`.
        from_batch: rows of a batch, of all workers together, that `lr` belongs to.
        to_batch: rows of a batch of each worker.
        workers: how many there will be, whose gradients are averaged.
        rule: auto, linear or sqrt.
        optimizer: a name of the catalog, or pkg.module:Class; a class that is not known is taken to be
            adaptive.
        betas: in use now; the optimizer's defaults when omitted. RMSprop's alpha is the second.
        eps: in use now; the optimizer's default when omitted.
        noise_scale: as measured, in rows; see `lrfind.experiments.noise_scale`.

    Raises:
        UsageError: if a name is not known or a number is out of range.

    >>> scale_lr(0.1, 256, 1024).lr
    0.4
    >>> scale_lr(1e-3, 64, 256, optimizer="adam").settings["betas"]
    (0.6, 0.996)
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    _check_positive(lr=lr, from_batch=from_batch, to_batch=to_batch, workers=workers)
    if noise_scale is not None:
        _check_positive(noise_scale=noise_scale)
    total = to_batch * workers
    kappa = total / from_batch
    row = _known_optimizer(optimizer)
    applied = _applied(rule, row, noise_scale)
    factor = {"linear": kappa, "sqrt": math.sqrt(kappa)}.get(applied)
    if factor is None:
        assert noise_scale is not None
        factor = (from_batch + noise_scale) / (total + noise_scale) * kappa
    adaptive = row is not None and row.adaptive
    settings, doubts = _settings(row, kappa, betas, eps) if applied == "sqrt" and row else ({}, [])
    notes = [
        *_rule_notes(applied, row, optimizer, kappa),
        *doubts,
        *_size_notes(applied, total, kappa, noise_scale),
        *_training_notes(row, factor, kappa),
    ]
    if not 0 < lr * factor < math.inf:
        raise UsageError(
            f"lr {lr:g} times {factor:.3g} is no number that a computer holds; check the inputs."
        )
    warmup = None
    if applied != "sqrt" and factor > 1:
        warmup = f"raise the lr evenly from {lr:.3g} to {lr * factor:.3g} over the first 5 epochs or so"
    source = {"linear": GOYAL, "noise": MCCANDLISH}.get(applied, MALLADI if adaptive else KRIZHEVSKY)
    return Scaled(lr * factor, applied, factor, kappa, source, warmup, settings, tuple(notes))


def _known_optimizer(name: str) -> Optimizer | None:
    """Return an optimizer's row in the catalog; None for a class that has none.

    Raises:
        UsageError: if it is neither in the catalog nor of the form pkg.module:Class.
    """
    if ":" not in name and name not in OPTIMIZERS:
        raise UsageError(f"{unknown('optimizer', name, OPTIMIZERS)} Your own: pkg.module:Class.")
    return optimizer_named(name)


def _short(name: str) -> str:
    return name.rpartition(":")[2].rpartition(".")[2].lower()


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0 or value == math.inf:
            raise UsageError(f"{name} must be a positive number; found {value:g}.")
        if name in ("from_batch", "to_batch", "workers") and (value > MOST_ROWS or value != int(value)):
            raise UsageError(
                f"{name} must be a whole number, at most {MOST_ROWS:g}; found {str(value)[:20]}."
            )


def _applied(rule: str, row: Optimizer | None, noise_scale: float | None) -> str:
    """Return the rule to use; for an optimizer without a row the square root, which changes the lr less."""
    if rule != "auto":
        return rule
    if row is None or row.batch_rule == "sqrt":
        return "sqrt"
    return "linear" if noise_scale is None else "noise"


def _settings(
    row: Optimizer, kappa: float, betas: tuple[float, float] | None, eps: float | None
) -> tuple[dict[str, Any], list[str]]:
    """What changes with the lr of an adaptive optimizer by the square root rule, and doubts about it."""
    usual = row.batch_args
    if kappa == 1 or not usual:
        return {}, []
    if betas is not None and not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise UsageError(f"betas must be two numbers from 0 to below 1; found {betas}.")
    if eps is not None and not 0 <= eps < math.inf:
        raise UsageError(f"eps must be a number, at least 0; found {eps:g}.")
    if "alpha" in usual:
        averages = {"alpha": usual["alpha"] if betas is None else betas[1]}
    else:
        averages = dict(zip(("beta1", "beta2"), betas or usual["betas"], strict=True))
    rests = {name: kappa * (1 - value) for name, value in averages.items()}  # 1 - beta'
    settings: dict[str, Any] = {}
    doubts = [
        f"1 - {name} would have to be {rest:.3g}: the rule does not reach this far; test the lr at the new"
        " batch size instead."
        if rest >= 1
        else f"1 - {name} becomes {rest:.3g}, and the rule assumes that it stays well below 1; test the lr at"
        " the new batch size."
        for name, rest in rests.items()
        if rest > WELL_BELOW_ONE and kappa > 1
    ]
    if all(rest < 1 for rest in rests.values()):
        values = [round(1 - rest, 12) for rest in rests.values()]  # 0.6 rather than 0.6000000000000001
        settings |= {"alpha": values[0]} if "alpha" in usual else {"betas": tuple(values)}
    settings["eps"] = (usual["eps"] if eps is None else eps) / math.sqrt(kappa)
    return settings, doubts


def _rule_notes(applied: str, row: Optimizer | None, optimizer: str, kappa: float) -> list[str]:
    """Whether the rule was made for this optimizer."""
    if kappa == 1:
        return []
    if row is None:
        return [f"'{optimizer}' is not an optimizer that the rules are known for: {applied} is a guess."]
    kind = _short(optimizer)
    if applied == "linear" and row.batch_rule != "linear":
        return [f"the linear rule was made for SGD; for {kind}, sqrt is the safer one."]
    if applied == "sqrt" and row.batch_rule == "linear":
        return ["for SGD, the linear rule is the one that held in practice, also for the author of this one."]
    if applied == "sqrt" and not row.batch_rule_derived:
        return [f"the rule is derived for Adam and RMSprop; for {kind} it is a guess by analogy."]
    return []


def _size_notes(applied: str, total: int, kappa: float, noise_scale: float | None) -> list[str]:
    """Whether the new batch is larger than the rule is good for."""
    if kappa <= 1:
        return []
    notes = []
    if applied == "linear" and total > LARGEST_SHOWN:
        notes.append(
            f"on ImageNet the linear rule held up to batches of about 8k, and lost accuracy beyond; {total}"
            " is more."
        )
    if applied != "noise" and noise_scale is not None and total > noise_scale:
        notes.append(
            f"a batch of {total} is above the measured noise scale of {noise_scale:.3g}: the {applied} rule"
            " assumes that noise dominates the gradients, and its lr is likely too high."
        )
    return notes


def _training_notes(row: Optimizer | None, factor: float, kappa: float) -> list[str]:
    """What else in a training changes, or does not, with the batch size."""
    if kappa == 1:
        return []
    notes = [f"an epoch has {1 / kappa:.3g} times the steps: schedules counted in steps change with it."]
    if row is OPTIMIZERS["sgd"]:
        notes.append("momentum and weight_decay stay as they are.")
    if row is OPTIMIZERS["adamw"] and factor != kappa:
        notes.append(
            f"AdamW's decay over an epoch becomes {factor / kappa:.3g} times what it was;"
            f" {kappa / factor:.3g} times the weight_decay keeps it."
        )
    return notes
