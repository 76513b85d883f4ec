from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from lrfind.analysis.curves import Array
from lrfind.analysis.planned_training import FAMILIES, PlannedTraining
from lrfind.analysis.probe_search import ProbeSearch
from lrfind.analysis.probing import MOST_STEPS, place_of, rate
from lrfind.analysis.recommendation import log_lr, moved_lr, recommend
from lrfind.analysis.refusals import why_no_rate
from lrfind.analysis.relation import Relation
from lrfind.errors import NoSuggestion
from tests.helpers.probers import Formula, descent, probed

SGD = PlannedTraining("sgd", 400)


@pytest.mark.parametrize("exponent", range(-5, 3))
def test_the_search_finds_the_rate_that_descends_a_parabola_quickest(exponent: int) -> None:
    prober = Formula(descent(10.0**-exponent))
    found = probed(prober, start=0.1)
    assert found.best == 2 * exponent
    assert found.middle == pytest.approx(exponent, abs=0.45)
    assert found.gain > 0.35
    assert not found.cut


def test_all_rates_are_probed_on_either_side_of_the_best_and_no_more_than_needed() -> None:
    prober = Formula(descent(1.0))
    found = probed(prober, start=0.1)
    assert {found.best - 1, found.best + 1} <= {*found.probes}
    assert prober.cost <= 120
    assert all(steps <= 32 for _, steps in prober.asked)


def test_a_wide_search_begins_with_five_rates_at_once_and_ends_at_the_same_rate() -> None:
    prober = Formula(descent(10.0))
    wide, narrow = probed(prober, 0.1, wide=True), probed(Formula(descent(10.0)), 0.1)
    assert len(prober.asked[0][0]) == 5
    assert wide.best == narrow.best
    assert wide.middle == pytest.approx(narrow.middle, abs=0.2)


@pytest.mark.parametrize(
    ("budget", "probes", "confidence"),
    [(16, 2, "low"), (31, 3, "low"), (33, 4, "moderate"), (63, 4, "moderate")],  # low: none above the best
)
def test_a_budget_is_never_exceeded_and_makes_the_answer_less_sure(
    budget: int, probes: int, confidence: str
) -> None:
    prober = Formula(descent(1.0), budget)
    found = probed(prober, start=0.1)
    assert prober.cost <= budget
    assert found.cut
    assert len(found.probes) == probes
    answer = recommend([found], SGD, prober.cost)
    assert answer.confidence == confidence
    assert "budget" in answer.reason


def test_a_loss_that_does_not_move_at_first_is_probed_for_longer_at_the_highest_harmless_rates() -> None:
    def plateau(lr: float, step: Array) -> Array:
        late = 1 / (1 + np.exp(np.clip(30 - step * lr, -30, 30)))  # falls when the sum of lrs is 30
        return np.where(lr > 1.1, 1.0 + 0.2 * step, 1.0 - 0.9 * late)

    found = probed(Formula(plateau), start=0.1)
    assert found.steps > 32
    assert found.learns
    assert found.middle == pytest.approx(0.0, abs=0.1)


def test_the_few_steps_of_a_small_budget_are_not_taken_for_a_plateau() -> None:
    found = probed(Formula(lambda lr, step: 1.0 - 0.01 * step * min(lr, 0.3 / (lr + 1e-9)), 40), start=0.1)
    assert not found.on_a_plateau
    answer = recommend([found], SGD, 1)
    assert log_lr(replace(found, cut=False), SGD) == found.middle + FAMILIES["sgd"].shift
    assert "too few to tell how much was learned" in answer.reason
    assert answer.confidence == "low"


def test_on_an_endless_plateau_the_answer_is_of_low_confidence() -> None:
    def flat(lr: float, step: Array) -> Array:
        return np.where(lr > 2, 1.0 + 0.5 * step, 1.0 - 1e-5 * lr * step)

    found = probed(Formula(flat), start=0.1)
    assert found.steps == MOST_STEPS
    answer = recommend([found], SGD, 1)
    assert answer.confidence == "low"
    assert "plateau" in answer.reason


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda lr, step: np.full(len(step), np.nan), "not finite"),
        (lambda lr, step: np.ones(len(step)), "no rate changes the loss"),
        (lambda lr, step: 1.0 + 0.01 * lr**0.01 * step, "nothing learns"),
        (
            lambda lr, step: np.where((step > 0) & (lr > 0), np.inf, 1.0),
            "blew up within 16 steps at every rate",
        ),
    ],
    ids=["nan", "zero gradients", "rises", "explodes"],
)
def test_where_nothing_learns_there_is_a_reason_instead_of_a_rate(
    loss: Callable[[float, Array], Array], said: str
) -> None:
    found = probed(Formula(loss), start=0.1)
    with pytest.raises(NoSuggestion, match=said) as refused:
        recommend([found], SGD, cost=7)
    assert refused.value.cost == 7


