"""Which peaks a sweep or a comparison tries next, from what all rounds before found."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrfind import samplers
from lrfind.config import CompareSection, GridSection, LanesSection, SearchSection
from lrfind.plan import LaneResult
from lrfind.readings import Reading, read_sweep

LOWEST, HIGHEST = 1e-9, 1e4
"""How far `outward` goes."""
AROUND = 10**0.5
"""Peaks of a comparison that are not given lie half a decade apart, around the optimizer's lr."""
MOST_PEAKS = 7
"""Of a variant in such a comparison."""


def first_peaks(section: LanesSection, lr: float, seed: int) -> list[float]:
    """The lrs of the first round.

    Args:
        section: of the config.
        lr: the optimizer's, which the peaks of a comparison lie around.
        seed: of a search.
    """
    if isinstance(section, CompareSection):
        if section.common_peak is not None:
            return [section.common_peak]
        return list(section.peaks or (_rounded(lr / AROUND), lr, _rounded(lr * AROUND)))
    if isinstance(section, GridSection):
        return list(section.lrs or samplers.grid(section.low, section.high, section.points))
    assert isinstance(section, SearchSection)
    given = [] if section.start is None else [section.start]
    count = section.trials
    if section.sampler in ("tpe", "gp"):
        count = min(count, samplers.startup(section.trials))
    return given + _proposed(
        section, [samplers.Trial(lr, math.nan) for lr in given], count - len(given), seed
    )


def next_peaks(
    section: LanesSection, planned: Sequence[float], results: Sequence[LaneResult], seed: int
) -> list[float]:
    """The lrs of another round of a variant, from what all rounds before found; empty when it is done.

    Args:
        section: of the config.
        planned: the lr of every lane so far, in order.
        results: of every lane so far.
        seed: of the search.
    """
    if isinstance(section, GridSection):
        return outward(read_sweep(results, section.judge, section.tolerance)) if section.extend else []
    if isinstance(section, CompareSection):
        given = section.peaks is not None or section.common_peak is not None
        if given or len({*planned}) >= MOST_PEAKS:
            return []
        return outward(read_sweep(results, section.judge))
    assert isinstance(section, SearchSection)
    rates = read_sweep(results, section.judge, section.tolerance).rates
    losses = {rate.lr: math.inf if rate.loss is None else rate.loss for rate in rates}
    history = [samplers.Trial(lr, losses[lr]) for lr in dict.fromkeys(planned)]
    return _proposed(section, history, min(section.batch, section.trials - len(history)), seed)


def _proposed(
    section: SearchSection, history: Sequence[samplers.Trial], count: int, seed: int
) -> list[float]:
    if count <= 0:
        return []
    return samplers.propose(section.sampler, section.low, section.high, history, count, section.trials, seed)


def outward(reading: Reading) -> list[float]:
    """The next lr outside a grid whose best lr is its lowest or highest, or all of whose lrs diverged."""
    lrs = [rate.lr for rate in reading.rates]
    all_diverged = all(rate.outcome == "diverged" for rate in reading.rates)
    side = "low" if all_diverged else reading.boundary
    if side == "low":
        further = lrs[0] * (lrs[0] / lrs[1] if len(lrs) > 1 else 0.1)
    elif side == "high":
        further = lrs[-1] * (lrs[-1] / lrs[-2])
    else:
        return []
    return [float(f"{further:.12g}")] if LOWEST <= further <= HIGHEST else []


def _rounded(lr: float) -> float:
    return float(f"{lr:.3g}")
