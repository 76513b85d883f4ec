from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lrfind
from lrfind import catalog
from lrfind.analysis.curves import Curve
from lrfind.analysis.suggestions import METHODS, suggest_over
from lrfind.errors import NoSuggestion, UsageError

OURS = ["consensus", "steepest", "minimum"]
PEERS = [name for name in METHODS if name not in (*OURS, "edge")]
LR = np.geomspace(1e-7, 10, 100)
X = np.log10(LR)


def test_steepest_finds_the_middle_of_a_logistic_fall() -> None:
    curve = 2 - 1 / (1 + np.exp(-4 * (X + 3.5))) + np.exp(5 * (X + 0.2))
    assert lrfind.suggest(LR, curve, "steepest").lr == pytest.approx(10**-3.5, rel=0.1)


def test_steepest_is_per_decade_of_lr_and_not_per_point() -> None:
    lr = np.concatenate([np.geomspace(1e-4, 1e-3, 10), np.geomspace(1.2e-3, 1e-1, 90)])
    loss = np.interp(np.log10(lr), [-4, -3, -2, -1.5, -1], [10, 8, 2, 1, 4])  # steepest from 1e-3 to 1e-2
    assert 1e-3 < lrfind.suggest(lr, loss, "steepest").lr < 1e-2


def test_minimum_is_a_tenth_of_where_the_loss_is_lowest() -> None:
    suggestion = lrfind.suggest(LR, (X + 2) ** 2, "minimum")
    assert suggestion.lr == pytest.approx(LR[np.argmin((X + 2) ** 2)] / 10)
    assert suggestion.index == np.argmin((X + 2) ** 2)


def test_edge_is_where_the_loss_diverges(golden: Callable[..., Curve]) -> None:
    curve = golden()
    broken = curve.loss.copy()
    broken[70:] = np.nan
    assert lrfind.suggest(curve.lr, broken, "edge").lr == curve.lr[70]
    with pytest.raises(NoSuggestion, match="lies above 0.01; raise end_lr"):
        lrfind.suggest(np.geomspace(1e-6, 1e-2, 50), np.linspace(2, 1, 50), "edge")


def test_consensus_is_the_middle_one_of_three(golden: Callable[..., Curve]) -> None:
    curve = golden(0.05)
    three = [lrfind.suggest(curve.lr, curve.loss, name).lr for name in ("steepest", "minimum", "edge")]
    three[2] /= 10
    assert lrfind.suggest(curve.lr, curve.loss).lr == sorted(three)[1]


def test_adding_a_constant_to_the_loss_changes_no_suggestion(golden: Callable[..., Curve]) -> None:
    curve = golden(0.02)
    for name in METHODS:
        plain = lrfind.suggest(curve.lr, curve.loss, name).lr
        assert lrfind.suggest(curve.lr, curve.loss - 5, name).lr == pytest.approx(plain, rel=1e-6)


def corrupted(kind: str) -> tuple[np.ndarray, np.ndarray]:
    flat = np.full(100, 2.3)
    return {
        "flat": (LR, flat),
        "noisy flat": (LR, flat + 0.05 * np.random.default_rng(1).standard_normal(100)),
        "rising": (LR, flat + np.exp(3 * (X + 0.3))),
        "not finite": (LR, np.full(100, np.nan)),
        "two points": (LR[:2], np.array([2.0, 1.0])),
        "no points": (LR[:0], LR[:0]),
        "falling to the end": (LR, 2.3 - 1.8 / (1 + np.exp(-3 * (X + 3)))),
        "diverging from the start": (LR, 2.3 * 3.0 ** np.arange(100)),
        "three points, then NaN": (LR, np.array([2.3, 9.0, 80.0] + [np.nan] * 97)),
    }[kind]


REASONS = {
    "flat": "flat",
    "noisy flat": "flat",
    "rising": "the loss rises, and it never falls below its first value by more than its noise",
    "not finite": "no loss is finite",
    "two points": "too few points: 2",
    "no points": "no points",
    "falling to the end": "raise end_lr to 100",
    "diverging from the start": "diverges from the start.*lower start_lr",
    "three points, then NaN": "diverges from the start; lower start_lr",
}


