from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfind.analysis import curves
from lrfind.analysis.curves import Curve, smooth
from lrfind.analysis.divergence import DivergenceRule
from lrfind.errors import UsageError


def diverged_at(losses: list[float]) -> int | None:
    return Curve.of(np.geomspace(1e-3, 1, len(losses)), losses).divergence


def fall_then_explode(fall: np.ndarray) -> list[float]:
    return [*fall, *(fall[-1] + (fall[0] - fall[-1]) * 3.0 ** np.arange(6))]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_loss_diverges_at_once(bad: float) -> None:
    assert diverged_at([1.0, 0.9, bad, 0.8]) == 2
    assert diverged_at([bad, 1.0]) == 0


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
def test_divergence_does_not_depend_on_an_offset_that_is_small_beside_the_scale_of_the_drop(
    offset: float, scale: float
) -> None:
    shape = np.array(fall_then_explode(np.linspace(1.0, 0.1, 20)))
    shifted = scale * shape + np.clip(offset, -20 * scale, 20 * scale)
    assert diverged_at(list(shifted)) == diverged_at(list(shape))


def test_a_loss_that_comes_back_below_its_lowest_value_has_not_diverged() -> None:
    rise_then_fall = [*np.linspace(2, 3, 30), *np.linspace(3, 0.5, 60)]
    rule = DivergenceRule()
    assert any(rule.diverges(loss) for loss in rise_then_fall)
    assert diverged_at(rise_then_fall) is None
    assert 90 <= diverged_at([*rise_then_fall, *(0.5 + 3.0 ** np.arange(6))]) < 95
    assert (
        diverged_at([*np.linspace(2, 3, 30), *np.linspace(3, 2.5, 60)]) < 30
    )  # it stays above its first value


def test_a_lane_says_itself_whether_it_diverged() -> None:
    lr, loss = np.geomspace(1e-3, 1, 40), np.linspace(1, 9, 40)
    assert Curve(lr, loss, 40).divergence == 10
    assert Curve(lr, loss, 40, diverged=False).divergence is None
    assert Curve(lr, loss, 99, diverged=True).divergence == 39


@pytest.mark.parametrize(
    ("loss", "gaps"),
    [
        ([3, 2, np.nan, 1], [2]),
        ([3, 2, np.inf, np.nan, 1, 1], [2, 3]),
        ([np.nan, 3, 2], [0]),
        ([3, 2, 1, np.nan, np.nan], []),
        ([3, 2, 1, np.nan, 9, 9], []),  # it does not come back
        ([np.nan, np.nan], []),
        ([], []),
    ],
)
def test_a_missing_loss_is_a_gap_if_the_losses_after_it_are_no_higher(
    loss: list[float], gaps: list[int]
) -> None:
    curve = Curve.of(np.arange(1.0, len(loss) + 1), loss)
    assert curve.gaps.tolist() == gaps
    closed = curve.without_gaps
    np.testing.assert_array_equal(closed.loss, np.delete(np.array(loss, float), gaps))
    assert closed.planned == closed.lr.size == len(loss) - len(gaps)


def test_a_note_lists_the_places_of_gaps() -> None:
    loss = np.linspace(2, 1, 30)
    loss[2:22:2] = np.nan
    lr = np.geomspace(1e-3, 1, 30)
    (note,) = Curve.of(lr, loss).notes
    assert note.startswith("10 points without a finite loss were skipped (point 2, point 4, ")
    assert "point 16 and 2 more)" in note
    loss[3:] = np.linspace(2, 1, 27)
    (note,) = Curve.of(lr, loss, lines=np.arange(30)).notes
    assert "1 point without a finite loss was skipped (line 2)" in note


def test_negative_losses_diverge_when_they_rise_and_not_before() -> None:
    falling = np.linspace(-1.0, -50.0, 30)
    assert diverged_at(list(falling)) is None
    assert 30 < diverged_at(fall_then_explode(falling)) < 36


def test_a_loss_on_the_rounding_floor_has_not_diverged() -> None:
    jitter = np.random.default_rng(0).uniform(0.5, 2.0, 100) * 1e-15
    assert diverged_at([*np.geomspace(10, 1e-15, 30), *jitter]) is None


def test_a_loss_that_stays_zero_has_not_diverged() -> None:
    assert diverged_at([0.0] * 20) is None