def test_rates_that_blow_up_late_when_the_budget_ends_are_no_verdict_on_lower_ones() -> None:
    def late(lr: float, step: Array) -> Array:
        noisy = 1.0 + 0.01 * (-1.0) ** step
        fall = 0.01 * step * (lr > 0) / (1 + np.log10(lr + 1e-9) ** 2)
        return np.where((step > 20) & (lr > 0), np.inf, noisy - fall)

    found = probed(Formula(late, budget=112), start=0.1)
    with pytest.raises(
        NoSuggestion, match="within 32 steps .* down to 0.1; the budget.* allowed no lower rate"
    ):
        recommend([found], SGD, cost=7)


def test_no_probe_within_the_budget_is_a_refusal() -> None:
    with pytest.raises(NoSuggestion, match="budget"):
        recommend([probed(Formula(descent(1.0), budget=3), start=0.1)], SGD, 0)


def test_one_wild_batch_stops_no_probe() -> None:
    def wild(lr: float, step: Array) -> Array:
        return descent(1.0)(lr, step) + 50.0 * (step == 20)

    found = probed(Formula(wild), 0.1)
    assert found.best == 0
    assert not found.probes[0].stopped


@pytest.mark.parametrize("budget", [65, 80, math.inf])
def test_batches_whose_loss_is_not_finite_end_the_search_before_them(budget: float) -> None:
    def broken(lr: float, step: Array) -> Array:
        return np.where(step == 12, np.nan, descent(1.0)(lr, step))

    prober = Formula(broken, budget)
    found = probed(prober, 0.1)
    assert (found.steps, found.broken) == (12, True)
    answer = recommend([found], SGD, 1)
    assert answer.confidence == "low"
    assert "not finite" in answer.reason


def test_losses_below_zero_are_searched_like_any_others() -> None:
    above, below = descent(1.0), lambda lr, step: descent(1.0)(lr, step) - 2.0
    assert probed(Formula(below), 0.1).best == probed(Formula(above), 0.1).best


def test_longer_trainings_want_lower_rates_and_schedules_that_fall_higher_ones() -> None:
    found = probed(Formula(descent(1.0)), 0.1)
    assert log_lr(found, replace(SGD, steps=4000)) < log_lr(found, SGD)
    assert log_lr(found, replace(SGD, steps=10**6)) == log_lr(found, replace(SGD, steps=10**4))
    assert log_lr(found, replace(SGD, mean_multiplier=0.5)) > log_lr(found, SGD)


def test_the_rate_falls_with_the_length_alike_for_all_optimizers_but_adagrad() -> None:
    trainings = [PlannedTraining(name, 400) for name in ("sgd", "adam", "adamw", "rmsprop", "adagrad")]
    ratios = [moved_lr(1.0, training, replace(training, steps=4000)) for training in trainings]
    assert ratios == pytest.approx([10**-0.6] * 4 + [10**-0.3], rel=0.01)


def test_more_than_a_hundred_passes_over_the_data_lower_the_rate_and_fewer_do_not() -> None:
    found = probed(Formula(descent(1.0)), 0.1)
    unknown = log_lr(found, SGD)
    assert [log_lr(found, replace(SGD, epoch=epoch)) for epoch in (1000.0, 4.0)] == [unknown, unknown]
    often, most, more = (log_lr(found, replace(SGD, epoch=epoch)) for epoch in (4 / 10**0.5, 0.4, 0.04))
    assert often < unknown
    assert unknown - most == pytest.approx(2 * (unknown - often))  # 316 passes, and 1,000
    assert more == most


def test_a_longer_plan_of_a_training_counts_its_passes_anew_and_the_reason_tells_many() -> None:
    found = probed(Formula(descent(1.0)), 0.1)
    once, often = replace(SGD, epoch=400.0), replace(SGD, epoch=4.0)
    longer = [moved_lr(0.1, training, replace(training, steps=4000)) for training in (once, often)]
    assert longer[1] < longer[0] < 0.1
    told = recommend([found], replace(often, steps=4000), 1).reason
    assert "for 4,000 steps (1,000 passes over the data) the fitted rule" in told
    assert "passes" not in recommend([found], often, 1).reason