@pytest.mark.parametrize("method", [*OURS, *PEERS])
@pytest.mark.parametrize("kind", REASONS)
def test_every_method_refuses_a_curve_without_an_answer(kind: str, method: str) -> None:
    with pytest.raises(NoSuggestion, match=REASONS[kind]) as refusal:
        lrfind.suggest(*corrupted(kind), method)
    assert refusal.value.reason == str(refusal.value)


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_flat_and_a_fall_of_five_deviations_is_not(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(100)
    with pytest.raises(NoSuggestion, match="flat|the loss rises, and it never falls"):
        lrfind.suggest(LR, 2.3 + 0.1 * noise)
    fall = 2.3 - 0.5 / (1 + np.exp(-6 * (X + 3))) + np.exp(5 * (X + 0.3))
    assert 1e-4 < lrfind.suggest(LR, fall + 0.1 * noise).lr < 0.1


def test_few_noisy_points_are_no_evidence_and_few_clean_ones_are() -> None:
    answered = 0
    for seed in range(100):
        noise = np.random.default_rng(seed).standard_normal(10)
        with contextlib.suppress(NoSuggestion):
            lrfind.suggest(np.geomspace(1e-6, 1e-3, 10), 1.1 + 0.005 * noise)
            answered += 1
    assert answered <= 3  # about one in a hundred
    assert lrfind.suggest(
        np.geomspace(1e-4, 1, 9), (np.linspace(-4, 0, 9) + 2) ** 2, "minimum"
    ).lr == pytest.approx(1e-3)


def test_a_test_that_was_cut_off_has_no_answer() -> None:
    with pytest.raises(NoSuggestion, match="ended early, after 60 of 100 points"):
        suggest_over([Curve(LR[:60], ((X + 2) ** 2)[:60], planned=100)])


def test_consensus_does_not_answer_below_the_range() -> None:
    lr = np.geomspace(1e-2, 1, 60)
    loss = np.where(np.arange(60) < 3, 5.0, 1.0) + 10.0 ** np.clip(np.arange(60) - 15, -20, 20)
    with pytest.raises(NoSuggestion, match="below the range; lower start_lr"):
        lrfind.suggest(lr, loss)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_answers_below_the_range(method: str) -> None:
    x = np.linspace(-1, 1, 60)
    try:
        answer = lrfind.suggest(10**x, (x + 0.8) ** 2, method).lr
    except NoSuggestion:
        return
    assert 0.1 <= answer <= 10


@pytest.mark.filterwarnings("error")
@settings(max_examples=60)
@given(
    st.lists(st.floats(width=64) | st.integers(-(10**6), 10**6), max_size=60),
    st.sampled_from([*METHODS]),
)
def test_any_loss_gives_an_answer_near_the_range_or_a_refusal(losses: list[float], method: str) -> None:
    lr = np.geomspace(1e-6, 10, len(losses))
    try:
        answer = lrfind.suggest(lr, losses, method)
    except NoSuggestion as refusal:
        answer = refusal
    assert isinstance(answer, NoSuggestion) or 1e-8 < answer.lr <= 10


def random_loss(seed: int) -> np.ndarray:
    """A curve of random pieces that fall, rise, stay or explode, with noise, outliers and missing losses."""
    rng = np.random.default_rng(seed)
    slopes = rng.choice(
        [-1.0, -0.2, 0.0, 0.2, 1.0, 20.0], size=rng.integers(1, 7), p=[0.3, 0.2, 0.1, 0.1, 0.2, 0.1]
    )
    loss = (
        2
        + np.cumsum(np.repeat(slopes, 20)) / 20
        + rng.choice([0, 0.01, 0.3]) * rng.standard_normal(20 * slopes.size)
    )
    loss[rng.random(loss.size) < rng.choice([0, 0.05])] = rng.choice([np.nan, np.inf, 1e6, -50.0])
    return loss[: int(rng.integers(4, loss.size + 1))]


@pytest.mark.filterwarnings("error")
@settings(max_examples=300)
@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=4), st.booleans())
def test_no_suggestion_of_any_method_lies_above_the_edge(seeds: list[int], raw: bool) -> None:
    losses = [random_loss(seed) for seed in seeds]
    curves = [Curve.of(np.geomspace(1e-6, 10, 120)[: loss.size], loss) for loss in losses]
    try:
        edge = suggest_over(curves, "edge", raw=raw).lr
    except NoSuggestion:
        return
    for name in METHODS:
        with contextlib.suppress(NoSuggestion):
            assert suggest_over(curves, name, raw=raw).lr <= edge, name


