"""The verdict on a rate, from trainings at a third of it, at it and at three times it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from lrfind.plan import Evaluation, LaneResult
from lrfind.verification import verdict_on, verified_lrs

LR = 0.3
STEPS = 20


def lanes(*ends: float | Sequence[float], seeds: int = 3, val: bool = False) -> list[LaneResult]:
    """Of a third, of once and of three times LR: trainings from loss 10 to these ends; inf has diverged."""
    made = []
    for lr, end in zip(verified_lrs(LR), ends, strict=True):
        for seed, last in enumerate([end] * seeds if isinstance(end, float | int) else end):
            loss = np.full(STEPS, 10.0 if val or math.isinf(last) else last)
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
        ((3.0, 2.39, 2.0), "stands", 0.3, "4.9% of the drop, which is negligible"),
        ((3.0, (2.0, 2.7, 3.6), (2.0, 2.0, 2.1)), "stands", 0.3, "not told apart by 3 seeds"),
        ((3.0, 2.6, 2.0), "moves", 0.9, "lr 0.3 ended at 2.6, lr 0.9 ended at 2: 7.5% of the drop"),
        ((2.0, 2.6, 3.0), "moves", 0.1, "lr 0.1 ended at 2"),
        ((3.0, 4.0, 2.0), "refuted", 0.9, "25.0% of the drop"),
        ((2.0, math.inf, math.inf), "refuted", 0.1, "it diverged, where lr 0.1 ended at 2"),
        ((2.0, (1.0, 1.0, math.inf), math.inf), "refuted", 0.1, "it diverged"),
        ((math.inf, math.inf, math.inf), "refuted", None, "neither it nor a third"),
    ],
    ids=[
        "the best", "level", "the best, where three times it diverges", "negligible", "not told apart",
        "up", "down", "far from the best", "diverged", "one seed diverged", "none finished",
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