@pytest.mark.parametrize("seed", range(100))
def test_a_flat_noisy_start_has_not_diverged(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(300)
    assert diverged_at(list(2.3 + 0.1 * noise)) is None
    assert diverged_at(list(0.1 * noise)) is None  # around zero


def test_one_wild_batch_is_not_a_divergence() -> None:
    assert diverged_at([*np.linspace(2, 1, 20), 5.0, *np.linspace(1, 0.5, 20)]) is None


def test_the_rule_keeps_to_its_formula() -> None:
    losses = [2.0, 1.0, 1.5, 0.5, 1.0, 0.4, 0.6, 0.5, 0.4, 0.3, 0.2, 0.4, 4.0, 30.0, 300.0]
    medians = [float(np.median(losses[t - 2 : t + 1])) for t in range(2, len(losses))]
    first, expected = medians[0], [False] * 10
    for t in range(10, len(losses)):
        changes = sorted(np.abs(np.diff(losses[: t + 1])))
        noise = changes[int(0.9 * (len(changes) - 1))]
        best = min(medians[: t - 1])
        expected.append(medians[t - 2] > best + max(first - best, 4 * noise, 0.002 * first))
    rule = DivergenceRule()
    assert [rule.diverges(loss) for loss in losses] == expected
    assert expected.index(True) == 14


@pytest.mark.parametrize("at", range(0, 80, 3))
@pytest.mark.parametrize("height", [0.2, 5.0, 1e6])
def test_a_wild_batch_anywhere_changes_nothing(golden: Callable[..., Curve], at: int, height: float) -> None:
    curve = golden()
    loss = curve.loss.copy()
    loss[at] += height
    assert Curve.of(curve.lr, loss).divergence in range(curve.divergence - 1, curve.divergence + 2)


def test_a_lucky_first_batch_changes_nothing(golden: Callable[..., Curve]) -> None:
    curve = golden(0.01)
    loss = curve.loss.copy()
    loss[0] = 0.01
    assert Curve.of(curve.lr, loss).divergence == curve.divergence


@pytest.mark.parametrize("seed", range(50))
def test_heavy_tails_are_no_divergence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert diverged_at(list(rng.lognormal(0, 1.0, 100))) is None


def test_smoothing_leaves_a_parabola_as_it_is() -> None:
    parabola = (np.arange(40) - 17.0) ** 2 / 100
    np.testing.assert_allclose(smooth(parabola).values, parabola, atol=1e-12)


def test_smoothing_takes_most_of_the_noise_away_without_lag() -> None:
    x = np.linspace(-3, 3, 200)
    clean = np.tanh(-x)
    errors = []
    for seed in range(10):
        noise = 0.2 * np.random.default_rng(seed).standard_normal(200)
        errors.append(smooth(clean + noise).values - clean)
    assert np.sqrt(np.mean(np.square(errors))) < 0.09
    middle = np.abs(x) < 1  # where the curve is steep, a lag would show as a bias
    assert abs(np.mean(np.array(errors)[:, middle])) < 0.03


def test_a_blow_up_does_not_leak_into_the_points_before_it() -> None:
    calm = 2.0 - np.linspace(0, 1, 50)
    blown = np.concatenate([calm, [1e6, 1e12]])
    np.testing.assert_allclose(smooth(blown).values[:38], calm[:38], atol=1e-9)


def test_smoothing_fits_the_same_parabola_as_numpy() -> None:
    y = np.random.default_rng(3).standard_normal(30).cumsum()
    from lrfind.analysis.curves import _local_parabola

    fit = _local_parabola(y, 9).values
    for t in (0, 3, 15, 29):
        start = min(max(t - 4, 0), 21)
        offset = np.arange(start, start + 9) - t
        weight = (1 - (np.abs(offset) / (np.abs(offset).max() + 1)) ** 3) ** 3
        expected = np.polynomial.polynomial.polyfit(offset, y[start : start + 9], 2, w=np.sqrt(weight))[0]
        assert fit[t] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("lr", "loss", "message"),
    [
        ([1, 2], [1, 2, 3], "same length"),
        ([1, 0], [1, 2], "lr 1 is 0"),
        ([1, np.nan], [1, 2], "lr 1 is nan"),
        ([1, 3, 2], [1, 2, 3], "point 2 has 2 after 3"),
    ],
)
def test_a_curve_refuses_what_is_none(lr: list[float], loss: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Curve.of(lr, loss)


def diverges_by_definition(losses: list[float], t: int, factor: float) -> bool:
    """The rule of `DivergenceRule`, written as its docstring does, for the step t."""
    if not abs(losses[t]) < 1e100:
        return True
    if t < 10:
        return False
    medians = [sorted(losses[i - 2 : i + 1])[1] for i in range(2, t + 1)]
    changes = sorted(abs(b - a) for a, b in pairwise(losses[: t + 1]))
    first, best, noise = medians[0], min(medians), changes[int(0.9 * (len(changes) - 1))]
    return medians[-1] > best + max(factor * (first - best), 4 * noise, 0.002 * abs(first))


@given(
    st.lists(st.one_of(st.floats(-1e3, 1e3), st.integers(-3, 3).map(float), st.just(math.inf)), max_size=60),
    st.sampled_from([1.0, 2.0]),
)
@settings(max_examples=150, derandomize=True, deadline=None, database=None)
def test_the_rule_is_its_definition(losses: list[float], factor: float) -> None:
    rule = DivergenceRule(factor)
    for t, loss in enumerate(losses):
        assert rule.diverges(loss) == diverges_by_definition(losses, t, factor)
        if not math.isfinite(loss):
            break


def test_a_smoothed_loss_is_the_value_of_the_fitted_parabola_at_each_point() -> None:
    loss = np.linspace(3, 1, 60) + np.random.default_rng(0).standard_normal(60)
    fits = []
    for window in (w for w in curves.WINDOWS if w <= 30):
        values = []
        for t in range(60):
            begin = min(max(t - window // 2, 0), 60 - window)
            offset = np.arange(begin, begin + window) - t
            weight = (1 - (abs(offset) / (abs(offset).max() + 1)) ** 3) ** 3
            around = loss[begin : begin + window]
            values.append(
                np.polyfit(offset, around, 2, w=np.sqrt(weight))[-1].clip(around.min(), around.max())
            )
        fits.append(values)
    capped = curves.without_blow_up(loss)
    np.testing.assert_array_equal(capped, loss)
    assert min(np.abs(smooth(loss).values - values).max() for values in fits) < 1e-9
