"""Rates: which param groups a training has, and how they share one lr."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lrfind.errors import UsageError, counted

Group = dict[str, Any]
"""A param group of an optimizer: its parameters and their settings."""


def is_optimizer(value: Any) -> bool:
    """Return whether an object is an optimizer, or steps an optimizer of torch that it holds."""
    return isinstance(value, torch.optim.Optimizer) or (
        callable(getattr(value, "step", None))
        and callable(getattr(value, "zero_grad", None))
        and bool(_held_by(value))
    )


def all_optimizers(optimizers: Iterable[Any]) -> list[Any]:
    """Return the optimizers and those that they wrap, the innermost ones first."""
    result: dict[int, Any] = {}
    seen: set[int] = set()

    def visit(optimizer: Any) -> None:
        if id(optimizer) not in seen:
            seen.add(id(optimizer))
            for inner in _held_by(optimizer):
                visit(inner)
            result[id(optimizer)] = optimizer

    for optimizer in optimizers:
        visit(optimizer)
    return [*result.values()]


def innermost(optimizers: Iterable[Any]) -> list[torch.optim.Optimizer]:
    """Return the optimizers that wrap no other one: they make the updates, and decide the family."""
    everything = all_optimizers(optimizers)
    return [optimizer for optimizer in everything if not _held_by(optimizer)] or everything


def _held_by(optimizer: Any) -> list[torch.optim.Optimizer]:
    """Return the optimizers in an optimizer's attributes, also in lists, tuples and dicts there."""
    values: list[Any] = [*getattr(optimizer, "__dict__", {}).values()]
    for value in [*values]:
        if isinstance(value, list | tuple):
            values += value
        elif isinstance(value, Mapping):
            values += value.values()
    inner = [value for value in values if isinstance(value, torch.optim.Optimizer)]
    return [value for value in inner if value is not optimizer]


def inner_name(optimizer: Any) -> str | None:
    """Return the name of the attribute of an object that holds an optimizer of torch; None if none does."""
    attributes = {} if isinstance(optimizer, type) else getattr(optimizer, "__dict__", {})
    return next((name for name, value in attributes.items() if is_optimizer(value)), None)


def groups_of(optimizers: Iterable[Any]) -> list[Group]:
    """Return the param groups of optimizers and of those that they wrap, each once, innermost first.

    Raises:
        UsageError: if an innermost optimizer has a group without an lr.
    """
    result: dict[int, Group] = {}
    everything = all_optimizers(optimizers)
    for optimizer in everything:
        for group in getattr(optimizer, "param_groups", ()):
            if group.get("lr") is not None:
                result[id(group)] = group
            elif not _held_by(optimizer):
                name = type(optimizer).__name__
                raise UsageError(
                    f"the optimizer {name} has no lr to set (its lr is {group.get('lr')!r}): it computes its"
                    " own step sizes, so there is no rate to look for. Give it an lr, or use it as it is."
                )
    return [*result.values()]


def group_names(optimizers: Iterable[Any]) -> list[str]:
    """Return a distinct name for each of the param groups of `groups_of`.

    A group has its own name, if it has one, or its number in its optimizer. With several optimizers, the name
    of the class comes before it, or stands alone for an optimizer with a single group.
    """
    owners: dict[int, tuple[Any, int]] = {}
    for optimizer in all_optimizers(optimizers):
        for number, group in enumerate(getattr(optimizer, "param_groups", ())):
            owners.setdefault(id(group), (optimizer, number))
    names = []
    groups = groups_of(optimizers)
    several = len({id(owners[id(group)][0]) for group in groups}) > 1
    for group in groups:
        optimizer, number = owners[id(group)]
        kind, name = type(optimizer).__name__, str(group.get("name", number))
        if several:
            name = kind if len(optimizer.param_groups) == 1 and "name" not in group else f"{kind}.{name}"
        names.append(name)
    return [
        name if names.count(name) == 1 else f"{name} ({names[:number].count(name) + 1})"
        for number, name in enumerate(names)
    ]


def peak_lrs(optimizers: Iterable[Any], *, cycled: bool = True) -> list[float]:
    """Return the lr of each group of `groups_of` at the peak of its optimizer's scheduler; see `group_peaks`.

    The schedulers of several optimizers may be at different places.
    """
    peaks: dict[int, float] = {}
    for optimizer in optimizers:
        groups = [group for group in groups_of([optimizer]) if id(group) not in peaks]
        peaks |= {
            id(group): peak for group, peak in zip(groups, group_peaks(groups, cycled=cycled), strict=True)
        }
    return [*peaks.values()]


