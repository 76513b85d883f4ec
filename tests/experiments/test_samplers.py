from __future__ import annotations

import logging
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrfind.errors import UsageError
from lrfind.experiments import samplers
from lrfind.experiments.samplers import Trial, propose

PLAIN: tuple[str, ...] = ("random", "sobol")
LEARNING: tuple[str, ...] = ("tpe", "gp")
LOW, HIGH = 1e-5, 1.0


def unit(lrs: list[float]) -> np.ndarray:
    return np.log(np.array(lrs) / LOW) / math.log(HIGH / LOW)


def bowl(centre: float, diverged_above: float = math.inf) -> list[Trial]:
    """Return sixteen trials of a loss that is lowest where log10 lr is `centre`."""
    return [
        Trial(lr, (math.log10(lr) - centre) ** 2 if lr < diverged_above else math.inf)
        for lr in samplers.grid(LOW, HIGH, 16)
    ]


@given(st.floats(1e-9, 1), st.floats(1.001, 1e9), st.integers(0, 2**32), st.sampled_from(PLAIN))
def test_plain_proposals_stay_in_the_range(low: float, ratio: float, seed: int, sampler: str) -> None:
    lrs = propose(sampler, low, low * ratio, [], 20, 20, seed)
    assert len(lrs) == 20
    assert all(low <= lr <= low * ratio for lr in lrs)


@settings(max_examples=10, deadline=None)
@given(st.floats(1e-9, 1), st.floats(1.001, 1e9), st.integers(0, 2**32), st.sampled_from([-1, 1]))
def test_tpe_stays_in_the_range_when_the_best_is_at_its_end(
    low: float, ratio: float, seed: int, sign: int
) -> None:
    history = [Trial(lr, sign * math.log(lr)) for lr in samplers.grid(low, low * ratio, 8)]
    assert all(low <= lr <= low * ratio for lr in propose("tpe", low, low * ratio, history, 2, 16, seed))


def test_gp_stays_in_the_range_when_the_best_is_at_its_end() -> None:
    history = [Trial(lr, -math.log(lr)) for lr in samplers.grid(1 / 7, 5 / 7, 6)]
    (lr,) = propose("gp", 1 / 7, 5 / 7, history, 1, 16, seed=0)
    assert 1 / 7 <= lr <= 5 / 7


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 100), st.sampled_from(PLAIN))
def test_asking_in_two_parts_gives_the_same_lrs_as_asking_once(
    first: int, second: int, seed: int, sampler: str
) -> None:
    trials = first + second
    once = propose(sampler, LOW, HIGH, [], trials, trials, seed)
    before = propose(sampler, LOW, HIGH, [], first, trials, seed)
    after = propose(sampler, LOW, HIGH, [Trial(lr, 1.0) for lr in before], second, trials, seed)
    assert before + after == once


@pytest.mark.parametrize("sampler", LEARNING)
def test_a_learning_search_starts_with_the_sobol_draw(sampler: str) -> None:
    start = samplers.startup(40)
    assert start == 10
    assert propose(sampler, LOW, HIGH, [], start, 40, 7) == samplers.sobol(LOW, HIGH, start, 7)


@pytest.mark.parametrize("draw", [samplers.random, samplers.sobol])
def test_draws_are_log_uniform_and_differ_between_seeds(draw: object) -> None:
    assert callable(draw)
    quantiles = np.quantile(unit(draw(LOW, HIGH, 4096, 0)), [0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(quantiles, [0.1, 0.25, 0.5, 0.75, 0.9], atol=0.03)
    assert draw(LOW, HIGH, 3, 0) != draw(LOW, HIGH, 3, 1)


@pytest.mark.parametrize("count", [16, 50])
def test_sobol_is_more_even_than_random(count: int) -> None:
    def discrepancy(lrs: list[float]) -> float:
        return float(stats.kstest(unit(lrs), "uniform").statistic)

    for seed in range(10):
        even = discrepancy(samplers.sobol(LOW, HIGH, count, seed))
        assert even < discrepancy(samplers.random(LOW, HIGH, count, seed))
        assert even < 0.1


@given(st.floats(1e-9, 1), st.floats(1.001, 1e9), st.integers(2, 40))
def test_a_grid_is_even_in_log_lr_and_hits_both_ends(low: float, ratio: float, points: int) -> None:
    lrs = samplers.grid(low, low * ratio, points)
    assert len(lrs) == points
    np.testing.assert_allclose([lrs[0], lrs[-1]], [low, low * ratio], rtol=1e-11)
    np.testing.assert_allclose(np.diff(np.log(lrs)), math.log(ratio) / (points - 1), atol=1e-10)


@pytest.mark.parametrize("sampler", LEARNING)
@pytest.mark.parametrize("centre", [-3.8, -1.2])
def test_learning_samplers_go_where_the_loss_is_low(sampler: str, centre: float) -> None:
    proposed = propose(sampler, LOW, HIGH, bowl(centre), 8 if sampler == "tpe" else 1, 20, seed=0)
    assert np.median(np.abs(np.log10(proposed) - centre)) < 0.5  # 1.5 if uniform


@pytest.mark.parametrize("sampler", LEARNING)
def test_diverged_trials_teach_to_stay_below_them(sampler: str) -> None:
    proposed = propose(sampler, LOW, HIGH, bowl(-2.5, diverged_above=0.02), 1, 20, seed=0)
    assert proposed[0] < 0.02
    nothing_known = [Trial(lr, math.inf) for lr in samplers.sobol(LOW, HIGH, 4, 0)]
    (lr,) = propose(sampler, LOW, HIGH, nothing_known, 1, 16, seed=0)
    assert LOW <= lr <= HIGH


@pytest.mark.parametrize("sampler", LEARNING)
def test_an_ask_depends_only_on_its_arguments_and_prints_nothing(
    sampler: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    monkeypatch.setattr(logging.getLogger("optuna"), "handlers", [caplog.handler])
    verbosity = optuna.logging.get_verbosity()
    few = bowl(-3.8)[::3]
    first = propose(sampler, LOW, HIGH, few, 1, 16, seed=3)
    other = propose(sampler, LOW, HIGH, bowl(-1.2)[::3], 1, 16, seed=4)
    assert propose(sampler, LOW, HIGH, few, 1, 16, seed=3) == first != other
    assert capsys.readouterr() == ("", "")
    assert caplog.records == []
    assert optuna.logging.get_verbosity() == verbosity


@pytest.mark.parametrize(
    ("sampler", "module"), [("sobol", "scipy.stats.qmc"), ("tpe", "optuna"), ("gp", "optuna")]
)
def test_a_missing_package_says_how_to_get_it(
    sampler: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    package = module.split(".")[0]
    with pytest.raises(UsageError, match=rf"{sampler}.* needs {package}, .*pip install 'lrfind\[search\]'"):
        propose(sampler, LOW, HIGH, [], 5, 5, seed=0)


def test_random_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("scipy", "scipy.stats.qmc", "optuna"):
        monkeypatch.setitem(sys.modules, module, None)
    assert len(propose("random", LOW, HIGH, [], 3, 3, seed=0)) == 3


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "gp"])
def test_the_lr_to_start_from_is_not_proposed_again(sampler: str) -> None:
    # The answer of an earlier search with the same seed is one of the lrs that the sampler begins with.
    first = samplers.propose(sampler, 1e-4, 1.0, [], 4, 8, 0)
    for start in first:
        further = samplers.propose(sampler, 1e-4, 1.0, [samplers.Trial(start, math.nan)], 3, 8, 0)
        assert len({start, *further}) == 4
