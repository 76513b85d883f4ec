"""After a slow start SGD gets a higher rate, and where probing ended early a more usual one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lrfind.analysis.planned_training import FAMILIES, PlannedTraining
from lrfind.analysis.probing import Probe, ProbeResult, rate, tail
from lrfind.analysis.recommendation import SLOW_START, has_slow_start, log_lr, recommend

SGD = PlannedTraining("sgd", 400)
MOMENTUM = replace(SGD, momentum=0.9)


def probed(noises: float, steps: int = 64) -> ProbeResult:
    """Probes at 0.03, 0.1 and 0.3, of which the middle one has lowered the loss by so many noises."""
    untouched = 2 + np.random.default_rng(0).normal(0, 0.1, steps)
    untouched_result = ProbeResult(untouched_loss=untouched, steps=steps)
    falls = {-3: 0.5, -2: 1.0, -1: 0.5}
    losses = {place: untouched - share * noises * untouched_result.noise for place, share in falls.items()}
    probes = {place: Probe(rate(place), loss, False) for place, loss in losses.items()}
    return replace(
        untouched_result, scores={place: tail(loss) for place, loss in losses.items()}, probes=probes
    )


@pytest.mark.parametrize("training", [SGD, MOMENTUM], ids=["sgd", "momentum"])
def test_long_probes_that_learned_little_more_than_the_noise_move_the_rate_up(
    training: PlannedTraining,
) -> None:
    result = probed(3.0)
    assert result.fall == pytest.approx(3.0)
    assert log_lr(result, training) == pytest.approx(result.middle + SLOW_START)
    assert (
        "more than usual, because the loss of the probes fell by only a few times its noise"
        in recommend([result], training, 1).reason
    )


@pytest.mark.parametrize(
    ("result", "training"),
    [
        (probed(3.0, steps=32), SGD),
        (probed(8.0), SGD),
        (probed(3.0), PlannedTraining("adam", 400)),
        (probed(3.0), PlannedTraining("lion", 400)),
    ],
    ids=["short probes", "a large fall", "adaptive", "not measured"],
)
def test_other_probes_do_not(result: ProbeResult, training: PlannedTraining) -> None:
    assert not has_slow_start(result, training)
    assert log_lr(result, training) < result.middle
    assert "more than usual" not in recommend([result], training, 1).reason


def test_the_rate_stays_below_one_whose_probe_blew_up_but_is_not_lowered_for_that() -> None:
    slow = probed(3.0)
    short = replace(SGD, steps=100)  # moves the rate up by 0.36 decades
    assert log_lr(slow, short) > -0.75
    wild = replace(slow, probes={**slow.probes, -1: Probe(rate(-1), slow.untouched_loss[:3], True)})
    assert log_lr(wild, short) == pytest.approx(-0.75)
    steep = replace(SGD, mean_multiplier=0.02)  # moves it up by 1.5 decades, slow or not
    assert log_lr(wild, steep) == pytest.approx(wild.middle + FAMILIES["sgd"].shift + 0.89 * 1.69897)


def test_the_reason_names_the_probes_of_all_seeds() -> None:
    short, long = probed(8.0, steps=32), probed(8.0)
    scores = {**long.scores, -3: long.scores[-2] / 2}
    reason = recommend([short, replace(long, scores=scores)], SGD, 1).reason
    assert reason.startswith(
        "Of the longest probes (32 or 64 steps, depending on the seed), lr 0.0316 or 0.1 has the lowest loss,"
        " depending on the seed ("
    )


def moved(result: ProbeResult, places: int) -> ProbeResult:
    """Return the same measurements at rates that many places higher."""
    probes = {
        place + places: probe._replace(lr=rate(place + places)) for place, probe in result.probes.items()
    }
    return replace(result, probes=probes, scores={p + places: score for p, score in result.scores.items()})


@pytest.mark.parametrize(
    ("training", "usual", "share"),
    [(SGD, -1 - 0.28, 0.3), (PlannedTraining("adam", 400), -2 - 0.49, 0.7)],
    ids=["sgd", "adam"],
)
def test_on_a_plateau_that_the_budget_cut_short_the_rate_goes_toward_the_usual_one(
    training: PlannedTraining, usual: float, share: float
) -> None:
    flat = moved(probed(0.0), 2)
    whole, cut = (log_lr(replace(flat, cut=cut), training) for cut in (False, True))
    assert whole == pytest.approx(0.0 + 0.1)
    assert cut == pytest.approx(whole + share * (usual - whole))


def test_other_probes_that_were_cut_short_go_a_fifth_of_the_way() -> None:
    low, usual = replace(moved(probed(8.0), -4), cut=True), -1 - 0.28
    whole = log_lr(replace(low, cut=False), SGD)
    assert whole == pytest.approx(low.middle - 0.28)
    assert log_lr(low, SGD) == pytest.approx(whole + 0.2 * (usual - whole))
    assert (
        "moved toward the usual rates of SGD, because probing ended early" in recommend([low], SGD, 1).reason
    )


def test_a_rate_that_was_cut_short_does_not_come_near_one_that_blew_up() -> None:
    places = {-12: 0.5, -11: 1.0, -10: math.inf}
    result = probed(8.0)
    losses = {place: result.untouched_loss - fall for place, fall in places.items()}
    probes = {place: Probe(rate(place), loss, not np.isfinite(loss).all()) for place, loss in losses.items()}
    scores = {place: math.inf if probe.stopped else tail(probe.loss) for place, probe in probes.items()}
    whole = replace(result, probes=probes, scores=scores)
    assert whole.wild == rate(-10)
    assert log_lr(whole, SGD) < log_lr(replace(whole, cut=True), SGD) == pytest.approx(-5.25)


def test_probes_as_long_as_the_training_need_no_usual_rate() -> None:
    result, whole = probed(8.0), replace(SGD, steps=64)
    assert log_lr(replace(result, cut=True), whole) == log_lr(result, whole)
    assert "toward the usual" not in recommend([replace(result, cut=True)], whole, 1).reason