def group_peaks(groups: Sequence[Group], *, cycled: bool = True) -> list[float]:
    """Return the lr of each param group of an optimizer at the peak of its scheduler, if it has one.

    - A scheduler that multiplies the lrs of all groups by one factor leaves their ratios as they are. One
      with different factors, such as `LambdaLR` with a list, changes the ratios: the lrs in use count.
    - While all lrs are 0, at the start of a warmup, the lrs that the scheduler started from count.
    - `OneCycleLR` keeps its peaks in the groups, under `max_lr`; without `cycled`, they do not count.
    - timm keeps the decay over layers as `lr_scale` in the groups; its schedulers multiply by it. It counts
      here too, whether a scheduler has already multiplied by it or not.
    """
    lrs = [float(group["lr"]) for group in groups]
    starts = [float(group["initial_lr"] if "initial_lr" in group else group["lr"]) for group in groups]
    scheduled = ["initial_lr" in group for group in groups]
    factors = [lr / start for lr, start, on in zip(lrs, starts, scheduled, strict=True) if on and start > 0]
    factor = max(factors, default=1.0)
    if factor > 0:
        peaks = [lr / factor if on else lr for lr, on in zip(lrs, scheduled, strict=True)]
    else:
        peaks = starts
    if cycled:
        peaks = [float(group.get("max_lr", peak)) for group, peak in zip(groups, peaks, strict=True)]
    scales = [float(group.get("lr_scale", 1.0)) for group in groups]
    if len({*scales}) > 1 and math.isclose(min(peaks), max(peaks)):  # nothing has multiplied by them yet
        return [peak * scale for peak, scale in zip(peaks, scales, strict=True)]
    return peaks


def base_lr(optimizers: Sequence[Any]) -> float:
    """Return the lr that a recommended lr stands for: the peak lr of the first group whose lr is not 0.

    With timm's decay over layers it is the lr before the decay.

    Raises:
        UsageError: if every lr is 0.
    """
    return base_of(groups_of(optimizers), peak_lrs(optimizers))


def base_of(groups: Sequence[Group], peaks: Sequence[float]) -> float:
    """Return the `base_lr` of groups with these peaks."""
    for group, peak in zip(groups, peaks, strict=True):
        if peak > 0:
            return peak / decay_over_layers(group)
    raise UsageError("every param group of the optimizer has lr 0; give at least one a positive lr.")


def decay_over_layers(group: Group) -> float:
    """Return the factor by which timm's schedulers multiply the lr of a group."""
    return float(group.get("lr_scale", 1.0) or 1.0)


def lr_ratios(optimizers: Sequence[Any]) -> list[float]:
    """Return the peak lr of each param group as a multiple of `base_lr`.

    Raises:
        UsageError: if every lr is 0.
    """
    peaks = peak_lrs(optimizers)
    base = base_of(groups_of(optimizers), peaks)
    return [peak / base for peak in peaks]


def set_lr(group: Group, lr: float, key: str = "lr") -> None:
    """Set an lr of a param group; an lr in a tensor, as of capturable optimizers, keeps its tensor."""
    if isinstance(group[key], Tensor):
        group[key].fill_(lr)
    else:
        group[key] = lr


def ratios_in_words(optimizers: Sequence[Any]) -> str | None:
    """Say which group the lr is for and what the other groups get; None if all groups have the same lr."""
    groups, ratios = groups_of(optimizers), lr_ratios(optimizers)
    if all(math.isclose(ratio, 1.0) for ratio in ratios):
        return None
    names = [str(group.get("name", number)) for number, group in enumerate(groups)]
    if any("lr_scale" in group for group in groups):
        which = "The lr is the one before the decay over layers"
    else:
        first = next(number for number, ratio in enumerate(ratios) if ratio > 0)
        trained = any(parameter.requires_grad for parameter in groups[first].get("params", ()))
        which = f"The lr is that of param group {names[first]}{'' if trained else ', which trains nothing'}"
    by_ratio: dict[str, list[str]] = {}
    for name, ratio in zip(names, ratios, strict=True):
        by_ratio.setdefault(f"{ratio:.3g}", []).append(name)
    parts = [
        f"{', '.join(members)}: {ratio}x"
        if len(members) <= 3
        else f"{counted(len(members), 'group')}: {ratio}x"
        for ratio, members in by_ratio.items()
    ]
    return f"{which}; the groups keep their ratios ({'; '.join(parts)})"
