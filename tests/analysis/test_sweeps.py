from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from lrfind.analysis.lanes import Evaluation, LaneResult, Outcome
from lrfind.analysis.sweeps import SweepResult, beyond_noise, rate_of, read_sweep

Ending = float | Outcome
"""How a lane ended: a loss if it finished, else its outcome."""
FIRST = 64.0
STOPPED: tuple[Ending, ...] = ("diverged", "pruned")
LOSSES = st.integers(0, 80).map(float)
ROWS = st.lists(LOSSES | st.just("diverged"), min_size=2, max_size=8)


def lane(lr: float, ending: Ending, seed: int = 0, first: float = FIRST, val: float | None = None) -> LaneResult:  # fmt: skip
    finished = not isinstance(ending, str)
    loss = np.array([first, ending if finished else math.nan])
    evaluations = () if val is None else (Evaluation(2, val, None),)
    outcome = "finished" if finished else ending
    return LaneResult(0, seed, 2, lr, outcome, np.full(2, lr), loss, evaluations=evaluations)


def sweep(*rows: Sequence[Ending], shift: float = 0.0, scale: float = 1.0, lrs: Sequence[float] = ()) -> list[LaneResult]:  # fmt: skip
    """Return lanes with one seed per row and one lr per column; the lrs are 1, 2, 4, ... by default."""
    lrs = lrs or [2.0**i for i in range(len(rows[0]))]
    return [
        lane(lr, end if isinstance(end, str) else scale * end + shift, seed, scale * FIRST + shift)
        for seed, row in enumerate(rows)
        for lr, end in zip(lrs, row, strict=True)
    ]


def read(lanes: Sequence[LaneResult], tolerance: float = 0.125) -> SweepResult:
    return read_sweep(lanes, "train_loss", tolerance)


@given(st.lists(st.tuples(*[LOSSES | st.sampled_from(STOPPED)] * 3), min_size=1, max_size=6))
def test_the_best_has_the_lowest_median_and_lies_among_the_best_of_each_seed(
    columns: list[tuple[Ending, ...]],
) -> None:
    comparable = [[math.inf if end == "pruned" else end for end in ends] for ends in columns if "diverged" not in ends]  # fmt: skip
    reading = read(sweep(*zip(*columns, strict=True)))
    lowest = min(map(statistics.median, comparable), default=math.inf)
    assert (math.inf if reading.best is None else reading.best.loss) == lowest
    if reading.best and reading.low and reading.high:
        assert reading.low <= reading.best.lr <= reading.high


def test_the_interval_spans_the_lrs_that_are_best_for_one_seed() -> None:
    reading = read(sweep([1, 2, 9, 9], [9, 1, 2, 9], [9, 2, 1, 9]))
    assert (reading.low, reading.best.lr, reading.high) == (1, 2, 4)
    alone = read(sweep([2, 1, 3]))
    assert (alone.low, alone.best.lr, alone.high) == (None, 2, None)


def test_an_lr_at_which_one_seed_diverged_is_never_best() -> None:
    reading = read(sweep([5, 1], [5, 1], [5, "diverged"]))
    assert [rate.outcome for rate in reading.rates] == ["finished", "diverged"]
    assert (reading.best.lr, reading.low, reading.high) == (1, 1, 1)
    assert read(sweep(["diverged", "diverged"])).best is None


def test_a_pruned_lane_is_infinitely_bad_and_an_lr_is_pruned_if_most_of_its_lanes_are() -> None:
    once, twice = read(sweep([1, "pruned"], [2, "pruned"], ["pruned", 1])).rates
    assert (once.outcome, once.loss) == ("finished", 2)
    assert (twice.outcome, twice.loss) == ("pruned", None)


@given(ROWS, st.integers(-9, 9), st.sampled_from([0.25, 1.0, 4.0]))
def test_the_usable_range_surrounds_the_best_and_ignores_offset_and_scale(
    row: list[Ending], shift: int, scale: float
) -> None:
    reading = read(sweep(row))
    assert read(sweep(row, shift=shift, scale=scale)).usable == reading.usable
    assume(reading.best and reading.best.loss < FIRST)
    low, high = reading.usable
    allowed = reading.best.loss + (FIRST - reading.best.loss) / 8
    good = {rate.lr: rate.loss is not None and rate.loss <= allowed for rate in reading.rates}
    assert low <= reading.best.lr <= high
    assert all(good[lr] for lr in good if low <= lr <= high)
    assert not good.get(low / 2, False)
    assert not good.get(high * 2, False)


def test_no_rate_is_usable_when_the_loss_did_not_fall() -> None:
    reading = read(sweep([FIRST, FIRST + 1]))
    assert (reading.best.lr, reading.usable) == (1, None)


