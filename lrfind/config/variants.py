"""Variants: the things that a run compares, each as an experiment of its own. Nothing here trains."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

from lrfind.catalog import KINDS
from lrfind.config.experiment import Experiment
from lrfind.config.registry import import_path, load, resolve
from lrfind.config.sections import REST, Component, OptimizerSection, ParamGroup, Rival
from lrfind.errors import UsageError

OVER: dict[str, tuple[float, ...]] = {
    "momentum": (0.0, 0.5, 0.8, 0.9, 0.95, 0.99),
    "weight_decay": (0.0, 1e-5, 1e-4, 1e-3, 1e-2),
}
"""The usual values of each setting, other than the lr, that a range test can vary."""


@dataclass(frozen=True)
class Variant:
    """One of the things that a run compares.

    Attributes:
        name: a name that no other variant of the run has; empty if there is only one variant.
        experiment: the whole experiment with this variant in it.
    """

    name: str
    experiment: Experiment


def variants_of(experiment: Experiment, command: str) -> list[Variant]:
    """Return the schedules, optimizers or settings that a command compares, or else the experiment as it is.

    Raises:
        UsageError: if two variants are the same, or if an optimizer does not have the setting.
    """
    path = KINDS[command].variants
    variants: list[Variant] = [Variant("", experiment)] if path is None else load(path)(experiment)
    return variants


def compared(experiment: Experiment) -> list[Variant]:
    """Return the schedules or the optimizers that `compare` compares."""
    section = experiment.compare
    if section.optimizers:
        experiments = [_with_rival(experiment, rival) for rival in section.optimizers]
        parts: list[Component] = [variant.optimizer for variant in experiments]
    else:
        parts = list(section.schedules)
        experiments = [with_schedule(experiment, schedule) for schedule in parts]
    if len(parts) < 2:
        raise UsageError(f"compare: there is only {parts[0].name}; name at least two that differ.")
    names = labels(parts)
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UsageError(f"compare: '{repeated}' is listed twice; list each schedule or optimizer once.")
    return [Variant(name, variant) for name, variant in zip(names, experiments, strict=True)]


def labels(parts: Sequence[Component]) -> list[str]:
    """Return the labels of the compared things in tables: names, with args where two names are the same.

    >>> labels([Component(name="cosine", args={"warmup": 5}), Component(name="cosine")])
    ['cosine (warmup 5)', 'cosine']
    """
    short = {part.name: part.name.rpartition(":")[2] for part in parts}
    names = [
        short[part.name] if [*short.values()].count(short[part.name]) == 1 else part.name for part in parts
    ]
    return [
        f"{name} ({', '.join(f'{key} {value}' for key, value in part.args.items())})"
        if part.args and names.count(name) > 1
        else name
        for name, part in zip(names, parts, strict=True)
    ]


def with_lr(experiment: Experiment, lr: float) -> Experiment:
    """Return the experiment with this lr in its optimizer."""
    optimizer = experiment.optimizer.model_copy(update={"lr": lr})
    return experiment.model_copy(update={"optimizer": optimizer})


def with_multipliers(experiment: Experiment, multipliers: Mapping[str, float]) -> Experiment:
    """Return the experiment with a further factor for the lr of each of its param groups.

    If the parameters that no group matches have a factor too, they become a group.

    Args:
        experiment: the experiment.
        multipliers: the factors by the names of the groups; a group without one keeps its lr.
    """
    if all(multiplier == 1 for multiplier in multipliers.values()):
        return experiment
    section = experiment.optimizer
    groups = [
        group.model_copy(
            update={"lr_multiplier": float(f"{group.lr_multiplier * multipliers.get(group.name, 1.0):.6g}")}
        )
        for group in section.param_groups
    ]
    if multipliers.get(REST, 1.0) != 1.0:
        names = {group.name for group in groups}
        name = next(n for n in chain(("others",), (f"others {k}" for k in count(2))) if n not in names)
        groups.append(ParamGroup(name=name, match=("*",), lr_multiplier=multipliers[REST]))
    optimizer = section.model_copy(update={"param_groups": tuple(groups)})
    return experiment.model_copy(update={"optimizer": optimizer})


def with_schedule(experiment: Experiment, schedule: Component) -> Experiment:
    """Return the experiment with this schedule in its training."""
    training = experiment.training.model_copy(update={"schedule": schedule})
    return experiment.model_copy(update={"training": training})


def _with_rival(experiment: Experiment, rival: Rival) -> Experiment:
    current = experiment.optimizer
    if rival.name == current.name and not rival.args:
        return experiment if rival.lr is None else with_lr(experiment, rival.lr)
    parameters = inspect.signature(resolve(import_path("optimizer", rival.name))).parameters
    # The optimizer would silently ignore an argument that it does not have, such as momentum.
    groups = tuple(
        group.model_copy(
            update={"args": {key: value for key, value in group.args.items() if key in parameters}}
        )
        for group in current.param_groups
    )
    lr = rival.lr or (current.lr if rival.name == current.name else _usual_lr(rival.name)) or current.lr
    optimizer = OptimizerSection(name=rival.name, args=rival.args, lr=lr, param_groups=groups)
    return experiment.model_copy(update={"optimizer": optimizer})


def _usual_lr(name: str) -> float | None:
    """Return the default lr of an optimizer; None if it has none."""
    parameter = inspect.signature(resolve(import_path("optimizer", name))).parameters.get("lr")
    return float(parameter.default) if parameter and isinstance(parameter.default, int | float) else None


def over_settings(experiment: Experiment) -> list[Variant]:
    """Return one variant for each value of the setting that is varied; a single one if only the lr is."""
    over, optimizer = experiment.range_test.over, experiment.optimizer
    if over == "lr":
        return [Variant("", experiment)]
    parameters = inspect.signature(resolve(import_path("optimizer", optimizer.name))).parameters
    by_betas = over == "momentum" and over not in parameters and "betas" in parameters
    if over not in parameters and not by_betas:
        raise UsageError(f"range_test.over: {optimizer.name} has no {over}; use an optimizer that has it.")
    keys = {over, "betas"} if over == "momentum" else {over}
    clash = next((group.name for group in optimizer.param_groups if keys & {*group.args}), None)
    if clash is not None:
        raise UsageError(
            f"range_test.over: the param group '{clash}' sets its own {over}; leave it out there."
        )
    variants = []
    for value in experiment.range_test.values or OVER[over]:
        if by_betas:
            second = optimizer.args.get("betas", parameters["betas"].default)[1]
            args = optimizer.args | {"betas": [value, second]}
        else:
            args = optimizer.args | {over: value}
            if over == "momentum" and value == 0:
                args.pop("nesterov", None)  # nesterov needs a momentum
        changed = optimizer.model_copy(update={"args": args})
        digits = f"{value:g}" if float(f"{value:g}") == value else repr(value)
        variants.append(Variant(f"{over} {digits}", experiment.model_copy(update={"optimizer": changed})))
    return variants
