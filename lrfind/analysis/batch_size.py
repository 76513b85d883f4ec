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

LARGEST_TESTED = 8192  # images in a batch; up to here Goyal et al. lost no accuracy on ImageNet
MOST_ROWS = 10**12  # the largest batch that is accepted
WELL_BELOW_ONE = 0.3  # the limit of 1 - beta; above it, a running average covers only about three steps


@dataclass(frozen=True)
class Scaled:
    """A learning rate for another batch size, and what else should change with it.

    Attributes:
        lr: the lr for the new batch size.
        rule: linear, sqrt or noise. With noise, the lr is linear in the batch size far below the noise scale
            and constant far above it.
        factor: the new lr divided by the old lr.
        batch_factor: kappa, the new batch size of all workers together, divided by the old batch size.
        source: the publication of the rule.
        warmup: how to raise the lr to its new value; None if there is no need for it.
        settings: other arguments of the optimizer that should change too, with their new values.
        notes: what users should be careful about, one or two sentences each.
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
    """Return the lr for another batch size, scaled by one of the published rules.

    With kappa = to_batch * workers / from_batch, the rules are:

    - linear: lr * kappa (Goyal et al. 2017, arXiv:1706.02677, section 2.1), for SGD with momentum; the
      momentum stays as it is.
    - sqrt: lr * sqrt(kappa), which keeps the variance of an update (Krizhevsky 2014, arXiv:1404.5997,
      section 5). For Adam and RMSprop, Malladi et al. 2022 (arXiv:2205.10287) also set 1 - beta' =
      kappa (1 - beta) and eps' = eps / sqrt(kappa). This is valid while kappa (1 - beta) is well below 1
      and noise dominates the gradients.
    - auto: linear for SGD and sqrt for adaptive optimizers. For SGD with a noise scale, the lr is
      proportional to 1 / (1 + noise_scale / batch) (McCandlish et al. 2018, arXiv:1812.06162, eq. 2.6): it is
      linear far below the noise scale and constant far above it.

    Args:
        lr: the lr that is good at `from_batch`.
        from_batch: the batch size that `lr` belongs to: the number of rows of all workers together.
        to_batch: the new batch size of each worker, in rows.
        workers: the number of workers in the new training; their gradients are averaged.
        rule: auto, linear or sqrt.
        optimizer: a name of the catalog, or pkg.module:Class; a class that is not in the catalog is treated
            as adaptive.
        betas: the betas in use now; the optimizer's defaults when omitted. For RMSprop, the second one is
            alpha.
        eps: the eps in use now; the optimizer's default when omitted.
        noise_scale: the measured noise scale, in rows; see `lrfind.experiments.noise_scale`.

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
    row = _catalog_row(optimizer)
    applied = _rule_to_apply(rule, row, noise_scale)
    factor = {"linear": kappa, "sqrt": math.sqrt(kappa)}.get(applied)
    if factor is None:
        assert noise_scale is not None
        factor = (from_batch + noise_scale) / (total + noise_scale) * kappa
    adaptive = row is not None and row.adaptive
    settings, doubts = _scaled_settings(row, kappa, betas, eps) if applied == "sqrt" and row else ({}, [])
    notes = [
        *_rule_notes(applied, row, optimizer, kappa),
        *doubts,
        *_size_notes(applied, total, kappa, noise_scale),
        *_training_notes(row, factor, kappa),
    ]
    if not 0 < lr * factor < math.inf:
        raise UsageError(
            f"lr {lr:g} times {factor:.3g} is too large or too small for a computer; check the numbers."
        )
    warmup = None
    if applied != "sqrt" and factor > 1:
        warmup = f"raise the lr evenly from {lr:.3g} to {lr * factor:.3g} over the first 5 epochs or so"
    source = {"linear": GOYAL, "noise": MCCANDLISH}.get(applied, MALLADI if adaptive else KRIZHEVSKY)
    return Scaled(lr * factor, applied, factor, kappa, source, warmup, settings, tuple(notes))


def _catalog_row(name: str) -> Optimizer | None:
    """Return an optimizer's row in the catalog; None for a class without a row.

    Raises:
        UsageError: if it is neither in the catalog nor of the form pkg.module:Class.
    """
    if ":" not in name and name not in OPTIMIZERS:
        raise UsageError(f"{unknown('optimizer', name, OPTIMIZERS)} Name your own class as pkg.module:Class.")
    return optimizer_named(name)


