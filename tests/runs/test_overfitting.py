"""A sweep whose training loss falls while the validation loss does not: it overfits, and another lr is no cure."""

from __future__ import annotations

import numpy as np

from lrfind.analysis.lanes import Evaluation, LaneResult
from tests.helpers.runs import summarized


def lane(number: int, lr: float, train: float, *val: float) -> LaneResult:
    steps = 40
    loss = np.linspace(3.0, train, steps)
    loss[-4:] = train
    evaluations = tuple(Evaluation((n + 1) * steps // len(val), v, None) for n, v in enumerate(val))
    return LaneResult(number, 0, steps, lr, "finished", np.full(steps, lr), loss, evaluations=evaluations)


def warnings_of(*lanes: LaneResult) -> str:
    return " ".join(summarized("grid", lanes, "grid.judge=val_loss")["warnings"])


def test_overfitting_is_named_instead_of_a_longer_training() -> None:
    text = warnings_of(lane(0, 0.01, 1.5, 3.1), lane(1, 0.1, 0.2, 3.4))
    assert (
        "training overfits: the training loss fell from 3 to 1.5, and the validation loss ended at 3.1"
        in text
    )
    assert "training.eval_every=N" in text
    assert "train longer" not in text


def test_where_the_validation_loss_was_lowest_is_said_if_it_is_known() -> None:
    assert "was lowest after about 20 steps (2.5)" in warnings_of(lane(0, 0.1, 0.2, 2.5, 2.9))


def test_a_training_that_generalises_or_learns_nothing_is_not_called_overfitting() -> None:
    assert "overfits" not in warnings_of(lane(0, 0.1, 0.2, 0.4))
    text = warnings_of(lane(0, 0.1, 2.99, 3.0))
    assert "overfits" not in text
    assert "train longer" in text
