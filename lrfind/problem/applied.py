"""How a new lr reaches the param groups of a training and its schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim.lr_scheduler import OneCycleLR

from lrfind.errors import UsageError, counted
from lrfind.problem.rates import Group, base_of, decay_over_layers, groups_of, peak_lrs, set_lr

SCALED_KEYS = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""The lrs in a param group: the one in use, and those from which a scheduler computes it."""
SCALED_LISTS = ("base_lrs", "max_lrs", "base_values", "_last_lr")
"""The lists of lrs in a scheduler, one lr for each param group (`base_values` is timm's)."""


def take_back(scheduler: Any) -> None:
    """Set lrs back to those of their scheduler, if a rate was applied without it; see `apply_lr`.

    Raises:
        UsageError: if the scheduler keeps its lrs in a way that is not known here.
    """
    schedulers = _single_schedulers(scheduler)
    starts, lrs = dict[int, float](), dict[int, float]()
    groups = {id(group): group for single in schedulers for group in _groups_under(single)}
    for single in reversed(schedulers):  # one that contains others comes before them, and knows the lr in use
        members = [id(group) for group in _groups_under(single)]
        if not hasattr(single, "max_lrs"):  # CyclicLR starts elsewhere
            starts = dict(zip(members, getattr(single, "base_lrs", ()), strict=False)) | starts
        lrs |= zip(members, getattr(single, "_last_lr", ()), strict=False)
    for key in starts.keys() & lrs.keys():
        group, start = groups[key], starts[key]
        if "initial_lr" in group and float(group["initial_lr"]) != float(start):
            set_lr(group, start, "initial_lr")
            set_lr(group, lrs[key])


def apply_lr(
    lr: float,
    optimizers: Sequence[Any],
    scheduler: Any = None,
    shares: Sequence[float] | None = None,
    highest: Sequence[tuple[Sequence[Group], float]] = (),
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
        highest: the groups of an optimizer, and the highest lr that its scheduler is going to give them;
            this lr then stands for the peak of these groups.

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
    # The lr that `lr` stands for, and how far the share of each group differs from its ratio.
    schedulers = [] if scheduler is None else _single_schedulers(scheduler)
    peak_of = _peaks(optimizers, schedulers)
    base = base_of(groups, [peak_of[id(group)] for group in groups])
    changes = {
        id(group): share * base / peak_of[id(group)]
        for group, share in zip(groups, shares or (), strict=False)
        if peak_of[id(group)] > 0
    }
    for members, top in highest:
        peak = max(peak_of.get(id(group), 0.0) for group in members)
        changes |= {id(group): changes.get(id(group), 1.0) * peak / top for group in members if peak > 0}

    def scaled(value: Any, group: Group | None) -> Any:
        return lr * (float(value) / base) * changes.get(id(group), 1.0)

    # The lrs in the groups, and those that the schedulers keep.
    lrs = []
    for group in groups:
        anew = not schedulers and "initial_lr" in group
        for key in ("lr", "initial_lr") if anew else SCALED_KEYS:
            if group.get(key) is not None:
                value = peak_of[id(group)] / decay_over_layers(group) if anew else group[key]
                lrs.append((group, scaled(value, group), key))
    for group, value, key in reversed(lrs):  # of groups with the same tensor, the first one has its share
        set_lr(group, value, key)
    for single in schedulers:
        moved = dict(enumerate(_groups_under(single)))
        for name in SCALED_LISTS:
            values = getattr(single, name, None)
            if isinstance(values, list | tuple):
                setattr(single, name, [scaled(value, moved.get(n)) for n, value in enumerate(values)])
        if (lowest := getattr(single, "eta_min", None)) is not None:  # of the schedulers with a cosine
            single.eta_min = scaled(lowest, moved.get(0))


def _peaks(optimizers: Sequence[Any], schedulers: Sequence[Any]) -> dict[int, float]:
    """Return the lr of each param group, by its id, at the peak of the scheduler that moves it."""
    groups = groups_of(optimizers)
    cycled = not schedulers or any(isinstance(single, OneCycleLR) for single in schedulers)
    peak_of = dict(zip(map(id, groups), peak_lrs(optimizers, cycled=cycled), strict=True))
    for single in schedulers:
        if hasattr(single, "max_lrs"):
            peak_of |= zip(map(id, _groups_under(single) or groups), single.max_lrs, strict=False)
    return peak_of


def _groups_under(scheduler: Any) -> Sequence[Group]:
    """Return the param groups that a scheduler moves; none if it does not name its optimizer."""
    groups: Sequence[Group] = getattr(getattr(scheduler, "optimizer", None), "param_groups", ())
    return groups


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