@pytest.mark.parametrize("optimizer", ["rmsprop", "adagrad"])
def test_a_training_that_is_no_longer_than_a_probe_wants_no_higher_rate(optimizer: str) -> None:
    found = probed(Formula(descent(1.0)), 0.1)
    for steps in (1, 8, found.steps):
        training = PlannedTraining(optimizer, steps)
        assert log_lr(found, training) <= found.middle
        answer = recommend([found], training, 1)
        assert answer.confidence != "high"
        assert "The method was measured for trainings of 200 to 10,000 steps" in answer.reason


def test_the_interval_ends_below_a_rate_that_blew_up_and_a_rate_above_it_is_doubted() -> None:
    found = probed(Formula(descent(1.0)), 0.1)
    near = recommend([found], PlannedTraining("sgd", 400, mean_multiplier=0.115), 1)
    assert found.wild / 10**0.5 < near.lr < near.high == pytest.approx(found.wild / 10**0.25, rel=0.01)
    above = recommend([found], PlannedTraining("sgd", 400, mean_multiplier=0.02), 1)
    assert above.lr > found.wild
    assert above.confidence == "low"
    assert "blew up" in above.reason


def test_momentum_lowers_the_rate_and_little_of_it_by_little() -> None:
    found = probed(Formula(descent(1.0)), 0.1)
    lrs = [log_lr(found, replace(SGD, momentum=momentum)) for momentum in (0.0, 0.5, 0.9)]
    assert lrs == sorted(lrs, reverse=True)
    assert lrs[0] - lrs[1] < lrs[1] - lrs[2]


def test_several_seeds_are_averaged_in_log_lr_and_disagreement_is_told() -> None:
    slow, quick = (probed(Formula(descent(curvature)), 0.1) for curvature in (100.0, 1.0))
    both = recommend([slow, quick], SGD, 1)
    apart = [recommend([each], SGD, 1).lr for each in (slow, quick)]
    assert both.lr == pytest.approx(math.sqrt(apart[0] * apart[1]), rel=0.02)
    assert both.confidence != "high"
    assert "disagree" in both.reason


def test_the_interval_is_around_the_rate() -> None:
    answer = recommend([probed(Formula(descent(1.0)), 0.1)], SGD, 1)
    assert answer.low < answer.lr < answer.high < 10 * answer.low


def test_an_optimizer_that_was_not_measured_is_told() -> None:
    answer = recommend([probed(Formula(descent(1.0)), 0.01)], PlannedTraining("lion", 400), 1)
    assert "'lion'" in answer.reason
    assert answer.confidence == "moderate"


def test_every_family_starts_on_the_grid_of_the_probed() -> None:
    for family in FAMILIES.values():
        assert rate(place_of(family.start)) == pytest.approx(family.start, rel=0.1)


def test_a_result_is_frozen_and_that_of_a_search_that_has_not_begun_is_empty() -> None:
    result = ProbeSearch(Formula(descent(1.0))).result
    assert result.probes == {}
    with pytest.raises(FrozenInstanceError):
        result.steps = 3  # type: ignore[misc]


def noisy(lr: float, step: Array) -> Array:
    """A fall that slows down, with batches of different losses."""
    batches = np.random.default_rng(0).normal(0, 0.05, 200)[: len(step)]
    fastest = np.exp(-(np.log10(lr + 1e-12) ** 2))
    return 1.3 + batches - 0.8 * fastest * (1 - np.exp(-step / 6)) + 40 * (lr > 30)


@pytest.mark.parametrize(
    ("offset", "factor"), [(5.0, 1.0), (100.0, 1.0), (-5.0, 1.0), (0.0, 100.0), (0.0, 0.01)]
)
def test_a_constant_or_a_factor_of_the_loss_changes_no_decision(offset: float, factor: float) -> None:
    plain = probed(Formula(noisy), start=0.01)
    moved = probed(Formula(lambda lr, step: factor * noisy(lr, step) + offset), start=0.01)
    assert [*moved.probes] == [*plain.probes]
    assert [len(probe.loss) for probe in moved.probes.values()] == [
        len(p.loss) for p in plain.probes.values()
    ]
    assert log_lr(moved, SGD) == pytest.approx(log_lr(plain, SGD), abs=1e-6)
    confidences = {recommend([result], SGD, 1).confidence for result in (plain, moved)}
    assert len(confidences) == 1


