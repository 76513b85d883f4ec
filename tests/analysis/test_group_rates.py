"""The search for the multipliers of param groups, on losses that are formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.group_rates import MOST_PROBES, Places, factor, search

UNTOUCHED = np.full(8, 10.0) + np.sin(np.arange(8))
NOISE = np.cos(7.0 * np.arange(8))


def bowl(*lowest: int, weights: tuple[float, ...] = (1.0, 1.0)) -> Callable[[Places], Array]:
    """The loss rises with the square of the distance from the best place of each group."""

    def losses(places: Places) -> Array:
        distance = sum(w * (p - b) ** 2 for w, p, b in zip(weights, places, lowest, strict=True))
        return 1.0 + distance + 0.01 * np.roll(NOISE, sum(places))

    return losses


def test_each_group_gets_its_own_best_rate() -> None:
    result = search(bowl(2, -1), 2, UNTOUCHED)
    assert result.best == (2, -1)
    assert result.multipliers == [factor(2 - result.common[0]), factor(-1 - result.common[1])]


def test_a_rate_that_is_wrong_for_all_groups_is_no_multiplier() -> None:
    result = search(bowl(-2, -2), 2, UNTOUCHED)
    assert result.common == (-2, -2)
    assert result.multipliers == [1.0, 1.0]


def test_a_group_that_does_not_matter_keeps_the_common_rate() -> None:
    assert search(bowl(0, 3, weights=(1.0, 1e-4)), 2, UNTOUCHED).multipliers == [1.0, 1.0]


def test_an_improvement_within_the_noise_is_none() -> None:
    def losses(size: float, places: Places) -> Array:
        noise = np.random.default_rng([*map(abs, places)]).normal(size=8)
        return 2.0 - 0.5 * (places == (1, 0)) + size * noise

    untouched = UNTOUCHED - 6
    assert search(partial(losses, 0.1), 2, untouched).multipliers == [factor(1), 1.0]
    assert search(partial(losses, 4.0), 2, untouched).multipliers[0] == 1.0


def test_a_rate_that_diverges_is_never_chosen() -> None:
    inside = bowl(3, 0)

    def losses(places: Places) -> Array:
        return inside(places) if places[0] <= 1 else np.full(8, math.inf)

    result = search(losses, 2, UNTOUCHED)
    assert result.best == (1, 0)
    assert result.beside(0)[2] is None


def test_a_search_without_steps_left_keeps_the_common_rate() -> None:
    result = search(lambda _: None, 3, UNTOUCHED)
    assert result.cut
    assert result.multipliers == [1.0, 1.0, 1.0]


def test_a_search_that_is_cut_keeps_what_was_certain() -> None:
    inside, taken = bowl(3, 0), []

    def losses(places: Places) -> Array | None:
        taken.append(places)
        return inside(places) if len(taken) <= 8 else None

    result = search(losses, 2, UNTOUCHED)
    assert result.cut
    assert result.best in taken[:8]
    assert result.score(result.best) <= result.score(result.common)


def test_no_search_takes_more_than_its_probes() -> None:
    taken = []

    def endless(places: Places) -> Array:
        taken.append(places)
        return 100.0 - np.full(8, sum(places) + 0.5 * places[0])

    search(endless, 2, UNTOUCHED + 200)
    assert len(taken) == len({*taken}) <= 2 * MOST_PROBES
