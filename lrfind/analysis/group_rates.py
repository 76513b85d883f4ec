"""One rate for each param group: which multipliers of the common rate are probed, and what they show.

The common rate moves all groups together. From the best common rate, `search` changes the lr of one group
after the other by powers of sqrt(10), as long as the loss of the probes certainly falls. All these probes
start from the same weights and see the same batches, so the noise between batches cancels out when their
losses are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.noise import certainty_of
from lrfind.analysis.probing import PER_DECADE, SIGNIFICANT

Places = tuple[int, ...]
"""The multiplier of each group's lr, as a place on the grid of rates: 10^(place / PER_DECADE)."""

FURTHEST = 6  # places: the lr of a group is between 0.001 and 1000 times that of the best common probe
PASSES = 2  # over the groups
WORTH = 0.02  # the least share of the fall of the loss that a move must add
MOST_PROBES = 9  # for each group


def factor(place: int) -> float:
    """Return the multiplier at a place.

    >>> factor(0), factor(1), factor(-2)
    (1.0, 3.16228, 0.1)
    """
    return float(f"{10 ** (place / PER_DECADE):.6g}")


def moved(places: Places, group: int, by: int) -> Places:
    """Return the multipliers with one group's place moved.

    >>> moved((0, 1), 0, -1)
    (-1, 1)
    """
    return (*places[:group], places[group] + by, *places[group + 1 :])


@dataclass(frozen=True)
class GroupSearch:
    """The measurements of a search for the multipliers of param groups.

    Attributes:
        untouched: (n,) the losses of the untouched model on the batches that are compared.
        losses: the multipliers that were probed -> (n,) the losses on these batches; infinite for a probe
            that was stopped.
        common: the best of the probes in which all groups have the same multiplier.
        best: the best multipliers that are certainly better than those before.
        cut: whether the search ended before it was done, because its steps or its seconds did.
    """

    untouched: Array
    losses: Mapping[Places, Array] = field(default_factory=dict)
    common: Places = ()
    best: Places = ()
    cut: bool = False

    def score(self, places: Places) -> float | None:
        """Return the mean loss with these multipliers; None if they were not probed."""
        return float(self.losses[places].mean()) if places in self.losses else None

    def better(self, places: Places, other: Places) -> bool:
        """Return whether `places` certainly learn more than `other`, by enough to be worth a move."""
        before, after = self.losses[other], self.losses[places]
        fall = float(self.untouched.mean() - before.mean())
        enough = float(before.mean() - after.mean()) >= WORTH * fall
        return enough and certainty_of(before - after) >= SIGNIFICANT

    @property
    def multipliers(self) -> list[float]:
        """The lr of each group as a multiple of the best common one."""
        return [factor(place - common) for place, common in zip(self.best, self.common, strict=True)]

    def beside(self, group: int) -> list[float | None]:
        """Return the mean loss at a third of a group's rate, at its rate, and at three times its rate.

        None stands for a probe that was stopped, or that there was no budget for.
        """
        scores = [self.score(moved(self.best, group, by)) for by in (-1, 0, 1)]
        return [score if score is not None and math.isfinite(score) else None for score in scores]


def search(measure: Callable[[Places], Array | None], count: int, untouched: Array) -> GroupSearch:
    """Look for the multipliers with which the probes learn fastest.

    First all groups move together, to the best common rate of probes of this length. Then each group is
    probed with a higher and a lower rate. Beginning with the group that lowers the loss most, one group after
    the other climbs as long as a step certainly helps. If any group moved, this is repeated once, because it
    may have moved the best rates of the others.

    Args:
        measure: a function that returns (n,) the losses of a probe with these multipliers of the common rate;
            None if steps or seconds have run out.
        count: the number of groups.
        untouched: (n,) the losses of the untouched model.
    """
    state = _Search(measure, MOST_PROBES * count, untouched)
    start: Places = (0,) * count
    if not state.probe(start):
        return replace(state.result, common=start, best=start)
    state.move(start)
    for by in (-1, 1):
        while state.probe(further := tuple(place + by for place in state.result.best)):
            if not state.lower(further):
                break
            state.move(further)
    state.result = replace(state.result, common=state.result.best)
    for _ in range(PASSES):
        before = state.result.best
        for group in state.by_promise(count):
            for by in (1, -1):
                while state.probe(further := moved(state.result.best, group, by)):
                    if not state.result.better(further, state.result.best):
                        break
                    state.move(further)
        if state.result.best == before:
            break
    return state.result


