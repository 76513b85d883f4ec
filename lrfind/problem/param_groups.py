"""Param groups from a config: which parameters have their own learning rate, and which are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lrfind.config.sections import REST, OptimizerSection, ParamGroup
from lrfind.errors import UsageError, unknown

MULTIPLIER = "lr_multiplier"
"""The key in an optimizer's param group for a factor: the group's lr is this factor times the lane's lr."""
MOST_LISTED = 8  # names of parameters in a message


def param_groups(section: OptimizerSection, model: nn.Module) -> list[dict[str, Any]]:
    """Return an optimizer's param groups, each with its name, parameters, lr and other settings.

    Frozen groups are left out, and their parameters no longer require a gradient. Parameters that no group
    matches form a group of their own, called "rest".

    Args:
        section: the optimizer's section of the config.
        model: the model with the parameters; changed in place where a group is frozen.

    Raises:
        UsageError: if a group matches nothing, or nothing is left to train.
    """
    members: dict[str, list[nn.Parameter]] = {
        name: [] for name in (*(g.name for g in section.param_groups), REST)
    }
    names = []
    for name, parameter in model.named_parameters():
        names.append(name)
        group_name = next((group.name for group in section.param_groups if _matches(group, name)), REST)
        members[group_name].append(parameter)
    result = []
    for group in section.param_groups:
        if not members[group.name]:
            first_names = ", ".join(names[:MOST_LISTED]) + (", ..." if len(names) > MOST_LISTED else "")
            raise UsageError(
                f"optimizer.param_groups: '{group.name}' ({', '.join(group.match)}) matches no parameter that"
                f" is not already in a group before it; the model has {first_names}"
            )
        if group.frozen:
            for parameter in members[group.name]:
                parameter.requires_grad_(False)
        else:
            lr = section.lr * group.lr_multiplier
            settings = {"name": group.name, "lr": lr, MULTIPLIER: group.lr_multiplier} | group.args
            result.append(settings | {"params": [p for p in members[group.name] if p.requires_grad]})
    rest = [p for p in members[REST] if p.requires_grad]
    result.append({"name": REST, "lr": section.lr, MULTIPLIER: 1.0, "params": rest})
    result = [group for group in result if group["params"]]
    if not result:
        raise UsageError("optimizer.param_groups: nothing is left to train; leave a part unfrozen.")
    return result


def multipliers_in_words(groups: Sequence[dict[str, Any]]) -> str | None:
    """Say which lr each param group of a config gets; None if all get the same.

    >>> multipliers_in_words([{"name": "body", "lr_multiplier": 0.1}, {"name": "rest", "lr_multiplier": 1.0}])
    'The lr is optimizer.lr; the param groups get these multiples of it: body 0.1x, rest 1x.'
    """
    multiples = [
        (str(group.get("name", n)), float(group.get(MULTIPLIER, 1.0))) for n, group in enumerate(groups)
    ]
    if all(multiple == 1.0 for _, multiple in multiples):
        return None
    parts = ", ".join(f"{name} {multiple:.3g}x" for name, multiple in multiples)
    return f"The lr is optimizer.lr; the param groups get these multiples of it: {parts}."


def group_number(groups: Sequence[dict[str, Any]], name: str) -> int:
    """Return the index, among an optimizer's param groups, of the group called `name`.

    Raises:
        UsageError: if no group has that name.
    """
    names = [str(group.get("name", number)) for number, group in enumerate(groups)]
    if name not in names:
        raise UsageError(f"range_test.group: {unknown('param group', name, names)}")
    return names.index(name)


def _matches(group: ParamGroup, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in group.match)
