"""The verdict on a rate, from trainings at a third of it, at it and at three times it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.analysis.probing import search
from lrfind.analysis.recommendation import Training
from lrfind.analysis.verification import verdict_on, verified_lrs
from lrfind.runs.summaries.find import find_summary
from tests.analysis.test_probing import Formula, descent

LR = 0.3
STEPS = 20


def lanes(*ends: float | Sequence[float], seeds: int = 3, val: bool = False) -> list[LaneResult]:
    """Of a third, of once and of three times LR: trainings from loss 10 to these ends; inf has diverged."""
    made = []
    for lr, end in zip(verified_lrs(LR), ends, strict=True):
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
        ((3.0, 2.0, 3.0), "stands", 0.3, "lower than at a third and at three times that"),
        ((2.0, 2.0, 2.0), "stands", 0.3, "lower than at a third"),
        ((5.0, 2.0, math.inf), "stands", 0.3, "lr 0.3 ended at 2"),
        ((3.0, 2.39, 2.0), "stands", 0.3, "so it loses 4.9% of what the loss can fall: negligible"),
        ((3.0, (2.0, 2.7, 3.6), (2.0, 2.0, 2.1)), "stands", 0.3, "not told apart by 3 seeds"),
        ((3.0, 2.6, 2.0), "moves", 0.9, "lr 0.3 ended at 2.6, lr 0.9 ended at 2, so it loses 7.5%"),
        ((2.0, 2.6, 3.0), "moves", 0.1, "lr 0.1 ended at 2"),
        ((3.0, 4.0, 2.0), "refuted", 0.9, "loses 25.0%"),
        ((2.0, math.inf, math.inf), "refuted", 0.1, "it diverged, where lr 0.1 ended at 2"),
        ((2.0, (1.0, 1.0, math.inf), math.inf), "refuted", 0.1, "it diverged"),
        ((math.inf, math.inf, math.inf), "refuted", None, "neither it nor a third"),
        ((12.0, 11.0, 13.0), "refuted", None, "no rate learned anything from 10 on: lr 0.3 ended at 11"),
        ((9.99, 9.95, 9.93), "refuted", None, "no rate learned anything"),
    ],
    ids=[
        "the best", "level", "the best, where three times it diverges", "negligible", "not told apart",
        "up", "down", "far from the best", "diverged", "one seed diverged", "none finished", "nothing learned", "hardly anything learned",
    ],
)  # fmt: skip
def test_a_rate_is_judged_by_its_neighbours(
    ends: tuple[float | Sequence[float], ...], verdict: str, lr: float | None, said: str
) -> None:
    found = verdict_on(LR, lanes(*ends), "train_loss")
    assert (found.verdict, found.lr) == (verdict, lr)
    assert said in found.reason


def test_one_seed_is_no_noise_to_hide_in() -> None:
    assert verdict_on(LR, lanes(3.0, 2.6, 2.0, seeds=1), "train_loss").verdict == "moves"


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
    prober, training = Formula(descent(1.0)), Training("sgd", 400)
    found = search(prober, training.start, longest=training.longest)
    told = find_summary(
        [*prober.lanes(found.steps), *lanes(*ends)], "run", training, cost=50, schedule="constant",
        judge="train_loss", seeds=1, wide=False, verified=LR, verify_steps=STEPS, verify_seeds=3, metric=None,
        refused=None, notes=(),
    )["answer"]  # fmt: skip
    assert (told["lr"], told["low"], told["high"], told["confidence"]) == (lr, low, high, "low")
    assert told["reason"].endswith(
        "of the three rates that were trained, and what lies beyond it is not known"
    )