class _Search:
    """A search under way: probes each set of multipliers once, within a number of probes."""

    def __init__(self, measure: Callable[[Places], Array | None], most: int, untouched: Array) -> None:
        self._measure, self._most = measure, most
        self.result = GroupSearch(untouched)

    def probe(self, places: Places) -> bool:
        """Probe these multipliers, unless they were probed before; return whether their losses are known."""
        if places in self.result.losses:
            return True
        if max(map(abs, places)) > FURTHEST:
            return False
        losses = self._measure(places) if len(self.result.losses) < self._most else None
        if losses is None:
            self.result = replace(self.result, cut=True)
            return False
        self.result = replace(self.result, losses={**self.result.losses, places: losses})
        return True

    def lower(self, places: Places) -> bool:
        """Return whether the loss with these multipliers is certainly below the best one so far."""
        before, after = self.result.losses[self.result.best], self.result.losses[places]
        if not np.isfinite(before).all():
            return bool(np.isfinite(after).all())
        return certainty_of(before - after) >= SIGNIFICANT

    def move(self, places: Places) -> None:
        """Make these the best multipliers."""
        self.result = replace(self.result, best=places)

    def by_promise(self, count: int) -> Sequence[int]:
        """Probe a higher and a lower rate of each group; return the groups, the lowest loss first."""

        def lowest(group: int) -> float:
            neighbours = [moved(self.result.best, group, by) for by in (1, -1)]
            known = [places for places in neighbours if self.probe(places)]
            return min((float(self.result.losses[places].mean()) for places in known), default=math.inf)

        scores = [lowest(group) for group in range(count)]
        return sorted(range(count), key=scores.__getitem__)


@dataclass(frozen=True)
class GroupRate:
    """The rate of one param group.

    Attributes:
        name: the name of the group.
        ratio: its lr as a multiple of the common lr, as the user gave it.
        multiplier: a further factor, measured by probes; 1 if no other was certainly better.
        losses: the mean loss of probes at a third of the group's rate, at its rate, and at three times its
            rate, with the other groups at theirs; None for a probe that was stopped or that was not trained.
    """

    name: str
    ratio: float
    multiplier: float
    losses: Sequence[float | None] = (None, None, None)

    def lr(self, common: float) -> float:
        """Return the lr of the group, with three digits, for a common lr.

        >>> GroupRate("head", 2.0, 3.16228).lr(0.01)
        0.0632
        """
        return float(f"{common * self.ratio * self.multiplier:.3g}")


@dataclass(frozen=True)
class GroupRates:
    """The rates of all param groups, and what they cost.

    Attributes:
        rates: one entry for each group that is trained.
        reason: what was measured, in sentences.
        multipliers: the multiplier of every param group, also of those that have no rate of their own.
        ratios: the lr of every param group as a multiple of the common lr, without the multipliers.
        untouched: the mean loss of the untouched model on the batches that are compared.
        steps: the number of steps of the probes.
        probes: the number of the probes.
        cost: their gradient steps.
        wants_budget: whether a larger budget would first go to more probes of groups, or to the trainings
            that confirm their rates.
    """

    rates: Sequence[GroupRate]
    reason: str
    multipliers: Sequence[float]
    ratios: Sequence[float]
    untouched: float | None = None
    steps: int = 0
    probes: int = 0
    cost: int = 0
    wants_budget: bool = False

    @property
    def changed(self) -> list[GroupRate]:
        """The rates of the groups that do not keep the common rate."""
        return [rate for rate in self.rates if rate.multiplier != 1]

    @property
    def shares(self) -> list[float]:
        """The lr of every param group as a multiple of the common lr."""
        return [ratio * factor for ratio, factor in zip(self.ratios, self.multipliers, strict=True)]
