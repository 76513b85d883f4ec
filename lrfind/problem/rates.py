"""Rates: which param groups a training has, how they share one lr, and how a new lr reaches all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lrfind.errors import UsageError, counted

Group = dict[str, Any]
"""A param group of an optimizer: its parameters and their settings."""

SCALED_KEYS = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""The lrs in a param group: the one in use, and those from which a scheduler computes it."""
SCALED_LISTS = ("base_lrs", "max_lrs", "base_values", "_last_lr")
"""The lists of lrs in a scheduler, one lr for each param group (`base_values` is timm's)."""


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


def peak_lrs(groups: Sequence[Group]) -> list[float]:
    """Return the lr of each param group at the peak of the scheduler, if one is attached.

    - A scheduler that multiplies the lrs of all groups by one factor leaves their ratios as they are. One
      with different factors, such as `LambdaLR` with a list, changes the ratios: the lrs in use count.
    - While all lrs are 0, at the start of a warmup, the lrs that the scheduler started from count.
    - `OneCycleLR` keeps its peaks in the groups, under `max_lr`.
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
    peaks = [float(group.get("max_lr", peak)) for group, peak in zip(groups, peaks, strict=True)]
    scales = [float(group.get("lr_scale", 1.0)) for group in groups]
    if len({*scales}) > 1 and math.isclose(min(peaks), max(peaks)):  # nothing has multiplied by them yet
        return [peak * scale for peak, scale in zip(peaks, scales, strict=True)]
    return peaks


def base_lr(groups: Sequence[Group]) -> float:
    """Return the lr that a recommended lr stands for: the peak lr of the first group whose lr is not 0.

    With timm's decay over layers it is the lr before the decay.

    Raises:
        UsageError: if every lr is 0.
    """
    return _base_of(groups, peak_lrs(groups))


def _base_of(groups: Sequence[Group], peaks: Sequence[float]) -> float:
    for group, peak in zip(groups, peaks, strict=True):
        if peak > 0:
            return peak / _decay_over_layers(group)
    raise UsageError("every param group of the optimizer has lr 0; give at least one a positive lr.")


def _decay_over_layers(group: Group) -> float:
    """Return the factor by which timm's schedulers multiply the lr of a group."""
    return float(group.get("lr_scale", 1.0) or 1.0)


def lr_ratios(groups: Sequence[Group]) -> list[float]:
    """Return the peak lr of each param group as a multiple of `base_lr`.

    Raises:
        UsageError: if every lr is 0.
    """
    base = base_lr(groups)
    return [peak / base for peak in peak_lrs(groups)]


def set_lr(group: Group, lr: float) -> None:
    """Set the lr of a param group; an lr in a tensor, as of capturable optimizers, keeps its tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def ratios_in_words(groups: Sequence[Group]) -> str | None:
    """Say which group the lr is for and what the other groups get; None if all groups have the same lr."""
    ratios = lr_ratios(groups)
    if all(math.isclose(ratio, 1.0) for ratio in ratios):
        return None
    names = [str(group.get("name", number)) for number, group in enumerate(groups)]
    if any("lr_scale" in group for group in groups):
        which = "The lr is the one before the decay over layers"
    else:
        first = next(number for number, ratio in enumerate(ratios) if ratio > 0)
        which = f"The lr is that of param group {names[first]}"
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


def apply_lr(
    lr: float, optimizers: Sequence[Any], scheduler: Any = None, shares: Sequence[float] | None = None
) -> None:
    """Give an lr to every param group, and to the scheduler, as if they had been created with it.

    All lrs are multiplied by the same number, so the groups keep their ratios, and a scheduler that is
    under way stays where it is. `ReduceLROnPlateau` keeps no peak: the lr in use becomes `lr`. Without a
    scheduler, the groups forget what an earlier one left: each starts anew from its share of `lr`.

    Args:
        lr: the peak lr; see `base_lr`.
        optimizers: the optimizers, changed in place.
        scheduler: the scheduler of the optimizers, or a list of several; changed in place.
        shares: the lr of each group of `groups_of` as a multiple of `lr`; their own ratios when omitted.

    Raises:
        UsageError: if the scheduler keeps its lrs in a way that is not known here, or if the optimizers have
            another number of groups than there are shares.
    """
    groups = groups_of(optimizers)
    if shares is not None and len(shares) != len(groups):
        raise UsageError(
            f"the rates are for {counted(len(shares), 'param group')}, but these optimizers have"
            f" {len(groups)}; give all optimizers that were given to `find`, in the same order."
        )
    schedulers = [] if scheduler is None else _single_schedulers(scheduler)
    peaks = next((single.max_lrs for single in schedulers if hasattr(single, "max_lrs")), peak_lrs(groups))
    base = _base_of(groups, peaks)

    changes = {
        id(group): share * base / peak
        for group, share, peak in zip(groups, shares or (), peaks, strict=False)
        if peak > 0
    }  # how far the share of each group differs from its ratio

    def scaled(value: Any, group: Group | None) -> Any:
        return lr * (float(value) / base) * changes.get(id(group), 1.0)

    filled: set[int] = set()  # one tensor may be the lr of several groups
    for group, peak in zip(groups, peaks, strict=True):
        start = peak / _decay_over_layers(group)
        anew = ("lr", "initial_lr") if not schedulers and "initial_lr" in group else ()
        for key in SCALED_KEYS:
            if group.get(key) is not None:
                new = scaled(start if key in anew else group[key], group)
                if isinstance(group[key], Tensor):
                    if id(group[key]) not in filled:
                        group[key].fill_(new)
                    filled.add(id(group[key]))
                else:
                    group[key] = new
    for single in schedulers:
        members = dict(enumerate(getattr(getattr(single, "optimizer", None), "param_groups", ())))
        for name in SCALED_LISTS:
            values = getattr(single, name, None)
            if isinstance(values, list | tuple):
                setattr(single, name, [scaled(value, members.get(n)) for n, value in enumerate(values)])


def _single_schedulers(scheduler: Any) -> list[Any]:
    """Return a scheduler and those inside it.

    Raises:
        UsageError: if it is no scheduler that keeps a list of lrs.
    """
    if isinstance(scheduler, list | tuple):
        return [single for part in scheduler for single in _single_schedulers(part)]
    inner = [
        part for name in ("_schedulers", "scheduler") for part in _as_list(getattr(scheduler, name, None))
    ]
    known = any(hasattr(scheduler, name) for name in SCALED_LISTS)
    if not inner and not known:
        raise UsageError(
            f"scheduler: a {type(scheduler).__name__} keeps its lrs in a way that lrfind does not know;"
            " create it after `best.apply(optimizer)`."
        )
    return [
        *([scheduler] if known else []),
        *(single for part in inner for single in _single_schedulers(part)),
    ]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return [*value] if isinstance(value, list | tuple) else [value]
