"""The course of the lr of a planned training, from each form in which users have it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, lr_scheduler

import lrfind
from lrfind.errors import UsageError
from lrfind.experiments.planned import (
    fitting_shape,
    planned_shape,
    planned_steps,
    planned_training,
    steps_per_epoch,
)

STEPS = 40


def optimizer() -> SGD:
    return SGD([nn.Parameter(torch.ones(2))], lr=0.1)


def course(schedule: Any, steps: int = STEPS) -> np.ndarray[Any, Any]:
    return planned_shape(schedule, steps, epoch=10).multiplier


def cosine_of(step: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / STEPS))


@pytest.mark.parametrize(
    "schedule",
    [
        "cosine",
        ("cosine", {}),
        {"name": "cosine", "args": {}},
        cosine_of,
        lambda step: 3e-4 * cosine_of(step),  # absolute lrs, as nanoGPT's get_lr
        lambda o: lr_scheduler.LambdaLR(o, cosine_of),
        lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS),
    ],
)
def test_a_cosine_is_the_same_in_every_form(schedule: Any) -> None:
    np.testing.assert_allclose(course(schedule), [cosine_of(step) for step in range(STEPS)], atol=1e-6)


def test_an_attached_scheduler_is_read_from_where_it_is_and_stays_there() -> None:
    attached = optimizer()
    scheduler = lr_scheduler.StepLR(attached, step_size=10, gamma=0.5)
    expected = np.repeat([1, 0.5, 0.25, 0.125], 10)
    np.testing.assert_allclose(course(scheduler), expected)
    assert (scheduler.last_epoch, attached.param_groups[0]["lr"]) == (0, 0.1)
    assert course(lr_scheduler.ReduceLROnPlateau(attached)).tolist() == [1.0] * STEPS


@pytest.mark.parametrize(
    ("name", "args", "ours"),
    [
        ("linear", {"num_warmup_steps": 5}, ("linear", {"warmup": 5})),
        ("constant_with_warmup", {"num_warmup_steps": 5}, ("linear_warmup", {"warmup": 5})),
        ("cosine", {"warmup_steps": 5}, ("cosine", {"warmup": 5})),
        ("cosine_with_restarts", {}, ("cosine", {})),
        ("cosine_with_restarts", {"num_cycles": 4}, ("cosine_restarts", {"period": 10})),
        ("cosine", {"warmup": "1 epochs"}, ("cosine", {"warmup": 10})),
    ],
)
def test_the_names_and_arguments_of_transformers_are_known(name: str, args: Any, ours: Any) -> None:
    np.testing.assert_allclose(course((name, args)), course(ours))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20), "OneCycleLR failed after 21 of 40 steps"),
        (lambda step: float("nan"), "a finite lr of 0 or more at every step"),
        (lambda step: 0.0, "more than 0 at some step"),
        (lambda step: "0.1", r"returned a str"),
        ("cosin", "unknown schedule 'cosin'; did you mean cosine"),
        (("cosine", 5), "must be a name from `lrfind ls schedules`"),
    ],
)
def test_a_schedule_that_gives_no_course_is_refused(schedule: Callable[..., Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        course(schedule)


def test_the_innermost_optimizer_that_moves_decides_the_family() -> None:
    class Outer(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner = inner
            super().__init__(inner.param_groups, inner.defaults)

    momentum = SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    training = planned_training([Outer(momentum)], 10, 0.5)
    assert (training.optimizer, training.momentum, training.mean_multiplier) == ("sgd", 0.9, 0.5)
    still = SGD([nn.Parameter(torch.ones(2))], lr=0.0)
    assert planned_training([still, AdamW([nn.Parameter(torch.ones(2))])], 10, 1.0).optimizer == "adamw"


def test_how_often_a_training_passes_over_its_data_is_known_from_an_epoch() -> None:
    momentum = SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    assert planned_training([momentum], 10, 1.0, steps_per_epoch([1] * 10, 4)).passes == 4
    assert planned_training([momentum], 10, 1.0, steps_per_epoch(lambda: 1, 1)).passes == 1


class Unmeasured:
    """Batches that refuse to say how many they are."""

    def __iter__(self) -> Any:
        return iter([(torch.ones(2, 1), torch.ones(2, 1))] * 4)

    def __len__(self) -> int:
        raise NotImplementedError


def test_the_steps_are_those_given_or_those_of_an_epoch() -> None:
    assert planned_steps(None, [1] * 9, 2) == 4
    assert planned_steps(7, lambda: 1, 1) == planned_steps(np.int64(7), Unmeasured(), 1) == 7
    assert steps_per_epoch(Unmeasured(), 1) is None
    with pytest.raises(UsageError, match="steps: the data has no length"):
        planned_steps(None, Unmeasured(), 1)
    with pytest.raises(UsageError, match="steps: must be a whole number"):
        planned_steps(True, lambda: 1, 1)
    model = nn.Linear(1, 1)
    data: Any = Unmeasured()
    grid = lrfind.grid(model, SGD(model.parameters(), 0.1), nn.MSELoss(), data, lrs=[0.1], steps=5, seeds=1)
    assert grid.lanes[0].outcome == "finished"


@pytest.mark.parametrize(
    "fault", [lambda: 1 / 0, lambda: torch.ones(2), sys.exit], ids=["raises", "vector", "exits"]
)
def test_a_schedule_function_that_fails_later_names_the_step(fault: Callable[[], Any]) -> None:
    with pytest.raises(UsageError, match="schedule: the function failed at step 6: "):
        planned_shape(lambda step: fault() if step > 5 else 1.0, 20, None)


def test_more_steps_than_any_training_has_are_refused() -> None:
    with pytest.raises(UsageError, match="steps: must be a whole number from 1 to 10,000,000"):
        planned_steps(10**30, None, 1)


def test_a_scheduler_of_torch_moves_the_momentum_that_an_optimizer_has() -> None:
    def cycle(optimizer: Any, **settings: Any) -> Any:
        return lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=STEPS, **settings)

    expected = planned_shape("one_cycle", STEPS, None).momentum
    adamw = AdamW([nn.Parameter(torch.ones(2))])
    for schedule in (cycle, cycle(adamw)):
        shape = fitting_shape(schedule, STEPS, None, [adamw])
        assert shape.momentum == pytest.approx(expected)
        assert fitting_shape(schedule, STEPS, None, [adamw, optimizer()]).momentum is None
    assert fitting_shape(cycle, STEPS, None, [optimizer()]).momentum is None
    assert planned_shape(cycle(adamw, cycle_momentum=False), STEPS, None).momentum is None