@given(ROWS)
def test_on_an_even_grid_sensitivity_is_the_plain_mean_of_the_paper(row: list[Ending]) -> None:
    capped = [FIRST if end == "diverged" else min(end, FIRST) for end in row]
    sensitivity = read(sweep(row)).sensitivity
    expected = statistics.mean(capped) - min(capped)
    assert sensitivity == (None if set(row) == {"diverged"} else pytest.approx(expected, abs=1e-9))


def test_many_lrs_in_one_place_do_not_change_the_sensitivity() -> None:
    even = np.linspace(-4, 0, 17)
    clustered = np.union1d(even, np.linspace(-2.1, -1.9, 50))
    plain, weighted = (read(sweep(4 * (x + 2) ** 2, lrs=[*10**x])).sensitivity for x in (even, clustered))
    assert weighted == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("ending", ["pruned", "failed"])
def test_there_is_no_sensitivity_when_a_loss_is_not_known(ending: Outcome) -> None:
    assert read(sweep([1, ending, 3])).sensitivity is None
    assert read(sweep([1, 2, 3])).sensitivity == 1


@pytest.mark.parametrize(
    ("row", "edge", "boundary"),
    [
        ([3, 2, 1, "diverged", "diverged"], math.sqrt(4 * 8), None),
        ([3, 1, "pruned", "diverged", 2], math.sqrt(2 * 8), None),
        (["diverged", 1, 2], None, None),
        ([3, 2, 1], None, "high"),
        ([1, 2, "diverged"], math.sqrt(2 * 4), "low"),
        ([2, 1, 2], None, None),
    ],
)
def test_where_training_breaks_down_and_whether_the_best_is_at_an_end(
    row: list[Ending], edge: float | None, boundary: str | None
) -> None:
    reading = read(sweep(row))
    assert reading.edge == (None if edge is None else pytest.approx(edge))
    assert reading.boundary == boundary


def test_the_validation_loss_decides_if_there_is_one() -> None:
    validated = [lane(1, 1.0, val=5.0), lane(2, 2.0, val=4.0)]
    assert (read_sweep(validated, "val_loss", 0.1).best.lr, read(validated).best.lr) == (2, 1)
    reading = read_sweep(sweep([1, 2]), "val_loss", 0.1)
    assert (reading.judge, reading.best.lr) == ("train_loss", 1)


@pytest.mark.parametrize("seeds", range(2, 9))
def test_beyond_noise_is_a_paired_t_test(seeds: int) -> None:
    rng, answers = np.random.default_rng(seeds), set()
    for effect in np.linspace(-4, 4, 50):
        good = rng.normal(10, 5, seeds)
        bad = good + rng.normal(effect, 1, seeds)
        best, rate = (rate_of(sweep(*losses[:, None]), "train_loss") for losses in (good, bad))
        test = stats.ttest_rel(bad, good)
        expected = test.pvalue < 0.05 and test.statistic > 0
        assert beyond_noise(rate, best, "train_loss") == expected
        answers.add(bool(expected))
    assert answers == {True, False}


def test_beyond_noise_pairs_by_seed_and_needs_two() -> None:
    best, rate = read([lane(lr, lr + s, s) for lr in (1, 2) for s in (0, 5, 9)][::-1]).rates
    assert beyond_noise(rate, best, "train_loss")
    best, rate = read([lane(1, 1.0, 0), lane(1, 1.0, 1), lane(2, 2.0, 1), lane(2, 2.0, 2)]).rates
    assert beyond_noise(rate, best, "train_loss") is None


def test_an_unfinished_sweep_compares_the_seeds_that_every_lr_has() -> None:
    cut = LaneResult(0, 1, 2, 4.0, "interrupted", np.array([9.0]), np.array([9.0]))
    reading = read([lane(2, 2.0, 0), lane(4, 1.0, 0), lane(2, 0.1, 1), cut])
    assert reading.best.lr == 4
    assert [len(rate.lanes) for rate in reading.rates] == [1, 1]


def test_a_sweep_that_was_cut_off_is_read_as_far_as_it_went() -> None:
    nothing = np.array([])
    cut = LaneResult(0, 0, 2, 4.0, "interrupted", nothing, nothing)
    reading = read([lane(1, 2.0, 0), lane(2, 1.0, 0), cut, lane(1, 2.0, 1), lane(8, "failed", 1)])
    assert [rate.outcome for rate in reading.rates] == ["finished", "finished", "failed"]
    assert (reading.best.lr, reading.first_loss, reading.boundary) == (2, FIRST, None)
    assert (read([cut]).best, read([]).best, read([]).usable) == (None, None, None)
