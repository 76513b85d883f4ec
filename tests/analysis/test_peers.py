"""Compare the peers' methods with golden values of their own code and with slow versions of their rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lrfind
from lrfind.analysis import peers
from lrfind.analysis.curves import Curve
from lrfind.analysis.suggestions import METHODS, suggest_from
from lrfind.errors import NoSuggestion

# The answers of the peers' own code on `golden`, clean and with noise 0.05.
GOLDEN = {
    "torch-lr-finder": (9.111628e-4, 1.097499e-3),
    "ignite": (9.111628e-4, 1.097499e-3),
    "fastai-steep": (9.111628e-4, 1.097499e-3),
    "lightning": (2.056512e-4, 7.742637e-7),
    "fastai-valley": (9.770100e-5, 2.310130e-3),
    "fastai-slide": (2.983647e-4, 4.132012e-6),
    "fastai-minimum": (2.595024e-3, 3.764936e-3),
}


@pytest.mark.parametrize("method", GOLDEN)
def test_a_peer_gives_the_answer_of_its_own_code(golden: Callable[..., Curve], method: str) -> None:
    for noise, expected in zip((0.0, 0.05), GOLDEN[method], strict=True):
        curve = golden(noise)
        assert lrfind.suggest(curve.lr, curve.loss, method).lr == pytest.approx(expected, rel=1e-6)


def curve_of(losses: list[float]) -> Curve:
    return Curve.of(np.geomspace(1e-6, 1, len(losses)), losses)


any_losses = st.lists(st.integers(-50, 50).map(float), min_size=30, max_size=60)


@given(any_losses)
def test_valley_is_the_longest_falling_subsequence_with_the_earliest_end(losses: list[float]) -> None:
    start = len(losses) // 10
    kept = losses[start:-5]
    longest = [1] * len(kept)
    for i in range(len(kept)):
        longest[i] = 1 + max((longest[j] for j in range(i) if kept[j] > kept[i]), default=0)
    end = longest.index(max(longest))
    begin = end - longest[end] if longest[end] > 1 else 0
    third = (end - begin) / 3
    assert peers.fastai_valley(curve_of(losses)) == start + begin + int(third) + int(third / 2)


@given(any_losses)
def test_lightning_takes_the_gradient_that_torch_takes(losses: list[float]) -> None:
    curve = curve_of(losses)
    kept, lr = torch.tensor(losses[10:-1]), torch.tensor(curve.lr[10:-1].tolist())
    slope = torch.gradient(kept, spacing=[lr])[0]
    point = peers.lightning_suggest(curve) - 10
    assert slope[point].item() == pytest.approx(slope.min().item(), rel=1e-5)


@given(any_losses)
def test_slide_stops_where_the_two_ends_agree(losses: list[float]) -> None:
    start = len(losses) // 10
    slope = np.gradient(np.array(losses[start:-5], dtype=np.float32))
    best, k = -16, 0
    while 16 + k <= slope.size and abs(slope[-1 - k] - slope[-16 - k]) > 0.005:
        best, k = -16 - k, k + 1
    assert peers.fastai_slide(curve_of(losses)) == start + slope.size + best


@pytest.mark.parametrize(
    ("bad", "refusing"),
    [
        (np.nan, {"torch-lr-finder", "ignite"}),
        (np.inf, {"torch-lr-finder", "fastai-steep", "fastai-slide"}),
    ],
)
def test_after_a_blow_up_a_peer_refuses_or_answers_from_the_points_before(
    golden: Callable[..., Curve], bad: float, refusing: set[str]
) -> None:
    curve = golden()
    loss = curve.loss.copy()
    loss[80:] = bad
    for method in GOLDEN:
        if method in refusing:
            with pytest.raises(NoSuggestion, match="not finite within the points"):
                lrfind.suggest(curve.lr, loss, method)
        else:
            assert lrfind.suggest(curve.lr, loss, method).lr == pytest.approx(GOLDEN[method][0], rel=1e-6)


@pytest.mark.parametrize(
    ("method", "fewest"),
    [
        ("torch-lr-finder", 17),
        ("lightning", 13),
        ("fastai-steep", 7),
        ("fastai-minimum", 6),
        ("fastai-valley", 8),
        ("fastai-slide", 23),
    ],
)
def test_a_peer_refuses_when_its_own_slice_leaves_too_little(method: str, fewest: int) -> None:
    def valley(points: int) -> list[float]:
        return [abs(t - points // 2) + 1.0 for t in range(points)]

    assert METHODS[method].answer(curve_of(valley(fewest)))[1] > 0
    with pytest.raises(NoSuggestion, match="too few points"):
        suggest_from(curve_of(valley(fewest - 1)), method)


def test_a_constant_loss_is_recorded_as_each_peer_records_it() -> None:
    constant = curve_of([2.0] * 50)
    np.testing.assert_allclose(peers.as_lagging(constant).loss, 2.0)
    np.testing.assert_allclose(peers.as_fastai(constant).loss, 2.0)
    np.testing.assert_allclose(peers.as_lightning(constant).loss[:3], [1.0101, 1.3467, 1.5149], rtol=1e-4)


def test_each_peer_cuts_a_run_where_it_would_have_stopped() -> None:
    exploding = curve_of([1.0] * 20 + [50.0 * 3.0**k for k in range(20)])
    lagging = peers.as_lagging(exploding)
    assert (lagging.loss[:-1] <= 5.0).all()
    assert lagging.loss[-1] > 5.0
    fastai = peers.as_fastai(exploding)
    assert (fastai.loss[:-1] <= 4.0).all()
    assert fastai.loss[-1] > 4.0
    assert fastai.planned == 40


def test_on_negative_losses_the_peers_stop_at_once_as_their_rule_does() -> None:
    negative = curve_of([-1.0] * 50)
    assert peers.as_lagging(negative).loss.size == 1
    assert peers.as_fastai(negative).loss.size == 1
    assert peers.as_lightning(negative).loss.size == 2


def test_the_table_has_all_seven_peers() -> None:
    assert set(GOLDEN) == {name for name, method in METHODS.items() if method.as_peer}
