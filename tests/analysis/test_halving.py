from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfind.analysis.halving import recent_loss, rungs, survivors

LOSSES = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, ()), (2, (1,)), (3, (1, 2)), (10, (3, 6)), (400, (100, 200))]
)
def test_lanes_are_halved_at_a_quarter_and_at_a_half(steps: int, expected: tuple[int, ...]) -> None:
    assert rungs(steps) == expected


@given(st.integers(1, 10**9))
def test_no_lane_is_pruned_before_a_quarter_of_the_steps_nor_at_the_end(steps: int) -> None:
    halvings = rungs(steps)
    assert len(halvings) <= 2
    assert all(4 * rung >= steps and rung < steps for rung in halvings)


@pytest.mark.parametrize(("steps", "expected"), [(1, 0.0), (5, 4.0), (6, 4.5), (10, 8.5), (100, 89.5)])
def test_a_lane_is_judged_by_the_mean_of_its_last_fifth(steps: int, expected: float) -> None:
    assert recent_loss(range(steps)) == expected


@given(LOSSES, st.integers(0, 20), st.integers(0, 1))
def test_the_best_lanes_continue_and_losses_that_are_not_finite_rank_last(
    recent: list[float], stopped: int, rung: int
) -> None:
    total = len(recent) + stopped
    kept = survivors(recent, total, rung)
    assert kept == sorted(set(kept))
    assert len(kept) == max(1, min(len(recent), -(-total // (2, 4)[rung])))
    ranks = [loss if math.isfinite(loss) else math.inf for loss in recent]
    dropped = [rank for place, rank in enumerate(ranks) if place not in kept]
    assert max(ranks[place] for place in kept) <= min(dropped, default=math.inf)