def test_an_answer_above_the_edge_is_refused_with_both_numbers() -> None:
    loss = np.concatenate([np.linspace(2, 1, 40), np.linspace(1, 4, 10), np.linspace(4, 1.2, 50)])
    edge = lrfind.suggest(LR, loss, "edge").lr
    words = f"torch-lr-finder answers .* which lies above the edge \\({edge:.3g}\\)"
    with pytest.raises(NoSuggestion, match=words):
        lrfind.suggest(LR, loss, "torch-lr-finder")


def test_lanes_whose_median_lies_above_their_common_edge_have_no_suggestion() -> None:
    losses = [np.concatenate([np.linspace(2, 1, falling), 1 + 3.0 ** np.arange(8)]) for falling in (15, 80)]
    early, late, rising = (Curve.of(LR[: loss.size], loss) for loss in (*losses, 2.0 + np.arange(20)))
    assert suggest_over([early, late]).lr <= suggest_over([early, late], "edge").lr
    with pytest.raises(NoSuggestion, match="consensus answers .*, which lies above the edge"):
        suggest_over([early, late, rising])


@pytest.mark.parametrize("missing", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 20, 55, 76])
def test_a_gap_changes_no_suggestion(golden: Callable[..., Curve], missing: float, at: int) -> None:
    curve = golden()
    loss = curve.loss.copy()
    loss[at] = missing
    for name in [*OURS, "edge"]:
        answer, whole = lrfind.suggest(curve.lr, loss, name), lrfind.suggest(curve.lr, curve.loss, name)
        assert answer.lr == pytest.approx(whole.lr, rel=0.25)
        assert f"(point {at})" in answer.note
        assert not whole.note
    lowest = lrfind.suggest(curve.lr, loss, "minimum")
    assert lowest.lr == pytest.approx(curve.lr[lowest.index] / 10)  # the index counts the gap


@pytest.mark.parametrize(
    ("lr", "loss"),
    [([1, 2], ["a", "b"]), ([1, 2], [[1], [1, 2]]), ([1, 2], [10**400, 1]), ([1, 2], {1: 2}), ("ab", [1, 2])],
)
def test_anything_but_two_lists_of_numbers_is_refused(lr: object, loss: object) -> None:
    with pytest.raises(UsageError, match="must be a list of numbers|same length"):
        lrfind.suggest(lr, loss)


@pytest.mark.parametrize("seed", [56, 98, 104])
def test_a_random_walk_without_a_valley_is_refused(seed: int) -> None:
    walk = 1 + np.cumsum(0.05 * np.random.default_rng(seed).standard_normal(100))
    with pytest.raises(NoSuggestion):
        lrfind.suggest(10 ** np.linspace(-6, 1, 100), walk)


@pytest.mark.parametrize("points", [7, 8, 10, 12, 15])
def test_a_clean_valley_of_few_points_has_an_answer(points: int) -> None:
    lr = np.geomspace(1e-5, 1, points)
    loss = np.abs(np.log10(lr) + 2)
    assert lrfind.suggest(lr, loss, "minimum").lr == pytest.approx(lr[loss.argmin()] / 10)


def test_tensors_are_taken_too() -> None:
    loss = torch.tensor((X + 2) ** 2, requires_grad=True)
    assert (
        lrfind.suggest(torch.tensor(LR), loss, "minimum").lr == lrfind.suggest(LR, (X + 2) ** 2, "minimum").lr
    )


def test_the_catalog_has_the_names_of_all_methods() -> None:
    assert [*METHODS] == [*catalog.METHODS]


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean steepest"):
        lrfind.suggest(LR, X**2, "steapest")


def test_over_lanes_the_answer_is_the_median_and_the_interval_their_range() -> None:
    lanes = [Curve.of(LR, (X + shift) ** 2) for shift in (1.9, 2.2, 2.6)]
    answers = [lrfind.suggest(lane.lr, lane.loss, "minimum").lr for lane in lanes]
    suggestion = suggest_over(lanes, "minimum")
    assert suggestion.lr == pytest.approx(answers[1])
    assert (suggestion.low, suggestion.high) == (min(answers), max(answers))


def test_over_lanes_most_must_answer() -> None:
    good, flat = Curve.of(LR, (X + 2) ** 2), Curve.of(LR, np.full(100, 1.0))
    assert suggest_over([good, flat, good], "minimum").lr > 0
    with pytest.raises(NoSuggestion, match="flat"):
        suggest_over([good, flat, flat], "minimum")
    with pytest.raises(NoSuggestion, match="no lane of the run"):
        suggest_over([])
