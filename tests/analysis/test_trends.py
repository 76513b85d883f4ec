from __future__ import annotations

import numpy as np
import pytest

from lrfind.analysis.curves import smooth
from lrfind.analysis.trends import over_seeds, trend


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.25])
def test_the_trend_of_a_clean_loss_is_the_loss(rate: float) -> None:
    loss = np.exp(-rate * np.arange(200))
    np.testing.assert_allclose(trend(loss), loss, rtol=1e-12)


def test_the_trend_of_a_noisy_loss_is_nearer_to_the_truth_than_parabolas_most_of_all_at_the_end() -> None:
    truth = 2 * np.exp(-np.arange(300) / 30) + 0.3
    errors, peers = [], []
    for seed in range(20):
        loss = truth + 0.1 * np.random.default_rng(seed).standard_normal(300)
        errors.append(trend(loss) - truth)
        peers.append(smooth(loss).values - truth)
    assert np.std(errors) < np.std(peers)
    assert np.std(np.array(errors)[:, -5:]) < 0.8 * np.std(np.array(peers)[:, -5:])


def test_a_trend_begins_at_the_first_loss_and_ends_on_a_line_without_a_hook() -> None:
    loss = 3.0 - 0.01 * np.arange(100) + 0.2 * np.random.default_rng(0).standard_normal(100)
    result = trend(loss)
    assert result[0] == loss[0]
    assert np.abs(np.diff(result, 2)[-2:]).max() < 0.01


@pytest.mark.parametrize("size", [0, 1, 2, 3, 9, 19, 20, 21, 45])
def test_a_trend_is_as_long_as_its_loss(size: int) -> None:
    assert trend(np.linspace(2.0, 1.0, size)).shape == (size,)


def test_a_blow_up_does_not_leak_into_the_trend_before_it() -> None:
    loss = np.concatenate([np.linspace(2.0, 1.0, 90), [1e30] * 10])
    assert trend(loss).max() <= 10


def test_a_seed_that_diverged_counts_as_high_and_one_that_was_cut_off_does_not_count() -> None:
    rows = [np.array([1.0, 1.0, 1.0, 1.0]), np.array([2.0, 2.0]), np.array([3.0])]
    middle, low, high = over_seeds(rows, [False, True, True])
    assert middle.tolist() == [2.0, 2.0]  # then two of three have diverged
    middle, low, high = over_seeds(rows, [False, False, True])
    assert (middle.tolist(), low.tolist(), high.tolist()) == ([2.0, 2.0], [1.0, 1.0], [3.0, 2.0])
    assert over_seeds(rows, [False] * 3)[0].tolist() == [2.0, 1.5, 1.0, 1.0]
    assert over_seeds([], [])[0].size == 0
