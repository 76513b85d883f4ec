"""Param groups from a config: which parameters have a learning rate of their own, and which are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lrfind.config.sections import REST, OptimizerSection, ParamGroup
from lrfind.errors import UsageError, unknown

MULTIPLIER = "lr_multiplier"
"""The key of an optimizer's group that says what its lr is a multiple of the lane's by."""
SHOWN = 8  # names of parameters in a message


def param_groups(section: OptimizerSection, model: nn.Module) -> list[dict[str, Any]]:
    """What an optimizer is made of: each group with its name, parameters, lr and other settings.

    Frozen groups are left out, and their parameters no longer require a gradient. Parameters that no group
    matches are one of their own, called "rest".

    Args:
        section: of the config.
        model: changed in place where a group is frozen.

    Raises:
        UsageError: if a group matches nothing, or nothing is left to train.
    """
    found: dict[str, list[nn.Parameter]] = {
        name: [] for name in (*(g.name for g in section.param_groups), REST)
    }
    names = []
    for name, parameter in model.named_parameters():
        names.append(name)
        home = next((group.name for group in section.param_groups if _matches(group, name)), REST)
        found[home].append(parameter)
    made = []
    for group in section.param_groups:
        if not found[group.name]:
            some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            raise UsageError(
                f"optimizer.param_groups: '{group.name}' ({', '.join(group.match)}) matches no parameter that"
                f" is not in a group before it; the model has {some}"
            )
        if group.frozen:
            for parameter in found[group.name]:
                parameter.requires_grad_(False)
        else:
            lr = section.lr * group.lr_multiplier
            settings = {"name": group.name, "lr": lr, MULTIPLIER: group.lr_multiplier} | group.args
            made.append(settings | {"params": [p for p in found[group.name] if p.requires_grad]})
    rest = [p for p in found[REST] if p.requires_grad]
    made.append({"name": REST, "lr": section.lr, MULTIPLIER: 1.0, "params": rest})
    made = [group for group in made if group["params"]]
    if not made:
        raise UsageError("optimizer.param_groups: nothing is left to train; leave a part unfrozen.")
    return made


def group_number(groups: Sequence[dict[str, Any]], name: str) -> int:
    """The place of the group of that name among an optimizer's groups.

    Raises:
        UsageError: if there is none.
    """
    names = [str(group.get("name", number)) for number, group in enumerate(groups)]
    if name not in names:
        raise UsageError(f"range_test.group: {unknown('param group', name, names)}")
    return names.index(name)


def _matches(group: ParamGroup, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in group.match)
