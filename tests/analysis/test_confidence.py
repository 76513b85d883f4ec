"""Trust in a rate: the risk by its formula, and what makes the confidence low whatever the risk is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lrfind.analysis import confidence
from lrfind.analysis.confidence import risk_of, trust_in
from lrfind.analysis.curves import Array
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.relation import Relation
from tests.helpers.probers import Formula, probed

PLANNED = PlannedTraining("sgd", 400, epoch=40.0)  # 10 passes


def noisy(lr: float, step: Array) -> Array:
    """A loss that falls fastest at 0.1, by 8 noises."""
    batches = np.random.default_rng(0).normal(0, 0.1, 200)[: len(step)]
    fastest = math.exp(-(math.log10(max(lr, 1e-9) / 0.1) ** 2))
    return 2 + batches - 0.8 * fastest * (1 - np.exp(-step / 4)) + 40 * (lr > 30)


RESULT = replace(probed(Formula(noisy), start=0.1), after=Relation((0.2,) * 8, varies=True))


@pytest.mark.parametrize(("planned", "adaptive"), [(PLANNED, 0), (replace(PLANNED, optimizer="adam"), 1)])
def test_the_risk_is_the_logistic_function_of_the_measurements(
    planned: PlannedTraining, adaptive: int
) -> None:
    slopes = confidence.SLOPES
    logit = confidence.INTERCEPT + slopes.doublings * math.log2(RESULT.steps / 16)
    logit += slopes.passes * 1 + slopes.breadth * RESULT.breadth + slopes.fall * math.log10(RESULT.fall)
    logit += slopes.rise * math.log10(0.2 / RESULT.noise) + slopes.gain * RESULT.gain
    logit += (
        slopes.length * math.log10(400) + (slopes.adaptive + slopes.distance) * adaptive
    )  # a decade from 0.01
    assert risk_of([RESULT], planned, 0.1) == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-6)


def test_more_passes_and_a_fall_without_the_inputs_are_riskier() -> None:
    risk = risk_of([RESULT], PLANNED, 0.1)
    assert risk_of([RESULT], replace(PLANNED, epoch=4.0), 0.1) > risk
    assert risk_of([replace(RESULT, after=Relation((0.002,) * 8, varies=True))], PLANNED, 0.1) > risk
    unknown = replace(RESULT, after=None)  # as if all came from the inputs
    assert risk_of([unknown], PLANNED, 0.1) < risk


@pytest.mark.parametrize(
    ("lr", "doubt"),
    [(1e-4, "is 1/100 of 0.01, the rate"), (0.5, "is 50 times 0.01, the rate"), (0.1, None)],
)
def test_a_rate_far_from_where_probing_begins_is_riskier_with_an_adaptive_optimizer(
    lr: float, doubt: str | None
) -> None:
    planned = PlannedTraining("adam", 9000, epoch=90.0)
    near, far = (trust_in([RESULT], planned, 0.0, rate) for rate in (0.01, lr))
    assert near.risk is not None
    assert far.risk is not None
    assert far.risk > near.risk
    assert ("where probing with Adam's family begins" in " ".join(far.doubts)) is (doubt is not None)
    assert doubt is None or doubt in " ".join(far.doubts)


def test_the_scale_of_the_rates_of_sgd_says_nothing_of_the_risk() -> None:
    assert risk_of([RESULT], PLANNED, 1e-6) == risk_of([RESULT], PLANNED, 0.1)


def test_a_loss_without_noise_between_batches_is_not_said_to_be_learned_without_the_inputs() -> None:
    smooth = probed(Formula(lambda lr, step: noisy(lr, step) - noisy(1e-9, step) + 2), start=0.1)
    assert smooth.noise == 0
    told = trust_in([replace(smooth, after=RESULT.after, scores=smooth.scores)], PLANNED, 0.0, 0.1)
    assert "nothing to do with the inputs" not in " ".join(told.doubts)


def test_a_low_risk_makes_the_confidence_high_and_a_high_one_low() -> None:
    assert trust_in([RESULT], replace(PLANNED, epoch=None), 0.0, 0.1).confidence == "high"
    without_inputs = replace(RESULT, after=Relation((0.002,) * 8, varies=True))
    risky = trust_in([without_inputs], replace(PLANNED, steps=9000, epoch=9.0), 0.0, 0.1)
    assert risky.confidence == "low"
    assert risky.risk is not None
    assert "passes over its data 1,000 times" in " ".join(risky.doubts)


@pytest.mark.parametrize(
    ("changed", "between", "lr", "doubt"),
    [
        ({"broken": True}, 0.0, 0.1, "not finite"),
        ({"after": Relation((0.0,) * 8, varies=True)}, 0.0, 0.1, "targets are shuffled"),
        ({}, 1.5, 0.1, "disagree by more than a decade"),
        ({}, 0.0, 1e3, "blew up"),
    ],
)
def test_what_is_wrong_makes_the_confidence_low_and_the_risk_unknown(
    changed: dict[str, object], between: float, lr: float, doubt: str
) -> None:
    result = replace(RESULT, **changed)  # type: ignore[arg-type]
    stopped = {place: probe._replace(stopped=place > 2) for place, probe in RESULT.probes.items()}
    stopped |= {6: RESULT.probes[RESULT.best]._replace(lr=1e3, stopped=True)}
    trust = trust_in([replace(result, probes=stopped)], PLANNED, between, lr)
    assert (trust.confidence, trust.risk) == ("low", None)
    assert doubt in " ".join(trust.doubts)


@pytest.mark.parametrize(
    ("planned", "changed", "doubt"),
    [
        (PlannedTraining("sgd", 50_000), {}, "not of 50,000"),
        (PlannedTraining("mine", 400), {}, "not measured for the optimizer 'mine'"),
        (PLANNED, {"cut": True}, "Probing ended early"),
    ],
)
def test_what_was_not_measured_makes_the_confidence_moderate_at_most(
    planned: PlannedTraining, changed: dict[str, bool], doubt: str
) -> None:
    trust = trust_in([replace(RESULT, **changed)], planned, 0.0, 0.1)  # type: ignore[arg-type]
    assert (trust.confidence, trust.risk) == ("moderate", None)
    assert doubt in " ".join(trust.doubts)


def test_a_budget_is_advised_only_where_one_can_be_asked_for() -> None:
    far, cut = PlannedTraining("sgd", 50_000), replace(RESULT, cut=True)
    told = ". ".join(trust_in([cut], far, 0.0, 0.1).doubts)
    assert told.count("budget") == 2
    without = ". ".join(trust_in([replace(cut, takes_budget=False)], far, 0.0, 0.1).doubts)
    assert "budget" not in without
    assert "Probing ended early" in without
    assert "may need another rate than probes" in without