def _class_name(name: str) -> str:
    return name.rpartition(":")[2].rpartition(".")[2].lower()


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0 or value == math.inf:
            raise UsageError(f"{name} must be a positive number; found {value:g}.")
        if name in ("from_batch", "to_batch", "workers") and (value > MOST_ROWS or value != int(value)):
            raise UsageError(
                f"{name} must be a whole number of at most {MOST_ROWS:g}; found {str(value)[:20]}."
            )


def _rule_to_apply(rule: str, row: Optimizer | None, noise_scale: float | None) -> str:
    """Return the rule to apply; without a row, auto means sqrt, which changes the lr less."""
    if rule != "auto":
        return rule
    if row is None or row.batch_rule == "sqrt":
        return "sqrt"
    return "linear" if noise_scale is None else "noise"


def _scaled_settings(
    row: Optimizer, kappa: float, betas: tuple[float, float] | None, eps: float | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings other than the lr that the sqrt rule changes, and notes on doubts about them."""
    defaults = row.batch_args
    if kappa == 1 or not defaults:
        return {}, []
    if betas is not None and not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise UsageError(f"betas must be two numbers, each at least 0 and below 1; found {betas}.")
    if eps is not None and not 0 <= eps < math.inf:
        raise UsageError(f"eps must be a number of at least 0; found {eps:g}.")
    if "alpha" in defaults:
        averages = {"alpha": defaults["alpha"] if betas is None else betas[1]}
    else:
        averages = dict(zip(("beta1", "beta2"), betas or defaults["betas"], strict=True))
    complements = {name: kappa * (1 - value) for name, value in averages.items()}  # 1 - beta'
    settings: dict[str, Any] = {}
    doubts = [
        f"1 - {name} would have to be {complement:.3g}, so the rule is not valid for this batch size; test"
        " the lr at the new batch size instead."
        if complement >= 1
        else f"1 - {name} becomes {complement:.3g}, but the rule assumes that it stays well below 1; test the"
        " lr at the new batch size."
        for name, complement in complements.items()
        if complement > WELL_BELOW_ONE and kappa > 1
    ]
    if all(complement < 1 for complement in complements.values()):
        values = [
            round(1 - complement, 12) for complement in complements.values()
        ]  # 0.6, not 0.6000000000000001
        settings |= {"alpha": values[0]} if "alpha" in defaults else {"betas": tuple(values)}
    settings["eps"] = (defaults["eps"] if eps is None else eps) / math.sqrt(kappa)
    return settings, doubts


def _rule_notes(applied: str, row: Optimizer | None, optimizer: str, kappa: float) -> list[str]:
    """Return notes on whether the rule was made for this optimizer."""
    if kappa == 1:
        return []
    if row is None:
        return [f"no rule is known for the optimizer '{optimizer}', so {applied} is a guess."]
    kind = _class_name(optimizer)
    if applied == "linear" and row.batch_rule != "linear":
        return [f"the linear rule was made for SGD; for {kind}, the sqrt rule is safer."]
    if applied == "sqrt" and row.batch_rule == "linear":
        return ["for SGD, the linear rule worked in practice, also for the author of the sqrt rule."]
    if applied == "sqrt" and not row.batch_rule_derived:
        return [f"the sqrt rule is derived for Adam and RMSprop; for {kind} it is a guess by analogy."]
    return []


def _size_notes(applied: str, total: int, kappa: float, noise_scale: float | None) -> list[str]:
    """Return notes on whether the new batch is too large for the rule."""
    if kappa <= 1:
        return []
    notes = []
    if applied == "linear" and total > LARGEST_TESTED:
        notes.append(
            "on ImageNet, the linear rule worked for batches of up to about 8k images, and accuracy was lost"
            f" beyond that; {total} is more."
        )
    if applied != "noise" and noise_scale is not None and total > noise_scale:
        notes.append(
            f"a batch of {total} is above the measured noise scale of {noise_scale:.3g}; the {applied} rule"
            " assumes that noise dominates the gradients, so its lr is likely too high."
        )
    return notes


def _training_notes(row: Optimizer | None, factor: float, kappa: float) -> list[str]:
    """Return notes on the other quantities of a training that change with the batch size or stay the same."""
    if kappa == 1:
        return []
    notes = [
        f"an epoch has {1 / kappa:.3g} times as many steps as before; this affects schedules whose lengths"
        " are counted in steps."
    ]
    if row is not None and row.family == "sgd":
        notes.append("momentum and weight_decay stay as they are.")
    if row is not None and row.decoupled_decay and factor != kappa:
        notes.append(
            f"the weight decay over an epoch becomes {factor / kappa:.3g} times what it was; to keep it,"
            f" multiply weight_decay by {kappa / factor:.3g}."
        )
    return notes