def test_a_best_rate_that_raises_the_loss_between_two_that_blow_up_is_no_bracket() -> None:
    def narrow(lr: float, step: Array) -> Array:
        batches = np.random.default_rng(0).normal(0, 0.01, 200)[: len(step)]
        if lr in (0.01, 0.1):
            return np.where(step > 2, np.inf, 0.7)
        if lr > 0.005:
            return 0.7 + 0.1 * (step > 0) + batches
        return 0.7 + batches - 0.3 * (1 - np.exp(-step * lr * 200))

    found = probed(Formula(narrow), start=0.03)
    assert rate(found.best) < 0.005
    assert found.learns


def test_a_fall_within_the_noise_is_no_answer() -> None:
    def chance(lr: float, step: Array) -> Array:
        own = np.random.default_rng(int(1e6 * lr)).normal(0, 0.02, 200)[: len(step)]
        batches = np.random.default_rng(0).normal(0, 0.05, 200)[: len(step)]
        return 2.3 + batches + own * (lr > 0) + 3.0 * (lr > 1) * step

    with pytest.raises(NoSuggestion, match="by more than the noise between batches"):
        recommend([probed(Formula(chance), start=0.1)], SGD, 1)


def test_the_reason_names_what_was_measured_and_what_is_estimated() -> None:
    found = probed(Formula(noisy), start=0.01)
    reason = recommend([found], SGD, 1).reason
    assert f"lr {found.probes[found.best].lr:.3g} has the lowest loss (" in reason
    assert (
        f"the best rate is estimated at {10**found.middle:.2g}; for 400 steps the fitted rule takes" in reason
    )


def test_a_fall_that_a_constant_in_the_loss_hides_is_told_as_a_difference() -> None:
    found = probed(Formula(lambda lr, steps: 1e4 + descent(1.0)(lr, steps)), start=0.1)
    fall = found.untouched - found.scores[found.best]
    assert f"(lower by {fall:.3g} than the untouched model)" in recommend([found], SGD, 1).reason


def hardly(per_step: float) -> Callable[[float, Array], Array]:
    """A fall that is small beside the differences between batches."""
    batches = np.random.default_rng(0).normal(0, 0.05, 200)
    own = np.random.default_rng(1).normal(0, 0.01, 200)

    def loss(lr: float, step: Array) -> Array:
        return 1.3 + batches[: len(step)] + (lr > 0) * (own[: len(step)] - per_step * step * min(lr, 0.1))

    return loss


def test_a_model_that_predicts_its_targets_already_is_on_no_plateau() -> None:
    result = probed(Formula(hardly(0.004)), start=0.01)
    assert result.on_a_plateau
    related = Relation([0.5, 0.6, 0.4, 0.5])
    tuned = replace(result, before=related, after=related)
    assert tuned.converged
    assert not tuned.on_a_plateau
    answer = recommend([tuned], SGD, 1)
    assert answer.confidence == "low"
    assert "The untouched model predicts its targets" in answer.reason
    assert "plateau" not in answer.reason


def test_the_relation_to_the_targets_says_why_no_rate_lowers_the_loss_or_that_something_was_learned() -> None:
    result = probed(Formula(hardly(-0.01)), start=0.01)
    nothing, something = Relation([0.1, -0.1, 0.05, -0.05]), Relation([0.5, 0.6, 0.4, 0.5])
    constant = Relation([0.0] * 4, varies=False)
    for before, after, words in (
        (None, None, "check model, data and loss"),
        (nothing, nothing, "if the targets are shuffled"),
        (constant, constant, "the output is the same for every input: look for inputs that are all alike"),
        (nothing, constant, "the rates may be too high"),
        (something, something, "converged already"),
    ):
        assert words in (why_no_rate(replace(result, before=before, after=after)) or "")
    assert why_no_rate(replace(result, before=nothing, after=something)) is None


@pytest.mark.parametrize(("noise", "learned"), [(0.02, True), (2.0, False)])
def test_a_fall_from_a_loss_without_noise_is_compared_with_the_noise_of_the_probe(
    noise: float, learned: bool
) -> None:
    own = np.random.default_rng(0).normal(0, noise, 200)
    result = probed(
        Formula(lambda lr, step: 3.0 + (lr > 0) * (own[: len(step)] - 0.1 * step * min(lr, 0.1))), start=0.01
    )
    assert not result.noise
    assert result.learned == learned


def test_rates_that_all_raise_the_loss_a_little_send_the_search_down() -> None:
    def loss(lr: float, step: Array) -> Array:
        change = 0.0 if lr == 0 else -0.01 * step if lr < 2e-3 else 0.05 + 0.03 * (lr != 0.01)
        return 2 + 0.1 * np.sin(7 * step) + change

    found = probed(Formula(loss), 0.01)
    assert found.scores[found.best] < found.untouched
    assert found.probes[found.best].lr < 2e-3
