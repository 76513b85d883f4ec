"""The verdict on a rate, from trainings at a third of it, at it and at three times it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest

from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.verification import moved_answer, verdict_on, verified_lrs
from lrfind.runs.summaries.find import probing_fact
from tests.helpers.probers import Formula, descent, probed
from tests.helpers.runs import summarized

LR = 0.3
STEPS = 20


def lanes(*ends: float | Sequence[float], seeds: int = 3, val: bool = False) -> list[LaneResult]:
    """Of a third, of once, of three times and, with a fourth end, of five times LR: trainings from loss 10 to these ends; inf has diverged."""
    made = []
    for lr, end in zip(verified_lrs(LR, 5 if len(ends) == 4 else None), ends, strict=True):
        for seed, last in enumerate([end] * seeds if isinstance(end, float | int) else end):
            loss = np.full(STEPS, 9.0 if val or math.isinf(last) else last)
            loss[0] = 10.0
            made.append(
                LaneResult(
                    lane=len(made),
                    seed=seed,
                    planned=STEPS,
                    peak=lr,
                    outcome="diverged" if math.isinf(last) else "finished",
                    lr=np.full(STEPS, lr),
                    loss=loss,
                    evaluations=(Evaluation(STEPS, last, None),) if val else (),
                    variant="verify",
                )
            )
    return made


@pytest.mark.parametrize(
    ("ends", "verdict", "lr", "said"),
    [
        ((3.0, 2.0, 3.2), "stands", 0.3, "lower than at a third of it and at three times it; the next lowest, lr 0.1, loses 12.5%"),
        ((2.0, 2.0, 2.0), "stands", 0.3, "lower than at a third"),
        ((5.0, 2.0, math.inf), "stands", 0.3, "lr 0.3 ended at 2"),
        ((3.0, 2.39, 2.0), "moves", 0.9, "lr 0.3 loses 4.9% of the fall of the loss, which is more than the noise between 3 seeds"),
        ((3.0, (2.0, 2.7, 3.6), (2.0, 2.0, 2.1)), "moves", 0.9, "within the noise between 3 seeds; 6 verifying seeds could tell them apart"),
        ((3.0, 2.6, 2.0), "moves", 0.9, "lr 0.3 ended at 2.6 and lr 0.9 ended at 2; lr 0.3 loses 7.5%"),
        ((2.0, 2.6, 3.0), "moves", 0.1, "lr 0.1 ended at 2"),
        ((3.0, 4.0, 2.0), "refuted", 0.9, "loses 25.0%"),
        ((2.0, math.inf, math.inf), "refuted", 0.1, "the rate diverged, while lr 0.1 ended at 2"),
        ((2.0, (1.0, 1.0, math.inf), math.inf), "refuted", 0.1, "the rate diverged"),
        ((math.inf, math.inf, math.inf), "refuted", None, "neither at the rate nor at a third"),
        ((12.0, 11.0, 13.0), "refuted", None, "no rate visibly lowered the loss from 10: lr 0.3 ended at 11"),
    ],
    ids=[
        "the best", "level", "the best, where three times it diverges", "a little worse", "not told apart",
        "up", "down", "far from the best", "diverged", "one seed diverged", "none finished", "nothing learned",
    ],
)  # fmt: skip
def test_a_rate_is_judged_by_its_neighbours(
    ends: tuple[float | Sequence[float], ...], verdict: str, lr: float | None, said: str
) -> None:
    found = verdict_on(LR, lanes(*ends), "train_loss")
    assert (found.verdict, found.lr) == (verdict, lr)
    assert said in found.reason


@pytest.mark.parametrize(("noise", "verdict"), [(0.05, ("refuted", None)), (0.001, ("refuted", 0.9))])
def test_a_small_share_of_the_loss_counts_where_it_is_far_beyond_the_noise(
    noise: float, verdict: tuple[str, float | None]
) -> None:
    for constant in (0.0, 1000.0):  # which no training lowers
        trained = lanes(9.97, 9.95, 9.94)
        for lane in trained:
            lane.loss[1:] += noise * (-1.0) ** np.arange(STEPS - 1)
            lane.loss[:] += constant
        found = verdict_on(LR, trained, "train_loss")
        assert (found.verdict, found.lr) == (verdict if not constant else ("refuted", None))


def test_one_seed_is_no_noise_to_hide_in() -> None:
    verdict = verdict_on(LR, lanes(3.0, 2.6, 2.0, seeds=1), "train_loss")
    assert verdict.verdict == "moves"
    assert "measured with 1 seed; more verifying seeds show the noise" in verdict.reason


@pytest.mark.parametrize(
    ("beyond", "lr", "said"),
    [
        (4.0, 0.3, "At 5 times it, training still ended at 4: there is no sign of instability"),
        (8.0, 0.3, "At 5 times it, training broke down (it ended at 8), a sign of instability"),
        (math.inf, 0.3, "At 5 times it, 3 of 3 trainings diverged, a sign of instability"),
        ((2.6, 2.7, math.inf), 0.3, "At 5 times it, 1 of 3 trainings diverged"),
        (1.0, 1.5, "lr 1.5 ended at 1"),
    ],
)
def test_a_training_far_above_the_rate_shows_how_near_instability_is(
    beyond: float | Sequence[float], lr: float, said: str
) -> None:
    verdict = verdict_on(LR, lanes(3.0, 2.0, 2.5, beyond), "train_loss")
    assert verdict.lr == lr
    assert said in verdict.reason


def test_a_rate_between_two_that_were_trained_is_trusted_more_than_one_at_the_border() -> None:
    verdict = verdict_on(LR, lanes(4.0, 3.0, 2.0, 5.0), "train_loss")
    answer = moved_answer(verdict, LR, verified_lrs(LR, 5))
    assert (answer["lr"], answer["low"], answer["high"], answer["confidence"]) == (
        0.9,
        0.52,
        1.16,
        "moderate",
    )
    assert "that verify the answer" not in answer["reason"]


def test_a_rate_that_ended_higher_only_within_the_noise_stays_in_the_interval() -> None:
    verdict = verdict_on(LR, lanes(3.0, (2.0, 2.7, 3.6), (2.0, 2.0, 2.1)), "train_loss")
    answer = moved_answer(verdict, LR, verified_lrs(LR))
    assert (answer["low"], answer["lr"], answer["high"]) == (LR, 0.9, 0.9)


def test_the_validation_loss_decides_where_there_is_one() -> None:
    assert verdict_on(LR, lanes(3.0, 4.0, 2.0, val=True), "val_loss").lr == 0.9
    assert verdict_on(LR, lanes(3.0, 4.0, 2.0), "val_loss").lr == 0.9
    assert verdict_on(LR, lanes(3.0, 4.0, 2.0, val=True), "train_loss").verdict == "stands"


@pytest.mark.parametrize(
    ("ends", "lr", "low", "high"), [((2.0, 2.6, 3.0), 0.1, 0.1, 0.173), ((3.0, 4.0, 2.0), 0.9, 0.52, 0.9)]
)
def test_a_rate_that_moved_is_trusted_no_further_than_what_was_trained(
    ends: tuple[float, ...], lr: float, low: float, high: float
) -> None:
    training = PlannedTraining("sgd", 400)
    result = probed(Formula(descent(1.0)), training.start, longest=training.longest)
    probing = probing_fact([result], training, cost=50)
    answer = summarized(
        "find",
        lanes(*ends),
        "find={verify: true, verify_seeds: 3, judge: train_loss}",
        planned_training=asdict(training),
        probing=probing,
        verified=LR,
    )["answer"]
    assert (answer["lr"], answer["low"], answer["high"], answer["confidence"]) == (lr, low, high, "low")
    assert answer["reason"].endswith(
        "so it is not known whether a lower one is better." if lr < LR else "a higher one is better."
    )
